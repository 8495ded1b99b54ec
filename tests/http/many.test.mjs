/*
 * Many sessions in one stream: who watches them knows at any time which there are and how they
 * stand, whatever happens to the sessions, to the connection and to the server.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { EventSource } from 'eventsource';
import jsonPatch from 'fast-json-patch';
import { NDJSON, canonical, conforms, expect, ndjson, newId, openEvents, randomFrom, refused, serve,
  serving, spec, until, within } from './harness.mjs';
import { liveThrough, say } from './scenes.mjs';

const EVENTS = spec.paths['/v1/stream'].get.responses['200']
  .content['text/event-stream'].schema['x-events'];

/**
 * What a watcher of many sessions has been told: `sessions`, summaries or {epoch, seq, state} by
 * id. Fails on a gap or a repeat, and on what should not come. To go on from another one: give
 * `from`.
 */
class ManyFold {
  constructor(server, query, from) {
    Object.assign(this, { server, query, log: [], id: from?.id,
      sessions: structuredClone(from?.sessions ?? new Map()), resumed: from !== undefined,
      view: new URLSearchParams(query).get('view') ?? 'summary' });
  }

  tell(event, id, data) {
    assert.ok(EVENTS[event], `there is no event ${event}`);
    conforms(EVENTS[event].$ref.slice(1), data, `event ${event} of /v1/stream${this.query}`);
    if (this.log.length === 0 && !this.resumed) assert.equal(event, 'reset');
    if (id) this.id = id;
    this.log.push({ event, id, data });
    this[event](data);
  }

  reset() { this.sessions.clear(); this.isReady = false; }
  ready({ sessions }) {
    assert.ok(!this.isReady, 'ready once');
    if (!this.resumed || this.log.some((e) => e.event === 'reset'))
      assert.ok(sessions >= this.sessions.size, 'all were told, some perhaps twice');
    this.isReady = true;
  }
  position() { assert.ok(this.isReady); }
  summary(data) {
    assert.equal(this.view, 'summary');
    const before = this.sessions.get(data.session);
    if (before?.epoch === data.epoch) assert.ok(data.seq >= before.seq, 'never back');
    this.sessions.set(data.session, data);
  }
  snapshot({ session, epoch, seq, state, reset }) {
    assert.notEqual(this.view, 'summary');
    const before = this.sessions.get(session);
    assert.ok(before === undefined || reset || this.resumed, 'a snapshot in the middle says why');
    this.sessions.set(session, { epoch, seq, state });
  }
  patch({ session, seq, from, type, ops }) {
    const member = this.sessions.get(session);
    assert.ok(member, `a patch of ${session}, which is not known`);
    assert.equal(from !== undefined, type === 'merged');
    assert.equal(from ?? seq, member.seq + 1, `gap or repeat in ${session}`);
    jsonPatch.applyPatch(member.state, ops, true);
    member.seq = seq;
  }
  end({ session }) { this.sessions.delete(session); }
  refused({ session }) { assert.ok(this.resumed || !this.sessions.has(session)); }

  count(event, session) {
    return this.log.filter((e) => e.event === event && (!session || e.data.session === session))
      .length;
  }

  /** All sessions that it should know, as lists and views show them. */
  async expected() {
    const labels = [...new URLSearchParams(this.query)].filter(([name]) => name === 'label');
    const wanted = new URLSearchParams(this.query).getAll('session');
    const found = new Map();
    for (let cursor; cursor !== null;) {
      const query = new URLSearchParams([...labels, ['limit', '1000'],
        ...(cursor ? [['cursor', cursor]] : [])]);
      const page = expect(await this.server.get(`/v1/sessions?${query}`), 200).json;
      for (const session of page.sessions)
        if (wanted.length === 0 || wanted.includes(session.id)) found.set(session.id, session);
      cursor = page.cursor;
    }
    return found;
  }

  has(found) {
    return this.isReady && found.size === this.sessions.size && [...found].every(([id, session]) =>
      this.sessions.get(id)?.epoch === session.epoch
      && this.sessions.get(id).seq >= session.seq);
  }

