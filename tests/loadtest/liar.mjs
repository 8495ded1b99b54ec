/*
 * Stands between atoll-load and a server, and tells lies of it: it shows that atoll-load can find fault.
 *
 * A lie has any of: `asked(liar, request)`, which may return an answer of its own, so that the server never
 * hears of the request, or a promise; `answered(liar, request, answer)`, which may change the server's; and
 * `streamed(liar, text, request)`, which may change an event of a stream. A request is {method, path,
 * headers, body}, an answer {status, body}, bodies being text.
 */
import http from 'node:http';

export class Liar {
  constructor(lie) {
    Object.assign(this, { lie, count: 0 });
  }

  async start(t, truthful) {
    this.to = new URL(truthful);
    this.agent = new http.Agent({ keepAlive: true });
    this.server = http.createServer({ keepAliveTimeout: 60_000 }, (incoming, response) => {
      const parts = [];
      incoming.on('data', (part) => parts.push(part));
      incoming.on('end', () => this.ask({ method: incoming.method, path: incoming.url,
        headers: incoming.headers, body: Buffer.concat(parts).toString() }, response));
    });
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    t.after(() => {
      this.server.closeAllConnections();
      this.server.close();
      this.agent.destroy();
    });
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  /** Whether it is time for the next lie: every nth of those that could be. */
  now(n) {
    return ++this.count % n === 0;
  }

  async ask(request, response) {
    const own = await this.lie.asked?.(this, request);
    if (own) return this.send(response, own);
    const headers = Object.fromEntries(Object.entries(request.headers)
      .filter(([name]) => /^(accept|content-type|mcp-.*)$/.test(name)));
    const onward = http.request({ host: this.to.hostname, port: this.to.port, agent: this.agent,
      method: request.method, path: request.path, headers },
    (answer) => this.take(request, answer, response));
    onward.on('error', () => response.destroy());
    response.on('close', () => response.writableEnded || onward.destroy());
    onward.end(request.body);
  }

  take(request, incoming, response) {
    incoming.on('error', () => response.destroy());
    incoming.setEncoding('utf8');
    if (incoming.headers['content-type']?.startsWith('text/event-stream')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      let begun = '';
      incoming.on('data', (text) => {
        const events = (begun + text).split('\n\n');
        begun = events.pop();
        for (const event of events)
          response.write(this.lie.streamed?.(this, `${event}\n\n`, request) ?? `${event}\n\n`);
      });
      incoming.on('end', () => response.end());
      return;
    }
    let body = '';
    incoming.on('data', (text) => (body += text));
    incoming.on('end', () => {
      const token = incoming.headers['mcp-session-id'];
      const answer = { status: incoming.statusCode, body,
        ...(token && { headers: { 'mcp-session-id': token } }) };
      this.lie.answered?.(this, request, answer);
      this.send(response, answer);
    });
  }

  send(response, { status, body, headers }) {
    response.writeHead(status, { 'content-type': 'application/json',
      'content-length': Buffer.byteLength(body), ...headers }).end(body);
  }
}
