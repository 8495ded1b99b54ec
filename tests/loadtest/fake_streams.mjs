/*
 * A server of one session with streams and WebSockets, as Atoll tells them, which does one thing
 * wrong once, at the BADth event. It shows that those who watch can find fault.
 */
import http from 'node:http';
import { createRequire } from 'node:module';

const { WebSocketServer } = createRequire(new URL('../http/', import.meta.url))('ws');
const BAD = 20;

export class FakeStreams {
  /** `fault`: a name that the code below looks for; of none it has none. */
  constructor(fault) {
    Object.assign(this, { fault, seq: 0, written: 0, log: [], streams: [], sockets: [] });
  }

  async start(t) {
    this.server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      const parts = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => this.answer(request, Buffer.concat(parts).toString(), response));
    });
    const sockets = new WebSocketServer({ server: this.server,
      handleProtocols: () => 'atoll.v1', perMessageDeflate: false });
    sockets.on('connection', (socket) => this.connect(socket));
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    t.after(() => {
      this.server.closeAllConnections();
      this.server.close();
    });
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  /** Once, at the BADth event, if this is the fault. */
  is(fault) { return this.fault === fault && this.written === BAD; }

  answer(request, body, response) {
    const url = new URL(request.url, 'http://x');
    if (url.pathname.endsWith('/stream')) return this.open(response);
    if (this.fault === 'disturb' && request.method === 'GET') this.disturb();
    if (request.method === 'GET') return this.page(url, response);
    const command = JSON.parse(body);
    if (Array.isArray(command)) // the session is to be made: it is there
      return this.send(response, 200, { results: [], seq: this.seq });
    const { note } = command;
    const seq = this.take(note);
    this.send(response, this.is('refuse') ? 503 : 200, { seq: this.is('answer') ? seq + 1 : seq });
    return this.tell(seq, note);
  }

  take(text) {
    this.written++;
    this.seq++;
    if (!this.is('lose')) this.log.push({ seq: this.seq, type: 'agent.updated', text });
    return this.seq;
  }

  // ---- streams

  open(response) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(`event: snapshot\nid: e-${this.seq}-1\ndata: ` +
      `{"epoch":"e","seq":${this.seq},"state":{}}\n\n`);
    this.streams.push(response);
  }

  /** All streams are told what nobody has written, once, when the first connection beside them asks. */
  disturb() {
    if (this.streams.length === 0 || this.disturbed) return;
    this.disturbed = true;
    this.streams.forEach((stream) => stream.write(this.patch(this.seq + 1, '')));
  }

  patch(seq, note, from = '') {
    return `event: patch\nid: e-${seq}-1\ndata: {"seq":${seq},${from}"ts":"2026-01-01T00:00:00.000Z",` +
      `"type":"agent.updated","ops":[{"op":"replace","path":"/agents/a1/note","value":"${note}"}]}\n\n`;
  }

  /** Only the first of all is told something wrong. */
  tell(seq, note) {
    this.streams.forEach((stream, i) => {
      const is = (fault) => i === 0 && this.is(fault);
      if (!is('skip')) stream.write(this.patch(seq, note));
      if (is('twice')) stream.write(this.patch(seq, note));
      if (is('back')) stream.write(this.patch(seq, note, `"from":${seq - 1},`));
      if (is('end')) stream.write(`event: end\ndata: {"epoch":"e","seq":${seq},"reason":"deleted"}\n\n`);
      if (is('close')) stream.destroy();
    });
  }

  // ---- WebSockets

  connect(socket) {
    const say = (message) => socket.send(JSON.stringify(message));
    let kept;
    say({ event: 'snapshot', id: 'e', epoch: 'e', seq: this.seq, state: {} });
    socket.on('message', (data) => {
      const { ref, content } = JSON.parse(data);
      const seq = this.take(content);
      const answer = { ref, status: this.is('status') ? 409 : 200, seq: this.is('jump') ? seq + 1 : seq };
      if (this.is('order')) {
        kept = answer;
      } else {
        say(answer);
        if (kept) say(kept);
        kept = undefined;
      }
      if (!this.is('skip')) say({ event: 'patch', id: 'e', seq, ts: '', ops: [] });
    });
  }

  // ---- what is read back

  page(url, response) {
    if (url.searchParams.get('order') === 'desc')
      return this.send(response, 200, { events: [{ seq: this.seq }], next: null });
    const limit = Number(url.searchParams.get('limit'));
    const after = Number(url.searchParams.get('cursor') ?? 0);
    const events = this.log.filter(({ seq }) => seq > after).slice(0, limit);
    return this.send(response, 200, { events, next: events.at(-1)?.seq ?? null });
  }

  send(response, status, body) {
    const text = JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': text.length })
      .end(text);
  }
}