  /** Waits until it knows all there is, and fails unless it is right. Nothing may go on. */
  async isRight(views = Infinity) {
    const found = await this.expected();
    await this.until(() => this.has(found), `${found.size} sessions of ${this.query}`);
    for (const [id, { seq, status, labels, ts, created_at }] of found) {
      const member = this.sessions.get(id);
      assert.equal(member.seq, seq);
      const { status: s, labels: l, created_at: c } = member.state ?? member;
      assert.deepEqual([s, l, c], [status, labels, created_at]);
      if (!member.state) assert.equal(member.ts, ts);
      if (views-- <= 0) continue;
      const query = this.view === 'compact' ? '?view=compact' : '';
      const { state } = await this.server.view(id, query);
      if (member.state) {
        assert.equal(canonical(member.state), canonical(state), id);
      } else {
        const messages = Object.values(state.threads)
          .reduce((sum, thread) => sum + thread.older + thread.messages.length, 0);
        assert.deepEqual([member.agents, member.threads, member.messages],
          [Object.keys(state.agents).length, Object.keys(state.threads).length, messages], id);
      }
    }
  }
}

/** One on the `eventsource` package. */
class Many extends ManyFold {
  constructor(server, query = '', from) {
    super(server, query, from);
    this.waiting = new Set();
    let opens = 0;
    this.source = new EventSource(`${server.url}/v1/stream${query}`, {
      fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers,
        ...(opens++ === 0 && from?.id ? { 'Last-Event-ID': from.id } : {}) } }),
    });
    for (const name of Object.keys(EVENTS))
      this.source.addEventListener(name, (event) => {
        try {
          const before = this.id;
          const id = event.lastEventId !== before ? event.lastEventId : undefined;
          this.tell(name, id, JSON.parse(event.data));
        } catch (error) {
          this.error ??= error;
        }
        this.waiting.forEach((look) => look());
      });
    server.streams.add(this);
  }

  async until(condition, what = String(condition)) {
    let look;
    const met = new Promise((done, fail) => {
      look = () => (this.error ? fail(this.error) : condition(this) && done(this));
      this.waiting.add(look);
      look();
    });
    try {
      return await within(met, what);
    } finally {
      this.waiting.delete(look);
    }
  }

  /** Until an id comes that speaks of all that was told. */
  async positioned() {
    await this.until(() => this.isReady);
    const last = this.log.findLastIndex((e) =>
      !['position', 'ready'].includes(e.event));
    await this.until(() => this.log.slice(last + 1).some((e) => e.id), 'an id');
    return this;
  }

  close() {
    this.source.close();
    this.server.streams.delete(this);
  }
}

/** One that reads only when asked to. */
class ManyReader extends ManyFold {
  static async open(server, query = '', from) {
    const reader = new ManyReader(server, query, from);
    reader.wire = await openEvents(server, `/v1/stream${query}`,
      from?.id ? { 'last-event-id': from.id } : {});
    return reader;
  }

  async until(condition, what = String(condition)) {
    while (!condition(this)) {
      const block = await this.wire.find((b) => b.event);
      assert.ok(block, `the stream ended before ${what}`);
      this.tell(block.event, block.id, block.json);
    }
    return this;
  }

  close() { this.wire.close(); }
}

const create = async (server, sid, labels = {}) =>
  expect(await server.command(sid, { type: 'session.create', labels }), 200);
const label = async (server, sid, labels) =>
  expect(await server.command(sid, { type: 'session.update', labels }), 200);
const remove = async (server, sid) => expect(await server.delete(`/v1/sessions/${sid}`), 204);

