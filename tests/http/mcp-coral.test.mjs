/*
 * The names that agents of Coral Server know, in its shapes but without its losses: what came
 * between two waits is returned by the next one, once; only a lost answer may repeat.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import { dirname } from 'node:path';
import { describe, it } from 'node:test';
import { expect, randomFrom, remove, serve, serving, temporaryDirectory, until,
  within } from './harness.mjs';
import { MODERN, Peer, VERSIONS, agentPath, refusedTool } from './mcp.mjs';

const CORAL = '?tools=coral';
const NAMES = ['add_participant', 'close_session', 'close_thread', 'create_thread',
  'remove_participant', 'send_message', 'wait_for_agent', 'wait_for_mention', 'wait_for_message']
  .map((name) => `coral_${name}`);
const now = () => ({ currentUnixTime: Date.now() });
const TIMEOUT = { status: 'Timeout reached' };

/** A wait over a Unix socket that reads no more of its answer than the head: the response. */
function askUnread(peer, socketPath) {
  const params = { name: 'coral_wait_for_message', arguments: { ...now(), maxWaitMs: 50_000 } };
  const headers = { ...peer.headers('tools/call', params), 'content-type': 'application/json',
    accept: 'application/json, text/event-stream' };
  return new Promise((done, fail) => {
    http.request({ socketPath, agent: false, method: 'POST', path: peer.path, headers }, done)
      .on('error', fail).end(JSON.stringify(peer.message('tools/call', params)));
  });
}

