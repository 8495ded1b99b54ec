/*
 * Sessions of MCP (2025-03-26 to 2025-11-25) and what is told on their GET stream: neither another
 * connection nor a restart changes anything for a client, and what has ended stays so.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, serve, serving, until, within } from './harness.mjs';
import { MODERN, Peer, VERSIONS, agentPath, refusedRpc, send } from './mcp.mjs';

const uri = (sid, part) => `atoll://sessions/${sid}/${part}`;
const updated = (m) => m.method === 'notifications/resources/updated';
const changed = (m) => m.method === 'notifications/resources/list_changed';

/** The GET stream of a peer, once it is open. */
async function listening(peer, options) {
  const stream = expect(await peer.listen(options), 200);
  assert.ok(stream.streams, 'it is an event stream');
  return stream;
}

/** Fails unless requests of the peer's session get 404, as they have to when it has ended. */
async function isGone(peer) {
  const answer = await peer.post(peer.message('ping'));
  expect(answer, 404);
  assert.match(answer.json.error.message, /session/i);
  expect(await peer.listen(), 404);
  expect(await peer.delete(), 404);
}

describe('a session of MCP', () => {
  const server = serving({ args: ['--shards', '2'] });
  const fresh = async (options = {}) => {
    const sid = options.sid ?? await server.session();
    const peer = await Peer.connect(server, agentPath(sid, options.agent ?? 'ann'), options);
    return Object.assign(peer, { sid });
  };

  it('is the same on any connection', async () => {
    const peer = await fresh();
    for (let n = 0; n < 12; n++) assert.deepEqual(await peer.request('ping'), {}); // a new one each
    const other = new Peer(server, peer.path, { sessionId: peer.sessionId });
    assert.deepEqual(await other.request('ping'), {});
  });

  it('is one of many, each with a name of its own', async () => {
    const sid = await server.session();
    const peers = await Promise.all(Array.from({ length: 8 }, () => fresh({ sid })));
    assert.equal(new Set(peers.map((p) => p.sessionId)).size, 8);
    expect(await peers[0].delete(), 204);
    await isGone(peers[0]);
    assert.deepEqual(await peers[1].request('ping'), {});
  });

  it('ends by DELETE, for every connection and for good', async () => {
    for (const version of VERSIONS) {
      const peer = await fresh({ version });
      const stream = await listening(peer);
      expect(await peer.delete(), 204);
      while (await within(stream.message(), 'the end of the stream'));
      for (let n = 0; n < 4; n++) await isGone(peer);
    }
  });

  it('is believed by its signature alone', async () => {
    const peer = await fresh();
    const good = peer.sessionId;
    const flip = (at) => good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
    for (const id of [flip(0), flip(good.length >> 1), flip(good.length - 3), good.slice(0, -1),
      `${good}A`, 'x', 'A'.repeat(5000)]) {
      peer.sessionId = id;
      expect(await peer.post(peer.message('ping')), 404);
    }
  });

  it('speaks for the agent and the toolset that it was begun for', async () => {
    const sid = await server.session();
    const ann = await fresh({ sid, agent: 'ann' });
    const mallory = new Peer(server, agentPath(sid, 'bob'), { sessionId: ann.sessionId });
    const answer = await mallory.post(mallory.message('tools/call',
      { name: 'atoll_set_status', arguments: { status: 'working' } }));
    assert.match(expect(answer, 403).json.error.message, /agent/);
    const elsewhere = new Peer(server, agentPath(await server.session(), 'ann'),
      { sessionId: ann.sessionId });
    expect(await elsewhere.post(elsewhere.message('ping')), 403);
    expect(await elsewhere.listen(), 403);
    expect(await elsewhere.delete(), 403);
    assert.equal((await server.view(sid)).state.agents.bob.status, 'idle');
  });

  it('does not begin where there is no such session of Atoll', async () => {
    for (const version of [...VERSIONS, MODERN]) {
      const peer = new Peer(server, agentPath('nowhere', 'ann'), { version });
      if (!peer.modern) {
        const hello = peer.message('initialize', { protocolVersion: version, capabilities: {},
          clientInfo: { name: 'x', version: '1' } });
        const answer = await send(server, 'POST', peer.path, { body: hello });
        assert.match(expect(answer, 404).json.error.message, /session/);
        continue;
      }
      const error = await peer.call('atoll_get_state').then(() => assert.fail('taken'), (e) => e);
      assert.match(error.message, /session/);
    }
    expect(await server.get('/v1/sessions/nowhere'), 404);
  });

  it('leaves no trace in the lists of sessions', async () => {
    const before = (await server.get('/v1/sessions?limit=1000')).json.sessions.length;
    const peer = await fresh();
    const after = (await server.get('/v1/sessions?limit=1000')).json.sessions;
    assert.equal(after.length, before + 1);
    assert.ok(after.some((s) => (s.id ?? s.session) === peer.sid), 'but that of Atoll itself');
  });

  describe('of which the GET stream', () => {
    it('is one that tells of new threads, and of what was subscribed to', async () => {
      const peer = await fresh();
      const stream = await listening(peer);
      await peer.request('resources/subscribe', { uri: uri(peer.sid, 'threads/general') });
      await server.say(peer.sid, 'bob', 'hello');
      const first = await stream.find(updated);
      assert.equal(first.params.uri, uri(peer.sid, 'threads/general'));
      assert.equal(first.id, undefined);
      expect(await server.post(`/v1/sessions/${peer.sid}/threads`,
        { thread: 'two', creator: 'bob', name: 'two', participants: [] }), 201);
      await stream.find(changed);

      // What is of another thread is not told: the next of it that comes is behind it.
      await server.say(peer.sid, 'bob', 'aside', { thread: 'two' });
      await peer.request('resources/subscribe', { uri: uri(peer.sid, 'threads/two') });
      await server.say(peer.sid, 'bob', 'again', { thread: 'two' });
      const second = await stream.find(updated);
      assert.equal(second.params.uri, uri(peer.sid, 'threads/two'));
      assert.ok(!stream.passed.some(updated));

      // The stream hears of it a moment later; then there is a round without the other thread.
      await peer.request('resources/unsubscribe', { uri: uri(peer.sid, 'threads/general') });
      const of = (thread) => (m) =>
        updated(m) && m.params.uri === uri(peer.sid, `threads/${thread}`);
      await until(async () => {
        await server.say(peer.sid, 'bob', 'to nobody');
        await server.say(peer.sid, 'bob', 'to ann', { thread: 'two' });
        await stream.find(of('two'));
        return !stream.passed.some(of('general'));
      }, 'a round without it');
      stream.close();
    });

    it('tells of state and events too', async () => {
      const peer = await fresh();
      for (const part of ['state', 'events'])
        await peer.request('resources/subscribe', { uri: uri(peer.sid, part) });
      const stream = await listening(peer);
      await server.say(peer.sid, 'bob', 'hello');
      const told = new Set();
      while (told.size < 2) told.add((await stream.find(updated)).params.uri);
      assert.deepEqual([...told].sort(), [uri(peer.sid, 'events'), uri(peer.sid, 'state')]);
      stream.close();
    });

    it('tells of nothing that cannot be read by then', async () => {
      const peer = await fresh();
      await peer.request('resources/subscribe', { uri: uri(peer.sid, 'state') });
      const stream = await listening(peer);
      for (let n = 0; n < 10; n++) {
        const { seq } = await server.view(peer.sid);
        const said = server.say(peer.sid, 'bob', `number ${n}`);
        await stream.find(updated); // perhaps before the answer to who has spoken
        const events = await peer.request('resources/read',
          { uri: uri(peer.sid, `events?after=${seq}`) });
        assert.ok(events.contents[0].text.includes(`number ${n}`), events.contents[0].text);
        await said;
      }
      stream.close();
    });

    it('is served beside another one', async () => {
      const peer = await fresh();
      const streams = [await listening(peer), await listening(peer)];
      await peer.request('resources/subscribe', { uri: uri(peer.sid, 'state') });
      await server.say(peer.sid, 'bob', 'x');
      await Promise.any(streams.map((s) => s.find(updated)));
      streams.forEach((s) => s.close());
    });

    it('needs a session', async () => {
      const peer = await fresh();
      expect(await peer.listen({ headers: { 'mcp-session-id': undefined } }), 400);
    });

    it('gives up what a client holds open when it leaves', async () => {
      const peer = await fresh();
      const open = async () => (await server.status()).reactors
        .reduce((sum, reactor) => sum + reactor.mcp_streams, 0);
      await until(async () => await open() === 0, 'those of other tests are gone');
      const streams = await Promise.all(Array.from({ length: 20 }, () => listening(peer)));
      assert.equal(await open(), 20);
      streams.forEach((stream) => stream.close());
      await until(async () => await open() === 0, 'all are gone');
    });
  });

  it('subscribes to nothing that is not there', async () => {
    const peer = await fresh();
    for (const bad of [uri('elsewhere', 'state'), 'http://example.com/', 'atoll://', 'x'])
      await refusedRpc(peer.request('resources/subscribe', { uri: bad }), -32002);
    for (const params of [{}, { uri: '' }, { uri: 7 }])
      await refusedRpc(peer.request('resources/subscribe', params), -32602, /uri/);
  });

  it('of 2026-07-28 is a request: subscriptions/listen', async () => {
    const sid = await server.session();
    const peer = new Peer(server, agentPath(sid, 'ann'), { version: MODERN });
    const state = uri(sid, 'state');
    const message = peer.message('subscriptions/listen', { notifications: {
      resourcesListChanged: true, resourceSubscriptions: [state] } });
    const stream = expect(await peer.post(message), 200);
    const SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId';
    const first = await stream.message();
    assert.equal(first.method, 'notifications/subscriptions/acknowledged');
    assert.deepEqual(first.params.notifications,
      { resourcesListChanged: true, resourceSubscriptions: [state] });
    assert.equal(first.params._meta[SUBSCRIPTION], message.id);
    await server.say(sid, 'bob', 'x');
    const told = await stream.find(updated);
    assert.equal(told.params.uri, state);
    assert.equal(told.params._meta[SUBSCRIPTION], message.id);
    expect(await server.post(`/v1/sessions/${sid}/threads`,
      { thread: 'two', creator: 'bob', name: 'two', participants: [] }), 201);
    assert.equal((await stream.find(changed)).params._meta[SUBSCRIPTION], message.id);
    stream.close();

    // What was not asked for is not told.
    const other = peer.message('subscriptions/listen',
      { notifications: { resourceSubscriptions: [uri(sid, 'threads/two')] } });
    const narrow = expect(await peer.post(other), 200);
    assert.equal((await narrow.message()).method, 'notifications/subscriptions/acknowledged');
    expect(await server.post(`/v1/sessions/${sid}/threads`,
      { thread: 'three', creator: 'bob', name: 'three', participants: [] }), 201);
    await server.say(sid, 'bob', 'elsewhere');
    await server.say(sid, 'bob', 'here', { thread: 'two' });
    assert.equal((await narrow.message()).params.uri, uri(sid, 'threads/two'));
    narrow.close();
  });
});

