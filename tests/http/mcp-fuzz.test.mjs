/*
 * Clients of MCP that do everything wrong: what they say is put together and broken by chance, and
 * they leave when they like, even before they have said all of it. The server must answer each with
 * something of the protocol, keep nothing of those who left, and go on serving the others; and some
 * that do one thing too often or too much. ATOLL_SEED repeats a run, ATOLL_VISITS makes it longer.
 */
import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it } from 'node:test';
import { expect, parseAnswer, randomFrom, serving, until, within } from './harness.mjs';
import { MODERN, Peer, VERSIONS, agentPath, refusedRpc, send } from './mcp.mjs';

const META = 'io.modelcontextprotocol/';
const BOTH = 'application/json, text/event-stream';
const ALL = ['2024-11-05', ...VERSIONS];
const AGENTS = ['ann', 'bob', 'cat'];
const CODES = [-32700, -32600, -32601, -32602, -32603, -32002, -32020, -32021, -32022, -31503];
const STATUSES = [200, 201, 202, 204, 400, 403, 404, 405, 406, 415];

class Fuzzer {
  constructor(server, sid, seed) {
    Object.assign(this, { server, sid, random: randomFrom(seed), ids: [], peers: [], events: [],
      streams: [], cursors: [''] });
  }

  int(n) { return Math.floor(this.random() * n); }
  chance(p) { return this.random() < p; }
  pick(list) { return list[this.int(list.length)]; }
  keep(list, value) { list.length < 60 ? list.push(value) : (list[this.int(60)] = value); }

  junk() {
    return this.pick([null, true, 0, -1, 1.5, 1e300, 2 ** 63, '', 'x', 'a'.repeat(300), '\n', '"',
      [], {}, [1], { a: 1 }, [[[[]]]], 'é😀', 'm1', 'x'.repeat(3000)]);
  }

  /** The text with some bytes changed, or its end lost. */
  broken(text) {
    const bytes = Buffer.from(text, 'latin1');
    for (let i = this.int(3); i >= 0 && bytes.length > 0; i--)
      bytes[this.int(bytes.length)] ^= 1 << this.int(8);
    return bytes.subarray(0, this.chance(0.3) ? this.int(bytes.length) : bytes.length)
      .toString('latin1');
  }

  path() {
    const tools = this.chance(0.4) ? '?tools=coral' : '';
    return this.chance(0.8) ? agentPath(this.sid, this.pick(AGENTS), tools) : `/mcp${tools}`;
  }

  uri() {
    const own = `atoll://sessions/${this.sid}`;
    return this.pick([`${own}/state`, `${own}/threads/general`, `${own}/events`,
      `${own}/events?after=${this.int(50)}`, 'coral://state', 'coral://instruction',
      'atoll://sessions/nobody/state', 'x', this.junk()]);
  }

  tool(bound) {
    const list = AGENTS.slice(0, this.int(4));
    const rows = {
      atoll_wait: { mentions_only: this.chance(0.5), ack: this.pick(this.cursors),
        wait_s: this.pick([0, 1, 55]) },
      atoll_send_message: { thread: 'general', content: 'hi', mentions: list },
      atoll_create_thread: { name: 'n', participants: list },
      atoll_acknowledge: { cursor: this.pick(this.cursors) },
      atoll_read_thread: { thread: 'general', cursor: this.pick(['', 'after-0', 'm3', 'm3+9']) },
      atoll_list_agents: {}, atoll_get_state: {},
      atoll_set_status: { status: this.pick(['idle', 'sleepy']) },
      coral_send_message: { threadId: 'general', content: 'hi', mentions: list },
      coral_wait_for_message: { currentUnixTime: 2 ** 63, maxWaitMs: this.pick([-1, 0, 5, 55000]) },
      coral_wait_for_agent: { agentName: this.pick(AGENTS), maxWaitMs: this.pick([5, 55000]) },
    };
    const name = this.pick(Object.keys(rows));
    const args = { ...rows[name], ...(!bound && { session: this.sid, agent: this.pick(AGENTS) }) };
    if (this.chance(0.05)) args[this.pick(Object.keys(args)) ?? 'x'] = this.junk();
    return { name, arguments: args };
  }