describe('summaries', () => {
  const server = serving({ args: ['--shards', '2', '--heartbeat', '200ms',
    '--window-messages', '5'] });

  it('tell of all sessions, and of what changes', async () => {
    const team = newId('team');
    const ids = Array.from({ length: 500 }, () => newId());
    for (let i = 0; i < ids.length; i += 50)
      await Promise.all(ids.slice(i, i + 50).map((sid) => create(server, sid, { team })));
    const all = new Many(server);
    const some = new Many(server, `?label=team:${team}`);
    await all.isRight(3);
    await some.isRight(3);
    assert.equal(some.sessions.size, 500);
    assert.equal(some.count('summary'), 500);

    const busy = newId();
    await create(server, busy);
    await liveThrough(server, busy, async (n) => {
      const sid = ids[n];
      if (n % 3 === 0) await label(server, sid, { team: 'other' });
      else if (n % 3 === 1) await remove(server, sid);
      else await create(server, newId(), { team });
      if (n % 9 === 3) await label(server, sid, { team });
    });
    await all.isRight(20);
    await some.isRight(20);
    assert.ok(some.count('end') > 0);
    assert.ok(some.log.some((e) => e.data.reason === 'unmatched'));
    assert.ok(some.log.some((e) => e.data.reason === 'deleted'));
    some.close();
    all.close();
  });

  it('count what a session holds', async () => {
    const sid = newId();
    const stream = new Many(server, `?session=${sid}&session=${newId()}`);
    await stream.until(() => stream.isReady);
    assert.equal(stream.sessions.size, 0); // not there yet
    await create(server, sid);
    await liveThrough(server, sid, () => {});
    await stream.isRight();
    const { agents, threads, messages, status } = stream.sessions.get(sid);
    assert.deepEqual({ agents, threads, messages, status },
      { agents: 2, threads: 3, messages: 17, status: 'closed' });
    stream.close();
  });

  it('tell of forks, and of imports when they are whole', async () => {
    const sid = await server.live(await server.session(), 3);
    const lines = (await server.export(sid)).trimEnd().split('\n');
    const upload = (from, to, query) => server.post(`/v1/sessions/${sid}/import${query}`,
      ndjson(lines.slice(from, to)), { type: NDJSON });
    const stream = new Many(server, `?session=${sid}&session=${sid}-fork`);
    await stream.isRight();
    await server.fork(sid, { session: `${sid}-fork`, at: 10 });
    await stream.isRight();
    await remove(server, `${sid}-fork`);
    await remove(server, sid);
    await stream.isRight();
    const before = stream.log.length;
    expect(await upload(0, 11, '?more=true'), 200);
    await create(server, `${sid}-fork`);
    await stream.isRight();
    assert.deepEqual([...stream.sessions.keys()], [`${sid}-fork`]);
    expect(await upload(11, lines.length, '?after=10'), 201);
    await stream.isRight();
    assert.equal(stream.count('summary', sid), 2);
    assert.ok(stream.log.slice(before).every((e) => e.event !== 'end'));
    stream.close();
  });

  it('come ten times a second at most, however busy a session is', async () => {
    const sid = await server.session();
    const stream = new Many(server, `?session=${sid}`);
    await stream.isRight();
    const begin = performance.now();
    const before = stream.count('summary');
    let sent = 0;
    while (performance.now() - begin < 2000) {
      await server.lines(sid, Array.from({ length: 20 }, () => say('x')));
      sent += 20;
    }
    await stream.isRight();
    const told = stream.count('summary') - before;
    const most = (performance.now() - begin) / 100 + 3;
    assert.ok(told <= most, `${told} summaries, at most ${most}`);
    assert.ok(told >= 5, `${told} summaries in two seconds`);
    assert.equal(stream.sessions.get(sid).messages, sent);
    stream.close();
  });

  it('go on where the watcher was: only what changed since is told', async () => {
    const team = newId('team');
    const ids = Array.from({ length: 20 }, () => newId());
    for (const sid of ids) await create(server, sid, { team });
    const query = `?label=team:${team}`;
    const first = await new Many(server, query).positioned();
    first.close();

    const idle = new Many(server, query, first);
    await idle.until(() => idle.isReady);
    assert.deepEqual(idle.log.map((e) => e.event), ['ready']);
    assert.equal(idle.log[0].data.sessions, 0);
    idle.close();

    await label(server, ids[3], { more: 'yes' });
    await label(server, ids[4], { team: 'none' });
    await remove(server, ids[5]);
    await create(server, ids[5], { team });
    await remove(server, ids[6]);
    await create(server, newId(), { team: 'another' });
    const next = new Many(server, query, first);
    await next.isRight();
    assert.equal(next.count('reset'), 0);
    const told = (event) =>
      next.log.filter((e) => e.event === event).map((e) => e.data.session).sort();
    assert.deepEqual(told('summary'), [ids[3], ids[5]].sort());
    assert.deepEqual(told('end'), [ids[4], ids[5], ids[6]].sort());
    // The same by the query instead of the header.
    const wire = await openEvents(server,
      `/v1/stream${query}&last_event_id=${encodeURIComponent(first.id)}`);
    assert.notEqual((await wire.find((b) => b.event)).event, 'reset');
    wire.close();
    next.close();
  });

  it('begin anew by what is no id of theirs, and say why', async () => {
    const { id } = await new Many(server).positioned();
    const [start, ...positions] = id.split('.');
    const ids = {
      'not an id of this stream': ['garbage', 'a.b', `${start}.x.1`, `${start}.-1.1`, '.', '-.-',
        'ü', `${start}.${'9'.repeat(20)}.1`, 'x'.repeat(5000)],
      'another number of shards': [start, `${start}.1`, `${start}.1.2.3`],
      'a position that was not reached': [`${start}.${positions[0]}.${2 ** 40}`],
      'the server was started again since': [`${'0'.repeat(13)}-0000000.1.1`],
    };
    for (const [why, list] of Object.entries(ids)) {
      for (const bad of list) {
        const stream = await ManyReader.open(server, `?last_event_id=${encodeURIComponent(bad)}`);
        await stream.until(() => stream.count('reset') > 0);
        assert.equal(stream.log.find((e) => e.event === 'reset').data.reset, why, bad.slice(0, 50));
        await stream.isRight(0);
        stream.close();
      }
    }
    const other = await ManyReader.open(server, `?label=x&last_event_id=${id}`);
    await other.until(() => other.isReady);
    assert.equal(other.log[0].data.reset, 'an id of other sessions or another view');
    other.close();
  });

  it('reach a watcher that does not read for long, as they are then', async () => {
    const team = newId('team');
    const ids = Array.from({ length: 200 }, () => newId());
    for (const sid of ids) await create(server, sid, { team });
    const slow = await ManyReader.open(server, `?label=team:${team}`);
    await slow.until(() => slow.isReady);
    slow.wire.response.pause();
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < ids.length; i += 50)
        await Promise.all(ids.slice(i, i + 50).map((sid) =>
          label(server, sid, { round: `${round}`, pad: 'x'.repeat(200) + round })));
    }
    for (const sid of ids.slice(0, 50)) await remove(server, sid);
    await slow.isRight(5);
    assert.equal(slow.sessions.size, 150);
    slow.close();
  });

  it('keep a quiet connection alive', async () => {
    const wire = await openEvents(server, `/v1/stream?session=${newId()}`);
    assert.ok(await wire.find((b) => b.comment !== undefined));
    wire.close();
  });

  it('are refused where the query makes no sense', async () => {
    const many = Array.from({ length: 1001 }, (_, i) => `session=s${i}`).join('&');
    for (const [query, field] of [['view=all', 'view'], ['path=/threads', 'path'],
      ['view=full&path=/threads', 'path'], ['after=3', 'after'], ['session=a&label=b', 'label'],
      ['session=%20', 'session'], ['session=', 'session'], ['label=', 'label'], ['what=1', 'what'],
      [many, 'session']])
      refused(await server.get(`/v1/stream?${query}`, { check: false }), 400, 'malformed', field);
    refused(await server.post('/v1/stream', {}, { check: false }), 405, 'method-not-allowed');
  });
});