describe('the Coral names', () => {
  const server = serving({ args: ['--shards', '2'] });
  const join = async (sid, agent, version = '2025-11-25') =>
    Peer.connect(server, agentPath(sid, agent, CORAL), { version });
  const fresh = async (version, agents) => {
    const sid = await server.session(agents);
    return { sid, ann: await join(sid, 'ann', version) };
  };
  const wait = (peer, name = 'message', args = {}) =>
    peer.call(`coral_wait_for_${name}`, { ...now(), maxWaitMs: 50_000, ...args });

  for (const version of [...VERSIONS, MODERN])
    it(`are these, and no others (${version})`, async () => {
      const { ann } = await fresh(version);
      const { tools } = await ann.request('tools/list');
      assert.deepEqual(tools.map((tool) => tool.name).sort(), NAMES);
      const arguments_ = Object.fromEntries(tools.map((tool) =>
        [tool.name.slice(6), Object.keys(tool.inputSchema.properties).sort()]));
      assert.deepEqual(arguments_, {
        create_thread: ['participantNames', 'threadName'],
        send_message: ['content', 'mentions', 'threadId'],
        wait_for_message: ['currentUnixTime', 'maxWaitMs'],
        wait_for_mention: ['currentUnixTime', 'maxWaitMs'],
        wait_for_agent: ['agentName', 'currentUnixTime', 'maxWaitMs'],
        add_participant: ['participantName', 'threadId'],
        remove_participant: ['participantName', 'threadId'],
        close_thread: ['summary', 'threadId'],
        close_session: ['reason'],
      });
    });

  it('reply in Coral\'s shapes', async () => {
    const { sid, ann } = await fresh('2025-11-25', ['ann', 'bob', 'cat']);
    const bob = await join(sid, 'bob');
    const { thread } = await ann.call('coral_create_thread',
      { threadName: 'Weather', participantNames: ['bob'] });
    assert.equal(thread.name, 'Weather');
    assert.equal(thread.creatorName, 'ann');
    assert.deepEqual([...thread.participants].sort(), ['ann', 'bob']);
    assert.deepEqual(thread.messages, []);
    const threadId = thread.id;
    const sent = await ann.call('coral_send_message',
      { threadId, content: 'Sunny?', mentions: ['bob'] });
    assert.equal(sent.status, 'Message sent successfully');
    const { message } = sent;
    assert.deepEqual([message.threadId, message.text, message.senderName, message.mentionNames],
      [threadId, 'Sunny?', 'ann', ['bob']]);
    assert.ok(message.id && message.timestamp);
    assert.deepEqual(await wait(bob), { message, status: 'Message received' });
    for (const [name, args] of [['add_participant', { participantName: 'cat' }],
      ['remove_participant', { participantName: 'cat' }],
      ['close_thread', { summary: 'Sunny.' }]]) {
      const { message: text } = await ann.call(`coral_${name}`, { threadId, ...args });
      assert.match(text, /^Successfully /);
    }
    assert.equal((await server.view(sid)).state.threads[threadId].summary, 'Sunny.');
    assert.match((await ann.call('coral_close_session', { reason: 'done' })).message,
      /^Successfully closed session/);
    assert.equal((await server.view(sid)).state.status, 'closed');
  });

  it('return what came between two waits, once each and in order', async () => {
    for (const version of ['2025-03-26', '2025-11-25', MODERN]) {
      const { sid, ann } = await fresh(version);
      const said = Array.from({ length: 10 }, (_, n) => `m${n}`);
      for (const content of said) await server.say(sid, 'bob', content);
      const future = { currentUnixTime: Date.now() + 1e9 }; // hides nothing
      for (const content of said)
        assert.equal((await wait(ann, 'message', content > 'm4' ? future : {})).message.text,
          content);
      assert.deepEqual(await wait(ann, 'message', { maxWaitMs: 1 }), TIMEOUT);
      await until(async () => (await server.inbox(sid, 'ann')).messages.length === 0,
        'what was written is acknowledged');
    }
  });

  it('wait for whom they name', async () => {
    const { sid, ann } = await fresh('2025-11-25', ['ann', 'bob', 'cat']);
    await server.say(sid, 'bob', 'one');
    await server.say(sid, 'cat', 'two');
    await server.say(sid, 'bob', 'three', { mentions: ['ann'] });
    assert.equal((await wait(ann, 'mention')).message.text, 'three');
    assert.equal((await wait(ann, 'agent', { agentName: 'cat' })).message.text, 'two');
    assert.deepEqual(await wait(ann, 'agent', { agentName: 'cat', maxWaitMs: 1 }), TIMEOUT);
    assert.equal((await wait(ann)).message.text, 'one');
  });

  it('take any number of mentions past a message that nobody waits for', async () => {
    const { sid, ann } = await fresh('2025-11-25');
    await server.say(sid, 'bob', 'not for anybody');
    const mention = (n) => ({ type: 'message.send', thread: 'general', sender: 'bob',
      content: `m${n}`, mentions: ['ann'] });
    const many = Array.from({ length: 1000 }, (_, n) => mention(n));
    expect(await server.command(sid, many), 200);
    const { cursor, messages } = await server.inbox(sid, 'ann', '?mentions=true&limit=1000');
    assert.equal(messages.length, 1000); /* as many as can be taken past an older one */
    expect(await server.command(sid, { type: 'inbox.ack', agent: 'ann', cursor }), 200);
    expect(await server.command(sid, mention(1000)), 200);
    assert.equal((await wait(ann, 'mention')).message.text, 'm1000');
    await until(async () =>
      (await server.inbox(sid, 'ann', '?mentions=true')).messages.length === 0);
    assert.deepEqual(await wait(ann, 'mention', { maxWaitMs: 1 }), TIMEOUT);
  });

  it('wake', async () => {
    for (const version of [...VERSIONS, MODERN]) {
      const { sid, ann } = await fresh(version);
      const waiting = wait(ann, 'mention');
      await until(async () => (await server.total('waiting')) === 1, 'ann waits');
      await server.say(sid, 'bob', 'aside');
      await server.say(sid, 'bob', 'for you', { mentions: ['ann'] });
      assert.equal((await waiting).message.text, 'for you');
      assert.equal((await wait(ann)).message.text, 'aside');
    }
  });

  it('give a message to one of two waits', async () => {
    const { sid, ann } = await fresh();
    const waits = [wait(ann), wait(ann), wait(ann)];
    await until(async () => (await server.total('waiting')) === 3, 'all wait');
    for (const content of ['a', 'b', 'c']) await server.say(sid, 'bob', content);
    const got = (await Promise.all(waits)).map((w) => w.message.text);
    assert.deepEqual(got.sort(), ['a', 'b', 'c']);
    assert.deepEqual(await wait(ann, 'message', { maxWaitMs: 1 }), TIMEOUT);
  });

  it('keep a message that was never read for the next wait', async () => {
    for (const version of ['2025-11-25', MODERN]) {
      const { sid, ann } = await fresh(version);
      for (let n = 0; n < 5; n++) {
        const lost = await ann.begin('coral_wait_for_message', { ...now(), maxWaitMs: 50_000 });
        await until(async () => (await server.total('waiting')) === 1, 'ann waits');
        lost.close();
        await until(async () => (await server.total('waiting')) === 0, 'the wait has gone');
        await server.say(sid, 'bob', `n${n}`);
        assert.equal((await wait(ann)).message.text, `n${n}`);
      }
      assert.deepEqual(await wait(ann, 'message', { maxWaitMs: 1 }), TIMEOUT);
    }
  });

  it('keep a message whose answer was not taken whole', async (t) => {
    // Over a Unix socket the kernel keeps less than this answer for a client that does not read.
    const path = `${temporaryDirectory()}/socket`;
    const own = await serve(t,
      { args: ['--shards', '2'], listen: ['127.0.0.1:0', `unix:${path}`] });
    t.after(() => remove(dirname(path)));
    const sid = await own.session();
    const large = 'x'.repeat(250_000);
    for (const version of ['2025-11-25', MODERN])
      for (const waits of [false, true]) {
        const ann = await Peer.connect(own, agentPath(sid, 'ann', CORAL), { version });
        if (!waits) await own.say(sid, 'bob', large);
        const lost = askUnread(ann, path);
        if (waits) {
          await until(async () => (await own.total('waiting')) === 1, 'ann waits');
          await own.say(sid, 'bob', large);
          await until(async () => (await own.total('waiting')) === 0, 'ann is answered');
        }
        (await lost).destroy();
        const again = await wait(ann);
        assert.equal(again.message?.text, large);
        assert.deepEqual(await wait(ann, 'message', { maxWaitMs: 1 }), TIMEOUT, 'once');
      }
  });

  it('give back what a cancelled wait was about to have', async () => {
    const { sid, ann } = await fresh();
    const cancelled = await ann.begin('coral_wait_for_message', { ...now(), maxWaitMs: 50_000 });
    await until(async () => (await server.total('waiting')) === 1, 'ann waits');
    await ann.notify('notifications/cancelled', { requestId: cancelled.requestId });
    await until(async () => (await server.total('waiting')) === 0, 'the wait has gone');
    await server.say(sid, 'bob', 'kept');
    assert.equal((await wait(ann)).message.text, 'kept');
  });

  it('refuse as Coral does, in words', async () => {
    const { ann } = await fresh('2025-11-25', ['ann', 'bob']);
    await refusedTool(ann.call('coral_send_message',
      { threadId: 'nowhere', content: 'x', mentions: [] }), /nowhere/);
    await refusedTool(ann.call('coral_create_thread',
      { threadName: 'x', participantNames: ['nobody'] }), /nobody/);
    await refusedTool(ann.call('coral_send_message', { content: 'x', mentions: [] }), /threadId/);
    await refusedTool(ann.call('coral_wait_for_agent', { ...now(), maxWaitMs: 1 }), /agentName/);
    await refusedTool(wait(ann, 'message', { maxWaitMs: 'long' }), /maxWaitMs/);
    await refusedTool(wait(ann, 'message', { colour: 'red' }), /colour/);
  });

  it('come with a state and instructions to read', async () => {
    const { sid, ann } = await fresh();
    await server.say(sid, 'bob', 'Is it sunny?');
    const { resources } = await ann.request('resources/list');
    for (const uri of ['coral://state', 'coral://instruction'])
      assert.ok(resources.some((r) => r.uri === uri), uri);
    const read = async (uri) => (await ann.request('resources/read', { uri })).contents[0].text;
    assert.match(await read('coral://state'), /Is it sunny\?/);
    assert.match(await read('coral://instruction'), /coral_send_message/);
  });
});

