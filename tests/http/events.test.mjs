/* The history of a session: by page, and live. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { conforms, expect, newId, openEvents, refused, serving } from './harness.mjs';

const SSE = { accept: 'text/event-stream' };

describe('events', () => {
  const server = serving();
  const get = async (sid, query) =>
    expect(await server.get(`/v1/sessions/${sid}/events${query}`), 200).json;
  const seqs = (page) => page.events.map((e) => e.seq);
  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

  /** A session with 24 events: 4 to begin with, then 20 messages. */
  async function scene() {
    const sid = await server.session();
    await server.lines(sid,
      range(1, 20).map((n) =>
      ({ type: 'message.send', thread: 'general', sender: n % 2 ? 'ann' : 'bob',
      content: `${n}` })));
    return sid;
  }

  it('come by page, oldest first, without a gap', async () => {
    const sid = await scene();
    assert.deepEqual(seqs(await get(sid, '')), range(1, 24));
    assert.deepEqual(await get(sid, '?limit=24').then((p) => p.next), null);
    assert.deepEqual(await get(sid, '?after=20'),
      { events: (await get(sid, '')).events.slice(20), next: null });
    const first = await get(sid, '?limit=10');
    assert.deepEqual([seqs(first), first.next], [range(1, 10), 10]);
    assert.deepEqual(seqs(await get(sid, `?after=${first.next}&limit=10`)), range(11, 20));
    assert.deepEqual(seqs(await get(sid, '?before=4')), range(1, 3));
    assert.deepEqual(seqs(await get(sid, '?after=3&before=7')), range(4, 6));
    assert.deepEqual(await get(sid, '?after=24'), { events: [], next: null });
    assert.deepEqual(await get(sid, '?after=999'), { events: [], next: null });
    assert.deepEqual(seqs(await get(sid, '?limit=1000000')), range(1, 24));
  });

  it('come by type', async () => {
    const sid = await scene();
    assert.deepEqual(seqs(await get(sid, '?type=agent.registered')), [2, 3]);
    assert.deepEqual(seqs(await get(sid, '?type=thread.created&type=session.created')), [1, 4]);
    const paged = [];
    for (let after = 0; after !== null;) {
      const page = await get(sid, `?type=message.sent&limit=7&after=${after}`);
      assert.ok(page.events.length <= 7);
      paged.push(...seqs(page));
      after = page.next;
    }
    assert.deepEqual(paged, range(5, 24));
  });

  it('are a thousand a page at most', async () => {
    const sid = await server.session();
    await server.lines(sid,
      range(1, 1200).map((n) =>
      ({ type: 'message.send', thread: 'general', sender: 'ann', content: `${n}` })));
    assert.deepEqual(seqs(await get(sid, '?limit=5000')), range(1, 1000));
    assert.equal((await get(sid, '')).events.length, 100);
    assert.deepEqual((await server.events(sid)).map((e) => e.seq), range(1, 1204));
  });

  it('come live, from now on', async () => {
    const sid = await scene();
    const live = await openEvents(server, `/v1/sessions/${sid}/events`, SSE);
    const { seq } = await server.say(sid, 'ann', 'now');
    const block = await live.find((b) => b.event);
    assert.equal(block.event, 'event');
    assert.deepEqual(block.json, (await server.events(sid))[seq - 1]);
    conforms('/components/schemas/Event', block.json, 'a live event');
    live.close();
  });

  it('come live from where one was', async () => {
    const sid = await scene();
    const path = `/v1/sessions/${sid}/events`;
    const all = await server.events(sid);
    const told = [];
    let live = await openEvents(server, `${path}?after=0`, SSE);
    while (told.length < 10) told.push(await live.find((b) => b.event));
    live.close();
    live = await openEvents(server, path, { ...SSE, 'last-event-id': told.at(-1).id });
    while (told.length < all.length) told.push(await live.find((b) => b.event));
    assert.deepEqual(told.map((b) => b.json), all);
    const { seq } = await server.say(sid, 'bob', 'live');
    assert.equal((await live.find((b) => b.event)).json.seq, seq);
    live.close();
    const query = await openEvents(server,
      `${path}?last_event_id=${encodeURIComponent(told.at(-1).id)}`, SSE);
    assert.equal((await query.find((b) => b.event)).json.seq, seq);
    query.close();
  });

  it('come live by type', async () => {
    const sid = await scene();
    const live = await openEvents(server,
      `/v1/sessions/${sid}/events?after=0&type=thread.created&type=session.closed`, SSE);
    await server.say(sid, 'ann', 'not this');
    await server.post(`/v1/sessions/${sid}/close`);
    const types = [await live.find((b) => b.event), await live.find((b) => b.event)].map((b) =>
      b.json.type);
    assert.deepEqual(types, ['thread.created', 'session.closed']);
    live.close();
  });

  it('end when the session is deleted, and its next life is told from its beginning', async () => {
    const sid = newId();
    await server.session(['ann'], { sid });
    const path = `/v1/sessions/${sid}/events`;
    const live = await openEvents(server, `${path}?after=0`, SSE);
    const { id } = await live.find((b) => b.event);
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    const end = await live.find((b) => b.event === 'end');
    conforms('/components/schemas/StreamEnd', end.json, 'the end');
    assert.equal(await live.find(() => false), undefined);
    await server.session(['bob'], { sid });
    const again = await openEvents(server, path, { ...SSE, 'last-event-id': id });
    const first = await again.find((b) => b.event);
    assert.deepEqual([first.json.seq, first.json.type], [1, 'session.created']);
    again.close();
  });

  it('come live only behind a seq that is not reached yet, and from 1 after a strange id',
    async () => {
    const sid = await scene();
    const path = `/v1/sessions/${sid}/events`;
    const { epoch } = await server.view(sid);
    const ahead = [await openEvents(server, `${path}?after=26`, SSE),
      await openEvents(server, path, { ...SSE, 'last-event-id': `${epoch}-26-1` }),
      await openEvents(server, `${path}?last_event_id=${epoch}-26-1&after=3`, SSE)];
    const strange = [await openEvents(server, path, { ...SSE, 'last-event-id': 'garbage' }),
      await openEvents(server, path, { ...SSE, 'last-event-id': 'x9-26-1' })];
    for (let n = 0; n < 4; n++) await server.say(sid, 'ann', `${n}`);
    for (const [wires, first] of [[ahead, 27], [strange, 1]]) {
      for (const wire of wires) {
        for (let seq = first; seq <= 28; seq++)
          assert.equal((await wire.find((b) => b.event)).json.seq, seq);
        wire.close();
      }
    }
  });

  it('refuse what they do not know', async () => {
    const sid = await scene();
    for (const [query, field] of [['after=x', 'after'], ['after=-1', 'after'],
      ['before=1.5', 'before'], ['limit=0', 'limit'], ['limit=ten', 'limit'],
      ['type=agent.married', 'type'], ['nope=1', 'nope']])
      refused(await server.get(`/v1/sessions/${sid}/events?${query}`), 400, 'malformed', field);
    for (const field of ['before', 'limit'])
      refused(await openEvents(server, `/v1/sessions/${sid}/events?${field}=5`, SSE), 400,
        'malformed', field);
  });
});