  params(method, bound) {
    const params = {
      'tools/call': () => this.tool(bound),
      'prompts/get': () => ({ name: 'atoll_briefing',
        arguments: bound ? {} : { session: this.sid, agent: 'ann' } }),
      'completion/complete': () => ({ ref: { type: 'ref/prompt', name: 'atoll_briefing' },
        argument: { name: 'thread', value: 'g' } }),
      'logging/setLevel': () => ({ level: this.pick(['debug', 'loud']) }),
      'subscriptions/listen': () => ({ notifications: { resourcesListChanged: this.chance(0.5),
        resourceSubscriptions: Array.from({ length: this.int(4) }, () => this.uri()) } }),
    }[method]?.() ?? (method.startsWith('resources/') ? { uri: this.uri() } : {});
    if (this.chance(0.3)) params._meta = { progressToken: this.pick(['p', 7, this.junk()]) };
    if (this.chance(0.03))
      params[this.pick(['name', 'uri', 'arguments', '_meta', 'cursor', 'requestState'])] =
        this.junk();
    return params;
  }

  message(bound) {
    const kind = this.random();
    if (kind < 0.1)
      return { jsonrpc: '2.0', method: 'notifications/cancelled',
        params: { requestId: this.ids.length ? this.pick(this.ids) : this.junk() } };
    if (kind < 0.13)
      return { jsonrpc: '2.0', id: this.pick(['0.x.1.0', '"', '..', this.junk()]), result: {} };
    if (kind < 0.15) return this.junk();
    const method = this.pick(['tools/call', 'tools/call', 'tools/call', 'tools/call', 'tools/list',
      'resources/list', 'resources/templates/list', 'resources/read', 'prompts/list', 'prompts/get',
      'completion/complete', 'ping', 'logging/setLevel', 'resources/subscribe',
      'resources/unsubscribe', 'server/discover', 'subscriptions/listen', 'nothing', '']);
    const id = this.chance(0.95) ? this.int(100) : this.junk();
    this.keep(this.ids, id);
    const message = { jsonrpc: '2.0', id, method, params: this.params(method, bound) };
    if (this.chance(0.03))
      message[this.pick(['jsonrpc', 'id', 'method', 'params'])] = this.junk();
    return message;
  }

