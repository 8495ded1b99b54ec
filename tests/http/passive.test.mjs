/*
 * Sessions that leave memory when nobody uses them: nothing of them is lost, and whatever one asks
 * of them brings them back.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, refused, serve, serving, until } from './harness.mjs';

const ARGS = ['--idle-passivate', '20ms', '--shards', '2'];

describe('a passive session', () => {
  const server = serving({ args: ARGS });
  const passive = () => until(async () => await server.total('active') === 0,
    'all sessions to leave memory');

  /** A session with a past that has left memory, and what is known of it. */
  async function asleep() {
    const sid = await server.live(await server.session(), 3);
    const known = { view: await server.view(sid), events: await server.events(sid),
      proof: await server.proof(sid) };
    await passive();
    return { sid, known };
  }

  it('is what it was, at every seq', async () => {
    const { sid, known } = await asleep();
    assert.deepEqual(await server.view(sid), known.view);
    await passive();
    assert.deepEqual(await server.events(sid), known.events);
    await passive();
    assert.deepEqual(await server.proof(sid), known.proof);
    for (const at of [1, 9, known.view.seq - 1]) {
      await passive();
      assert.equal((await server.view(sid, `?at=${at}`)).seq, at);
    }
    await passive();
    assert.equal((await server.diff(sid, '?from=2')).to, known.view.seq);
  });

  it('takes commands, and answers a key as it did', async () => {
    const { sid, known } = await asleep();
    const command = { type: 'message.send', thread: 'general', sender: 'ann', content: 'x',
      key: 'once' };
    const first = expect(await server.command(sid, command), 200).json;
    assert.equal(first.seq, known.view.seq + 1);
    await passive();
    const again = expect(await server.command(sid, command), 200);
    assert.equal(again.headers['idempotent-replayed'], 'true');
    assert.deepEqual(again.json, first);
    await passive();
    const etag = `"${known.view.epoch}-${first.seq}"`;
    expect(await server.post(`/v1/sessions/${sid}/close`, {}, { headers: { 'if-match': etag } }),
      200);
    await passive();
    refused(await server.command(sid, { ...command, key: 'two' }), 409, 'refused');
  });

  it('takes a crowd of requests at once', async () => {
    const { sid, known } = await asleep();
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => (n % 2
      ? server.get(`/v1/sessions/${sid}`)
      : server.post(`/v1/sessions/${sid}/threads/general/messages`,
        { sender: 'ann', content: `${n}` }))));
    assert.deepEqual(answers.map((a) => a.status), answers.map((_, n) => (n % 2 ? 200 : 201)));
    assert.equal((await server.view(sid)).seq, known.view.seq + 20);
  });

  it('goes on being watched and waited in', async () => {
    const sid = await server.session();
    const stream = server.stream(sid);
    await stream.reach(4);
    const waiting = server.inbox(sid, 'bob', '?wait=50');
    const other = await asleepBut(1);
    await server.say(sid, 'ann', 'for bob');
    assert.equal((await waiting).messages[0].content, 'for bob');
    await stream.equalsView();
    const { id } = stream;
    stream.close();
    await passive();
    const again = server.stream(sid, { lastEventId: id, state: stream.state, seq: stream.seq,
      epoch: stream.epoch });
    await server.say(sid, 'bob', 'on');
    await again.equalsView();
    assert.equal(again.log.filter((e) => e.event === 'snapshot').length, 0);
    again.close();
    assert.equal((await server.view(other)).state.status, 'open');
  });

  /** Waits until only so many sessions are in memory: those that someone holds. */
  async function asleepBut(held) {
    const sid = await server.session();
    await until(async () => await server.total('active') <= held, 'the others to leave memory');
    return sid;
  }

  it('is listed, also by its labels', async () => {
    const group = newId('group');
    const ids = Array.from({ length: 9 }, (_, n) => `${group}-${n}`);
    for (const [n, sid] of ids.entries())
      expect(await server.put(`/v1/sessions/${sid}`, { labels: { group, n: `${n % 3}` } }), 201);
    const list = async (query) =>
      expect(await server.get(`/v1/sessions?label=group:${group}${query}`), 200).json.sessions;
    const known = await list('');
    assert.deepEqual(known.map((s) => s.id), ids);
    await passive();
    assert.deepEqual(await list(''), known);
    await passive();
    assert.deepEqual(await list('&label=n:1'), known.filter((s) => s.labels.n === '1'));
    expect(await server.patch(`/v1/sessions/${ids[0]}`, { labels: { n: '1' } }), 200);
    await passive();
    assert.deepEqual((await list('&label=n:1')).map((s) => s.id), [0, 1, 4, 7].map((n) => ids[n]));
  });

  it('can be forked, exported and deleted', async () => {
    const { sid, known } = await asleep();
    const { session } = await server.fork(sid, { at: 12 });
    await passive();
    assert.equal((await server.view(session)).seq, 13);
    await passive();
    assert.equal((await server.export(sid)).trimEnd().split('\n').length, known.view.seq + 1);
    await passive();
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    refused(await server.get(`/v1/sessions/${sid}`), 404, 'unknown-session');
    await passive();
    assert.deepEqual((await server.events(session)).slice(0, 12), known.events.slice(0, 12));
  });

  it('stays what it was over a restart and a crash', async () => {
    const { sid, known } = await asleep();
    await server.restart();
    assert.deepEqual(await server.view(sid), known.view);
    await passive();
    const { seq } = await server.say(sid, 'ann', 'before the crash');
    await server.kill();
    await server.start();
    assert.equal((await server.view(sid)).seq, seq);
    assert.deepEqual((await server.events(sid)).slice(0, -1), known.events);
  });
});

describe('a start', () => {
  it('leaves all sessions on disk until they are used', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const ids = [];
    for (let n = 0; n < 20; n++) ids.push(await server.session());
    const views = [];
    for (const sid of ids) views.push(await server.view(sid));
    await server.restart();
    assert.equal(await server.total('sessions'), 20);
    assert.equal(await server.total('active'), 0);
    for (const [n, sid] of ids.entries()) assert.deepEqual(await server.view(sid), views[n]);
    assert.equal(await server.total('active'), 20);
    await server.restart(['--shards', '3']);
    assert.equal(await server.total('sessions'), 20);
    for (const [n, sid] of ids.entries()) assert.deepEqual(await server.view(sid), views[n]);
  });
});
