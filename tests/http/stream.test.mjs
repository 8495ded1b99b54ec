/*
 * Watching: snapshot and patches fold to the view at every seq, whatever happens to the connection.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import jsonPatch from 'fast-json-patch';
import { canonical, expect, newId, openEvents, refused, serve, serving,
  until } from './harness.mjs';

const say = (content, fields) =>
  ({ type: 'message.send', thread: 'general', sender: 'ann', content, ...fields });

/** Commands of every kind, some of which change nothing, with a window that overflows. */
function* everything(sid) {
  yield { type: 'session.update', labels: { 'a/b': '1', '~': '2' } };
  for (const agent of ['ann', 'bob', 'cat']) yield { type: 'agent.register', agent,
    labels: { role: agent } };
  yield { type: 'agent.update', agent: 'ann', status: 'working', note: 'n', priority: 5,
    labels: { role: null, x: 'y' } };
  yield { type: 'agent.register', agent: 'ann', description: 'again' };
  yield { type: 'thread.create', thread: 'general', creator: 'ann', name: 'g',
    participants: ['bob'] };
  yield { type: 'thread.create', thread: 'other', creator: 'cat', name: 'o',
    participants: ['ann'] };
  for (let n = 0; n < 8;
    n++) yield say(`m${n}`, { mentions: n % 3 ? ['bob'] : [], data: n % 2 ? { n } : null });
  yield { type: 'thread.add', thread: 'general', agent: 'cat', by: 'ann', history: true };
  yield async (server) =>
    ({ type: 'inbox.ack', agent: 'bob',
    cursor: (await server.inbox(sid, 'bob', '?mentions=true&limit=2')).cursor });
  for (let n = 0; n < 7;
    n++) yield say(`o${n}`, { thread: 'other', sender: n % 2 ? 'cat' : 'ann', reply_to: null });
  yield { type: 'thread.read', thread: 'general', agent: 'cat', upto: 12 };
  yield async (server) =>
    ({ type: 'inbox.ack', agent: 'ann', cursor: (await server.inbox(sid, 'ann')).cursor });
  yield { type: 'thread.remove', thread: 'general', agent: 'cat', by: 'bob' };
  yield { type: 'thread.close', thread: 'other', by: 'cat', summary: 's' };
  yield { type: 'session.update', labels: { 'a/b': null, '~': '3' } };
  yield { type: 'agent.leave', agent: 'cat' };
  yield { type: 'agent.update', agent: 'ann', note: null };
  yield { type: 'session.close', summary: 'done' };
}