/*
 * The promise as a whole. Bob sends numbered messages while Ann waits in a loop. Her connections
 * are broken at random: she closes her side and reads what was written until then, so that she has
 * seen what the server may take for read. And the server is killed at random. Each message has to
 * be seen, in order but for what a broken wait has given back, and only an answer that a kill took
 * away may repeat.
 */
describe('a loop of Coral waits', () => {
  for (const [what, breaks, crashes] of [['where nothing breaks', false, 0],
    ['where connections are broken', true, 0],
    ['where connections are broken and the server is killed', true, 2]])
    it(`${what}, sees every message${crashes ? '' : ' once'}`, async (t) => {
      const seed = Number(process.env.ATOLL_SEED ?? Date.now() % 1e6);
      t.diagnostic(`ATOLL_SEED=${seed}`);
      const random = randomFrom(seed);
      const server = await serve(t, { args: ['--shards', '2'] });
      const sid = await server.session();
      const version = random() < 0.5 ? '2025-11-25' : MODERN;
      const peer = await Peer.connect(server, agentPath(sid, 'ann', CORAL), { version });
      const total = 120;
      const seen = [];
      let sent = 0, broken = 0, crashed = 0, down;
      const back = (error) => {
        assert.ok(crashes > 0, error.stack);
        return down; // a promise, as long as the server is
      };

      async function speak() {
        while (sent < total) {
          const command = { type: 'message.send', thread: 'general', sender: 'bob',
            content: `${sent}`, key: `n${sent}` };
          try {
            expect(await server.command(sid, command), 200);
            sent++;
          } catch (error) {
            await back(error);
            continue;
          }
          const pause = random() < 0.3;
          if (pause) await until(() => new Set(seen).size >= sent, 'Ann has seen it all');
        }
      }
      async function listen() {
        while (new Set(seen).size < total) {
          const ends_ms = breaks && random() < 0.4 ? Math.floor(random() ** 4 * 40) : undefined;
          if (ends_ms !== undefined) broken++;
          try {
            const answer = await peer.begin('coral_wait_for_message',
              { ...now(), maxWaitMs: 5000 }, { ends_ms });
            for (let message; (message = await answer.message());) {
              const got = message.result?.structuredContent?.message;
              if (got) seen.push(Number(got.text));
            }
          } catch (error) {
            if (ends_ms === undefined || error.code !== 'ECONNRESET') await back(error);
          }
        }
      }
      async function crash() {
        while (crashed < crashes) {
          await until(() => sent > (crashed + 1) * total / 3, 'time for a crash');
          down = server.kill().then(() => server.start());
          await down;
          crashed++;
        }
      }
      // Sooner than the shard would take back of itself what a wait was handed and nobody has got.
      await within(Promise.all([speak(), listen(), crash()]), 'every message', 50_000);
      const first = [...new Set(seen)];
      t.diagnostic(`${version}: ${broken} connections broken, ${seen.length - total} repeats`);
      const late = first.filter((n, at) => first.slice(0, at).some((before) => before > n));
      assert.ok(late.length <= broken, `in order, but for what a broken wait gave back: ${first}`);
      assert.equal(first.length, total);
      assert.ok(seen.length - total <= crashed, `${seen.length - total} repeats`);
    });
});
