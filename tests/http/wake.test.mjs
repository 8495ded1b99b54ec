/*
 * Waking agents: an agent that is not waiting is called, signed as Standard Webhooks says (the
 * check is that of the package `standardwebhooks`), at least once for each message, over failures
 * and restarts, and never where it must not be.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Webhook } from 'standardwebhooks';
import WebSocket from 'ws';
import { NDJSON, conforms, expect, refused, serve, serving, start, within } from './harness.mjs';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const ALLOWED = ['--allow-wake-to', 'localhost'];

/** What agents are called at. `answer` says what a call gets; all calls are kept. */
class Receiver {
  constructor() {
    Object.assign(this, { calls: [], waiting: new Set(), answer: () => 204 });
    this.server = http.createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const call = { path: request.url, method: request.method, headers: request.headers, text,
          body: JSON.parse(text), id: request.headers['webhook-id'] };
        const status = this.answer(call, this.calls.length);
        this.calls.push(call);
        this.waiting.forEach((look) => look());
        if (status >= 300 && status < 400) response.setHeader('location', '/elsewhere');
        response.writeHead(status).end();
      });
    });
  }

  async open() {
    await new Promise((done) => this.server.listen(0, 'localhost', done));
    this.url = `http://localhost:${this.server.address().port}`;
    return this;
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((done) => this.server.close(done));
  }

  /** The calls for a path, once there are so many. */
  async reach(path, n) {
    let look;
    const met = new Promise((done) => {
      look = () => {
        const calls = this.calls.filter((call) => call.path === path);
        if (calls.length >= n) done(calls);
      };
      this.waiting.add(look);
      look();
    });
    try {
      return await within(met, `${n} calls of ${path}`);
    } finally {
      this.waiting.delete(look);
    }
  }
}

const target = (server, sid, agent, body, options) =>
  server.put(`/v1/sessions/${sid}/agents/${agent}/wake`, body, options);
const wakeOf = async (server, sid, agent) => (await server.view(sid)).state.agents[agent].wake;

/** The breaker's reports as a stream has told them, by agent. */
const reports = (stream, agent) => stream.log.filter(({ data }) =>
  data.type === 'agent.wake_reported' && data.ops.some(({ path }) =>
    path.startsWith(`/agents/${agent}/wake`)));