describe('a session of MCP, over a restart', () => {
  for (const how of ['SIGTERM', 'SIGKILL'])
    it(`goes on with the same id, subscriptions and level (${how})`, async (t) => {
      const server = await serve(t, { args: ['--shards', '2'] });
      const sid = await server.session();
      const peer = await Peer.connect(server, agentPath(sid, 'ann'));
      const ended = await Peer.connect(server, agentPath(sid, 'ann'));
      await peer.request('resources/subscribe', { uri: uri(sid, 'threads/general') });
      await peer.request('resources/subscribe', { uri: uri(sid, 'state') });
      await peer.request('resources/unsubscribe', { uri: uri(sid, 'state') });
      await peer.request('logging/setLevel', { level: 'error' });
      expect(await ended.delete(), 204);
      if (how === 'SIGTERM') {
        await server.restart();
      } else {
        await server.kill();
        await server.start();
      }
      assert.deepEqual(await peer.request('ping'), {});
      await isGone(ended);
      const stream = await listening(peer);
      await server.say(sid, 'bob', 'hello');
      assert.equal((await stream.find(updated)).params.uri, uri(sid, 'threads/general'));
      assert.ok(!stream.passed.some(updated), 'no other subscription');
      stream.close();
    });

  it('tells streams to come back, and ends none in the middle', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const sid = await server.session();
    const peer = await Peer.connect(server, agentPath(sid, 'ann'));
    const stream = await listening(peer);
    const quiet = await Peer.connect(server, agentPath(sid, 'bob'));
    await quiet.request('logging/setLevel', { level: 'error' });
    const quietStream = await listening(quiet);
    const modern = new Peer(server, agentPath(sid, 'ann'), { version: MODERN });
    const message = modern.message('subscriptions/listen',
      { notifications: { resourcesListChanged: true } });
    const listen = expect(await modern.post(message), 200);
    await listen.message();
    const closed = server.restart;
    server.hangUp = () => server.agent.destroy(); // the streams are to be ended by the server
    await closed.call(server);
    const last = await listen.message();
    assert.equal(last.id, message.id, 'an end that says so');
    assert.equal(last.result.resultType, 'complete');
    assert.equal(await listen.message(), undefined);
    const { method, params } = await stream.message();
    assert.equal(method, 'notifications/message');
    assert.equal(params.level, 'notice');
    assert.match(params.data, /about to stop/);
    assert.equal(await stream.message(), undefined);
    assert.equal(await quietStream.message(), undefined, 'whoever wants errors alone is not told');
    delete server.hangUp;
  });
});