describe('sessions themselves', () => {
  const server = serving({ args: ['--shards', '2', '--window-messages', '5'] });

  for (const view of ['full', 'compact']) {
    it(`fold to the views of all (${view})`, async () => {
      const team = newId('team');
      const ids = Array.from({ length: 50 }, () => newId());
      for (const sid of ids.slice(0, 30)) await create(server, sid, { team });
      const stream = new Many(server, `?view=${view}&label=team:${team}`);
      await stream.until(() => stream.isReady);
      assert.equal(stream.sessions.size, 30);
      await Promise.all(ids.slice(20).map(async (sid, i) => {
        if (i >= 10) await create(server, sid, { team });
        await liveThrough(server, sid, () => {}); // which labels it otherwise at last
      }));
      await Promise.all(ids.slice(0, 20).map(async (sid) => {
        await server.command(sid, [{ type: 'agent.register', agent: 'ann' },
          { type: 'thread.create', thread: 'general', creator: 'ann', name: 'g' }]);
        for (let n = 0; n < 10; n++) await server.command(sid, say(`n${n}`));
      }));
      await label(server, ids[0], { team: null });
      await remove(server, ids[1]);
      await remove(server, ids[2]);
      await create(server, ids[2], { team });
      await stream.isRight();
      assert.ok(stream.count('patch') > 300);
      stream.close();
    });
  }

  it('that are named and cannot be watched are refused, until they are there', async () => {
    const [there, missing] = [await server.session(), newId()];
    const stream = new Many(server, `?view=full&session=${there}&session=${missing}`);
    await stream.until(() => stream.isReady);
    assert.deepEqual(stream.log.filter((e) => e.event === 'refused')
      .map((e) => [e.data.session, e.data.error.status, e.data.error.type]),
    [[missing, 404, '/problems/unknown-session']]);
    assert.deepEqual([...stream.sessions.keys()], [there]);
    await server.session(['ann'], { sid: missing });
    await stream.isRight();
    assert.equal(stream.sessions.size, 2);
    await remove(server, missing);
    await stream.until(() => stream.count('end', missing) === 1);
    await server.session(['ann', 'bob'], { sid: missing });
    await stream.isRight();
    assert.equal(stream.sessions.size, 2);
    assert.equal(stream.count('refused'), 1);
    stream.close();
  });

  it('go on silently where nothing has changed, and begin anew where something has', async () => {
    const team = newId('team');
    const ids = [];
    for (let i = 0; i < 12; i++) {
      ids.push(await server.session());
      await label(server, ids[i], { team });
    }
    for (const query of [`?view=full&label=team:${team}`,
      `?view=full&${ids.map((sid) => `session=${sid}`).join('&')}`]) {
      const first = await new Many(server, query).positioned();
      await first.isRight();
      await first.positioned();
      first.close();
      const [changed, gone, relabelled] = ids.splice(0, 3);
      expect(await server.command(changed, say('one more')), 200);
      await remove(server, gone);
      await label(server, relabelled, { team: 'none' });
      const next = new Many(server, query, first);
      await next.until(() => next.isReady);
      assert.equal(next.count('reset'), 0);
      await next.isRight();
      const anew = next.log.filter((e) => e.event === 'snapshot').map((e) => e.data.session).sort();
      assert.deepEqual(anew, next.sessions.has(relabelled) ? [changed, relabelled].sort()
        : [changed]);
      assert.equal(next.count('end', gone), 1);
      // Those that said nothing go on from what the watcher knew.
      for (const sid of ids) expect(await server.command(sid, say('and on')), 200);
      await next.isRight();
      assert.equal(next.count('patch'), ids.length);
      next.close();
    }
  });

  it('take turns: a busy one holds up no other', async () => {
    const team = newId('team');
    const busy = await server.session();
    const quiet = await server.session();
    for (const sid of [busy, quiet]) await label(server, sid, { team });
    const stream = new Many(server, `?view=full&label=team:${team}`);
    await stream.isRight();
    let going = true;
    const writer = (async () => {
      while (going)
        expect(await server.lines(busy, Array.from({ length: 100 }, () => say('x'.repeat(500)))),
          200);
    })();
    for (let n = 0; n < 20; n++) {
      expect(await server.command(quiet, say(`${n}`)), 200);
      const { seq } = await server.view(quiet);
      await stream.until(() => stream.sessions.get(quiet).seq >= seq);
    }
    going = false;
    await writer;
    await stream.isRight();
    stream.close();
  });

  it('give an id to go on from, however much there is to say', async () => {
    const team = newId('team');
    const ids = [];
    for (let i = 0; i < 10; i++) {
      ids.push(await server.session());
      await label(server, ids[i], { team });
    }
    const query = `?view=full&label=team:${team}`;
    const slow = await ManyReader.open(server, query);
    let going = true;
    const writers = ids.map(async (sid) => {
      while (going)
        expect(await server.lines(sid, Array.from({ length: 50 }, () => say('x'.repeat(2000)))),
          200);
    });
    await slow.until(() => slow.count('position') >= 2, 'two ids');
    going = false;
    await Promise.all(writers);
    slow.close();
    const next = await ManyReader.open(server, query, slow);
    await next.isRight();
    assert.equal(next.count('reset'), 0);
    next.close();
  });

  it('reach a watcher that does not read for long, as they are then', async () => {
    const team = newId('team');
    const ids = [];
    for (let i = 0; i < 100; i++) {
      ids.push(await server.session());
      await label(server, ids[i], { team });
    }
    const slow = await ManyReader.open(server, `?view=full&label=team:${team}`);
    await slow.until(() => slow.isReady);
    slow.wire.response.pause();
    for (let round = 0; round < 10; round++)
      for (let i = 0; i < ids.length; i += 25)
        await Promise.all(ids.slice(i, i + 25).map((sid) =>
          server.lines(sid, Array.from({ length: 10 }, (_, n) => say(`${n}`.repeat(1000))))));
    await slow.isRight();
    slow.close();
  });
});

