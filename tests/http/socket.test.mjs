/*
 * WebSockets, by the `ws` package where its client will do it, and by bytes where a client has to
 * break the rules. Every message of the server's is checked against the document, and so is every
 * one of the client's that was taken.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import WebSocket from 'ws';
import { Fold, bytes, canonical, conforms, expect, newId, parseAnswer, randomFrom, raw, refused,
  remove, serve, serving, spec, temporaryDirectory, until, within } from './harness.mjs';

const PROTOCOL = 'atoll.v1';
const path = (sid, query = '') => `/v1/sessions/${sid}/ws${query}`;
const say = (content, fields) =>
  ({ type: 'message.send', thread: 'general', sender: 'ann', content, ...fields });

/** A WebSocket whose messages are kept: `answers` in order, and a `Fold` for each session. */
class Socket {
  static async open(server, target, options) {
    const socket = new Socket(server, target, options);
    await within(new Promise((done, fail) => {
      socket.ws.once('open', done).once('error', fail);
    }), `a WebSocket at ${target}`);
    return socket;
  }

  constructor(server, target, { fold, track, ...options } = {}) {
    const { pathname, search } = new URL(target, server.url);
    Object.assign(this, { server, asked: new Map(), answers: [], folds: new Map(), events: [],
      waiting: new Set(), refs: 0, track });
    this.many = pathname === '/v1/ws';
    this.messages = spec.paths[this.many ? '/v1/ws' : '/v1/sessions/{sid}/ws'].get['x-messages'];
    if (!this.many) {
      this.sid = pathname.split('/')[3];
      this.folds.set(this.sid, new Fold(server, this.sid, { query: search, track, ...fold }));
    }
    this.ws = new WebSocket(server.url.replace('http', 'ws') + target, PROTOCOL, options);
    this.ws.on('message', (data, binary) => this.attempt(() => {
      assert.ok(!binary, 'a text frame');
      this.take(JSON.parse(data));
    }));
    this.ws.on('error', (error) => { this.failure = error; });
    this.closed = new Promise((done) => {
      this.ws.on('close', (code, reason) => {
        this.end = { code, reason: String(reason) };
        done(this.end);
        this.waiting.forEach((look) => look());
      });
    });
    server.streams.add(this);
  }

  take(message) {
    conforms(this.messages.server.$ref.slice(1), message, 'a message of the server');
    const { event, id, session, ...data } = message;
    if (event === undefined) return this.takeAnswer(message);
    this.events.push(message);
    if (['snapshot', 'patch', 'end'].includes(event))
      this.folds.get(session ?? this.sid)?.tell(event, id, data);
  }

  takeAnswer(answer) {
    this.answers.push(answer);
    const sent = this.asked.get(answer.ref);
    if (answer.status === 200 && sent)
      conforms(this.messages.client.$ref.slice(1), sent, 'a message that was taken');
  }

  attempt(action) {
    try {
      action();
    } catch (error) {
      this.error ??= error;
    }
    this.waiting.forEach((look) => look());
  }

  async until(condition, what = String(condition)) {
    let look;
    const met = new Promise((done, fail) => {
      look = () => {
        if (this.error) fail(this.error);
        else if (condition(this)) done(this);
        else if (this.end) fail(new Error(`closed before ${what}: ${JSON.stringify(this.end)}`));
      };
      this.waiting.add(look);
      look();
    });
    try {
      return await within(met, what);
    } finally {
      this.waiting.delete(look);
    }
  }

  /** Sends it with a ref of its own, which is returned; null: with none. */
  send(message, ref = ++this.refs) {
    const whole = ref === null ? message : { ref, ...message };
    this.asked.set(ref, whole);
    this.ws.send(JSON.stringify(whole));
    return ref;
  }

  /** The answer to it. */
  async ask(message) {
    const ref = this.send(message);
    const find = () => this.answers.find((answer) => answer.ref === ref);
    await this.until(() => find(), `the answer to ${JSON.stringify(message).slice(0, 200)}`);
    return find();
  }

  /** Watches, or fails; what is told of the session is folded. */
  async watch(session, options = {}, fold = {}) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(options))
      for (const one of [value].flat()) query.append(name, one);
    this.folds.set(session, new Fold(this.server, session,
      { query: query.size ? `?${query}` : '', track: this.track, ...fold }));
    const answer = await this.ask({ watch: { session, ...options } });
    assert.equal(answer.status, 200, JSON.stringify(answer));
    return this.folds.get(session);
  }

  async equalsView(sid = this.sid) {
    const fold = this.folds.get(sid);
    const view = await fold.view();
    await this.until(() => fold.has(view), `seq ${view.seq} of ${sid}`);
    return fold.isAt(view);
  }

  /** How it was closed, by us if not yet. */
  async close(code = 1000) {
    this.ws.close(code);
    const end = await within(this.closed, 'the close');
    this.server.streams.delete(this);
    if (this.error) throw this.error;
    return end;
  }
}