  /** A message; where the revision has batches, also several, of which some are cancelled. */
  body(bound, version) {
    if (version !== '2025-03-26' || this.chance(0.5)) return this.message(bound);
    const list = Array.from({ length: this.pick([1, 3, 8, 64, 65]) }, () => this.message(bound));
    for (const { id } of list.filter((m) => m?.method === 'tools/call' && this.chance(0.5)))
      list.splice(this.int(list.length + 1), 0,
        { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } });
    return list;
  }

  // ---- one visit

  request(method, path, headers, body) {
    const fields = { host: `127.0.0.1:${this.server.port}`,
      accept: method === 'GET' ? 'text/event-stream' : BOTH, ...headers };
    const text = body === undefined ? '' : Buffer.from(body);
    if (body !== undefined) {
      fields['content-type'] = 'application/json';
      fields['content-length'] = text.length;
    }
    const lines = Object.entries(fields).filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}: ${String(value).replace(/[^\x20-\x7e]/g, '?')}\r\n`);
    return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`),
      Buffer.from(text)]);
  }

  /** What a client has in hand: a session that was begun, or may have been. */
  peer() {
    return this.peers.length > 0 ? this.pick(this.peers)
      : { path: this.path(), version: '2025-06-18', sessionId: 'none' };
  }

  sessionHeaders({ sessionId, version }) {
    return { 'mcp-session-id': this.chance(0.98) ? sessionId : this.broken(sessionId),
      'mcp-protocol-version': this.chance(0.95) ? version : this.pick(['', 'x', MODERN]),
      accept: this.chance(0.85) ? BOTH : this.pick(['application/json', '*/*', 'text/html']) };
  }

  posted() {
    const peer = this.peer();
    let body = JSON.stringify(this.body(peer.path !== '/mcp', peer.version));
    if (this.chance(0.03)) body = this.broken(body);
    return this.request('POST', this.chance(0.97) ? peer.path : this.path(),
      this.sessionHeaders(peer), body);
  }

  modern() {
    const path = this.path();
    const message = this.message(!path.startsWith('/mcp'));
    if (typeof message?.params === 'object' && message.params !== null)
      message.params._meta = { ...Object(message.params._meta),
        [`${META}protocolVersion`]: MODERN, [`${META}clientCapabilities`]: {} };
    const name = message?.params?.name ?? message?.params?.uri;
    const headers = { 'mcp-protocol-version': MODERN, 'mcp-method': message?.method ?? '',
      'mcp-name': typeof name === 'string' ? name : undefined };
    if (this.chance(0.05))
      headers[this.pick(Object.keys(headers))] = this.pick(['', '=?base64?====?=', '=?base64??=']);
    return this.request('POST', path, headers, JSON.stringify(message));
  }

  got() {
    const peer = this.peer();
    const id = this.events.length > 0 ? this.pick(this.events) : '..';
    return this.request('GET', peer.path, { 'mcp-session-id': peer.sessionId,
      'last-event-id': this.chance(0.3) ? undefined : this.chance(0.9) ? id : this.broken(id) });
  }

  olderPosted() {
    const url = this.streams.length > 0 ? this.pick(this.streams) : '/sse?stream=x';
    return this.request('POST', url, {}, JSON.stringify(this.message(url.startsWith('/v1'))));
  }

  bytes() {
    const kind = this.random();
    if (kind < 0.45) return this.posted();
    if (kind < 0.7) return this.modern();
    if (kind < 0.8) return this.got();
    if (kind < 0.85) return this.request('GET', this.path().replace('/mcp', '/sse'), {});
    if (kind < 0.97) return this.olderPosted();
    return Buffer.from(this.broken(this.posted().toString('latin1')), 'latin1');
  }

  async begin() {
    const peer = await Peer.connect(this.server, this.path(), { version: this.pick(ALL) });
    this.keep(this.peers, peer);
  }

  harvest(text) {
    for (const [, id] of text.matchAll(/^id: (\S+)/gm)) this.keep(this.events, id);
    for (const [, url] of text.matchAll(/^data: (\/\S*sse\?stream=\S+)/gm))
      this.keep(this.streams, url);
    for (const [, cursor] of text.matchAll(/"cursor":"([^"]+)"/g)) this.keep(this.cursors, cursor);
  }

  /**
   * Says something and leaves: at once, in the middle of it, when an answer has begun or come, or
   * when patience is over.
   */
  visit() {
    const bytes = this.bytes();
    const leaves = this.pick(['at once', 'early', 'begun', 'begun', 'over', 'over', 'half']);
    const patience_ms = this.chance(0.1) ? 1500 : 100;
    return new Promise((done) => {
      const socket = net.connect({ host: this.server.hostname, port: Number(this.server.port) });
      let got = '';
      const leave = () => (this.chance(0.3) ? socket.resetAndDestroy() : socket.destroy());
      const patience = setTimeout(leave, patience_ms);
      socket.on('error', () => {}).on('close', () => {
        clearTimeout(patience);
        this.harvest(got);
        done(got);
      });
      socket.on('connect', () => {
        const part = leaves === 'early' ? this.int(bytes.length) : bytes.length;
        socket.write(bytes.subarray(0, part), () => {
          if (leaves === 'at once' || leaves === 'early') leave();
          else if (leaves === 'half') socket.end();
        });
      });
      socket.on('data', (chunk) => {
        got += chunk.toString('latin1');
        const answer = parseAnswer(Buffer.from(got, 'latin1'));
        if (answer.complete || (leaves === 'begun' && answer.status)) leave();
      });
    });
  }
}