it('a watcher that falls behind in many sessions begins anew in each', async (t) => {
  const server = await serve(t, { args: ['--shards', '2'] });
  const ids = [];
  for (let i = 0; i < 20; i++) ids.push(await server.session());
  const slow = await ManyReader.open(server, '?view=full');
  await slow.until(() => slow.isReady);
  slow.wire.response.pause();
  // More than is kept of a session for the slowest, and than sockets hold.
  for (let round = 0; round < 5; round++)
    for (const sid of ids)
      expect(await server.lines(sid, Array.from({ length: 30 }, () => say('x'.repeat(30_000)))),
        200);
  await slow.isRight();
  const anew = slow.log.filter((e) => e.event === 'snapshot' && e.data.reset);
  assert.ok(anew.length >= 15, `${anew.length} began anew`);
  slow.close();
});

it('sessions that have left memory are told too', async (t) => {
  const server = await serve(t, { args: ['--idle-passivate', '300ms', '--shards', '2'] });
  const ids = [];
  for (let i = 0; i < 40; i++) {
    ids.push(newId());
    await create(server, ids[i], { team: i % 2 ? 'x' : 'y' });
  }
  const early = new Many(server, '?label=team:x');
  await early.isRight();
  await until(async () => (await server.total('active')) === 0, 'all have left memory');
  const streams = ['', '?label=team:x', `?session=${ids[0]}&session=${ids[1]}`]
    .map((query) => new Many(server, query));
  for (const stream of streams) await stream.isRight(0);
  assert.equal(await server.total('active'), 0, 'looking brings none back');
  for (const sid of ids.slice(0, 10)) await label(server, sid, { team: 'x', more: 'z' });
  await until(async () => (await server.total('active')) === 0, 'all have left memory');
  for (const stream of [...streams, early]) await stream.isRight(0);
  const full = new Many(server, '?view=full&label=team:x');
  await full.isRight();
});

