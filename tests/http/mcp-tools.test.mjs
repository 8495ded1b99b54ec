/*
 * Atoll's tools through the official SDK's client, which checks every structured result against the
 * schema that the tool was listed with; and who may speak for whom.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Client as NewClient,
  StreamableHTTPClientTransport as NewTransport } from '@modelcontextprotocol/client';
import { expect, serving, until } from './harness.mjs';
import { MODERN, Peer, agentPath, refusedTool } from './mcp.mjs';

const ATOLL = ['acknowledge', 'add_participant', 'close_thread', 'create_thread', 'get_state',
  'list_agents', 'read_thread', 'remove_participant', 'send_message', 'set_status', 'wait']
  .map((name) => `atoll_${name}`);

const READING = ['atoll_get_state', 'atoll_list_agents', 'atoll_read_thread'];

/** A tool's structured result, or an error that says what the tool said. */
async function use(client, name, args = {}) {
  const result = await client.callTool({ name, arguments: args });
  const text = result.content.map((c) => c.text).join('\n');
  if (result.isError) throw Object.assign(new Error(text), { tool: name });
  assert.match(text, /\S/, 'there is a text form');
  return result.structuredContent;
}

/** The clients of both SDKs, as functions that connect one to a path. */
const SDKS = {
  'SDK 1 (2025-11-25)': async (server, path) => {
    const client = new Client({ name: 'tests', version: '1' });
    await client.connect(new StreamableHTTPClientTransport(new URL(path, server.url)));
    return client;
  },
  'SDK 2 (2026-07-28)': async (server, path) => {
    const client = new NewClient({ name: 'tests', version: '1' },
      { versionNegotiation: { mode: { pin: MODERN } } });
    await client.connect(new NewTransport(new URL(path, server.url)));
    assert.equal(client.getNegotiatedProtocolVersion?.() ?? MODERN, MODERN);
    return client;
  },
  'SDK 2, which finds out by itself': async (server, path) => {
    const client = new NewClient({ name: 'tests', version: '1' },
      { versionNegotiation: { mode: 'auto' } });
    await client.connect(new NewTransport(new URL(path, server.url)));
    assert.equal(client.getNegotiatedProtocolVersion?.() ?? MODERN, MODERN);
    return client;
  },
};

