/*
 * What can be read of a session over MCP: resources, their list and their templates. What they say
 * is compared with what REST says.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { canonical, expect, serving } from './harness.mjs';
import { MODERN, Peer, VERSIONS, agentPath, refusedRpc } from './mcp.mjs';

const PARAMS = -32602;
const uri = (sid, part) => `atoll://sessions/${sid}/${part}`;
const unknown = (version) => (version >= MODERN ? PARAMS : -32002);

describe('resources', () => {
  const server = serving({ args: ['--shards', '2'] });
  const connect = (sid, options = {}) =>
    Peer.connect(server, agentPath(sid, options.agent ?? 'ann', options.query), options);
  const content = async (peer, at) => {
    const { contents } = await peer.request('resources/read', { uri: at });
    assert.equal(contents.length, 1);
    assert.equal(contents[0].uri, at);
    return contents[0];
  };
  const read = async (peer, at) => {
    const { mimeType, text, _meta } = await content(peer, at);
    assert.equal(mimeType, 'application/json');
    return { json: JSON.parse(text), note: _meta?.note };
  };
  /** All resources, page by page. */
  const list = async (peer) => {
    const all = [];
    for (let params; ;) {
      const page = await peer.request('resources/list', params);
      all.push(...page.resources);
      if (page.nextCursor === undefined) return all;
      params = { cursor: page.nextCursor };
    }
  };

  for (const version of [...VERSIONS, MODERN])
    describe(`in ${version}`, () => {
      let sid, peer;
      before(async () => {
        sid = await server.session();
        await server.live(sid, 3);
        peer = await connect(sid, { version });
      });

      it('are the state, the events, and each thread by its name', async () => {
        const { state } = await server.view(sid);
        const resources = await list(peer);
        assert.deepEqual(resources.map((r) => r.uri), [uri(sid, 'state'), uri(sid, 'events'),
          ...Object.keys(state.threads).map((id) => uri(sid, `threads/${id}`))]);
        for (const resource of resources) {
          assert.equal(resource.mimeType, 'application/json');
          assert.ok(resource.description.length > 10, resource.description);
        }
        const threads = resources.slice(2);
        assert.deepEqual(threads.map((r) => r.name),
          Object.values(state.threads).map((thread) => thread.name));
        assert.match(threads[0].description, /ann \(open\): participants 2, messages 6\./);
        assert.match(threads[1].description, /bob \(closed\)/);
      });

      it('say what REST says', async () => {
        assert.equal(canonical((await read(peer, uri(sid, 'state'))).json),
          canonical(await server.view(sid)));
        const thread = expect(await server.get(`/v1/sessions/${sid}/threads/general`), 200).json;
        assert.equal(canonical((await read(peer, uri(sid, 'threads/general'))).json),
          canonical(thread));
        assert.equal(canonical((await read(peer, uri(sid, 'events'))).json.events),
          canonical(await server.events(sid)));
      });

      it('that are not there are refused with the code of the revision, and their URI',
        async () => {
          for (const bad of [uri(sid, 'threads/nowhere'), uri(sid, 'threads/'), uri(sid, 'nothing'),
            uri('another', 'state'), uri('another', 'threads/general'), 'coral://state',
            'coral://instruction', `atoll://sessions/${sid}`, 'http://127.0.0.1/', 'x', '',
            `atoll://sessions/${sid}/../${sid}/state`, `atoll://sessions/%00/state`,
            `atoll://sessions/~${'A'.repeat(26)}/state`, uri(sid, `threads/${'x'.repeat(3000)}`)]) {
            const error = await refusedRpc(peer.request('resources/read', { uri: bad },
              { headers: { ...(version >= MODERN && bad.length > 2000 && { 'mcp-name': bad }) } }),
            unknown(version), /resource/);
            assert.deepEqual(error.data, { uri: bad });
          }
        });

      it('need a URI, and of events a number', async () => {
        const options = { headers: { 'mcp-name': version >= MODERN ? '7' : undefined } };
        for (const params of [{}, { uri: 7 }, { uri: null }])
          await peer.request('resources/read', params, options)
            .then(() => assert.fail('taken'), () => {});
        if (version < MODERN)
          await refusedRpc(peer.request('resources/read', {}), PARAMS, /uri/);
        for (const query of ['?after=', '?after=x', '?after=-1', '?before=3', '?after=1&limit=2',
          '?after=9007199254740992', '?'.repeat(2)])
          await refusedRpc(peer.request('resources/read', { uri: uri(sid, `events${query}`) }),
            PARAMS, /after=SEQ/);
      });

      it('have templates', async () => {
        const { resourceTemplates } = await peer.request('resources/templates/list');
        assert.deepEqual(resourceTemplates.map((t) => t.uriTemplate), [uri('{sid}', 'state'),
          uri('{sid}', 'threads/{tid}'), uri('{sid}', 'events{?after}')]);
        await refusedRpc(peer.request('resources/templates/list', { cursor: 'x' }), PARAMS,
          /cursor/);
      });

      it('come by pages, each once and in order, also while threads are made', async () => {
        const many = await server.session(['ann'], { thread: null });
        const create = (n) => ({ type: 'thread.create', thread: `x${n}`, creator: 'ann',
          name: `"${n}" \\ ü`, participants: [] });
        const made = (from, to) => server.lines(many,
          Array.from({ length: to - from }, (_, n) => create(from + n)));
        expect(await made(0, 250), 200);
        const reader = await connect(many, { version });
        const first = await reader.request('resources/list');
        assert.equal(first.resources.length, 102);
        expect(await made(250, 255), 200);
        const second = await reader.request('resources/list', { cursor: first.nextCursor });
        const third = await reader.request('resources/list', { cursor: second.nextCursor });
        assert.equal(third.nextCursor, undefined);
        const threads = [first, second, third].flatMap((page) => page.resources).slice(2);
        assert.deepEqual(threads.map((r) => r.name),
          Array.from({ length: 255 }, (_, n) => `"${n}" \\ ü`));
        for (const cursor of ['', '!', 'bm93aGVyZQ', first.nextCursor.slice(1), 7, null])
          await refusedRpc(reader.request('resources/list', { cursor }), PARAMS, /cursor/);
      });
    });

  it('of events come by pages that say where the next one is', async () => {
    const sid = await server.session();
    await server.live(sid, 60);
    const peer = await connect(sid);
    const all = [];
    let pages = 0;
    for (let at = uri(sid, 'events'); at; pages++) {
      const { json, note } = await read(peer, at);
      all.push(...json.events);
      assert.equal(note === undefined, json.next === null);
      at = note?.match(/atoll:\S+$/)[0];
    }
    assert.ok(pages > 2);
    assert.equal(canonical(all), canonical(await server.events(sid)));
    const late = await read(peer, uri(sid, `events?after=${all.length}`));
    assert.deepEqual(late.json, { events: [], next: null });
  });

  it('tell of messages that have left the window where they stand', async () => {
    const sid = await server.session();
    expect(await server.lines(sid, Array.from({ length: 103 }, (_, n) =>
      ({ type: 'message.send', thread: 'general', sender: 'ann', content: `${n}` }))), 200);
    const { json, note } = await read(await connect(sid), uri(sid, 'threads/general'));
    assert.equal(json.thread.older, 3);
    assert.equal(json.thread.messages.length, 100);
    assert.match(note, /^3 earlier messages .*\/events/);
  });

  it('show a state that is too large with less of its messages, and say so', async () => {
    const sid = await server.session();
    const peer = await connect(sid);
    const whole = (await server.view(sid)).state;
    assert.deepEqual((await read(peer, uri(sid, 'state'))).json.state, whole);
    expect(await server.command(sid, { type: 'thread.create', thread: 'side', creator: 'ann',
      name: 'side', participants: [] }), 200);
    for (let n = 0; n < 6; n++)
      await server.say(sid, 'ann', '"'.repeat(100_000), { thread: n % 2 ? 'general' : 'side' });
    const { json: compact, note } = await read(peer, uri(sid, 'state'));
    assert.match(note, /over 1 MiB.*without their content/);
    assert.deepEqual(compact, await server.view(sid, '?view=compact'));
    // So many messages that even without their content they are too large.
    for (const batch of ['a', 'b']) {
      const threads = Array.from({ length: 80 }, (_, n) => `${batch}${n}`);
      expect(await server.lines(sid, threads.flatMap((thread) => [
        { type: 'thread.create', thread, creator: 'ann', name: thread, participants: [] },
        ...Array.from({ length: 99 }, () =>
          ({ type: 'message.send', thread, sender: 'ann', content: '' }))])), 200);
    }
    const outline = await read(peer, uri(sid, 'state'));
    assert.match(outline.note, /over 1 MiB.*only counted/);
    const { participants, ...rest } = outline.json.state.threads.b7;
    assert.deepEqual(Object.keys(participants), ['ann']);
    assert.deepEqual(rest, { name: 'b7', creator: 'ann', status: 'open', summary: null, older: 99,
      messages: [] });
    assert.equal(outline.json.state.threads.general.older, 3);
  });

  it('are not disturbed by data that is nested as deep as may be', async () => {
    const sid = await server.session();
    let deep = {};
    for (let n = 0; n < 29; n++) deep = { deep };
    await server.say(sid, 'ann', 'deep', { data: deep });
    const peer = await connect(sid, { agent: 'bob', query: '?tools=coral' });
    assert.equal((await list(peer)).length, 5);
    assert.equal(canonical((await read(peer, uri(sid, 'state'))).json),
      canonical(await server.view(sid)));
    assert.match((await content(peer, 'coral://state')).text, /deep/);
  });

  it('are what the official SDK takes for such, as prompts and completions are', async (t) => {
    const sid = await server.session();
    await server.live(sid, 12);
    const client = new Client({ name: 'tests', version: '1' });
    t.after(() => client.close());
    await client.connect(new StreamableHTTPClientTransport(new URL(
      agentPath(sid, 'ann', '?tools=coral'), `http://${server.hostname}:${server.port}`)));
    const { resources } = await client.listResources();
    assert.equal(resources.length, 17);
    for (const resource of resources) {
      const { contents: [read] } = await client.readResource(resource);
      assert.equal(read.mimeType, resource.mimeType);
      assert.ok(read.text.length > 100);
    }
    assert.equal((await client.listResourceTemplates()).resourceTemplates.length, 3);
    const { prompts: [prompt] } = await client.listPrompts();
    const { messages: [message] } = await client.getPrompt({ name: prompt.name });
    assert.match(message.content.text, /^You are the agent ann /);
    const { completion } = await client.complete({ ref: { type: 'ref/prompt', name: prompt.name },
      argument: { name: 'thread', value: 'side-1' } });
    assert.equal(completion.total, 4);
  });

  it('at /mcp are of any session that is named, and none is listed', async () => {
    const sid = await server.session();
    for (const version of ['2025-11-25', MODERN]) {
      const peer = await Peer.connect(server, '/mcp', { version });
      assert.deepEqual(await list(peer), []);
      assert.equal((await peer.request('resources/templates/list')).resourceTemplates.length, 3);
      assert.equal(canonical((await read(peer, uri(sid, 'state'))).json),
        canonical(await server.view(sid)));
      for (const bad of [uri('nowhere', 'state'), uri('nowhere', 'events'),
        uri('nowhere', 'threads/x'), 'coral://state']) {
        const error = await refusedRpc(peer.request('resources/read', { uri: bad }),
          unknown(version), /resource/);
        assert.deepEqual(error.data, { uri: bad });
      }
    }
  });
});

