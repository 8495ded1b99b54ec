/*
 * Tokens and the Model Context Protocol: whom a client speaks for is its URL's word, or its
 * arguments', and has to be its token's as well.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, until } from './harness.mjs';
import { MODERN, Peer, VERSIONS, agentPath, refusedTool, send } from './mcp.mjs';
import { as, inSeconds, servingWithKey } from './tokens.mjs';

const server = servingWithKey({ args: ['--shards', '2', '--heartbeat', '200ms'] });
const admin = () => server.as('root', '*', 'admin');
const session = (sid = newId('p-')) => admin().session(['ann', 'bob'], { sid });
const message = (content = 'x') => ({ thread: 'general', content });
const sse = (sid, agent) => `/v1/sessions/${sid}/agents/${agent}/sse`;

for (const version of [VERSIONS.at(-1), MODERN])
  describe(`a client of ${version}`, () => {
    const connect = (who, path) => Peer.connect(who, path, { version });

    it('speaks at the URL of its own agent, and at no other', async () => {
      const sid = await session();
      const ann = server.as('ann', sid, 'write');
      const peer = await connect(ann, agentPath(sid, 'ann'));
      await peer.call('atoll_send_message', message('from ann'));
      const { messages } = (await admin().view(sid)).state.threads.general;
      assert.deepEqual(messages.map((m) => [m.sender, m.content]), [['ann', 'from ann']]);
      for (const path of [agentPath(sid, 'bob'), agentPath(await session(), 'ann')]) {
        const answer = await new Peer(ann, path, { version }).post(
          peer.message('tools/list', {}));
        expect(answer, 403);
        assert.equal(answer.json.type, '/problems/forbidden');
      }
    });

    it('names at /mcp the agent and the sessions of its token', async () => {
      const [sid, other] = [await session(), await session(newId('q-'))];
      const peer = await connect(server.as('ann', 'p-*', 'write'), '/mcp');
      const say = (to, agent) =>
        peer.call('atoll_send_message', { session: to, agent, ...message() });
      await say(sid, 'ann');
      await refusedTool(say(sid, 'bob'), /speaks for "ann"/);
      await refusedTool(say(other, 'ann'), /sid does not allow/);
      await refusedTool(say(newId('q-'), 'ann'), /sid does not allow/);
      await refusedTool(peer.call('atoll_wait', { session: sid, agent: 'bob', wait_s: 0 }),
        /speaks for "ann"/);
    });

    it('reads resources of its sessions alone', async () => {
      const [sid, other] = [await session(), await session(newId('q-'))];
      const peer = await connect(server.as('ann', 'p-*', 'read'), '/mcp');
      const read = (of) => peer.request('resources/read', { uri: `atoll://sessions/${of}/state` });
      assert.match((await read(sid)).contents[0].text, /general/);
      const errors = await Promise.all([other, newId('q-')].map((of) =>
        read(of).then(() => assert.fail('it was read'), (error) => error)));
      assert.equal(errors[0].message.replace(/q-[0-9-]*/, ''),
        errors[1].message.replace(/q-[0-9-]*/, ''));
    });

    it('that may only read looks on', async () => {
      const sid = await session();
      await admin().command(sid, { type: 'agent.leave', agent: 'bob' });
      const peer = await connect(server.as('bob', sid, 'read'), agentPath(sid, 'bob'));
      assert.ok((await peer.request('tools/list', {})).tools.length > 0);
      await refusedTool(peer.call('atoll_send_message', message()), /scope write/);
      assert.deepEqual(Object.keys((await admin().view(sid)).state.agents), ['ann']);
    });

    it('that waits is answered when its token ends', async () => {
      const sid = await session();
      const token = server.keys.token('ann', sid, 'write', { exp: inSeconds(2) });
      const peer = await connect(as(server, token), agentPath(sid, 'ann'));
      const began = performance.now();
      const waited = await peer.call('atoll_wait', { wait_s: 50 }).catch((error) => error);
      assert.ok(performance.now() - began < 10_000, `${waited}`);
      await until(async () => (await peer.post(peer.message('tools/list', {}))).status === 401,
        'the refusal');
    });
  });

describe('an MCP session', () => {
  it('of /mcp is its agent\'s', async () => {
    const peer = await Peer.connect(server.as('ann', '*', 'write'), '/mcp');
    const thief = new Peer(server.as('bob', '*', 'write'), '/mcp',
      { sessionId: peer.sessionId, version: peer.version });
    expect(await thief.post(thief.message('tools/list', {})), 403);
    expect(await thief.delete(), 403);
    assert.ok((await peer.request('tools/list', {})).tools.length > 0);
  });

  it('hears nothing of sessions that its token does not allow', async () => {
    const [sid, other] = [await session(), await session(newId('q-'))];
    const wide = await Peer.connect(server.as('ann', '*', 'write'), '/mcp');
    for (const of of [sid, other])
      await wide.request('resources/subscribe', { uri: `atoll://sessions/${of}/state` });
    // The same agent and MCP session, with a token that reaches less far.
    const narrow = new Peer(server.as('ann', 'p-*', 'write'), '/mcp',
      { sessionId: wide.sessionId, version: wide.version });
    const stream = expect(await narrow.listen(), 200);
    for (const of of [other, sid]) await admin().say(of, 'ann', 'hello');
    const told = await stream.find((m) => m.params?.uri?.includes(sid));
    assert.match(told.method, /updated/);
    assert.ok(stream.passed.every((m) => !m.params?.uri?.includes(other)));
  });

  it('ends its stream when the token ends', async () => {
    const sid = await session();
    const token = server.keys.token('ann', sid, 'write', { exp: inSeconds(2) });
    const peer = await Peer.connect(as(server, token), agentPath(sid, 'ann'));
    const stream = expect(await peer.listen(), 200);
    assert.equal(await stream.message(), undefined);
  });
});

describe('the transport of 2024-11-05', () => {
  it('takes messages of the token that opened the stream, and of no other', async () => {
    const sid = await session();
    const ann = server.as('ann', sid, 'read');
    const stream = expect(await send(ann, 'GET', sse(sid, 'ann')), 200);
    const endpoint = new URL((await stream.event()).data, server.url);
    const hello = { jsonrpc: '2.0', id: 1, method: 'ping' };
    for (let i = 0; i < 4; i++) { // over connections of either reactor
      const post = (who) => send(who, 'POST', endpoint.pathname + endpoint.search, { body: hello });
      expect(await post(ann), 202);
      assert.equal((await stream.message()).id, 1);
      expect(await post(server.as('ann', sid, 'write')), 403);
      expect(await post(server.as('bob', sid, 'write')), 403);
    }
    stream.close();
  });
});

describe('Coral\'s names', () => {
  it('take messages from the inbox of an agent that may write', async () => {
    const sid = await session();
    const path = agentPath(sid, 'bob', '?tools=coral');
    const reader = await Peer.connect(server.as('bob', sid, 'read'), path);
    await refusedTool(reader.call('coral_wait_for_mention', { currentUnixTime: Date.now(), maxWaitMs: 10 }), /scope write/);
    const writer = await Peer.connect(server.as('bob', sid, 'write'), path);
    assert.ok(await writer.request('tools/list', {}));
  });
});