for (const [name, connect] of Object.entries(SDKS))
  describe(`Atoll's tools by ${name}`, () => {
    const server = serving({ args: ['--shards', '2'] });
    const clients = new Set();
    async function join(t, sid, agent, query) {
      const client = await connect(server, agentPath(sid, agent, query));
      clients.add(client);
      t.after(() => client.close());
      await client.listTools();
      return client;
    }

    it('are these, each with schemas and hints', async (t) => {
      const ann = await join(t, await server.session(), 'ann');
      const { tools } = await ann.listTools();
      assert.deepEqual(tools.map((tool) => tool.name).sort(), ATOLL);
      for (const tool of tools) {
        assert.ok(tool.title && tool.description.length > 30, tool.name);
        assert.ok(tool.outputSchema, tool.name);
        assert.equal(tool.inputSchema.additionalProperties, false, tool.name);
        assert.ok(!/"(uniqueItems|oneOf|anyOf|allOf|not)"/.test(JSON.stringify(tool)), tool.name);
        assert.equal(tool.annotations.readOnlyHint, READING.includes(tool.name), tool.name);
      }
    });

    it('let two agents talk a thread through', async (t) => {
      const sid = await server.session(['ann', 'bob', 'cat'], { thread: null });
      const [ann, bob] = [await join(t, sid, 'ann'), await join(t, sid, 'bob')];
      const { thread } = await use(ann, 'atoll_create_thread',
        { name: 'The plan', participants: ['bob'] });
      assert.match(thread, /^t\d+$/);
      const waiting = use(bob, 'atoll_wait', { mentions_only: true });
      await until(async () => (await server.total('waiting')) > 0, 'bob waits');
      const sent = await use(ann, 'atoll_send_message',
        { thread, content: 'Please begin, "Bob"\n😀', mentions: ['bob'] });
      const inbox = await waiting;
      assert.equal(inbox.messages.length, 1);
      assert.equal(inbox.messages[0].id, sent.message);
      assert.equal(inbox.messages[0].content, 'Please begin, "Bob"\n😀');
      await use(bob, 'atoll_acknowledge', { cursor: inbox.cursor });
      await use(bob, 'atoll_set_status', { status: 'working', note: 'on it' });
      await use(bob, 'atoll_add_participant', { thread, participant: 'cat' });
      await use(bob, 'atoll_send_message', { thread, content: 'Done.' });
      await use(bob, 'atoll_remove_participant', { thread, participant: 'cat' });
      const { agents } = await use(ann, 'atoll_list_agents');
      assert.deepEqual(agents.map((a) => [a.agent, a.you, a.status, a.note]),
        [['ann', true, 'idle', ''], ['bob', false, 'working', 'on it'],
          ['cat', false, 'idle', '']]);
      const page = await use(ann, 'atoll_read_thread', { thread });
      assert.deepEqual(page.messages.map((m) => [m.sender, m.content]),
        [['ann', 'Please begin, "Bob"\n😀'], ['bob', 'Done.']]);
      assert.match(JSON.stringify(await use(ann, 'atoll_get_state')), /The plan/);
      await use(ann, 'atoll_close_thread', { thread, summary: 'All is done.' });
      const { state } = await server.view(sid);
      assert.deepEqual([state.threads[thread].status, state.threads[thread].summary],
        ['closed', 'All is done.']);
      assert.deepEqual(Object.keys(state.threads[thread].participants).sort(), ['ann', 'bob']);
      assert.deepEqual((await server.events(sid)).map((e) => `${e.type} ${e.actor ?? ''}`.trim())
        .slice(-8).map((e) => e.split(' ')[0]), ['thread.created', 'message.sent', 'inbox.acked',
        'agent.updated', 'thread.participant_added', 'message.sent', 'thread.participant_removed',
        'thread.closed']);
    });

    it('say what to do next when they refuse', async (t) => {
      const sid = await server.session(['ann', 'bob', 'cat'], { participants: ['bob'] });
      const ann = await join(t, sid, 'ann');
      const send = (args) => use(ann, 'atoll_send_message', { thread: 'general', content: 'x',
        ...args });
      await refusedTool(send({ thread: 'nowhere' }), /nowhere[^]*atoll_/);
      await refusedTool(send({ mentions: ['cat'] }), /cat[^]*atoll_add_participant/);
      await refusedTool(send({ mentions: ['nobody'] }), /nobody/);
      await refusedTool(send({ content: 'x'.repeat(300_000) }), /content|large|long/i);
      await refusedTool(send({ content: 7 }), /content/);
      await refusedTool(send({ colour: 'red' }), /colour/);
      await refusedTool(use(ann, 'atoll_send_message', { content: 'x' }), /thread/);
      await refusedTool(use(ann, 'atoll_set_status', { status: 'sleepy' }), /sleepy|working/);
      await refusedTool(use(ann, 'atoll_create_thread', { name: 'x', participants: ['nobody'] }),
        /nobody[^]*atoll_list_agents/);
      await use(ann, 'atoll_close_thread', { thread: 'general', summary: 'over' });
      await refusedTool(send({}), /closed[^]*atoll_create_thread/);
      assert.equal((await server.events(sid)).filter((e) => e.type === 'message.sent').length, 0);
    });

    it('register an agent at its first use', async (t) => {
      const sid = await server.session(['bob'], { thread: null });
      const ann = await join(t, sid, 'ann');
      await use(ann, 'atoll_create_thread', { name: 'x', participants: ['bob'] });
      assert.deepEqual(Object.keys((await server.view(sid)).state.agents).sort(), ['ann', 'bob']);
      const cat = await join(t, sid, 'cat');
      const result = await use(cat, 'atoll_wait', { wait_s: 0 });
      assert.deepEqual(result.messages, []);
      assert.ok((await server.view(sid)).state.agents.cat, 'a wait is a use');
    });

    it('speak for nobody else', async (t) => {
      const sid = await server.session();
      const ann = await join(t, sid, 'ann');
      for (const args of [{ sender: 'bob' }, { agent: 'bob' }, { session: sid }, { by: 'bob' }])
        await refusedTool(use(ann, 'atoll_send_message',
          { thread: 'general', content: 'x', ...args }), new RegExp(Object.keys(args)[0]));
      await refusedTool(use(ann, 'atoll_set_status', { agent: 'bob', status: 'offline' }), /agent/);
      assert.equal((await server.view(sid)).state.agents.bob.status, 'idle');
    });

    it('take session and agent as arguments at /mcp', async (t) => {
      const sid = await server.session();
      const client = await connect(server, '/mcp');
      t.after(() => client.close());
      const { tools } = await client.listTools();
      assert.deepEqual(tools.map((tool) => tool.name).sort(), ATOLL);
      for (const { name, inputSchema } of tools) {
        assert.ok(inputSchema.properties.session && inputSchema.properties.agent, name);
        assert.ok(['session', 'agent'].every((key) => inputSchema.required.includes(key)), name);
      }
      await use(client, 'atoll_send_message',
        { session: sid, agent: 'ann', thread: 'general', content: 'from ann' });
      await use(client, 'atoll_send_message',
        { session: sid, agent: 'bob', thread: 'general', content: 'from bob' });
      const inbox = await use(client, 'atoll_wait', { session: sid, agent: 'ann' });
      assert.deepEqual(inbox.messages.map((m) => m.content), ['from bob']);
      await refusedTool(use(client, 'atoll_wait', { agent: 'ann' }), /session/);
      await refusedTool(use(client, 'atoll_wait', { session: sid }), /agent/);
      await refusedTool(use(client, 'atoll_wait', { session: 'nowhere', agent: 'ann' }), /nowhere/);
      await refusedTool(use(client, 'atoll_wait', { session: '~x', agent: 'ann' }), /session/);
    });
  });