describe('Coral\'s resources', () => {
  const server = serving();
  const connect = (sid, agent = 'ann') =>
    Peer.connect(server, agentPath(sid, agent, '?tools=coral'));
  /** The state's text, and the JSON lists that stand in it. */
  const state = async (peer) => {
    const { contents: [{ mimeType, text }] } =
      await peer.request('resources/read', { uri: 'coral://state' });
    assert.equal(mimeType, 'text/markdown');
    const lists = [...text.matchAll(/^```json\n(.*)\n```$/gm)].map((m) => JSON.parse(m[1]));
    const of = (key) => lists.find((l) => l[0][key] !== undefined) ?? [];
    return { text, agents: of('agentName'), threads: of('threadId') };
  };

  it('tell of the others, and of one\'s own threads with what was said', async () => {
    const sid = await server.session(['ann', 'bob', 'cy'], { participants: ['bob'] });
    const others = { type: 'thread.create', thread: 'theirs', creator: 'bob', name: 'Theirs',
      participants: ['cy'] };
    const over = { type: 'thread.create', thread: 'over', creator: 'ann', name: 'Over',
      participants: [] };
    expect(await server.lines(sid, [others, over,
      { type: 'message.send', thread: 'theirs', sender: 'bob', content: 'a secret' },
      { type: 'thread.close', thread: 'over', by: 'ann', summary: 'it "was" nothing' },
      { type: 'agent.update', agent: 'bob', status: 'waiting', description: 'knows things' },
      { type: 'agent.update', agent: 'cy', status: 'offline' }]), 200);
    const said = 'line\n```\n# Agents\n"quoted"';
    await server.say(sid, 'bob', said, { mentions: ['ann'] });
    const { text, agents, threads } = await state(await connect(sid));
    assert.match(text, /^# General\nYou are an agent named ann\. The current UNIX time is \d{13} /);
    assert.doesNotMatch(text, /a secret/);
    assert.deepEqual(agents, [
      { agentName: 'bob', agentDescription: 'knows things', agentConnected: true,
        agentWaiting: true, agentSleeping: false, agentRunning: true },
      { agentName: 'cy', agentDescription: '', agentConnected: false, agentWaiting: false,
        agentSleeping: true, agentRunning: false }]);
    assert.deepEqual(threads.map((t) => t.threadId), ['over', 'general']);
    assert.deepEqual(threads[0], { threadId: 'over', threadName: 'Over', owningAgentName: 'ann',
      participatingAgents: ['ann'], state: 'closed', summary: 'it "was" nothing' });
    const [message] = threads[1].messages;
    assert.deepEqual(threads[1], { threadId: 'general', threadName: 'general',
      owningAgentName: 'ann', participatingAgents: ['ann', 'bob'], state: 'open',
      messages: [message] });
    assert.ok(Date.parse(message.messageTimestamp) > 0);
    assert.deepEqual(message, { messageText: said, sendingAgentName: 'bob',
      messageTimestamp: message.messageTimestamp, mentionAgentNames: ['ann'] });
  });

  it('leave out what was said first where it is too much', async () => {
    const sid = await server.session();
    for (let n = 0; n < 60; n++) await server.say(sid, 'bob', `${n} ${'"'.repeat(3000)}`);
    const { text, threads: [thread] } = await state(await connect(sid));
    assert.ok(text.length < 140 * 1024, `${text.length}`);
    assert.equal(thread.earlierMessages + thread.messages.length, 60);
    assert.ok(thread.messages.length > 10);
    assert.equal(thread.messages.at(-1).messageText, `59 ${'"'.repeat(3000)}`);
    await server.say(sid, 'bob', 'ü'.repeat(120_000));
    const [{ messages }] = (await state(await connect(sid))).threads;
    assert.equal(messages.length, 1);
    assert.equal(messages[0].messageCut, true);
    assert.match(messages[0].messageText, /^ü+$/);
  });

  it('count agents where there are too many', async () => {
    const all = Array.from({ length: 130 }, (_, n) => `a${n}`);
    const sid = await server.session(all);
    expect(await server.command(sid, { type: 'agent.update', agent: 'a1',
      description: 'ü'.repeat(500) }), 200);
    const { text, agents, threads: [thread] } = await state(await connect(sid, 'a0'));
    assert.match(text, /with 129 other agents\./);
    assert.deepEqual(agents.map((a) => a.agentName), all.slice(1, 101));
    assert.equal(agents[0].agentDescription, 'ü'.repeat(150));
    assert.match(text, /^Not shown: 29 agents\.$/m);
    assert.deepEqual([thread.participatingAgents, thread.otherParticipants],
      [all.slice(0, 100), 30]);
  });

  it('show the newest threads with messages where there are too many', async () => {
    const sid = await server.session(['ann'], { thread: null });
    const commands = Array.from({ length: 70 }, (_, n) => [
      { type: 'thread.create', thread: `x${n}`, creator: 'ann', name: `${n}`, participants: [] },
      { type: 'message.send', thread: `x${n}`, sender: 'ann', content: `said ${n}` }]);
    expect(await server.lines(sid, commands.flat()), 200);
    const { threads } = await state(await connect(sid));
    assert.deepEqual(threads.map((t) => t.threadId), Array.from({ length: 70 }, (_, n) => `x${n}`));
    threads.forEach((thread, n) => {
      if (n < 6) assert.deepEqual([thread.messages, thread.earlierMessages], [[], 1]);
      else assert.equal(thread.messages[0].messageText, `said ${n}`);
    });
    expect(await server.lines(sid, Array.from({ length: 70 }, (_, n) => ({ type: 'thread.create',
      thread: `y${n}`, creator: 'ann', name: `${n}`, participants: [] }))), 200);
    const later = await state(await connect(sid));
    assert.equal(later.threads.length, 128);
    assert.equal(later.threads.at(-1).threadId, 'y69');
    assert.match(later.text, /^Not shown: 12 older threads\.$/m);
  });

  it('are listed, with instructions, beside Atoll\'s own', async () => {
    const sid = await server.session();
    const peer = await connect(sid);
    const { resources } = await peer.request('resources/list');
    assert.deepEqual(resources.map((r) => r.uri), [uri(sid, 'state'), uri(sid, 'events'),
      'coral://instruction', 'coral://state', uri(sid, 'threads/general')]);
    const { contents: [instruction] } =
      await peer.request('resources/read', { uri: 'coral://instruction' });
    const { tools } = await peer.request('tools/list');
    for (const [name] of instruction.text.matchAll(/coral_\w+/g))
      assert.ok(tools.some((tool) => tool.name === name), `${name} is a tool`);
    assert.ok((await state(await connect(sid, 'nobody-yet'))).threads.length === 0);
  });
});