describe('an agent that is not waiting', () => {
  const server = serving({ args: ALLOWED });
  const receiver = new Receiver();
  before(() => receiver.open());
  after(() => receiver.close());
  const hook = (sid) => `${receiver.url}/${sid}`;

  it('is called with who, what and how far behind, and the cursor acknowledges it', async () => {
    const sid = await server.session();
    expect(await target(server, sid, 'bob', { url: hook(sid) }), 200);
    await server.say(sid, 'ann', 'one');
    const { seq } = await server.say(sid, 'ann', 'two', { mentions: ['bob'] });
    let call;
    for (let n = 1; call?.body.seq !== seq; n++)
      call = (await receiver.reach(`/${sid}`, n)).at(-1);
    const { cursor, ...rest } = call.body;
    const { epoch } = await server.view(sid);
    assert.deepEqual(rest, { type: 'agent.wake', session: sid, epoch, agent: 'bob', seq, unread: 2,
      mentioned: true });
    assert.equal(call.method, 'POST');
    assert.equal(call.headers['content-type'], 'application/json');
    assert.equal(call.headers['webhook-signature'], undefined);
    expect(await server.post(`/v1/sessions/${sid}/agents/bob/inbox/ack`, { cursor }), 200);
    assert.deepEqual((await server.inbox(sid, 'bob')).messages, []);
    assert.deepEqual(await wakeOf(server, sid, 'bob'),
      { url: hook(sid), mentions: false, signed: false, breaker: 'closed', why: null });
  });

  it('is called with a signature, whatever way the secret came', async () => {
    const raw = 'a text of more than 16 bytes, ü';
    const sid = await server.session(['ann', 'base', 'text', 'batch', 'line', 'socket']);
    const command = (agent, fields) => ({ type: 'agent.wake', agent, url: `${hook(sid)}-${agent}`,
      secret: SECRET, ...fields });
    const { type, agent, ...body } = command('base');
    expect(await target(server, sid, 'base', body), 200);
    expect(await server.command(sid, command('text', { secret: raw })), 200);
    expect(await server.command(sid, [command('batch')]), 200);
    expect(await server.lines(sid, [command('line')]), 200);
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/sessions/${sid}/ws`,
      'atoll.v1');
    const answered = new Promise((done, fail) => socket.on('error', fail)
      .on('message', (data) => 'ref' in JSON.parse(data) && done(JSON.parse(data))));
    await new Promise((done) => socket.once('open', done));
    socket.send(JSON.stringify({ ref: 1, ...command('socket') }));
    assert.equal((await within(answered, 'the answer of the WebSocket')).status, 200);
    socket.close();
    await server.say(sid, 'ann', 'wake up');
    for (const name of ['base', 'text', 'batch', 'line', 'socket']) {
      const [call] = await receiver.reach(`/${sid}-${name}`, 1);
      const check = name === 'text' ? new Webhook(Buffer.from(raw), { format: 'raw' })
        : new Webhook(SECRET);
      assert.equal(check.verify(call.text, call.headers).agent, name);
      assert.throws(() => check.verify(`${call.text} `, call.headers));
      assert.equal((await wakeOf(server, sid, name)).signed, true);
    }
  });

  it('is called again with the same id until that is answered with success', async () => {
    const sid = await server.session();
    expect(await target(server, sid, 'bob', { url: hook(sid) }), 200);
    const failing = { n: 2 };
    receiver.answer = ({ path }) => (path === `/${sid}` && failing.n-- > 0 ? 500 : 204);
    await server.say(sid, 'ann', 'hear me');
    const calls = await receiver.reach(`/${sid}`, 3);
    assert.equal(new Set(calls.map(({ id }) => id)).size, 1, 'one call, tried three times');
    assert.ok(Number(calls[2].headers['webhook-timestamp'])
      >= Number(calls[0].headers['webhook-timestamp']) + 2, 'it backs off');
    const { seq } = await server.say(sid, 'ann', 'and again');
    const [next] = (await receiver.reach(`/${sid}`, 4)).slice(3);
    assert.equal(next.body.seq, seq);
    assert.notEqual(next.id, calls[0].id);
  });

  it('is not called elsewhere by a redirect', async () => {
    const sid = await server.session();
    expect(await target(server, sid, 'bob', { url: hook(sid) }), 200);
    let first = true;
    receiver.answer = ({ path }) => {
      const status = path === `/${sid}` && first ? 307 : 204;
      first &&= path !== `/${sid}`;
      return status;
    };
    await server.say(sid, 'ann', 'go there');
    await receiver.reach(`/${sid}`, 2);
    assert.deepEqual(receiver.calls.filter(({ path }) => path === '/elsewhere'), []);
  });

  it('is left alone by what does not mention it, where it says so', async () => {
    const sid = await server.session(['ann', 'bob', 'cat']);
    expect(await target(server, sid, 'bob', { url: `${hook(sid)}-b`, mentions: true }), 200);
    expect(await target(server, sid, 'cat', { url: `${hook(sid)}-c` }), 200);
    await server.say(sid, 'ann', 'to nobody');
    await receiver.reach(`/${sid}-c`, 1);
    const { seq } = await server.say(sid, 'ann', 'to bob', { mentions: ['bob'] });
    const [call] = await receiver.reach(`/${sid}-b`, 1);
    assert.equal(call.body.seq, seq);
    assert.equal(call.body.mentioned, true);
  });

  it('is not called any more without a target, or when it has left', async () => {
    const sid = await server.session(['ann', 'bob', 'cat', 'dan']);
    for (const agent of ['bob', 'cat', 'dan'])
      expect(await target(server, sid, agent, { url: `${hook(sid)}-${agent}` }), 200);
    const { json } = expect(await server.delete(`/v1/sessions/${sid}/agents/bob/wake`), 200);
    assert.deepEqual(json.events.map(({ type, url }) => [type, url]), [['agent.wake_set', null]]);
    assert.equal(await wakeOf(server, sid, 'bob'), null);
    assert.deepEqual(expect(await server.delete(`/v1/sessions/${sid}/agents/bob/wake`), 200)
      .json.events, []);
    expect(await server.delete(`/v1/sessions/${sid}/agents/cat`), 200);
    await server.say(sid, 'ann', 'anybody there?');
    await receiver.reach(`/${sid}-dan`, 1);
    assert.deepEqual(receiver.calls.filter(({ path }) => path.startsWith(`/${sid}-`)).length, 1);
  });

  it('has one target, set as a whole', async () => {
    const sid = await server.session();
    const url = hook(sid);
    const set = async (body) => expect(await target(server, sid, 'bob', body), 200).json.events;
    const [event] = await set({ url, secret: SECRET, mentions: true });
    conforms('/components/schemas/AgentWakeSet', event, 'the event');
    assert.deepEqual(await set({ url, secret: SECRET, mentions: true }), [], 'nothing changed');
    assert.equal((await set({ url, secret: `${SECRET.slice(0, -1)}x`, mentions: true })).length, 1);
    assert.equal((await set({ url })).length, 1);
    assert.deepEqual(await wakeOf(server, sid, 'bob'),
      { url, mentions: false, signed: false, breaker: 'closed', why: null });
    expect(await server.post(`/v1/sessions/${sid}/agents/bob/wake`, { url, secret: SECRET }), 200);
    assert.equal((await wakeOf(server, sid, 'bob')).signed, true);
  });

  it('sets its target once under one key', async () => {
    const sid = await server.session();
    const set = (secret) => target(server, sid, 'bob', { url: hook(sid), secret },
      { headers: { 'idempotency-key': 'k' } });
    const first = expect(await set(SECRET), 200);
    const again = expect(await set(SECRET), 200);
    assert.equal(again.headers['idempotent-replayed'], 'true');
    assert.deepEqual(again.json, first.json);
    refused(await set(`${SECRET.slice(0, -1)}x`), 422, 'idempotency-key-reused');
  });

  it('is refused a target that is none', async () => {
    const sid = await server.session();
    const bad = async (body, field) =>
      refused(await target(server, sid, 'bob', body), 400, 'malformed', field);
    await bad({}, 'url');
    for (const url of ['', 'x', 'ftp://example.org/', 'http://', 'https://:80/', 'http://a b/',
      'http://user@example.org/', 'http://example.org/#x', 'http://example.org:99999/', 7])
      await bad({ url }, 'url');
    refused(await target(server, sid, 'bob', { url: `http://example.org/${'x'.repeat(2048)}` }),
      413, 'too-large', 'url');
    for (const secret of ['', 'short', 'x'.repeat(257), 'whsec_', 'whsec_AAAA', 'whsec_!', 7])
      await bad({ url: 'http://example.org/', secret }, 'secret');
    await bad({ url: 'http://example.org/', mentions: 'yes' }, 'mentions');
    await bad({ url: 'http://example.org/', sealed: 'x' }, 'sealed');
    refused(await target(server, sid, 'zoe', { url: hook(sid) }), 404, 'unknown-agent');
    refused(await target(server, 'nowhere', 'bob', { url: hook(sid) }), 404, 'unknown-session');
    refused(await server.command(sid, { type: 'agent.wake_report', agent: 'bob', breaker: 'open' }),
      400, 'malformed', 'type');
  });
});