/** Fails unless it is an answer that the protocol has. */
function check(text) {
  const { status, headers, text: body, complete } = parseAnswer(Buffer.from(text, 'latin1'));
  if (status === undefined || !complete) return;
  assert.ok(STATUSES.includes(status), text.slice(0, 600));
  if (headers['content-type'] !== 'application/json') return;
  for (const message of [JSON.parse(body)].flat()) {
    assert.equal(message.jsonrpc, '2.0', body);
    if (message.error) assert.ok(CODES.includes(message.error.code), body);
  }
}

describe('clients of MCP by chance', () => {
  const server = serving({ args: ['--shards', '2'] });
  const seed = Number(process.env.ATOLL_SEED ?? Date.now() % 1e9);
  const visits = Number(process.env.ATOLL_VISITS ?? 1200);

  it(`are answered, and forgotten when they have gone (ATOLL_SEED=${seed})`, async () => {
    const sid = await server.session(AGENTS);
    const fuzzer = new Fuzzer(server, sid, seed);
    let left = visits;
    await Promise.all(Array.from({ length: 30 }, async () => {
      while (left-- > 0) {
        if (fuzzer.chance(0.06)) await fuzzer.begin();
        check(await within(fuzzer.visit(), 'the end of a visit', 70_000));
        if (fuzzer.chance(0.05)) await server.say(sid, 'ann', 'a word', { mentions: ['bob'] });
      }
    }));
    const idle = async () => {
      const { reactors } = await server.status();
      return reactors.every((r) => r.waiting === 0 && r.mcp_streams === 0) &&
        (await server.total('waiting')) === 0;
    };
    await until(idle, 'nobody waits or listens any more');
    const peer = await Peer.connect(server, agentPath(sid, 'late'), { version: MODERN });
    assert.equal((await peer.call('atoll_get_state')).session, sid);
  });
});

