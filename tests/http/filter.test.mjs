/*
 * Less than all: parts of a session by `path`, and messages without what they say by `view`. A
 * narrowed view is what is left of the whole one; a narrowed stream folds to the narrowed view at
 * every seq it tells, and tells just the events that touch it.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Reader, canonical, expect, newId, refused, serving } from './harness.mjs';
import { liveThrough, say } from './scenes.mjs';

const PARTED = ['labels', 'agents', 'threads'];
const PARTS = [[], ['/threads'], ['/agents'], ['/labels'], ['/threads/general'], ['/threads/late'],
  ['/threads/other', '/agents/ann', '/agents/cat'], ['/labels/a~1b'], ['/labels/~0', '/agents/bob'],
  ['/agents/nobody', '/threads/never'], ['/nothing/here'],
  ['/threads', '/threads/general', '/threads']];
const SHOWN = PARTS.flatMap((paths) => ['full', 'compact'].map((view) => ({ paths, view })));

const segments = (pointer) =>
  pointer.split('/').slice(1).map((s) => s.replaceAll('~1', '/').replaceAll('~0', '~'));

function queryOf({ paths, view = 'full' }) {
  const query = new URLSearchParams(paths.map((path) => ['path', path]));
  if (view !== 'full') query.append('view', view);
  return query.size > 0 ? `?${query}` : '';
}

/** What is left of a state. */
function narrowed(state, { paths, view }) {
  const left = structuredClone(state);
  for (const member of paths.length > 0 ? PARTED : [])
    left[member] = Object.fromEntries(Object.entries(left[member]).filter(([id]) =>
      paths.map(segments).some(([m, one]) => m === member && (one === undefined || one === id))));
  if (view === 'compact')
    for (const message of Object.values(left.threads).flatMap((t) => t.messages))
      for (const member of ['content', 'data']) delete message[member];
  return left;
}

/** Whether an operation concerns what is shown. */
function touches(op, { paths }) {
  const at = segments(op.path);
  return paths.length === 0 || !PARTED.includes(at[0]) || paths.map(segments).some((part) =>
    part.every((segment, n) => at[n] === undefined || at[n] === segment));
}

describe('a narrowed view', () => {
  const server = serving({ args: ['--window-messages', '5'] });

  it('is what is left of the whole one, now and at every seq', async () => {
    const sid = newId();
    expect(await server.put(`/v1/sessions/${sid}`), 201);
    await liveThrough(server, sid, () => {});
    const { seq: last } = await server.view(sid);
    for (const seq of [1, 8, 15, 24, 30, last]) {
      const whole = await server.view(sid, `?at=${seq}`);
      for (const shown of SHOWN) {
        const query = queryOf(shown);
        const part = await server.view(sid, `${query}${query ? '&' : '?'}at=${seq}`);
        assert.deepEqual({ ...part, state: canonical(part.state) },
          { ...whole, state: canonical(narrowed(whole.state, shown)) }, `${query} at ${seq}`);
        if (seq === last) assert.deepEqual(await server.view(sid, query), part);
      }
    }
  });

  it('has an ETag of its own', async () => {
    const sid = await server.session();
    const at = `/v1/sessions/${sid}`;
    const queries = ['', '?view=compact', '?path=/threads', '?path=/agents',
      '?view=compact&path=/agents'];
    const etags = [];
    for (const query of queries) etags.push(expect(await server.get(at + query), 200).headers.etag);
    assert.equal(new Set(etags).size, etags.length, etags.join());
    for (const [n, query] of queries.entries())
      for (const [m, etag] of etags.entries())
        expect(await server.get(at + query, { headers: { 'if-none-match': etag } }),
          n === m ? 304 : 200);
    const { headers } = expect(await server.get(`${at}?path=/threads&path=/agents`), 200);
    for (const same of ['?path=/agents&path=/threads', '?path=%2Fthreads&path=/agents&path=/agents',
      '?view=full&path=/threads&path=/agents'])
      assert.equal(expect(await server.get(at + same), 200).headers.etag, headers.etag, same);
    await server.say(sid, 'ann', 'x');
    for (const [n, query] of queries.entries())
      expect(await server.get(at + query, { headers: { 'if-none-match': etags[n] } }), 200);
  });

  it('is refused where it cannot be one', async () => {
    const sid = await server.session();
    const many = Array.from({ length: 65 }, (_, n) => `path=/threads/t${n}`);
    for (const route of ['', '/stream']) {
      const at = `/v1/sessions/${sid}${route}`;
      for (const path of ['', 'threads', 'threads/general', '/threads/general/messages',
        '/threads/a/b/c', '/threads/a~', '/threads/a~2'])
        refused(await server.get(`${at}?path=${path}`), 400, 'malformed', 'path');
      refused(await server.get(`${at}?path=/threads&path=/a/b/c`), 400, 'malformed', 'path');
      refused(await server.get(`${at}?${many.join('&')}`), 400, 'malformed', 'path');
      for (const query of ['view=', 'view=summary', 'view=FULL', 'view=full&view=compact'])
        refused(await server.get(`${at}?${query}`), 400, 'malformed', 'view');
    }
    expect(await server.get(`/v1/sessions/${sid}?${many.slice(1).join('&')}`), 200);
    for (const query of ['view=compact', 'path=/threads'])
      refused(await server.get(`/v1/sessions/${sid}/events?${query}`), 400, 'malformed',
        query.split('=')[0]);
  });
});