// ---- by bytes

const key = () => randomBytes(16).toString('base64');
const upgrade = (headers = {}) => ({ connection: 'Upgrade', upgrade: 'websocket',
  'sec-websocket-version': '13', 'sec-websocket-key': key(), 'sec-websocket-protocol': PROTOCOL,
  ...headers });

/** A frame as a client sends it; `mask: false` is against the rules. */
function frame(opcode, payload = '', { fin = true, rsv = 0, mask = true, size } = {}) {
  const body = Buffer.from(payload);
  const n = size ?? body.length;
  const head = n < 126 ? [n] : n < 65536 ? [126, n >> 8, n & 255]
    : [127, 0, 0, 0, 0, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255];
  head[0] |= mask ? 0x80 : 0;
  const masks = mask ? randomBytes(4) : Buffer.alloc(0);
  if (mask) body.forEach((byte, i) => { body[i] = byte ^ masks[i % 4]; });
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode, ...head]), masks,
    body]);
}

const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;

/** A WebSocket of which one sees each frame. */
class Wire {
  static async open(server, target, { socketPath } = {}) {
    const wire = new Wire();
    wire.received = Buffer.alloc(0);
    wire.socket = net.connect(socketPath ? { path: socketPath }
      : { host: server.hostname, port: Number(server.port) });
    wire.socket.on('error', () => {});
    wire.look = () => {};
    wire.socket.on('data', (chunk) => {
      wire.received = Buffer.concat([wire.received, chunk]);
      wire.look();
    });
    wire.socket.on('close', () => { wire.ended = true; wire.look(); });
    server.streams.add({ close: () => wire.socket.destroy() });
    wire.socket.write(bytes(server, 'GET', target, '', upgrade()));
    const head = await wire.wait(() => parseAnswer(wire.received).status, 'the upgrade');
    assert.equal(head, 101, wire.received.toString());
    wire.received = wire.received.subarray(wire.received.indexOf('\r\n\r\n') + 4);
    return wire;
  }

  wait(probe, what) {
    return within(new Promise((done) => {
      this.look = () => { const value = probe(); if (value || this.ended) done(value); };
      this.look();
    }), what);
  }

  send(...frames) { this.socket.write(Buffer.concat(frames)); }

  /** The next frame {opcode, payload, json}; undefined: the connection has ended. */
  async next() {
    const size = () => {
      const { received } = this;
      if (received.length < 2) return 0;
      const short = received[1] & 127;
      const head = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (received.length < head) return 0;
      const n = short === 126 ? received.readUInt16BE(2)
        : short === 127 ? Number(received.readBigUInt64BE(2)) : short;
      return received.length >= head + n ? { head, n } : 0;
    };
    const found = await this.wait(size, 'a frame');
    if (!found) return undefined;
    const { head, n } = found;
    const payload = this.received.subarray(head, head + n);
    const next = { first: this.received[0], opcode: this.received[0] & 15, payload };
    assert.equal(next.first & 0xf0, 0x80, 'whole, and without extensions');
    assert.equal(this.received[1] & 0x80, 0, 'not masked');
    this.received = this.received.subarray(head + n);
    if (next.opcode === TEXT) next.json = JSON.parse(payload);
    if (next.opcode === CLOSE && n >= 2)
      Object.assign(next, { code: payload.readUInt16BE(0), reason: String(payload.subarray(2)) });
    return next;
  }

  async find(wanted) {
    for (;;) {
      const next = await this.next();
      if (next === undefined || wanted(next)) return next;
    }
  }
}

