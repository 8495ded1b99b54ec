/* Every command: the event it makes, what it leaves alone, and what it is refused for. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { canonical, conforms, expect, newId, refused, serving, spec } from './harness.mjs';

const send = (fields) =>
  ({ type: 'message.send', thread: 'general', sender: 'ann', content: 'x', ...fields });

/** ann and bob are in `general` and in the closed `done`; cat is registered and in no thread. */
async function scene(server) {
  const sid = await server.session(['ann', 'bob', 'cat'], { participants: ['bob'] });
  const { json } = await server.command(sid, [
    { type: 'thread.create', thread: 'done', creator: 'ann', name: 'done', participants: ['bob'] },
    { type: 'thread.close', thread: 'done', by: 'ann', summary: 'over' },
  ]);
  return { sid, seq: json.seq };
}

describe('commands', () => {
  const server = serving();

  it('make the event that says what was applied', async () => {
    const sid = newId();
    const steps = [
      [{ type: 'session.create', labels: { a: '1' }, ttl_s: 3600, trace: 'T', cause: 'C' },
        { type: 'session.created', actor: null, trace: 'T', cause: 'C', session: sid,
          labels: { a: '1' }, ttl_s: 3600 }, sid],
      [{ type: 'session.update', labels: { a: null, b: '2', c: null } },
        { type: 'session.updated', actor: null, labels: { a: null, b: '2' } }],
      [{ type: 'agent.register', agent: 'ann', description: 'plans', labels: { x: 'y' } },
        { type: 'agent.registered', actor: 'ann', agent: 'ann', description: 'plans',
          labels: { x: 'y' } }, 'ann'],
      [{ type: 'agent.register', agent: 'bob' },
        { type: 'agent.registered', actor: 'bob', agent: 'bob' }, 'bob'],
      [{ type: 'agent.register', agent: 'cat' },
        { type: 'agent.registered', actor: 'cat', agent: 'cat' }, 'cat'],
      [{ type: 'agent.update', agent: 'ann', status: 'working', note: 'on it', priority: -2 },
        { type: 'agent.updated', actor: 'ann', agent: 'ann', status: 'working', note: 'on it',
          priority: -2 }],
      [{ type: 'thread.create', creator: 'ann', name: 'Plan', participants: ['bob', 'bob'] },
        (seq) => ({ type: 'thread.created', actor: 'ann', thread: `t${seq}`, name: 'Plan',
          creator: 'ann', participants: ['ann', 'bob'] }), 't7'],
      [{ type: 'thread.add', thread: 't7', agent: 'cat', by: 'bob' },
        (seq) => ({ type: 'thread.participant_added', actor: 'bob', thread: 't7', agent: 'cat',
          by: 'bob', read: seq })],
      [{ type: 'message.send', thread: 't7', sender: 'ann', content: 'hallo ☃',
        mentions: ['cat', 'bob', 'cat'], data: { n: [1, 2.5, null] }, trace: 'T2' },
        (seq) => ({ type: 'message.sent', actor: 'ann', trace: 'T2', id: `m${seq}`, thread: 't7',
          sender: 'ann', content: 'hallo ☃',
          mentions: ['cat', 'bob'], reply_to: null, data: { n: [1, 2.5, null] } }), 'm9'],
      [{ type: 'message.send', thread: 't7', sender: 'bob', content: '', reply_to: 'm9' },
        (seq) => ({ type: 'message.sent', actor: 'bob', id: `m${seq}`, thread: 't7', sender: 'bob',
          content: '', mentions: [], reply_to: 'm9', data: null }), 'm10'],
      [{ type: 'thread.read', thread: 't7', agent: 'cat', upto: 9 },
        { type: 'thread.read', actor: 'cat', thread: 't7', agent: 'cat', upto: 9, read: 9,
          taken: [] }],
      [async () => {
        const { cursor } = await server.inbox(sid, 'cat');
        return { type: 'inbox.ack', agent: 'cat', cursor };
      },
        (seq, { threads: [{ read }] }) => ({ type: 'inbox.acked', actor: 'cat', agent: 'cat',
          threads: [{ thread: 't7', read, taken: [] }] })],
      [{ type: 'thread.remove', thread: 't7', agent: 'cat', by: 'ann' },
        { type: 'thread.participant_removed', actor: 'ann', thread: 't7', agent: 'cat',
          by: 'ann' }],
      [{ type: 'agent.leave', agent: 'bob' },
        { type: 'agent.left', actor: 'bob', agent: 'bob', threads: ['t7'] }],
      [{ type: 'thread.close', thread: 't7', by: 'ann', summary: 'agreed' },
        { type: 'thread.closed', actor: 'ann', thread: 't7', by: 'ann', summary: 'agreed' }],
      [{ type: 'session.close' }, { type: 'session.closed', actor: null, summary: null }],
    ];
    let seq = 0;
    const made = [];
    for (const [step, expected, id] of steps) {
      const command = typeof step === 'function' ? await step() : step;
      const { json } = expect(await server.command(sid, command), 200);
      assert.equal(json.seq, ++seq, command.type);
      assert.equal(json.id, id, command.type);
      assert.equal(json.events.length, 1, command.type);
      const { seq: at, ts, ...event } = json.events[0];
      assert.equal(at, seq);
      assert.deepEqual(event, typeof expected === 'function' ? expected(seq, event) : expected);
      made.push(json.events[0]);
    }
    assert.deepEqual(await server.events(sid), made);
    const { state } = await server.view(sid);
    assert.equal(state.status, 'closed');
    assert.deepEqual(state.labels, { b: '2' });
    assert.deepEqual(Object.keys(state.agents), ['ann', 'cat']);
    assert.deepEqual(state.agents.ann,
      { description: 'plans', status: 'working', note: 'on it', priority: -2, labels: { x: 'y' },
        lease_s: null, wake: null });
    assert.deepEqual(state.agents.cat,
      { description: null, status: 'idle', note: null, priority: 0, labels: {}, lease_s: null,
        wake: null });
    const { thread, participants, ...t7 } = state.threads.t7;
    assert.deepEqual(t7, { name: 'Plan', creator: 'ann', status: 'closed', summary: 'agreed',
      older: 2, messages: [] });
    assert.deepEqual(Object.keys(participants), ['ann']);
  });

  it('never move time back', async () => {
    const sid = await server.session();
    await server.lines(sid, Array.from({ length: 50 }, (_, n) => send({ content: `${n}` })));
    const times = (await server.events(sid)).map((e) => e.ts);
    assert.deepEqual(times, [...times].sort());
    assert.equal((await server.view(sid)).ts, times.at(-1));
  });

  it('leave alone what they do not name', async () => {
    const { sid } = await scene(server);
    await server.command(sid,
      { type: 'agent.register', agent: 'ann', description: 'd', labels: { a: '1', b: '2' } });
    await server.command(sid, { type: 'agent.update', agent: 'ann', status: 'question', note: 'n',
      priority: 3 });
    await server.command(sid, { type: 'agent.update', agent: 'ann', labels: { b: null, c: '3' } });
    await server.command(sid, { type: 'agent.register', agent: 'ann', labels: { d: '4' } });
    assert.deepEqual((await server.view(sid)).state.agents.ann,
      { description: 'd', status: 'question', note: 'n', priority: 3,
        labels: { a: '1', c: '3', d: '4' }, lease_s: null, wake: null });
    await server.command(sid,
      { type: 'agent.update', agent: 'ann', note: null, description: null });
    const { note, description, status } = (await server.view(sid)).state.agents.ann;
    assert.deepEqual({ note, description, status },
      { note: null, description: null, status: 'question' });
  });

  it('that change nothing are a 200 without events', async () => {
    const { sid } = await scene(server);
    await server.command(sid, [
      { type: 'session.update', labels: { a: '1' } },
      { type: 'agent.update', agent: 'ann', status: 'working', note: 'n', priority: 1,
        labels: { x: 'y' } },
      { type: 'thread.read', thread: 'general', agent: 'bob', upto: 6 },
    ]);
    const before = await server.view(sid);
    const nothing = [
      { type: 'session.update', labels: { a: '1', never: null } },
      { type: 'agent.register', agent: 'ann' },
      { type: 'agent.register', agent: 'ann', labels: { x: 'y', never: null }, description: null },
      { type: 'agent.update', agent: 'ann' },
      { type: 'agent.update', agent: 'ann', status: 'working', note: 'n', priority: 1,
        labels: { x: 'y' } },
      { type: 'thread.add', thread: 'general', agent: 'bob', by: 'ann' },
      { type: 'thread.remove', thread: 'general', agent: 'cat', by: 'ann' },
      { type: 'thread.close', thread: 'done', by: 'ann', summary: 'over' },
      { type: 'thread.read', thread: 'general', agent: 'bob', upto: 6 },
      { type: 'thread.read', thread: 'general', agent: 'bob', upto: 2 },
      { type: 'inbox.ack', agent: 'bob', cursor: (await server.inbox(sid, 'bob')).cursor },
    ];
    for (const command of nothing) {
      const { json } = expect(await server.command(sid, command), 200);
      assert.deepEqual(json, { seq: before.seq, events: [] }, JSON.stringify(command));
    }
    assert.deepEqual(await server.view(sid), before);
    await server.command(sid, { type: 'session.close', summary: 's' });
    assert.deepEqual((await server.command(sid, { type: 'session.close', summary: 's' })).json,
      { seq: before.seq + 1, events: [] });
  });

  it('are refused by the state, and leave no trace', async () => {
    const { sid } = await scene(server);
    const before = await server.view(sid);
    const rows = [
      // 409: the state does not allow it
      [{ type: 'session.create', labels: { other: 'body' } }, 409, 'refused'],
      [{ type: 'thread.create', thread: 'general', creator: 'ann', name: 'again',
        participants: [] }, 409, 'refused'],
      [{ type: 'thread.create', thread: 'done', creator: 'ann', name: 'again', participants: [] },
        409, 'refused'],
      [{ type: 'thread.add', thread: 'general', agent: 'cat', by: 'cat' }, 409, 'refused'],
      [{ type: 'thread.add', thread: 'done', agent: 'cat', by: 'ann' }, 409, 'refused'],
      [{ type: 'thread.remove', thread: 'general', agent: 'ann', by: 'cat' }, 409, 'refused'],
      [{ type: 'thread.remove', thread: 'done', agent: 'bob', by: 'ann' }, 409, 'refused'],
      [{ type: 'thread.close', thread: 'general', by: 'cat' }, 409, 'refused'],
      [{ type: 'thread.close', thread: 'done', by: 'ann', summary: 'other words' }, 409, 'refused'],
      [send({ sender: 'cat' }), 409, 'refused'],
      [send({ mentions: ['bob', 'cat'] }), 409, 'refused'],
      [send({ thread: 'done' }), 409, 'refused'],
      [{ type: 'thread.read', thread: 'general', agent: 'cat', upto: 1 }, 409, 'refused'],
      // 404: there is no such thing
      [{ type: 'agent.update', agent: 'zoe', status: 'idle' }, 404, 'unknown-agent', 'agent'],
      [{ type: 'agent.leave', agent: 'zoe' }, 404, 'unknown-agent', 'agent'],
      [{ type: 'thread.create', creator: 'zoe', name: 'n', participants: [] }, 404, 'unknown-agent',
        'creator'],
      [{ type: 'thread.create', creator: 'ann', name: 'n', participants: ['bob', 'zoe'] }, 404,
        'unknown-agent', 'participants'],
      [{ type: 'thread.add', thread: 'general', agent: 'zoe', by: 'ann' }, 404, 'unknown-agent',
        'agent'],
      [{ type: 'thread.add', thread: 'general', agent: 'cat', by: 'zoe' }, 404, 'unknown-agent',
        'by'],
      [{ type: 'thread.add', thread: 'none', agent: 'cat', by: 'ann' }, 404, 'unknown-thread',
        'thread'],
      [{ type: 'thread.remove', thread: 'general', agent: 'zoe', by: 'ann' }, 404, 'unknown-agent',
        'agent'],
      [{ type: 'thread.remove', thread: 'none', agent: 'bob', by: 'ann' }, 404, 'unknown-thread',
        'thread'],
      [{ type: 'thread.close', thread: 'none', by: 'ann' }, 404, 'unknown-thread', 'thread'],
      [{ type: 'thread.close', thread: 'general', by: 'zoe' }, 404, 'unknown-agent', 'by'],
      [send({ thread: 'none' }), 404, 'unknown-thread', 'thread'],
      [send({ sender: 'zoe' }), 404, 'unknown-agent', 'sender'],
      [send({ mentions: ['bob', 'zoe'] }), 404, 'unknown-agent', 'mentions'],
      [send({ reply_to: 'm999999' }), 404, 'unknown-message', 'reply_to'],
      [{ type: 'thread.read', thread: 'none', agent: 'ann', upto: 1 }, 404, 'unknown-thread',
        'thread'],
      [{ type: 'thread.read', thread: 'general', agent: 'zoe', upto: 1 }, 404, 'unknown-agent',
        'agent'],
      [{ type: 'inbox.ack', agent: 'zoe', cursor: (await server.inbox(sid, 'ann')).cursor }, 404,
        'unknown-agent', 'agent'],
      // 400: not well formed
      [{ type: 'agent.regist', agent: 'ann' }, 400, 'malformed', 'type'],
      [{ agent: 'ann' }, 400, 'malformed', 'type'],
      [{ type: 'agent.register', agent: 'ann', nope: 1 }, 400, 'malformed', 'nope'],
      [{ type: 'session.create', session: 'another' }, 400, 'malformed', 'session'],
      [{ type: 'session.update', session: sid, labels: {} }, 400, 'malformed', 'session'],
      [{ type: 'thread.create', thread: 't12', creator: 'ann', name: 'n', participants: [] }, 400,
        'malformed', 'thread'],
      [send({ reply_to: 'x1' }), 400, 'malformed', 'reply_to'],
      [{ type: 'inbox.ack', agent: 'ann', cursor: 'not one of ours' }, 400, 'malformed', 'cursor'],
    ];
    for (const [command, status, type, field] of rows) {
      const problem = refused(await server.command(sid, command), status, type, field);
      assert.ok(problem.detail.length > 0, JSON.stringify(command));
    }
    assert.deepEqual(await server.view(sid), before);
    assert.equal((await server.events(sid)).length, before.seq);
  });

  it('to an unknown session are a 404', async () => {
    refused(await server.command('nowhere', send()), 404, 'unknown-session', 'session');
  });

  it('are refused field by field, as the document says', async () => {
    const { sid } = await scene(server);
    const before = await server.view(sid);
    const wrong = [null, true, 7.5, -1, '7', '', 'a b', '-x', 'x'.repeat(65), {}, { a: 7 }, [], [7],
      ['a b']];
    const tries = [];
    for (const { $ref } of spec.components.schemas.Command.oneOf) {
      const schema = $ref.split('/').at(-1);
      const at = `/components/schemas/${schema}`;
      const { required, properties, examples } = spec.components.schemas[schema];
      const good = { ...examples[0], ...(properties.session && { session: sid }) };
      const accepts = (command) => {
        try { conforms(at, command, ''); return true; } catch { return false; }
      };
      assert.ok(accepts(good));
      tries.push([{ ...good, nope: 1 }, 'nope']);
      for (const name of required.filter((n) => n !== 'type')) {
        const { [name]: _, ...rest } = good;
        tries.push([rest, name]);
      }
      for (const name of [...Object.keys(properties),
        ...Object.keys(spec.components.schemas.CommandOptions.properties)])
        for (const value of wrong)
          if (!accepts({ ...good, [name]: value })) tries.push([{ ...good, [name]: value }, name]);
    }
    assert.ok(tries.length > 400, `${tries.length} tries`);
    const { json } = expect(await server.lines(sid, tries.map(([command]) => command)), 200);
    json.results.forEach((result, i) => {
      const [command, field] = tries[i];
      assert.equal(result.status, 400, `${JSON.stringify(command)}: ${JSON.stringify(result)}`);
      assert.equal(result.error.field, field,
        `${JSON.stringify(command)}: ${JSON.stringify(result)}`);
    });
    assert.equal(canonical(await server.view(sid)), canonical(before));
  });

  it('find ids with awkward names', async () => {
    const agents = ['constructor', 'toString', '0', '10', '9a', 'Z-_', 'x'.repeat(64)];
    const sid = await server.session(agents, { thread: 'hasOwnProperty' });
    const stream = server.stream(sid);
    for (const agent of agents) await server.say(sid, agent, 'here',
      { thread: 'hasOwnProperty', mentions: agents });
    await server.patch(`/v1/sessions/${sid}`,
      { labels: { 'a/b~c': '1', d: '2', 'ä "\\': 'ü\u0001\u2028😀' } });
    await server.patch(`/v1/sessions/${sid}`, { labels: { 'a/b~c': '3', d: null } });
    const { state } = await stream.equalsView();
    assert.deepEqual(Object.keys(state.agents).sort(), [...agents].sort());
    assert.deepEqual(state.labels, { 'a/b~c': '3', 'ä "\\': 'ü\u0001\u2028😀' });
  });

  it('stop when an agent has left, and its words stay', async () => {
    const sid = await server.session();
    await server.say(sid, 'bob', 'bye', { mentions: ['ann'] });
    expect(await server.command(sid, { type: 'agent.leave', agent: 'bob' }), 200);
    refused(await server.command(sid, send({ sender: 'bob' })), 404, 'unknown-agent', 'sender');
    refused(await server.command(sid, { type: 'agent.leave', agent: 'bob' }), 404, 'unknown-agent',
      'agent');
    assert.equal((await server.inbox(sid, 'ann')).messages[0].sender, 'bob');
    assert.deepEqual(Object.keys((await server.view(sid)).state.threads.general.participants),
      ['ann']);
    expect(await server.command(sid, { type: 'agent.register', agent: 'bob' }), 200);
    refused(await server.command(sid, send({ sender: 'bob' })), 409, 'refused');
  });

  it('stop when the session is closed, but for reading, acknowledging and DELETE', async () => {
    const sid = await server.session();
    const { seq } = await server.say(sid, 'ann', 'last');
    const { cursor } = await server.inbox(sid, 'bob');
    expect(await server.post(`/v1/sessions/${sid}/close`, { summary: 'done' }), 200);
    const stopped = [
      { type: 'session.update', labels: { a: '1' } },
      { type: 'session.close', summary: 'other' },
      { type: 'agent.register', agent: 'cat' },
      { type: 'agent.update', agent: 'ann', status: 'working' },
      { type: 'agent.leave', agent: 'ann' },
      { type: 'thread.create', creator: 'ann', name: 'n', participants: [] },
      { type: 'thread.close', thread: 'general', by: 'ann' },
      send(),
    ];
    for (const command of stopped) refused(await server.command(sid, command), 409, 'refused');
    expect(await server.command(sid,
      { type: 'thread.read', thread: 'general', agent: 'ann', upto: seq }), 200);
    const ack = expect(await server.command(sid, { type: 'inbox.ack', agent: 'bob', cursor }), 200)
      .json;
    assert.equal(ack.events[0].type, 'inbox.acked');
    const view = await server.view(sid);
    assert.equal(view.state.summary, 'done');
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
  });
});