describe('a narrowed stream', () => {
  const server = serving({ args: ['--window-messages', '5'] });

  it('folds to the narrowed view at every seq, whenever it began', async () => {
    const sid = newId();
    expect(await server.put(`/v1/sessions/${sid}`), 201);
    const whole = server.stream(sid);
    const streams = [];
    await liveThrough(server, sid, async (n) => {
      if (n !== 0 && n !== 20) return;
      const fresh = SHOWN.map((shown) => {
        const stream = server.stream(sid, { query: queryOf(shown), track: true });
        return Object.assign(stream, { shown });
      });
      for (const s of fresh) await s.until(() => s.seq !== undefined, 'the snapshot');
      streams.push(...fresh);
    });
    await whole.equalsView();
    assert.equal(whole.counts.merged, 0);
    for (const stream of streams) {
      await stream.equalsView();
      await stream.wasRight();
      assert.equal(stream.state.status, 'closed');
      const [first, ...told] = stream.log.map((e) => e.data.seq);
      const wanted = whole.log.filter(({ event, data }) => event === 'patch' && data.seq > first
        && (stream.shown.paths.length === 0 || data.ops.some((op) => touches(op, stream.shown))));
      assert.deepEqual(told, wanted.map((e) => e.data.seq), queryOf(stream.shown));
      for (const [n, { data }] of stream.log.slice(1).entries()) {
        const { seq, ts, type, actor } = wanted[n].data;
        assert.deepEqual([data.seq, data.ts, data.type, data.actor], [seq, ts, type, actor]);
        assert.ok(data.ops.every((op) => touches(op, stream.shown)));
        if (stream.shown.view === 'compact')
          assert.doesNotMatch(JSON.stringify(data.ops), /"(content|data)":/);
      }
      stream.close();
    }
  });

  it('goes on from its last id with patches alone, however the parts are named', async () => {
    const sid = await server.session();
    const paths = ['/threads/aside', '/labels/team'];
    const first = server.stream(sid, { query: queryOf({ paths }) });
    await first.equalsView();
    first.close();
    for (let n = 0; n < 10; n++) await server.say(sid, 'ann', `elsewhere ${n}`);
    let { id, state, seq, epoch } = first;
    for (const query of [queryOf({ paths }), queryOf({ paths: [...paths].reverse() }),
      queryOf({ paths: [...paths, ...paths] })]) {
      expect(await server.patch(`/v1/sessions/${sid}`, { labels: { team: newId() } }), 200);
      const stream = server.stream(sid, { query, lastEventId: id, state, seq, epoch });
      await stream.equalsView();
      expect(await server.command(sid, { type: 'thread.create', creator: 'bob', name: 'n',
        thread: newId('x'), participants: [] }), 200);
      expect(await server.patch(`/v1/sessions/${sid}`, { labels: { team: newId() } }), 200);
      await stream.equalsView();
      assert.deepEqual(stream.counts, { snapshot: 0, patch: 2, merged: 0, reset: 0 });
      ({ id, state, seq, epoch } = stream);
      stream.close();
    }
  });

  it('begins anew after an id of another view or of other parts', async () => {
    const sid = await server.session();
    const queries = ['', '?view=compact', '?path=/threads', '?path=/agents',
      '?path=/agents&view=compact'];
    for (const from of queries) {
      const first = await Reader.open(server, sid, { query: from });
      await first.equalsView();
      first.close();
      const { id, state, seq, epoch } = first;
      for (const query of queries) {
        const second = await Reader.open(server, sid,
          { query, lastEventId: id, state, seq, epoch });
        await server.say(sid, 'ann', 'x');
        expect(await server.patch(`/v1/sessions/${sid}/agents/bob`, { note: newId() }), 200);
        await second.read();
        await second.equalsView();
        const reset = query === from ? 0 : 1;
        assert.deepEqual([second.counts.snapshot, second.counts.reset], [0, reset],
          `${query} after ${from}`);
        if (reset) assert.match(second.log[0].data.reset, /view|path|part/);
        second.close();
      }
    }
  });

  it('may go on after a seq', async () => {
    const sid = await server.session();
    const query = queryOf({ paths: ['/agents/bob'], view: 'compact' });
    const { seq, epoch, state } = await server.view(sid, query);
    for (let n = 0; n < 5; n++) await server.say(sid, 'ann', `elsewhere ${n}`);
    expect(await server.patch(`/v1/sessions/${sid}/agents/bob`, { note: 'here' }), 200);
    const stream = await Reader.open(server, sid,
      { query: `${query}&after=${seq}`, seq, epoch, state });
    await stream.equalsView();
    assert.deepEqual(stream.counts, { snapshot: 0, patch: 1, merged: 0, reset: 0 });
    assert.deepEqual(stream.log[0].data.from, seq + 1);
    stream.close();
  });

  it('keeps up with a batch that hardly touches it', async () => {
    const sid = await server.session();
    const streams = [['/agents/bob'], ['/labels'], ['/threads/general', '/agents/bob']].map(
      (paths, n) => server.stream(sid, { query: queryOf({ paths }), track: n < 2 }));
    for (const s of streams) await s.until(() => s.seq !== undefined, 'the snapshot');
    const commands = Array.from({ length: 2000 }, (_, n) => (n % 500 === 250
      ? { type: 'agent.update', agent: 'bob', note: `${n}` } : say(`${n}`)));
    expect(await server.lines(sid, [...commands, { type: 'session.close' }]), 200);
    for (const s of streams) {
      await s.until(() => s.state.status === 'closed', 'the close');
      await s.equalsView();
      if (s.track) await s.wasRight();
      s.close();
    }
    assert.ok(streams[0].log.length <= 6 && streams[1].log.length === 2);
  });
});