describe('a WebSocket of one session', () => {
  const server = serving({ args: ['--window-messages', '5', '--max-body', '64KiB'] });

  it('gives a snapshot first, and patches that fold to the view', async () => {
    for (const query of ['', '?view=compact', '?path=/threads/general&path=/labels']) {
      const sid = await server.session();
      const socket = await Socket.open(server, path(sid, query), { track: true });
      await socket.until((s) => s.events.length > 0);
      assert.equal(socket.events[0].event, 'snapshot');
      assert.equal(canonical(socket.events[0].state),
        canonical((await socket.folds.get(sid).view()).state));
      await server.live(sid, 5);
      await socket.equalsView();
      await socket.folds.get(sid).wasRight();
      assert.deepEqual(await socket.close(), { code: 1000, reason: '' });
    }
  });

  it('goes on by last_event_id and after with patches alone', async () => {
    const sid = await server.session();
    const first = await Socket.open(server, path(sid));
    await first.equalsView();
    await first.close();
    const { id, state, seq, epoch } = first.folds.get(sid);
    await server.live(sid, 2);
    for (const query of [`?last_event_id=${id}`, `?after=${seq}`]) {
      const second = await Socket.open(server, path(sid, query), { fold: { state, seq, epoch } });
      await second.equalsView();
      assert.ok(second.events.every((e) => e.event === 'patch'), 'no snapshot');
      await second.close();
    }
    const late = await Socket.open(server, path(sid, '?last_event_id=never-one-of-ours'),
      { fold: { state, seq, epoch } });
    await late.equalsView();
    assert.ok(late.events[0].reset);
    await late.close();
  });

  it('answers commands in order, as a batch would, with their refs', async () => {
    const sid = await server.session();
    const socket = await Socket.open(server, path(sid));
    const { seq } = await server.view(sid);
    const refs = [0, -7, 9007199254740991, 'a "ref"\n\u00e9', '', null];
    for (const ref of refs) socket.send(say('hi'), ref);
    await socket.until((s) => s.answers.length === refs.length);
    const plain = refs.map((ref, n) => ({ ...(ref === null ? {} : { ref }), status: 200,
      seq: seq + n + 1, id: `m${seq + n + 1}` }));
    assert.deepEqual(socket.answers, plain);

    const commands = [say('once', { key: 'k1' }), say('once', { key: 'k1' }),
      say('other', { key: 'k1' }), say('x', { expected_seq: 1 }),
      { type: 'agent.update', agent: 'nobody', status: 'idle' }, { type: 'agent.dance' },
      say('x', { thread: 7 }), say('x', { session: sid }), { type: 'session.create' },
      { type: 'agent.register', agent: 'cat' }, say('x'.repeat(100), { data: { a: [1] } })];
    const twin = await server.session(['ann', 'bob'], {});
    for (const ref of refs) await server.say(twin, 'ann', 'hi', {});
    const { results } = expect(await server.command(twin, commands), 200).json;
    for (const [n, command] of commands.entries()) {
      const { ref, ...answer } = await socket.ask(command);
      if (results[n].error) results[n].error.detail =
        results[n].error.detail.replace(/^command \d+: /, '');
      assert.deepEqual(answer, results[n], JSON.stringify(command));
    }
    await socket.equalsView();
    await socket.close();
  });

  it('knows a command again that came by HTTP, and the other way round', async () => {
    const sid = await server.session();
    const socket = await Socket.open(server, path(sid));
    const { seq } = await server.say(sid, 'ann', 'one', { key: 'first' });
    assert.deepEqual(await socket.ask(say('one', { key: 'first' })),
      { ref: 1, status: 200, seq, id: `m${seq}`, replayed: true });
    const { seq: second } = await socket.ask(say('two', { key: 'second' }));
    assert.equal((await server.say(sid, 'ann', 'two', { key: 'second' })).seq, second);
    await socket.close();
  });

  it('takes thousands of commands without waiting for answers, and keeps their order', async () => {
    const sid = await server.session();
    const socket = await Socket.open(server, path(sid, '?path=/agents'));
    const { seq } = await server.view(sid);
    const COMMANDS = 5000;
    for (let n = 0; n < COMMANDS; n++) socket.send(say(`${n}`, { data: { n } }));
    await socket.until((s) => s.answers.length === COMMANDS, 'all answers');
    socket.answers.forEach((answer, n) => assert.deepEqual(answer,
      { ref: n + 1, status: 200, seq: seq + n + 1, id: `m${seq + n + 1}` }));
    const messages = (await server.events(sid)).filter((e) => e.type === 'message.sent');
    assert.deepEqual(messages.map((m) => m.data.n), [...Array(COMMANDS).keys()]);
    await socket.close();
  });

  it('refuses what is no message, and stays open', async () => {
    const sid = await server.session();
    const socket = await Socket.open(server, path(sid));
    const rows = [
      ['not JSON', undefined], ['', undefined], ['[]', undefined], ['"x"', undefined],
      ['{"ref":-1}', undefined],
      ['{"ref":1.5,"type":"x"}', 'ref'], ['{"ref":null,"type":"x"}', 'ref'],
      [JSON.stringify({ ref: 'x'.repeat(129), type: 'x' }), 'ref'],
      ['{"ref":-1,"type":"message.send","watch":{}}', undefined],
      [`{"ref":-1,"watch":{"session":"${sid}"}}`, 'watch'], ['{"ref":-1,"unwatch":{}}', 'unwatch'],
      ['{"ref":-1,"type":"agent.register","agent":"x","colour":"red"}', 'colour'],
      ['{"ref":-1,"type":"agent.register","agent":"x","agent":"y"}', undefined],
      [`{"ref":-1,"type":"agent.register","agent":"x","session":"${sid}"}`, 'session'],
      ['{"ref":-1,"type":"session.create","session":"another"}', 'session'],
    ];
    for (const [text, field] of rows) {
      const n = socket.answers.length;
      socket.ws.send(text);
      await socket.until((s) => s.answers.length > n);
      const { status, error } = socket.answers[n];
      assert.equal(status, 400, text);
      if (field) assert.equal(error.field, field, text);
      assert.ok(error.detail.length > 10);
    }
    assert.equal((await socket.ask(say('still here'))).status, 200);
    await socket.close();
  });

  it('refuses over HTTP what is no handshake', async () => {
    const sid = await server.session();
    for (const target of [path(sid), '/v1/ws']) {
      const plain = await server.get(target);
      refused(plain, 426, 'upgrade-required', 'Upgrade');
      assert.equal(plain.headers.upgrade, 'websocket');
      assert.equal(plain.headers['sec-websocket-version'], '13');
      const rows = [
        [{ upgrade: 'h2c' }, 426], [{ connection: 'close' }, 426],
        [{ 'sec-websocket-version': '8' }, 426], [{ 'sec-websocket-version': undefined }, 426],
        [{ 'sec-websocket-key': undefined }, 400], [{ 'sec-websocket-key': 'short' }, 400],
        [{ 'sec-websocket-key': '!'.repeat(22) + '==' }, 400],
        [{ 'sec-websocket-protocol': undefined }, 400],
        [{ 'sec-websocket-protocol': 'atoll.v2, chat' }, 400],
        [{ origin: 'http://elsewhere.example' }, 403],
      ];
      for (const [headers, status] of rows) {
        const answer = await raw(server, bytes(server, 'GET', target, '', upgrade(headers)));
        assert.equal(answer.status, status, JSON.stringify(headers));
        assert.equal(answer.json.status, status);
        if (status === 426) assert.equal(answer.headers['sec-websocket-version'], '13');
      }
      const old = bytes(server, 'GET', target, '', upgrade()).toString()
        .replace('HTTP/1.1', 'HTTP/1.0');
      assert.equal((await raw(server, old)).status, 426);
      const twice = bytes(server, 'GET', target, '', upgrade()).toString()
        .replace('\r\n\r\n', `\r\nSec-WebSocket-Key: ${key()}\r\n\r\n`);
      assert.equal((await raw(server, twice)).status, 400);
    }
    const unknown = await raw(server, bytes(server, 'GET', path('nowhere'), '', upgrade()));
    refused(unknown, 404, 'unknown-session');
    const deep = await raw(server, bytes(server, 'GET', path(sid, '?path=/a/b/c'), '', upgrade()));
    refused(deep, 400, 'malformed', 'path');
  });

  it('takes the offers and spellings of a handshake that the RFC allows', async () => {
    const sid = await server.session();
    const headers = upgrade({ connection: 'keep-alive, UPGRADE', upgrade: 'WebSocket',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-protocol': `chat, ${PROTOCOL} ,x`, origin: server.url,
      'sec-websocket-extensions': 'permessage-deflate' });
    const socket = net.connect({ host: server.hostname, port: Number(server.port) });
    socket.write(bytes(server, 'GET', path(sid), '', headers));
    const text = await within(new Promise((done) => {
      let all = '';
      socket.on('data', (chunk) => {
        all += chunk.toString('latin1');
        if (all.includes('\r\n\r\n')) done(all);
      });
    }), 'the upgrade');
    socket.destroy();
    const answer = parseAnswer(Buffer.from(text, 'latin1'));
    assert.equal(answer.status, 101);
    assert.equal(answer.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    assert.equal(answer.headers['sec-websocket-protocol'], PROTOCOL);
    assert.equal(answer.headers['sec-websocket-extensions'], undefined);
    assert.equal(answer.headers['content-length'], undefined);
    assert.match(answer.headers.connection, /^upgrade$/i);
    assert.equal(answer.headers.upgrade, 'websocket');
  });

  it('closes with the code for each breach of the protocol, behind the answers due', async () => {
    const sid = await server.session();
    const good = JSON.stringify({ ref: 'before', ...say('before') });
    const rows = [
      [1002, frame(TEXT, '{}', { mask: false })],
      [1002, frame(TEXT, '{}', { rsv: 4 })],
      [1002, frame(3, 'x')],
      [1002, frame(0, 'x')],
      [1002, frame(TEXT, '{', { fin: false }), frame(TEXT, '}')],
      [1002, frame(PING, 'x', { fin: false })],
      [1002, frame(PING, 'x'.repeat(126))],
      [1002, frame(CLOSE, 'x')],
      [1002, frame(CLOSE, Buffer.from([0x03, 0xed]))],
      [1003, frame(BINARY, '{}')],
      [1007, frame(TEXT, Buffer.from([0x22, 0xff, 0x22]))],
      [1007, frame(TEXT, Buffer.from([0x22, 0xc3]), { fin: false }), frame(0, '"')],
      [1009, frame(TEXT, 'x'.repeat(64 * 1024 + 1))],
      [1009, frame(TEXT, '', { size: 2 ** 31 - 1 })],
      [1009, frame(TEXT, 'x'.repeat(40000), { fin: false }), frame(0, 'x'.repeat(40000))],
    ];
    for (const [code, ...frames] of rows) {
      const wire = await Wire.open(server, path(sid));
      wire.send(frame(TEXT, good), ...frames, frame(TEXT, good));
      assert.equal((await wire.find((f) => f.json?.ref)).json.status, 200);
      const close = await wire.find((f) => f.opcode === CLOSE || f.json?.ref);
      assert.equal(close.code, code, `${close.code} ${close.reason}`);
      assert.ok(close.reason.length > 10);
      wire.send(frame(CLOSE, close.payload));
      assert.equal(await wire.next(), undefined);
    }
  });

  it('takes fragments, pings in between, and messages of just the size allowed', async () => {
    const sid = await server.session();
    const wire = await Wire.open(server, path(sid));
    const text = Buffer.from(JSON.stringify({ ref: 1, ...say('in pieces \u{1f420}') }));
    const pieces = [...text].map((byte, n) =>
      frame(n === 0 ? TEXT : 0, Buffer.from([byte]), { fin: n === text.length - 1 }));
    pieces.splice(7, 0, frame(PING, 'are you there'), frame(PONG, 'nobody asked'));
    for (const piece of pieces) wire.send(piece);
    const pong = await wire.find((f) => f.opcode === PONG);
    assert.equal(String(pong.payload), 'are you there');
    assert.equal((await wire.find((f) => f.json?.ref)).json.status, 200);
    const shell = JSON.stringify({ ref: 2, ...say('') });
    const content = 'x'.repeat(64 * 1024 - shell.length);
    wire.send(frame(TEXT, JSON.stringify({ ref: 2, ...say(content) })));
    assert.equal((await wire.find((f) => f.json?.ref === 2)).json.status, 200);
    wire.send(frame(CLOSE, Buffer.from([0x0f, 0xa1])));
    assert.equal((await wire.find((f) => f.opcode === CLOSE)).code, 4001, 'the code that we gave');
    assert.equal(await wire.next(), undefined);
  });

  it('says end and closes when the session is deleted', async () => {
    const sid = await server.session();
    const socket = await Socket.open(server, path(sid));
    const { epoch, seq } = await socket.equalsView();
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    const end = await within(socket.closed, 'the close');
    assert.deepEqual(end, { code: 1000, reason: 'the session was deleted' });
    assert.deepEqual(socket.events.at(-1), { event: 'end', epoch, seq, reason: 'deleted' });
    if (socket.error) throw socket.error;
  });

  it('carries out what was sent by a client that has gone', async () => {
    const sid = await server.session();
    const { seq } = await server.view(sid);
    const wire = await Wire.open(server, path(sid));
    const COMMANDS = 2000;
    wire.send(...Array.from({ length: COMMANDS }, (_, n) =>
      frame(TEXT, JSON.stringify(say(`${n}`)))));
    await wire.find((f) => f.json?.status);
    wire.socket.resetAndDestroy();
    await until(async () => (await server.view(sid)).seq > seq, 'some commands');
    const socket = await Socket.open(server, path(sid));
    assert.equal((await socket.ask(say('after'))).status, 200);
    await socket.equalsView();
    await socket.close();
  });
});

describe('a WebSocket of many sessions', () => {
  const server = serving();

  it('watches sessions, each by its own view, and no longer', async () => {
    const [a, b, c] = [await server.session(), await server.session(), await server.session()];
    const socket = await Socket.open(server, '/v1/ws', { track: true });
    await socket.watch(a);
    await socket.watch(b, { view: 'compact', path: ['/threads/general', '/labels'] });
    await server.live(a, 3);
    await server.live(b, 3);
    await server.live(c, 1);
    await socket.equalsView(a);
    await socket.equalsView(b);
    await socket.folds.get(a).wasRight();
    await socket.folds.get(b).wasRight();
    assert.ok(socket.events.every((e) => e.session === a || e.session === b));

    assert.equal((await socket.ask({ unwatch: { session: a } })).status, 200);
    const told = socket.events.length;
    await server.say(a, 'ann', 'nobody listens');
    await server.say(b, 'ann', 'somebody does');
    await socket.equalsView(b);
    assert.ok(socket.events.slice(told).every((e) => e.session === b));
    refusedBy(await socket.ask({ unwatch: { session: a } }), 404, 'session');

    const { id, state, seq, epoch } = socket.folds.get(a);
    await socket.watch(a, { last_event_id: id }, { state, seq, epoch });
    await socket.equalsView(a);
    assert.equal(socket.folds.get(a).counts.snapshot, 0, 'it went on');
    await socket.watch(c, { after: 2 }, { seq: 2, epoch: (await server.view(c)).epoch,
      state: (await server.view(c, '?at=2')).state });
    await socket.equalsView(c);
    await socket.close();
  });

  it('replaces a watch of the same session by the next', async () => {
    const sid = await server.session();
    const socket = await Socket.open(server, '/v1/ws');
    await socket.watch(sid);
    for (const options of [{ view: 'compact' }, { path: ['/agents'] }, {}]) {
      await socket.watch(sid, options);
      await server.say(sid, 'ann', 'hello');
      await socket.equalsView(sid);
    }
    const pending = ['full', 'compact', 'full'].map((view) =>
      socket.send({ watch: { session: sid, view } }));
    socket.folds.delete(sid);
    pending.push(socket.send({ unwatch: { session: sid } }));
    await socket.until((s) => s.answers.some((a) => a.ref === pending.at(-1)));
    for (const ref of pending)
      assert.equal(socket.answers.find((a) => a.ref === ref).status, 200);
    await socket.close();
  });

  it('tells the end of one session, and stays for the others', async () => {
    const [a, b] = [await server.session(), await server.session()];
    const socket = await Socket.open(server, '/v1/ws');
    await socket.watch(a);
    await socket.watch(b);
    await socket.equalsView(a);
    expect(await server.delete(`/v1/sessions/${a}`), 204);
    await socket.until((s) => s.folds.get(a).ended);
    await server.say(b, 'ann', 'and on');
    await socket.equalsView(b);
    await server.session(['ann'], { sid: a });
    socket.folds.delete(a);
    await socket.watch(a);
    await socket.equalsView(a);
    await socket.close();
  });

  it('answers in the order of what was sent, whichever shards it goes to', async () => {
    const random = randomFrom(7);
    const sids = await Promise.all(Array.from({ length: 8 }, () => server.session()));
    const socket = await Socket.open(server, '/v1/ws');
    const statuses = [];
    for (let n = 0; n < 3000; n++) {
      const session = sids[Math.floor(random() * sids.length)];
      const kind = random();
      const [message, status] = kind < 0.8 ? [{ session, ...say(`${n}`) }, 200]
        : kind < 0.85 ? [{ session: 'nowhere', ...say('x') }, 404]
        : kind < 0.9 ? [{ session, type: 'dance' }, 400]
        : kind < 0.95 ? [{ watch: { session } }, 200]
        : [{ watch: { session: `not-${n}` } }, 404];
      socket.send(message);
      statuses.push(status);
    }
    await socket.until((s) => s.answers.length === statuses.length, 'all answers');
    assert.deepEqual(socket.answers.map((a) => a.ref), statuses.map((_, n) => n + 1));
    assert.deepEqual(socket.answers.map((a) => a.status), statuses);
    await socket.close();
  });

  it('makes a session by a command, and refuses what names none', async () => {
    const socket = await Socket.open(server, '/v1/ws');
    const session = newId();
    assert.equal((await socket.ask({ session, ...say('too early') })).status, 404);
    const made = [{ type: 'session.create', session, labels: { by: 'socket' } },
      { type: 'agent.register', session, agent: 'ann' },
      { type: 'thread.create', session, thread: 'general', creator: 'ann', name: 'g',
        participants: [] }, { session, ...say('hi') }].map((message) => socket.send(message));
    await socket.until((s) => s.answers.some((a) => a.ref === made.at(-1)));
    for (const ref of made)
      assert.equal(socket.answers.find((a) => a.ref === ref).status, 200);
    assert.equal((await server.view(session)).state.labels.by, 'socket');
    refusedBy(await socket.ask(say('where')), 400, 'session');
    refusedBy(await socket.ask({ session: '../x', ...say('where') }), 400, 'session');
    await socket.close();
  });

  it('refuses watches that are none, and keeps those there are', async () => {
    const sid = await server.session();
    const socket = await Socket.open(server, '/v1/ws');
    await socket.watch(sid);
    const rows = [
      [{ watch: 7 }, 'watch'], [{ unwatch: [] }, 'unwatch'], [{ watch: {} }, 'session'],
      [{ watch: { session: '' } }, 'session'], [{ watch: { session: 7 } }, 'session'],
      [{ watch: { session: sid, view: 'summary' } }, 'view'],
      [{ watch: { session: sid, view: 'wide' } }, 'view'],
      [{ watch: { session: sid, path: '/threads' } }, 'path'],
      [{ watch: { session: sid, path: ['/a/b/c'] } }, 'path'],
      [{ watch: { session: sid, path: Array(65).fill('/threads') } }, 'path'],
      [{ watch: { session: sid, after: -1 } }, 'after'],
      [{ watch: { session: sid, label: ['a'] } }, undefined],
      [{ watch: { view: 'full' } }, 'session'],
      [{ watch: { view: 'summary', label: [':x'] } }, 'label'],
      [{ watch: { view: 'summary', sessions: [] } }, 'sessions'],
      [{ watch: { view: 'summary', sessions: [sid], label: ['a'] } }, 'label'],
      [{ watch: { view: 'summary', after: 1 } }, undefined],
      [{ watch: { session: sid }, unwatch: { session: sid } }, undefined],
      [{ watch: { session: sid }, colour: 'red' }, undefined],
      [{ unwatch: { session: sid, after: 1 } }, undefined],
      [{ unwatch: { view: 'summary' } }, 'view'],
    ];
    for (const [message, field] of rows) refusedBy(await socket.ask(message), 400, field);
    refusedBy(await socket.ask({ watch: { session: 'nowhere' } }), 404, 'session');
    await server.say(sid, 'ann', 'still here');
    await socket.equalsView(sid);
    await socket.close();
  });

  it('tells summaries of what matches, with the sessions that are watched', async () => {
    const team = newId('team');
    const sids = [];
    for (let n = 0; n < 3; n++) {
      sids.push(await server.session());
      expect(await server.command(sids[n], { type: 'session.update', labels: { team } }), 200);
    }
    await server.session();
    const socket = await Socket.open(server, '/v1/ws');
    const seen = () => new Map(socket.events.filter((e) => e.event === 'summary')
      .map((e) => [e.session, e]));
    const ready = () => socket.events.findLast((e) => e.event === 'ready');
    assert.equal((await socket.ask({ watch: { view: 'summary', label: [`team:${team}`] } })).status,
      200);
    await socket.until(() => ready());
    assert.equal(ready().sessions, 3);
    assert.deepEqual([...seen().keys()].sort(), [...sids].sort());
    await socket.watch(sids[0]);
    const { seq } = await server.say(sids[0], 'ann', 'news');
    await socket.until(() => seen().get(sids[0]).seq === seq, 'the summary of what is new');
    await socket.equalsView(sids[0]);
    const told = socket.events.length;
    const other = { watch: { view: 'summary', sessions: [sids[1]] } };
    assert.equal((await socket.ask(other)).status, 200);
    await socket.until(() => socket.events.slice(told).some((e) => e.event === 'ready'));
    assert.equal(ready().sessions, 1);
    assert.equal((await socket.ask({ unwatch: { view: 'summary' } })).status, 200);
    const last = socket.events.length;
    await server.say(sids[1], 'ann', 'unheard');
    await server.say(sids[0], 'ann', 'heard');
    await socket.equalsView(sids[0]);
    assert.ok(socket.events.slice(last).every((e) => e.event === 'patch'));
    await socket.close();
  });
});

/** Fails unless it is a refusal of this status that blames this field. */
function refusedBy(answer, status, field) {
  assert.equal(answer.status, status, JSON.stringify(answer));
  assert.equal(answer.error.status, status);
  if (field !== undefined) assert.equal(answer.error.field, field, JSON.stringify(answer));
}

// ---- clients that are slow, silent or gone; servers that stop

/** A server on a port and on a Unix socket, for which the kernel keeps little. */
async function listening(t, args) {
  const directory = temporaryDirectory();
  const socketPath = join(directory, 's');
  t.after(() => remove(directory));
  const server = await serve(t, { args, listen: ['127.0.0.1:0', `unix:${socketPath}`] });
  return { server, socketPath };
}

it('a client that sends and never reads is read no further, and cut in the end', async (t) => {
  const { server, socketPath } = await listening(t, ['--write-timeout', '1s']);
  const sid = await server.session();
  const { seq } = await server.view(sid);
  const wire = await Wire.open(server, path(sid), { socketPath });
  wire.socket.pause();
  const COMMANDS = 40_000;
  const one = (n) => frame(TEXT, JSON.stringify({ ref: `${n}`.padEnd(100), ...say(`${n}`) }));
  wire.send(...Array.from({ length: COMMANDS }, (_, n) => one(n)));
  const other = await Socket.open(server, path(sid, '?path=/agents'));
  const reached = async () => (await server.view(sid)).seq - seq;
  await until(async () => (await reached()) > 1000, 'the first commands');
  assert.equal((await other.ask({ type: 'agent.register', agent: 'eve' })).status, 200);
  await until(async () => (await server.status()).reactors.some((r) => r.streams_cut > 0),
    'the cut');
  wire.socket.resume();
  await wire.wait(() => wire.ended, 'the end of the connection');
  assert.ok(await reached() < COMMANDS, 'not all was read');
  await other.equalsView();
  await other.close();
});

it('a client that reads slowly is told merged patches, between its answers', async (t) => {
  const { server, socketPath } = await listening(t, ['--window-messages', '20']);
  const sid = await server.session();
  const wire = await Wire.open(server, '/v1/ws', { socketPath });
  const fold = new Fold(server, sid);
  const ask = (ref) => wire.send(frame(TEXT, JSON.stringify({ ref, session: sid, ...say(ref) })));
  const read = async (condition) => {
    while (!condition()) {
      const { json } = await wire.find((f) => f.opcode === TEXT);
      const { event, id, session, ...data } = json;
      if (event) fold.tell(event, id, data);
      else assert.equal(json.status, 200, JSON.stringify(json));
    }
  };
  wire.send(frame(TEXT, JSON.stringify({ ref: 'w', watch: { session: sid } })));
  await read(() => fold.seq !== undefined);
  wire.socket.pause();
  for (let n = 0; n < 60; n++) {
    await server.live(sid, 5, `t${n}`);
    ask(`asked ${n}`);
  }
  wire.socket.resume();
  const view = await until(async () => {
    const now = await server.view(sid);
    return now.seq === (await server.view(sid)).seq && now;
  });
  await read(() => fold.has(view));
  fold.isAt(view);
  assert.ok(fold.counts.merged + fold.counts.reset > 0, JSON.stringify(fold.counts));
});

it('a client that gives no sign of life is cut, one that answers pings is not', async (t) => {
  const server = await serve(t, { args: ['--heartbeat', '200ms', '--write-timeout', '1s'] });
  const sid = await server.session();
  for (const target of [path(sid), '/v1/ws']) {
    const dead = await Socket.open(server, target, { autoPong: false });
    const alive = await Socket.open(server, target);
    let pings = 0;
    alive.ws.on('ping', () => { pings++; });
    assert.equal((await within(dead.closed, 'the cut')).code, 1006);
    await until(() => pings >= 6, 'pings');
    assert.equal(alive.end, undefined);
    await alive.close();
  }
});

it('a stopping server answers what is under way and closes with 1012', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const sockets = [await Socket.open(server, path(sid)), await Socket.open(server, '/v1/ws')];
  await sockets[1].watch(sid);
  await sockets[0].ask(say('first'));
  for (let n = 0; n < 200; n++) {
    sockets[0].send(say(`${n}`));
    sockets[1].send({ session: sid, ...say(`${n}`) });
  }
  await sockets[0].until((s) => s.answers.length > 1);
  server.child.kill('SIGTERM');
  for (const socket of sockets) {
    const end = await within(socket.closed, 'the close');
    assert.deepEqual(end, { code: 1012, reason: 'the server restarts' });
    if (socket.error) throw socket.error;
    assert.ok(socket.answers.every((a) => a.status === 200));
  }
  assert.deepEqual(await within(server.exited, 'the end'), { code: 0, signal: null });
});