describe('where an agent may be called', () => {
  const server = serving();

  it('is judged by the address, and the breaker says why not', async () => {
    const sid = await server.session(['ann', 'name', 'four', 'six', 'mapped', 'decimal', 'zero']);
    const hosts = { name: 'localhost', four: '127.0.0.1', six: '[::1]',
      mapped: '[::ffff:127.0.0.1]', decimal: '2130706433', zero: '0' };
    const stream = server.stream(sid);
    for (const [agent, host] of Object.entries(hosts))
      expect(await target(server, sid, agent,
        { url: `http://${host}:${server.port}/hook?token=quiet` }), 200);
    await server.say(sid, 'ann', 'wake up');
    for (const agent of Object.keys(hosts)) {
      await stream.until(() => reports(stream, agent).length > 0, `a report of ${agent}`);
      const { wake } = stream.state.agents[agent];
      assert.equal(wake.breaker, 'open', agent);
      assert.match(wake.why, /--allow-wake-to/, agent);
      assert.doesNotMatch(wake.why, /quiet/);
    }
    await stream.equalsView();
    (await server.events(sid)).filter(({ type }) => type === 'agent.wake_reported')
      .forEach((event) => conforms('/components/schemas/AgentWakeReported', event, 'a report'));
    // Set anew it gets another chance, and fails it at once.
    const before = reports(stream, 'name').length;
    const url = `http://localhost:${server.port}/other`;
    expect(await target(server, sid, 'name', { url }), 200);
    await stream.until(() => reports(stream, 'name').length > before, 'a second report');
    assert.equal((await wakeOf(server, sid, 'name')).breaker, 'open');
  });

  it('is what the option names', async () => {
    for (const bad of ['10.0.0.0/33', 'http://localhost', 'a b', ':80', '[::1']) {
      await assert.rejects(start({ args: ['--allow-wake-to', bad] }),
        /--allow-wake-to: .* is not allowed; must be a host name, an address or a range/);
    }
  });
});