describe('clients of MCP that want too much', () => {
  const server = serving({ args: ['--shards', '2', '--max-labels', '1'] });
  const thread = { type: 'thread.create', creator: 'ann', name: 'x', participants: [] };
  const uriOf = (sid, n) => `atoll://sessions/${sid}/threads/x${n}`;

  /** A stream of the older transport that reads the first event alone. */
  async function openDeaf(path) {
    const socket = net.connect({ host: server.hostname, port: Number(server.port) });
    socket.on('error', () => {});
    socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n`);
    let text = '';
    const url = await within(new Promise((done) => socket.on('data', (chunk) => {
      text += chunk;
      const [, found] = text.match(/data: (\/\S+stream=\S+)\n/) ?? [];
      if (found) done(found);
    })), 'the endpoint');
    socket.pause();
    return { socket, post: (body) => send(server, 'POST', url, { body }) };
  }

  it('a stream that is not read is cut, and the waits on it end', async (t) => {
    const sid = await server.session();
    for (let i = 0; i < 4; i++) await server.say(sid, 'bob', 'x'.repeat(200_000));
    const { socket, post } = await openDeaf(`/v1/sessions/${sid}/agents/cat/sse`);
    t.after(() => socket.destroy());
    const call = (id, method, params) => ({ jsonrpc: '2.0', id, method, params });
    const wait = { name: 'atoll_wait', arguments: {}, _meta: { progressToken: 'p'.repeat(250) } };
    for (let i = 0; i < 20; i++) expect(await post(call(`w${i}`, 'tools/call', wait)), 202);
    await until(async () => (await server.total('waiting')) === 20, 'they wait');
    const read = call(1, 'resources/read', { uri: `atoll://sessions/${sid}/state` });
    await until(async () => (await post(read)).status === 404, 'it is cut');
    await until(async () => (await server.total('waiting')) === 0, 'nobody waits');
    const { reactors } = await server.status();
    assert.equal(reactors.reduce((sum, r) => sum + r.streams_cut, 0), 1);
  });

  it('subscriptions have a bound, beside which the session goes on', async () => {
    const sid = await server.session();
    for (let n = 0; n < 62; n++) await server.command(sid, { ...thread, thread: `x${n}` });
    const peer = await Peer.connect(server, agentPath(sid, 'ann'));
    const subscribe = (n) => peer.request('resources/subscribe', { uri: uriOf(sid, n) });
    for (let n = 0; n < 61; n++) await subscribe(n);
    await refusedRpc(subscribe(61), -32602, /unsubscribe from some/);
    await peer.request('logging/setLevel', { level: 'error' });
    const stream = expect(await peer.listen(), 200);
    await server.command(sid, { type: 'thread.close', thread: 'x5', by: 'ann' });
    await stream.find((m) => m.params?.uri === uriOf(sid, 5));
    await peer.request('resources/unsubscribe', { uri: uriOf(sid, 0) });
    await subscribe(61);
    stream.close();
  });

  it('so have those of the older transport', async () => {
    const sid = await server.session();
    const stream = expect(await send(server, 'GET', `/v1/sessions/${sid}/agents/ann/sse`), 200);
    const { data: url } = await stream.event();
    for (let n = 0; n < 50; n++)
      expect(await send(server, 'POST', url, { body: { jsonrpc: '2.0', id: n,
        method: 'resources/subscribe', params: { uri: uriOf(sid, n) } } }), 202);
    const answers = [];
    while (answers.length < 50) answers.push(await stream.find((m) => m.id !== undefined));
    assert.equal(answers.filter((m) => m.error?.code === -32602).length, 2);
    stream.close();
  });

  it('a stream of the older transport has 256 open calls at most', async () => {
    const sid = await server.session();
    const stream = expect(await send(server, 'GET', `/v1/sessions/${sid}/agents/ann/sse`), 200);
    const { data: url } = await stream.event();
    const wait = (id) => send(server, 'POST', url, { body: { jsonrpc: '2.0', id,
      method: 'tools/call', params: { name: 'atoll_wait', arguments: {} } } });
    for (let id = 1; id <= 257; id++) expect(await wait(id), 202);
    const { error } = await stream.find((m) => m.id === 257);
    assert.equal(error.code, -31503, error.message);
    await server.say(sid, 'bob', 'all of you');
    const answers = new Set();
    while (answers.size < 256) answers.add((await stream.find((m) => m.id !== undefined)).id);
    stream.close();
  });

  it('a number that nobody can hold is rounded, on whatever transport', async () => {
    const sid = await server.session();
    const most = '{"currentUnixTime":9223372036854775807,"maxWaitMs":1}';
    const wait = (id) => `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":` +
      `{"name":"coral_wait_for_message","arguments":${most}}}`;
    const peer = await Peer.connect(server, agentPath(sid, 'ann', '?tools=coral'),
      { version: '2025-03-26' });
    const answer = await send(server, 'POST', peer.path,
      { headers: peer.headers(), body: ` [ ${wait(1)} , 7 , {"a":1,"a":2} , ${wait(2)} ] ` });
    const messages = answer.streams ? [] : answer.json;
    while (answer.streams && messages.length < 4) messages.push(...[await answer.message()].flat());
    assert.deepEqual(messages.map((m) => m.id).filter((id) => id).sort(), [1, 2]);
    assert.equal(messages.filter((m) => m.error?.code === -32600).length, 2);
    const stream = expect(
      await send(server, 'GET', `/v1/sessions/${sid}/agents/bob/sse?tools=coral`), 200);
    const { data: url } = await stream.event();
    expect(await send(server, 'POST', url, { body: wait(3) }), 202);
    const { result } = await stream.find((m) => m.id === 3);
    assert.equal(result.structuredContent.status, 'Timeout reached');
    stream.close();
  });
});
