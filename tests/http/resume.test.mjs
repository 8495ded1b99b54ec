/*
 * Coming back to a stream: with patches alone from where one was, out of memory or out of the log,
 * or, where that cannot be, anew with the reason.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Reader, expect, openEvents, serve, serving, until } from './harness.mjs';
import { say } from './scenes.mjs';

const NONE = { snapshot: 0, patch: 0, merged: 0, reset: 0 };
const encoded = (id) => encodeURIComponent(id);
/** What a fold of one stream knows, for another one to go on from. */
const after = ({ id, state, seq, epoch }) => ({ lastEventId: id, state, seq, epoch });

/** A session, and a watcher of it who has gone. */
async function leftFrom(server) {
  const sid = await server.session();
  const stream = server.stream(sid);
  await server.say(sid, 'ann', 'one');
  await stream.equalsView();
  stream.close();
  return { sid, stream };
}

describe('a watcher who comes back', () => {
  const server = serving();

  const left = () => leftFrom(server);

  it('goes on with patches alone', async () => {
    const { sid, stream } = await left();
    for (let n = 0; n < 20; n++) await server.say(sid, 'ann', `meanwhile ${n}`);
    const { lastEventId, ...where } = after(stream);
    for (const options of [{ lastEventId }, { query: `?last_event_id=${encoded(lastEventId)}` }]) {
      const second = server.stream(sid, { ...options, ...where });
      await second.equalsView();
      await server.say(sid, 'bob', 'live');
      await second.equalsView();
      assert.ok(second.log.length > 0 && second.log.every((e) => e.event === 'patch'));
      second.close();
    }
  });

  it('is believed by header first, then by last_event_id, then by after', async () => {
    const { sid, stream } = await left();
    for (let n = 0; n < 3; n++) await server.say(sid, 'ann', `meanwhile ${n}`);
    const old = after(stream);
    const current = await Reader.open(server, sid);
    await current.equalsView();
    current.close();
    const fresh = after(current);
    await server.say(sid, 'ann', 'last');
    const [a, b] = [old.lastEventId, fresh.lastEventId];
    for (const [header, query, where] of [
      [a, `?last_event_id=${encoded(b)}&after=${fresh.seq}`, old],
      [b, `?last_event_id=${encoded(a)}&after=${old.seq}`, fresh],
      [a, '?last_event_id=junk&after=1', old],
      [undefined, `?last_event_id=${encoded(a)}&after=${fresh.seq}`, old],
      [undefined, `?last_event_id=${encoded(b)}&after=${old.seq}`, fresh],
      [undefined, `?after=${old.seq}`, old], [undefined, `?after=${fresh.seq}`, fresh]]) {
      const reader = await Reader.open(server, sid, { ...where, lastEventId: header, query });
      await reader.equalsView();
      assert.deepEqual(reader.counts, { ...NONE, patch: reader.seq - where.seq });
      reader.close();
    }
    for (const [header, query] of [['junk', `?last_event_id=${encoded(a)}`],
      [undefined, `?last_event_id=junk&after=${old.seq}`]]) {
      const reader = await Reader.open(server, sid, { ...old, lastEventId: header, query });
      await reader.read();
      await reader.equalsView();
      assert.deepEqual(reader.counts, { ...NONE, reset: 1 });
      reader.close();
    }
  });

  it('goes on from the log however much has happened', async () => {
    const { sid, stream } = await left();
    for (let n = 0; n < 5; n++)
      expect(await server.lines(sid, Array.from({ length: 2000 }, (_, i) => say(`${n}.${i}`))),
        200);
    const second = await Reader.open(server, sid, after(stream));
    await second.equalsView();
    assert.equal(second.counts.reset, 0);
    second.close();
  });

  it('is told why it cannot go on', async () => {
    const { sid, stream } = await left();
    const where = after(stream);
    const { epoch, seq, lastEventId: id } = where;
    const view = id.slice(`${epoch}-${seq}-`.length);
    assert.equal(id, `${epoch}-${seq}-${view}`);
    const reasons = new Set();
    for (const lastEventId of ['never one of ours', '0', '-', '--', `${epoch}-${seq}`,
      `${epoch}--${view}`, `${epoch}-${'9'.repeat(40)}-${view}`, `${epoch}-1x-${view}`, `${id}x`,
      `\t${id}\t-`, 'x'.repeat(5000), `${epoch}-${seq}-${view}0`, `other-${seq}-${view}`,
      `${epoch}-${seq + 1}-${view}`, `${epoch}-9007199254740991-${view}`,
      `${epoch}-${seq}-1`, `${epoch}-${seq}-${view}c`]) {
      for (const options of [{ lastEventId },
        { query: `?last_event_id=${encoded(lastEventId)}` }]) {
        const reader = await Reader.open(server, sid,
          { ...where, lastEventId: undefined, ...options });
        await reader.read();
        await reader.equalsView();
        assert.deepEqual(reader.counts, { ...NONE, reset: 1 }, lastEventId.slice(0, 80));
        reasons.add(reader.log[0].data.reset);
        reader.close();
      }
    }
    const ahead = await Reader.open(server, sid,
      { ...where, lastEventId: undefined, query: '?after=999999' });
    await ahead.read();
    await ahead.equalsView();
    assert.deepEqual(ahead.counts, { ...NONE, reset: 1 });
    ahead.close();
    assert.ok(reasons.size >= 4, `reasons that differ: ${[...reasons].join('; ')}`);
  });

  it('is told of another life of the session', async () => {
    const { sid, stream } = await left();
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    await server.session(['ann', 'bob', 'cat', 'dan', 'eve'], { sid });
    const reader = await Reader.open(server, sid, after(stream));
    const view = await reader.equalsView();
    assert.deepEqual(reader.counts, { ...NONE, reset: 1 });
    assert.notEqual(view.epoch, stream.epoch);
    reader.close();
  });

  it('may come back at any seq', async () => {
    const { sid } = await left();
    await server.live(sid, 3);
    const { seq: last } = await server.view(sid);
    for (let seq = 1; seq <= last; seq++) {
      const { epoch, state } = await server.view(sid, `?at=${seq}`);
      const reader = await Reader.open(server, sid, { query: `?after=${seq}`, seq, epoch, state });
      await reader.equalsView();
      assert.deepEqual(reader.counts, { ...NONE, patch: last - seq });
      reader.close();
    }
  });

  it('is asked for nothing where nothing has happened', async () => {
    const { sid, stream } = await left();
    const reader = await Reader.open(server, sid, after(stream));
    const { seq } = await server.say(sid, 'ann', 'first');
    assert.ok(await reader.read());
    assert.deepEqual([reader.seq, reader.counts], [seq, { ...NONE, patch: 1 }]);
    reader.close();
  });

  it('comes back where its connection was reset', async () => {
    const { sid } = await left();
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
});

it('who comes back goes on from memory where another watches, and from the log where none does',
  async (t) => {
  const server = await serve(t, { args: ['--shards', '1'] }); // one reactor: they are neighbours
  const { sid, stream } = await leftFrom(server);
  const read = () => server.total('history_records');
  const other = await Reader.open(server, sid);
  await other.equalsView();
  for (let n = 0; n < 10; n++) await server.say(sid, 'ann', `meanwhile ${n}`);
  await other.equalsView();
  // What the other one saw need not be read again; what was before it is in the log.
  const before = await read();
  const second = await Reader.open(server, sid, after(other));
  for (let n = 0; n < 3; n++) await server.say(sid, 'ann', `more ${n}`);
  await second.equalsView();
  await other.equalsView();
  second.close();
  for (let n = 0; n < 10; n++) await server.say(sid, 'ann', `again ${n}`);
  await other.equalsView();
  const third = await Reader.open(server, sid, after(second));
  await third.equalsView();
  assert.deepEqual(third.counts, { ...NONE, patch: 10 });
  assert.equal(await read(), before, 'nothing was read from the log');
  for (const s of [other, third]) s.close();
  await until(async () => (await server.total('watching')) === 0, 'nobody watches');
  const alone = await Reader.open(server, sid, after(stream));
  await alone.equalsView();
  assert.deepEqual(alone.counts, { ...NONE, patch: 23 });
  assert.ok((await read()) > before, 'the log was read');
  alone.close();
});

for (const query of ['', '?view=compact', '?path=/threads/general&path=/labels'])
  it(`a stream goes on over a restart: ${query || 'all'}`, async (t) => {
    const server = await serve(t);
    const sid = await server.session();
    const before = server.stream(sid, { query });
    await server.say(sid, 'ann', 'one');
    await before.equalsView();
    await server.restart();
    await server.say(sid, 'ann', 'two');
    const stream = server.stream(sid, { query, ...after(before) });
    await stream.equalsView();
    await server.say(sid, 'ann', 'three');
    await stream.equalsView();
    assert.deepEqual(stream.counts, { ...NONE, patch: 2 });
  });

it('a thousand watchers come back at once after a restart, and miss nothing', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const first = await Reader.open(server, sid);
  const left = []; // places that watchers were at
  for (let n = 0; n < 20; n++) {
    await server.say(sid, 'ann', `${n} ${'x'.repeat(200)}`);
    await first.equalsView();
    left.push({ ...after(first), state: structuredClone(first.state) });
  }
  await server.restart();
  const readers = await Promise.all(Array.from({ length: 1000 }, (_, n) =>
    Reader.open(server, sid, left[n % left.length])));
  const { seq } = await server.say(sid, 'bob', 'all are back');
  await Promise.all(readers.map(async (reader, n) => {
    await reader.until(() => reader.seq >= seq);
    assert.deepEqual(reader.counts, { ...NONE, patch: seq - left[n % left.length].seq });
  }));
  const view = await server.view(sid);
  readers.forEach((reader) => reader.isAt(view));
  readers.forEach((reader) => reader.close());
});
