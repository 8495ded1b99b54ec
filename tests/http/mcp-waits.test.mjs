/*
 * Agents that wait by MCP: nothing is lost between two waits, over a broken connection or a crash,
 * and a wait that nobody wants any more costs nothing.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { canonical, expect, serve, serving, until, within } from './harness.mjs';
import { MODERN, Peer, VERSIONS, agentPath, refusedTool, send } from './mcp.mjs';

const contents = (result) => result.messages.map((m) => m.content);
const progress = (m) => m.method === 'notifications/progress';

/** Begins a wait, and returns its stream when the server holds it. */
async function hold(server, peer, args = {}, options) {
  const before = await server.total('waiting');
  const answer = await peer.begin('atoll_wait', args, options);
  expect(answer, 200);
  await until(async () => (await server.total('waiting')) > before, 'the wait is held');
  return answer;
}
const nobodyWaits = (server) =>
  until(async () => (await server.total('waiting')) === 0, 'no wait is held any more');
/** What a held wait is answered with. */
async function told(answer) {
  const { result, error } = await answer.result(answer.requestId);
  assert.ok(result && !result.isError, JSON.stringify(error ?? result));
  return result.structuredContent;
}

describe('atoll_wait', () => {
  const server = serving({ args: ['--shards', '2'] });
  const fresh = async (version = '2025-11-25', agents) => {
    const sid = await server.session(agents);
    const peer = await Peer.connect(server, agentPath(sid, 'ann'), { version });
    return Object.assign(peer, { sid });
  };

  for (const version of [...VERSIONS, MODERN])
    it(`wakes when somebody speaks (${version})`, async () => {
      const peer = await fresh(version);
      const wait = await hold(server, peer);
      await server.say(peer.sid, 'bob', 'hello', { mentions: ['ann'] });
      const result = await told(wait);
      assert.deepEqual(contents(result), ['hello']);
      const [message] = result.messages;
      assert.equal(message.thread, 'general');
      assert.equal(message.sender, 'bob');
      assert.deepEqual(message.mentions, ['ann']);
      assert.equal(result.remaining, 0);
    });

  it('returns at once what came while nobody waited, until that is acknowledged', async () => {
    const peer = await fresh();
    for (const content of ['1', '2', '3']) await server.say(peer.sid, 'bob', content);
    const first = await peer.call('atoll_wait');
    assert.deepEqual(contents(first), ['1', '2', '3']);
    assert.deepEqual(contents(await peer.call('atoll_wait')), ['1', '2', '3']);
    await server.say(peer.sid, 'bob', '4');
    assert.deepEqual(contents(await peer.call('atoll_wait', { ack: first.cursor })), ['4']);
    assert.deepEqual(contents(await peer.call('atoll_wait', { ack: first.cursor })), ['4'],
      'the same again does no harm');
  });

  it('acknowledges and waits in one call', async () => {
    const peer = await fresh();
    await server.say(peer.sid, 'bob', '1');
    const { cursor } = await peer.call('atoll_wait');
    const wait = await hold(server, peer, { ack: cursor });
    assert.equal((await server.inbox(peer.sid, 'ann')).messages.length, 0, 'already acknowledged');
    await server.say(peer.sid, 'bob', '2');
    assert.deepEqual(contents(await told(wait)), ['2']);
  });

  it('waits for mentions only, or for one agent', async () => {
    const peer = await fresh('2025-11-25', ['ann', 'bob', 'cat']);
    const mention = await hold(server, peer, { mentions_only: true });
    const cat = await hold(server, peer, { from: 'cat' });
    await server.say(peer.sid, 'bob', 'to all');
    await server.say(peer.sid, 'bob', 'to ann', { mentions: ['ann'] });
    assert.deepEqual(contents(await told(mention)), ['to ann']);
    await server.say(peer.sid, 'cat', 'miaow');
    assert.deepEqual(contents(await told(cat)), ['miaow']);
    assert.deepEqual(contents(await peer.call('atoll_wait')), ['to all', 'to ann', 'miaow']);
  });

  it('that times out says so, and loses nothing', async () => {
    const peer = await fresh();
    const message = peer.message('tools/call', { name: 'atoll_wait', arguments: { wait_s: 1 } });
    const { result } = await (await peer.post(message)).result(message.id);
    assert.equal(result.isError ?? false, false);
    assert.deepEqual(result.structuredContent.messages, []);
    assert.match(result.content[0].text, /atoll_wait/);
    await server.say(peer.sid, 'bob', 'late');
    assert.deepEqual(contents(await peer.call('atoll_wait',
      { ack: result.structuredContent.cursor })), ['late']);
  });

  it('tells who asked for it of its progress', async () => {
    for (const version of ['2025-11-25', MODERN]) {
      const peer = await fresh(version);
      const wait = await hold(server, peer, {}, { progressToken: 'p1' });
      const first = await wait.find(progress);
      assert.equal(first.params.progressToken, 'p1');
      assert.equal(typeof first.params.progress, 'number');
      await server.say(peer.sid, 'bob', 'x');
      await told(wait);
    }
  });

  it('serves two waits of one agent, each message once per acknowledge', async () => {
    const peer = await fresh();
    const waits = [await hold(server, peer), await hold(server, peer)];
    await server.say(peer.sid, 'bob', 'both');
    const results = await Promise.all(waits.map(told));
    assert.deepEqual(results.map(contents), [['both'], ['both']]);
    await peer.call('atoll_acknowledge', { cursor: results[0].cursor });
    const wait = await hold(server, peer);
    await peer.call('atoll_acknowledge', { cursor: results[1].cursor });
    await server.say(peer.sid, 'bob', 'next');
    assert.deepEqual(contents(await told(wait)), ['next']);
  });

  it('is freed by cancelling, on whatever connection that comes', async () => {
    for (const version of VERSIONS) {
      const peer = await fresh(version);
      for (let n = 0; n < 4; n++) {
        const wait = await hold(server, peer);
        await peer.notify('notifications/cancelled', { requestId: wait.requestId, reason: 'test' });
        await nobodyWaits(server);
        for (let m; (m = await wait.message());)
          assert.notEqual(m.id, wait.requestId, 'a cancelled request is not answered');
      }
      await server.say(peer.sid, 'bob', 'after');
      assert.deepEqual(contents(await peer.call('atoll_wait')), ['after']);
    }
  });

  it('is cancelled by none but the session that asked', async () => {
    const peer = await fresh();
    const other = await Peer.connect(server, peer.path);
    const wait = await hold(server, peer);
    await other.notify('notifications/cancelled', { requestId: wait.requestId });
    await server.say(peer.sid, 'bob', 'still there');
    assert.deepEqual(contents(await told(wait)), ['still there']);
  });

  it('is freed when its client goes, in 2026-07-28', async () => {
    const peer = await fresh(MODERN);
    const wait = await hold(server, peer);
    wait.close();
    await nobodyWaits(server);
    await server.say(peer.sid, 'bob', 'after');
    assert.deepEqual(contents(await peer.call('atoll_wait')), ['after']);
  });

  it('is not cancelled when its client goes, before: it comes back by Last-Event-ID', async () => {
    for (const version of VERSIONS) {
      const peer = await fresh(version);
      // Before 2025-11-25 no event comes for its id alone; one of progress does as well.
      const token = version < '2025-11-25' ? { progressToken: 1 } : {};
      const wait = await hold(server, peer, {}, token);
      const event = await wait.event();
      assert.ok(event.id, 'the first event can be come back to');
      wait.close();
      await server.say(peer.sid, 'bob', 'meanwhile');
      const again = expect(await peer.listen({ lastEventId: event.id }), 200);
      const { result } = await again.result(wait.requestId);
      assert.deepEqual(contents(result.structuredContent), ['meanwhile']);
      // and once more, had the answer been lost
      const twice = expect(await peer.listen({ lastEventId: event.id }), 200);
      assert.deepEqual((await twice.result(wait.requestId)).result, result);
    }
  });

  it('comes back held, where nothing has come', async () => {
    const peer = await fresh();
    const wait = await hold(server, peer);
    const { id } = await wait.event();
    wait.close();
    await nobodyWaits(server);
    const again = expect(await peer.listen({ lastEventId: id }), 200);
    await until(async () => (await server.total('waiting')) === 1, 'it is held again');
    await server.say(peer.sid, 'bob', 'now');
    assert.deepEqual(contents((await again.result(wait.requestId)).result.structuredContent),
      ['now']);
  });

  it('comes back to nobody else\'s, and by no event that was not given', async () => {
    const peer = await fresh();
    const wait = await hold(server, peer);
    const { id } = await wait.event();
    await server.say(peer.sid, 'bob', 'for ann');
    await told(wait);
    for (const [agent, lastEventId] of [['bob', id], ['ann', id], ['ann', `x${id}`],
      ['ann', 'junk'], ['ann', '.'], ['ann', '.1'], ['ann', 'x'.repeat(3000)]]) {
      const other = await Peer.connect(server, agentPath(peer.sid, agent));
      const stream = expect(await other.listen({ lastEventId }), 200);
      const messages = [];
      const all = (async () => {
        for (let m; (m = await stream.message());) messages.push(m);
      })();
      await other.request('ping');
      expect(await other.delete(), 204);
      await all;
      assert.ok(!JSON.stringify(messages).includes('for ann'), JSON.stringify(messages));
    }
  });

  it('refuses what makes no sense, and says what does', async () => {
    const peer = await fresh();
    await refusedTool(peer.call('atoll_wait', { wait_s: -1 }), /wait_s/);
    await refusedTool(peer.call('atoll_wait', { wait_s: 'x' }), /wait_s/);
    await refusedTool(peer.call('atoll_wait', { mentions_only: 'yes' }), /mentions_only/);
    await refusedTool(peer.call('atoll_wait', { ack: 'junk' }), /ack|cursor/);
    await refusedTool(peer.call('atoll_wait', { from: 'no such name!' }), /from/);
    await refusedTool(peer.call('atoll_wait', { colour: 'red' }), /colour/);
    await refusedTool(peer.call('atoll_acknowledge', { cursor: 'junk' }), /cursor/);
    await refusedTool(peer.call('atoll_acknowledge', {}), /cursor/);
  });

  it('cuts what would flood a context, and acknowledges no more than it showed', async () => {
    const peer = await fresh();
    const said = Array.from({ length: 60 }, (_, n) => `${n}: ${'word '.repeat(800)}`);
    for (const content of said) await server.say(peer.sid, 'bob', content);
    const seen = [];
    let ack;
    for (let calls = 0; seen.length < said.length; calls++) {
      const result = await peer.call('atoll_wait', { ...(ack && { ack }), wait_s: 0 });
      assert.ok(JSON.stringify(result).length < 100_000, 'an answer of a size for a model');
      assert.ok(result.messages.length > 0 && calls < said.length, 'it goes on');
      seen.push(...contents(result).map((text) => Number.parseInt(text, 10)));
      assert.equal(result.remaining, said.length - seen.length);
      ack = result.cursor;
    }
    assert.deepEqual(seen, said.map((_, n) => n));
    await server.say(peer.sid, 'bob', `huge ${'é'.repeat(60_000)} end`);
    const huge = await peer.call('atoll_wait', { ack });
    assert.ok(JSON.stringify(huge).length < 100_000);
    let { content, more } = huge.messages[0];
    for (let calls = 0; more && calls < 100; calls++) { // the rest of it, piece by piece
      const page = await peer.call('atoll_read_thread', { thread: 'general', cursor: more });
      content += page.messages[0].content;
      ({ more } = page);
    }
    assert.equal(content, `huge ${'é'.repeat(60_000)} end`);
  });

  it('shows in the status who is connected by which face, and not in the state', async () => {
    const peer = await fresh();
    const { seq } = await server.view(peer.sid);
    const connected = async () => (await server.status()).connected
      .filter((c) => c.session === peer.sid)
      .map((c) => [c.agent, c.face, c.waiting]).sort();
    const wait = await hold(server, peer);
    const inbox = server.inbox(peer.sid, 'bob', '?wait=50');
    const stream = expect(await send(server, 'GET',
      peer.path.replace('/ann/mcp', '/bob/sse')), 200);
    const all = [['ann', 'mcp', true], ['bob', 'inbox', true], ['bob', 'mcp-sse', false]];
    await until(async () => canonical(await connected()) === canonical(all), 'all three');
    assert.equal((await server.view(peer.sid)).seq, seq, 'nothing of it is an event');
    stream.close();
    await server.say(peer.sid, 'ann', 'to bob');
    await server.say(peer.sid, 'bob', 'to ann');
    await Promise.all([inbox, told(wait)]);
    await until(async () => (await connected()).length === 0, 'none');
  });

  it('is held by many at once', async () => {
    const peer = await fresh();
    const waits = await Promise.all(Array.from({ length: 100 }, () => peer.begin('atoll_wait')));
    await until(async () => (await server.total('waiting')) === 100, 'all are held');
    await server.say(peer.sid, 'bob', 'wake up');
    for (const wait of waits) assert.deepEqual(contents(await told(wait)), ['wake up']);
    await nobodyWaits(server);
  });
});