describe('a message is told of', () => {
  const receiver = new Receiver();
  before(() => receiver.open());
  after(() => receiver.close());

  it('after a kill in the middle of it', async (t) => {
    const server = await serve(t, { args: ALLOWED });
    const sid = await server.session();
    const url = `${receiver.url}/${sid}`;
    expect(await target(server, sid, 'bob', { url, secret: SECRET }), 200);
    receiver.answer = () => 503;
    await server.say(sid, 'ann', 'first');
    const [{ id }] = await receiver.reach(`/${sid}`, 1);
    await server.kill();
    receiver.answer = () => 200;
    const before = receiver.calls.length;
    await server.start();
    const call = (await receiver.reach(`/${sid}`, before + 1)).at(-1);
    assert.equal(call.id, id);
    new Webhook(SECRET).verify(call.text, call.headers);
  });

  it('when its target is allowed after a restart, and the breaker closes', async (t) => {
    const server = await serve(t);
    const sid = await server.session();
    expect(await target(server, sid, 'bob', { url: `${receiver.url}/${sid}` }), 200);
    receiver.answer = () => 204;
    let stream = server.stream(sid);
    await server.say(sid, 'ann', 'first');
    await stream.until(() => reports(stream, 'bob').length > 0, 'the report that it is refused');
    assert.equal((await wakeOf(server, sid, 'bob')).breaker, 'open');
    await server.restart(ALLOWED);
    stream = server.stream(sid);
    await receiver.reach(`/${sid}`, 1);
    await stream.until(() => stream.state?.agents.bob.wake.breaker === 'closed', 'it is closed');
    await stream.equalsView();
  });
});

describe('a secret', () => {
  const receiver = new Receiver();
  before(() => receiver.open());
  after(() => receiver.close());

  it('is in nothing that the server writes', async (t) => {
    const server = await serve(t, { args: ALLOWED });
    const sid = await server.session();
    const plain = 'a-secret-that-is-looked-for';
    const stream = server.stream(sid);
    const told = [];
    const keep = (answer) => told.push(answer.text);
    const url = `${receiver.url}/${sid}`;
    keep(await target(server, sid, 'bob', { url, secret: plain }));
    keep(await server.command(sid, { type: 'agent.wake', agent: 'ann', url, secret: SECRET }));
    keep(await server.lines(sid, [{ type: 'agent.wake', agent: 'ann', url, secret: plain, bad: 1 },
      { type: 'agent.wake', agent: 'bob', url, secret: plain, mentions: true }]));
    keep(await target(server, sid, 'bob', { url: 'nonsense', secret: plain }));
    keep(await target(server, sid, 'bob', { url, secret: `${plain}${'x'.repeat(256)}` }));
    await server.say(sid, 'ann', 'wake up', { mentions: ['bob'] });
    await receiver.reach(`/${sid}`, 1);
    const child = (await server.fork(sid, {})).session;
    for (const path of ['', '/events', '/export', '/diff?from=1', '/proof'])
      keep(await server.get(`/v1/sessions/${sid}${path}`));
    keep(await server.get(`/v1/sessions/${child}`));
    keep(await server.get('/v1/status'));
    await stream.equalsView();
    told.push(JSON.stringify(stream.log), server.stderr, server.stdout);
    await server.restart();
    const files = readdirSync(server.data).map((name) => readFileSync(join(server.data, name)));
    const key = Buffer.from(SECRET.slice(6), 'base64');
    for (const needle of [plain, Buffer.from(plain).toString('base64').slice(0, 32),
      SECRET.slice(6), key, key.toString('hex')]) {
      assert.ok(files.length > 0 && files.every((file) => !file.includes(needle)),
        'a file of the data directory holds it');
      if (typeof needle === 'string')
        told.forEach((text) => assert.ok(!text.includes(needle), text.slice(0, 500)));
    }
  });

  it('is not opened by a fork or an import, whose targets are called when set anew', async (t) => {
    const server = await serve(t, { args: ALLOWED });
    const other = await serve(t, { args: ALLOWED });
    const sid = await server.session(['ann', 'bob', 'cat']);
    expect(await target(server, sid, 'bob', { url: `${receiver.url}/b`, secret: SECRET }), 200);
    expect(await target(server, sid, 'cat', { url: `${receiver.url}/c` }), 200);
    const child = (await server.fork(sid, {})).session;
    expect(await other.post(`/v1/sessions/${sid}/import`, await server.export(sid),
      { type: NDJSON }), 201);
    for (const [where, id] of [[server, child], [other, sid]]) {
      const stream = where.stream(id);
      await where.say(id, 'ann', 'wake up');
      for (const agent of ['bob', 'cat'])
        await stream.until(() => stream.state?.agents[agent].wake.breaker === 'open',
          `an open breaker of ${agent}`);
      assert.deepEqual(receiver.calls.filter(({ body }) => body.session === id
        && body.epoch === stream.epoch), []);
      expect(await target(where, id, 'bob', { url: `${receiver.url}/${id}`, secret: SECRET }), 200);
      const [call] = await receiver.reach(`/${id}`, 1);
      new Webhook(SECRET).verify(call.text, call.headers);
      assert.equal((await wakeOf(where, id, 'bob')).breaker, 'closed');
    }
  });
});