it('a watcher comes back to another life of the server with a reset', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  for (const query of ['', '?view=full']) {
    const before = await new Many(server, query).positioned();
    await server.restart();
    const after = new Many(server, query, before);
    await after.isRight();
    assert.equal(after.log[0].event, 'reset');
    assert.equal(after.log[0].data.reset, 'the server was started again since');
    assert.ok(after.sessions.has(sid));
  }
});

it('a server that stops says when to come back', async (t) => {
  const server = await serve(t);
  await server.session();
  const wires = [await openEvents(server, '/v1/stream'),
    await openEvents(server, '/v1/stream?view=full')];
  for (const wire of wires) await wire.find((b) => b.event === 'ready');
  server.child.kill('SIGTERM');
  for (const wire of wires) {
    assert.match((await wire.find((b) => b.retry !== undefined)).retry, /^\d+$/);
    assert.equal(await wire.next(), undefined);
  }
  assert.deepEqual(await within(server.exited, 'the end'), { code: 0, signal: null });
});

it('whoever is cut off again and again misses nothing', async (t) => {
  const server = await serve(t, { args: ['--shards', '2', '--idle-passivate', '500ms'] });
  const random = randomFrom(7);
  const ids = Array.from({ length: 30 }, () => newId());
  let going = true;
  const writers = [0, 1, 2].map(async (k) => {
    for (let n = 0; going; n++) {
      const sid = ids[Math.floor(random() * 10) * 3 + k];
      const what = Math.floor(random() * 10);
      if (what === 0) await server.delete(`/v1/sessions/${sid}`);
      else if (what < 4) await server.command(sid, { type: 'session.create',
        labels: { team: 'x' } });
      else if (what === 4) await server.command(sid, { type: 'session.update',
        labels: { team: n % 2 ? 'y' : 'x' } });
      else await server.command(sid, { type: 'agent.register', agent: `a${n % 50}` });
      await delay(2);
    }
  });
  const streams = [];
  for (const query of ['', '?label=team:x', '?view=full&label=team:x', '?view=compact']) {
    let stream;
    for (let cuts = 0; cuts < 13; cuts++) {
      stream = new Many(server, query, stream);
      await stream.until(() => stream.isReady);
      assert.equal(stream.count('reset'), cuts === 0 ? 1 : 0);
      const enough = stream.log.length + Math.floor(random() * 40);
      await stream.until(() => stream.log.length >= enough);
      if (cuts < 12) stream.close();
    }
    streams.push(stream);
  }
  going = false;
  await Promise.all(writers);
  for (const stream of streams) await stream.isRight();
});