describe('a wait, over a crash', () => {
  it('goes on where its client comes back with Last-Event-ID', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const sid = await server.session();
    const peer = await Peer.connect(server, agentPath(sid, 'ann'));
    const wait = await hold(server, peer);
    const { id } = await wait.event();
    await server.kill();
    await server.start();
    const again = expect(await peer.listen({ lastEventId: id }), 200);
    await until(async () => (await server.total('waiting')) === 1, 'it is held again');
    await server.say(sid, 'bob', 'after the crash');
    const { result } = await again.result(wait.requestId);
    assert.deepEqual(contents(result.structuredContent), ['after the crash']);
  });

  it('is answered when the server stops, and says how to go on', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const sid = await server.session();
    const peer = await Peer.connect(server, agentPath(sid, 'ann'));
    const modern = new Peer(server, agentPath(sid, 'ann'), { version: MODERN });
    const waits = [await hold(server, peer), await hold(server, modern)];
    const hangUp = server.hangUp;
    server.hangUp = () => server.agent.destroy();
    await server.restart();
    server.hangUp = hangUp;
    for (const wait of waits) {
      const messages = [];
      for (let m; (m = await within(wait.message(), 'an end'));) messages.push(m);
      const answer = messages.find((m) => m.id === wait.requestId);
      if (answer) assert.ok(answer.error || answer.result, JSON.stringify(answer));
      else assert.ok(wait.lastId, 'what was not answered can be come back to');
    }
  });
});
