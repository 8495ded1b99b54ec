/*
 * A server that takes messages as Atoll does and answers 200 to each, but does not keep its word:
 * now and then it loses one, keeps it twice, … It shows that atoll-load can find fault.
 */
import http from 'node:http';

const EVERY = 20; // messages from one fault to the next

/** What a server may do with the message that it has just acknowledged. */
export const faults = {
  none: () => {},
  lose: (server, message) => {
    message.sessions = [];
  },
  repeat: (server, message) => {
    message.sessions = [message.session, message.session];
  },
  /** Kept back until the next one of the same connection in the session is there. */
  reorder: (server, message) => {
    message.sessions = [];
    server.late.set(message.from, message);
  },
  alter: (server, message) => {
    message.content = `${message.content.slice(0, -1)}y`;
  },
  shorten: (server, message) => {
    message.content = message.content.slice(0, -1);
  },
  misplace: (server, message) => {
    message.sessions = [message.session === 'bench0' ? 'bench1' : 'bench0'];
  },
  /** A message that nobody has sent: a counter that is far ahead. */
  invent: (server, message) => {
    message.sessions = [message.session];
    const digits = message.content.search(/x*$/);
    server.keep(message.session, `${message.content.slice(0, digits - 6)}ffffff` +
      message.content.slice(digits));
  },
  refuse: (server, message) => {
    message.sessions = [];
    message.status = 503;
  },
};

export class Fake {
  constructor(fault) {
    Object.assign(this, { fault, count: 0, sessions: new Map(), late: new Map() });
  }

  async start(t) {
    this.server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      const parts = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => this.answer(request, Buffer.concat(parts).toString(), response));
    });
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    t.after(() => {
      this.server.closeAllConnections();
      this.server.close();
    });
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  events(session) {
    if (!this.sessions.has(session)) this.sessions.set(session, []);
    return this.sessions.get(session);
  }

  keep(session, content) {
    const events = this.events(session);
    events.push({ seq: events.length + 1, type: 'message.sent', content });
    return events.length;
  }

  answer(request, body, response) {
    const url = new URL(request.url, 'http://x');
    const session = url.pathname.split('/')[3];
    if (request.method === 'GET') {
      this.late.forEach((message) => this.keep(message.session, message.content));
      this.late.clear(); // of those that are late to the end, none is lost
      return this.page(this.events(session), url, response);
    }
    const commands = JSON.parse(body);
    const done = [commands].flat().map((command) => this.take(session, command));
    const seq = this.events(session).length;
    const bad = done.find((message) => message.status !== 200);
    const results = done.map(({ status }) => ({ status, seq }));
    this.send(response, bad && !Array.isArray(commands) ? bad.status : 200,
      Array.isArray(commands) ? { results, seq } : { seq });
  }

  take(session, { type, content }) {
    if (type !== 'message.send') return { status: 200, seq: this.keep(session, '') };
    const from = `${session} ${content.split('-')[1]}`;
    const message = { status: 200, session, sessions: [session], from, content };
    const late = this.late.get(from); // of an earlier message
    if (++this.count % EVERY === 0 && !late) this.fault(this, message);
    message.sessions.forEach((where) => this.keep(where, message.content));
    if (late) {
      this.late.delete(from);
      this.keep(late.session, late.content);
    }
    return message;
  }

  page(events, url, response) {
    const limit = Number(url.searchParams.get('limit'));
    if (url.searchParams.get('order') === 'desc')
      return this.send(response, 200, { events: events.slice(-limit), next: null });
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const page = events.slice(from, from + limit);
    return this.send(response, 200, { events: page, next: page.at(-1)?.seq ?? null });
  }

  send(response, status, body) {
    const text = JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': text.length })
      .end(text);
  }
}