describe('the stream', () => {
  const server = serving({ args: ['--window-messages', '5', '--heartbeat', '200ms'] });

  it('gives a snapshot first', async () => {
    const sid = await server.session();
    const view = await server.view(sid);
    const stream = server.stream(sid);
    await stream.until(() => stream.log.length > 0);
    assert.equal(stream.log[0].event, 'snapshot');
    assert.deepEqual(stream.log[0].data, view);
  });

  it('folds to the view at every seq, for watchers who came at any time', async () => {
    const sid = newId();
    expect(await server.put(`/v1/sessions/${sid}`), 201);
    const streams = [];
    const views = new Map();
    let n = 0;
    for (let command of everything(sid)) {
      if (n++ % 5 === 0) {
        streams.push(server.stream(sid, { track: true }));
        await streams.at(-1).until((s) => s.seq !== undefined, 'the snapshot');
      }
      if (typeof command === 'function') command = await command(server);
      expect(await server.command(sid, command), 200);
      const view = await server.view(sid);
      views.set(view.seq, canonical(view.state));
    }
    for (const stream of streams) {
      await stream.equalsView();
      assert.ok(stream.at.size > 0);
      for (const [seq, state] of stream.at) if (views.has(seq)) assert.equal(state, views.get(seq),
        `the state at ${seq}`);
      stream.close();
    }
    const patches = streams[0].log.filter((e) => e.event === 'patch').map((e) => e.data);
    const events = await server.events(sid);
    for (const patch of patches.filter((p) => p.type !== 'merged')) {
      const event = events[patch.seq - 1];
      assert.deepEqual([patch.type, patch.actor, patch.ts], [event.type, event.actor, event.ts]);
    }
  });

  it('goes on after Last-Event-ID with patches alone', async () => {
    const sid = await server.session();
    const first = server.stream(sid);
    await server.say(sid, 'ann', 'one');
    await first.equalsView();
    first.close();
    for (let n = 0; n < 20; n++) await server.say(sid, 'ann', `meanwhile ${n}`);
    const { id, state, seq, epoch } = first;
    for (const options of [{ lastEventId: id },
      { query: `?last_event_id=${encodeURIComponent(id)}` },
      { lastEventId: id, query: '?last_event_id=junk&after=1' }]) {
      const second = server.stream(sid, { ...options, state, seq, epoch });
      await second.equalsView();
      await server.say(sid, 'bob', 'live');
      await second.equalsView();
      assert.ok(second.log.every((e) => e.event === 'patch'), 'no snapshot');
      second.close();
    }
  });

  it('is taken up again where the connection broke', async () => {
    const sid = await server.session();
    const path = `/v1/sessions/${sid}/stream`;
    const first = await openEvents(server, path);
    const { id } = await first.find((b) => b.event);
    first.response.socket.resetAndDestroy();
    await server.say(sid, 'ann', 'meanwhile');
    const second = await openEvents(server, path, { 'last-event-id': id });
    const patch = await second.find((b) => b.event);
    assert.equal(patch.event, 'patch');
    assert.equal(patch.json.type, 'message.sent');
    second.close();
  });

  it('goes on after a seq', async () => {
    const sid = await server.session();
    const { seq, epoch, state } = await server.view(sid);
    await server.say(sid, 'ann', 'one');
    await server.say(sid, 'ann', 'two');
    const stream = server.stream(sid, { query: `?after=${seq}`, seq, epoch, state });
    await stream.equalsView();
    assert.deepEqual(stream.log.map((e) => e.event), stream.log.map(() => 'patch'));
    const current = (await server.view(sid)).seq;
    const live = await openEvents(server, `/v1/sessions/${sid}/stream?after=${current}`);
    await server.say(sid, 'ann', 'three');
    assert.equal((await live.find((b) => b.event)).json.seq, current + 1);
    live.close();
  });

  it('says why where it cannot go on', async () => {
    const sid = await server.session();
    const first = server.stream(sid);
    await first.equalsView();
    first.close();
    const { id, epoch, state, seq } = first;
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    await server.session(['ann', 'bob', 'cat'], { sid });
    const fresh = await server.view(sid);
    for (const options of [{ lastEventId: id }, { lastEventId: 'never one of ours' },
      { query: '?after=999999' }]) {
      const stream = server.stream(sid, { ...options, state, seq, epoch });
      await stream.equalsView();
      const { event, data } = stream.log[0];
      assert.equal(event, 'snapshot');
      assert.ok(data.reset, JSON.stringify(options));
      assert.equal(data.epoch, fresh.epoch);
      assert.notEqual(data.epoch, epoch);
      stream.close();
    }
  });

  it('ends when the session is deleted, and only then', async () => {
    const sid = await server.session();
    const streams = [server.stream(sid), server.stream(sid)];
    for (const s of streams) await s.equalsView();
    expect(await server.post(`/v1/sessions/${sid}/close`), 200);
    for (const s of streams) await s.equalsView();
    assert.ok(streams.every((s) => !s.ended));
    const { epoch, seq } = await server.view(sid);
    const wire = await openEvents(server, `/v1/sessions/${sid}/stream`);
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    for (const s of streams) {
      await s.until(() => s.ended);
      assert.deepEqual(s.log.at(-1).data, { epoch, seq, reason: 'deleted' });
      s.close();
    }
    assert.equal((await wire.find((b) => b.event === 'end')).event, 'end');
    assert.equal(await wire.find(() => false), undefined, 'the server closes behind the end');
  });

  it('has a comment as heartbeat', async () => {
    const sid = await server.session();
    const wire = await openEvents(server, `/v1/sessions/${sid}/stream`);
    for (let n = 0; n < 3; n++) assert.ok(await wire.find((b) => b.comment !== undefined));
    assert.equal(wire.headers['content-type'].split(';')[0], 'text/event-stream');
    wire.close();
  });

  it('gives many watchers the same, while many write', async () => {
    const sid = await server.session(['ann', 'bob', 'cat']);
    const streams = Array.from({ length: 12 }, () => server.stream(sid));
    for (const s of streams) await s.until(() => s.seq !== undefined, 'the snapshot');
    const senders = ['ann', 'bob', 'cat'];
    await Promise.all(senders.map(async (sender) => {
      for (let n = 0; n < 40; n++) await server.say(sid, sender, `${n}`, { mentions: senders });
    }));
    for (const s of streams) {
      await s.equalsView();
      s.close();
    }
  });

  it('keeps up with batches', async () => {
    const sid = await server.session();
    const stream = server.stream(sid);
    await stream.until(() => stream.seq !== undefined, 'the snapshot');
    for (let n = 0; n < 5; n++)
      expect(await server.lines(sid, Array.from({ length: 2000 }, (_, i) => say(`${n}.${i}`)),
        { query: n % 2 ? '?atomic=true' : '' }), 200);
    await stream.equalsView();
  });

  it('never lets a watcher who does not read slow the writers, and still folds', async () => {
    const sid = await server.session();
    const wire = await openEvents(server, `/v1/sessions/${sid}/stream`);
    const first = await wire.find((b) => b.event);
    wire.response.pause();
    const content = 'x'.repeat(250_000);
    // 40 MB, more than any socket holds.
    for (let n = 0; n < 160; n++) await server.say(sid, 'ann', `${n} ${content}`);
    const view = await server.view(sid);
    let { seq, state } = first.json;
    while (seq < view.seq) {
      const block = await wire.find((b) => b.event);
      assert.ok(block, 'the stream is still open');
      if (block.event === 'snapshot') {
        assert.ok(block.json.reset);
        ({ state, seq } = block.json);
      } else {
        assert.equal(block.json.from ?? block.json.seq, seq + 1);
        jsonPatch.applyPatch(state, block.json.ops, true);
        seq = block.json.seq;
      }
    }
    assert.equal(canonical(state), canonical(view.state));
    wire.close();
  });

  it('frees a watcher who has gone', async () => {
    const sid = await server.session();
    const before = await server.total('watching');
    const wires = [];
    for (let n = 0; n < 5; n++) wires.push(await openEvents(server, `/v1/sessions/${sid}/stream`));
    await until(async () => (await server.total('watching')) === before + 5, 'five watchers');
    for (const wire of wires) wire.close();
    await until(async () => (await server.total('watching')) === before, 'none of them left');
  });

  it('refuses what it does not know', async () => {
    const sid = await server.session();
    refused(await openEvents(server, `/v1/sessions/${sid}/stream?after=x`), 400, 'malformed',
      'after');
    refused(await openEvents(server, `/v1/sessions/${sid}/stream?nope=1`), 400, 'malformed',
      'nope');
    refused(await openEvents(server, '/v1/sessions/nowhere/stream'), 404, 'unknown-session',
      'session');
  });
});

it('a stream goes on over a restart', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const before = server.stream(sid);
  await server.say(sid, 'ann', 'one');
  await before.equalsView();
  await server.restart();
  await server.say(sid, 'ann', 'two');
  const { id, state, seq, epoch } = before;
  const after = server.stream(sid, { lastEventId: id, state, seq, epoch });
  await after.equalsView();
  assert.deepEqual(after.log.map((e) => e.event), ['patch']);
});