describe('atoll_read_thread and atoll_get_state', () => {
  const server = serving();

  it('go through a long thread in pages, and cut none of it away', async () => {
    const sid = await server.session();
    const said = Array.from({ length: 250 }, (_, n) => `${n} ${'text '.repeat(40)}`);
    expect(await server.lines(sid, said.map((content) =>
      ({ type: 'message.send', thread: 'general', sender: 'bob', content }))), 200);
    const peer = await Peer.connect(server, agentPath(sid, 'ann'));
    const seen = [];
    let page = await peer.call('atoll_read_thread', { thread: 'general' });
    for (let calls = 0; calls < 100; calls++) {
      assert.ok(JSON.stringify(page).length < 100_000);
      seen.unshift(...page.messages.map((m) => m.content));
      if (page.more === '') break;
      page = await peer.call('atoll_read_thread', { thread: 'general', cursor: page.more });
    }
    assert.deepEqual(seen, said);
    const forwards = [];
    for (let cursor = 'after-0'; cursor !== '';) {
      const { messages, more } = await peer.call('atoll_read_thread',
        { thread: 'general', cursor });
      forwards.push(...messages.map((m) => m.content));
      cursor = more;
    }
    assert.deepEqual(forwards, said);
    await refusedTool(peer.call('atoll_read_thread', { thread: 'general', cursor: 'junk' }),
      /cursor/);
  });

  it('do not flood a context', async () => {
    const sid = await server.session();
    expect(await server.lines(sid, Array.from({ length: 100 }, (_, n) =>
      ({ type: 'thread.create', thread: `th-${n}`, creator: 'bob', name: `${n} ${'x'.repeat(900)}`,
        participants: ['ann'] }))), 200);
    const peer = new Peer(server, agentPath(sid, 'ann'), { version: MODERN });
    const threads = [];
    for (let cursor = '', calls = 0; calls === 0 || cursor !== ''; calls++) {
      const result = await peer.request('tools/call',
        { name: 'atoll_get_state', arguments: { cursor } });
      assert.ok(JSON.stringify(result).length < 200_000);
      const { more } = result.structuredContent;
      threads.push(...result.structuredContent.threads.map((thread) => thread.thread));
      if (more !== '') assert.match(result.content[0].text, /more/);
      cursor = more;
    }
    assert.equal(new Set(threads).size, 101);
    assert.equal(threads.length, 101);
  });
});