it('a connection watches 10 000 sessions and is closed at one more', async (t) => {
  const server = await serve(t);
  const socket = await Socket.open(server, '/v1/ws');
  const MOST = 10_000;
  const sids = Array.from({ length: MOST + 1 }, (_, n) => `s${n}`);
  for (const session of sids) socket.send({ type: 'session.create', session });
  await socket.until((s) => s.answers.length === sids.length, 'all sessions');
  for (const session of sids.slice(0, MOST)) socket.send({ watch: { session } });
  await socket.until((s) => s.events.length === MOST, 'all snapshots');
  assert.ok(socket.answers.every((a) => a.status === 200));
  socket.send({ watch: { session: 's7', view: 'compact' } });
  await socket.until((s) => s.events.length === MOST + 1, 'one more snapshot of the same');
  socket.send({ watch: { session: sids[MOST] } });
  assert.deepEqual(await within(socket.closed, 'the close'),
    { code: 1008, reason: 'a connection watches at most 10000 sessions' });
  if (socket.error) throw socket.error;
});

it('fifty connections that are cut at any place lose and repeat nothing', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const random = randomFrom(11);
  let at = {};
  let going = true;
  const writer = (async () => {
    for (let n = 0; going; n++) await server.live(sid, 1, `t${n}`);
  })();
  for (let n = 0; n < 50; n++) {
    const query = at.id === undefined ? '' : `?last_event_id=${at.id}`;
    const socket = await Socket.open(server, path(sid, query), { fold: at });
    const fold = socket.folds.get(sid);
    const enough = 1 + Math.floor(random() * 20);
    await socket.until((s) => s.events.length >= enough);
    socket.ws.terminate();
    if (socket.error) throw socket.error;
    at = { id: fold.id, state: fold.state, seq: fold.seq, epoch: fold.epoch };
  }
  going = false;
  await writer;
  const last = await Socket.open(server, path(sid, `?last_event_id=${at.id}`), { fold: at });
  await last.equalsView();
  assert.ok(last.events.every((e) => e.event === 'patch'));
  await last.close();
});
