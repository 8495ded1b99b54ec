/*
 * The past of a session: every state it has been in, what lies between any two of them, its proof,
 * and its events by all that one may ask for.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { before, describe, it } from 'node:test';
import jsonPatch from 'fast-json-patch';
import { canonical, expect, newId, openEvents, refused, serving } from './harness.mjs';

const SSE = { accept: 'text/event-stream' };
const time = (ms) => new Date(ms).toISOString();
const sameState = (a, b, what) => assert.equal(canonical(a), canonical(b), what);

describe('the past', () => {
  const server = serving({ args: ['--window-messages', '7'] });
  let sid;
  let events;
  const states = new Map(); // canonical, by seq

  before(async () => {
    sid = await server.session();
    const stream = server.stream(sid, { query: '?after=0', state: { id: sid, parent: null,
      status: 'open', summary: null, labels: {}, created_at: null, agents: {}, threads: {} },
      seq: 0, track: true });
    await server.live(sid, 25);
    const { seq } = await server.view(sid);
    await stream.reach(seq);
    assert.equal(stream.log.filter((e) => e.data.type === 'merged').length, 0);
    stream.at.forEach((state, at) => states.set(at, state));
    stream.close();
    events = await server.events(sid);
    assert.equal(states.size, events.length);
    assert.ok(events.length > 250);
  });

  it('is there at every seq, and is what the patches fold to', async () => {
    const { epoch } = await server.view(sid);
    for (const { seq, ts } of events) {
      const answer = expect(await server.get(`/v1/sessions/${sid}?at=${seq}`), 200);
      assert.deepEqual([answer.json.epoch, answer.json.seq, answer.json.ts], [epoch, seq, ts]);
      assert.equal(canonical(answer.json.state), states.get(seq), `the state at ${seq}`);
      assert.equal(answer.headers.etag, `"${epoch}-${seq}"`);
    }
    assert.deepEqual(await server.view(sid, `?at=${events.length}`), await server.view(sid));
  });

  it('is found by an ETag, which a 304 confirms', async () => {
    const { epoch } = await server.view(sid);
    const { headers, json } =
      expect(await server.get(`/v1/sessions/${sid}?at=${epoch}-100`), 200);
    assert.equal(json.seq, 100);
    const again = { headers: { 'if-none-match': headers.etag } };
    expect(await server.get(`/v1/sessions/${sid}?at=100`, again), 304);
    expect(await server.get(`/v1/sessions/${sid}?at=101`, again), 200);
    expect(await server.get(`/v1/sessions/${sid}`, again), 200);
  });

  it('is found by time: the newest event that is not later', async () => {
    const newest = (ms) => events.filter((e) => Date.parse(e.ts) <= ms).at(-1).seq;
    const first = Date.parse(events[0].ts);
    const last = Date.parse(events.at(-1).ts);
    for (const ms of [first, first + 1, Math.floor((first + last) / 2), last - 1, last]) {
      if (ms < first) continue;
      assert.equal((await server.view(sid, `?at=${time(ms)}`)).seq, newest(ms), time(ms));
    }
    const offset = time(last + 2 * 3600e3).replace('Z', '%2B02:00');
    assert.equal((await server.view(sid, `?at=${offset}`)).seq, events.length);
    assert.equal((await server.proof(sid, `?at=${time(last)}`)).seq, events.length);
    const diff = await server.diff(sid, `?from=${time(first)}&to=${time(last)}`);
    assert.deepEqual([diff.from, diff.to], [newest(first), events.length]);
    const early = refused(await server.get(`/v1/sessions/${sid}?at=${time(first - 1)}`), 404,
      'unknown-session');
    assert.match(early.detail, /./);
  });

  it('is told by differences, forwards and backwards', async () => {
    const { length } = events;
    const pairs = [[1, length], [length, 1], [7, 7]];
    for (let n = 0; n < 60; n++) pairs.push([1 + (n * 37) % length, 1 + (n * 101 + 13) % length]);
    for (const [from, to] of pairs) {
      const diff = await server.diff(sid, `?from=${from}&to=${to}`);
      assert.deepEqual([diff.from, diff.to], [from, to]);
      const state = JSON.parse(states.get(from));
      jsonPatch.applyPatch(state, diff.ops, true);
      assert.equal(canonical(state), states.get(to), `from ${from} to ${to}`);
      if (from === to) assert.deepEqual(diff.ops, []);
    }
    const toNow = await server.diff(sid, '?from=5');
    assert.equal(toNow.to, length);
    assert.deepEqual(toNow.ops, (await server.diff(sid, `?from=5&to=${length}`)).ops);
  });

  it('does not exist in the future, elsewhere or under another epoch', async () => {
    const { epoch, seq } = await server.view(sid);
    const path = `/v1/sessions/${sid}`;
    for (const query of [`?at=${seq + 1}`, '/proof?at=9007199254740991', `?at=${epoch}-${seq + 1}`])
      assert.equal(refused(await server.get(path + query), 400, 'malformed', 'at').seq, seq);
    assert.equal(refused(await server.get(`${path}/diff?from=${seq + 1}`), 400, 'malformed',
      'from').seq, seq);
    assert.equal(refused(await server.get(`${path}/diff?from=1&to=${seq + 9}`), 400, 'malformed',
      'to').seq, seq);
    for (const query of ['?at=zz9-3', '/proof?at=zz9-3', '/diff?from=zz9-3', '/diff?from=1&to=zz9-3'])
      refused(await server.get(path + query), 410, 'gone');
    for (const query of ['?at=1', '/proof', '/proof?at=1', '/diff?from=1', '/export'])
      refused(await server.get(`/v1/sessions/${newId('no')}${query}`), 404, 'unknown-session');
  });

  it('is refused by name where it is not well asked for', async () => {
    const path = `/v1/sessions/${sid}`;
    for (const at of ['x', '-1', '1.5', '01', '', '2025-02-30T00:00:00Z', '2025-01-01',
      '2025-01-01T00:00:00', '9007199254740992']) {
      refused(await server.get(`${path}?at=${at}`), 400, 'malformed', 'at');
      refused(await server.get(`${path}/proof?at=${at}`), 400, 'malformed', 'at');
      refused(await server.get(`${path}/diff?from=${at}`), 400, 'malformed', 'from');
      refused(await server.get(`${path}/diff?from=1&to=${at}`), 400, 'malformed', 'to');
    }
    refused(await server.get(`${path}/diff`), 400, 'malformed', 'from');
    refused(await server.get(`${path}?at=1&at=2`), 400, 'malformed', 'at');
    refused(await server.get(`${path}?until=1`), 400, 'malformed', 'until');
  });

  it('of a deleted life is gone with it', async () => {
    const again = await server.session();
    const { epoch } = await server.view(again);
    expect(await server.delete(`/v1/sessions/${again}`), 204);
    refused(await server.get(`/v1/sessions/${again}?at=1`), 404, 'unknown-session');
    await server.session(['zoe'], { sid: again });
    refused(await server.get(`/v1/sessions/${again}?at=${epoch}-1`), 410, 'gone');
    assert.deepEqual(Object.keys((await server.view(again, '?at=2')).state.agents), ['zoe']);
  });

  it('survives a restart', async () => {
    const seqs = [1, 2, 50, 133, events.length];
    const known = [];
    for (const at of seqs)
      known.push([await server.view(sid, `?at=${at}`), await server.proof(sid, `?at=${at}`)]);
    await server.restart();
    for (const [n, at] of seqs.entries())
      assert.deepEqual([await server.view(sid, `?at=${at}`), await server.proof(sid, `?at=${at}`)],
        known[n]);
  });

  it('is proven by a chain that anyone can compute', async () => {
    const [, ...lines] = (await server.export(sid)).trimEnd().split('\n').map((l) => JSON.parse(l));
    assert.deepEqual(lines.map((l) => l.event), events);
    let chain = Buffer.alloc(32);
    for (const { seq, bytes, chain: told } of lines) {
      const number = Buffer.alloc(8);
      number.writeBigUInt64LE(BigInt(seq));
      chain = createHash('sha256').update(chain).update(number)
        .update(Buffer.from(bytes, 'base64')).digest();
      assert.equal(told, chain.toString('hex'), `the chain at ${seq}`);
      if (seq % 20 === 0 || seq === lines.length) {
        const proof = await server.proof(sid, `?at=${seq}`);
        assert.deepEqual([proof.seq, proof.chain, proof.ts], [seq, told, events[seq - 1].ts]);
      }
    }
    assert.deepEqual(await server.proof(sid), await server.proof(sid, `?at=${events.length}`));
    const hashes = new Set();
    for (let at = 1; at <= 20; at++)
      hashes.add((await server.proof(sid, `?at=${at}`)).state_hash);
    assert.equal(hashes.size, 20, 'no two states have one hash');
  });
});

describe('events', () => {
  const server = serving();
  let sid;
  let events;
  const get = async (query) => expect(await server.get(`/v1/sessions/${sid}/events${query}`), 200)
    .json;
  const seqs = (list) => list.map((e) => e.seq);

  before(async () => {
    sid = await server.session();
    await server.live(sid, 12);
    events = await server.events(sid);
  });

  const ofAgent = (agent) => (e) => [e.actor, e.agent, e.by, e.creator, e.sender,
    ...(e.participants ?? []), ...(e.mentions ?? [])].includes(agent);
  const ofThread = (thread) => (e) => e.thread === thread
    || (e.threads ?? []).some((t) => t === thread || t.thread === thread);

  /** All pages of a question, by cursor alone. */
  async function paged(query, limit) {
    const all = [];
    for (let cursor = ''; cursor !== null;) {
      const page = await get(`?limit=${limit}${query}${cursor && `&cursor=${cursor}`}`);
      assert.ok(page.events.length <= limit);
      assert.ok(page.next === null || page.events.length > 0, 'a page that goes on holds something');
      all.push(...page.events);
      cursor = page.next;
    }
    return all;
  }

  it('come by agent and by thread', async () => {
    for (const agent of ['ann', 'bob', 'guest-3'])
      assert.deepEqual(seqs((await get(`?limit=1000&agent=${agent}`)).events),
        seqs(events.filter(ofAgent(agent))), agent);
    for (const thread of ['general', 'side-1-4'])
      assert.deepEqual(seqs((await get(`?limit=1000&thread=${thread}`)).events),
        seqs(events.filter(ofThread(thread))), thread);
    assert.deepEqual(await get('?agent=nobody'), { events: [], next: null });
    assert.deepEqual(await get('?thread=nowhere'), { events: [], next: null });
    assert.deepEqual(
      seqs((await get('?limit=1000&agent=bob&thread=general&type=message.sent')).events),
      seqs(events.filter((e) => e.type === 'message.sent' && ofAgent('bob')(e)
        && ofThread('general')(e))));
  });

  it('come by time', async () => {
    const ms = events.map((e) => Date.parse(e.ts));
    const middle = Math.floor((ms[0] + ms.at(-1)) / 2);
    const within = (since, until) => seqs(events.filter((e, n) => ms[n] >= since && ms[n] < until));
    for (const [since, until] of [[ms[0], ms.at(-1)], [middle, ms.at(-1) + 1], [ms[0], middle],
      [ms.at(-1) + 1, ms.at(-1) + 2], [0, ms[0]], [middle, middle]])
      assert.deepEqual(
        seqs((await get(`?limit=1000&since=${time(since)}&until=${time(until)}`)).events),
        within(since, until));
    assert.deepEqual(seqs((await get(`?limit=1000&since=${time(middle)}`)).events),
      within(middle, Infinity));
  });

  it('come by page in both orders, by the cursor alone', async () => {
    for (const limit of [1, 7, 50, 1000]) {
      assert.deepEqual(await paged('', limit), events);
      assert.deepEqual(await paged('&order=asc', limit), events);
      assert.deepEqual(await paged('&order=desc', limit), [...events].reverse());
    }
    const bob = events.filter(ofAgent('bob'));
    assert.deepEqual(await paged('&agent=bob&order=desc', 5), [...bob].reverse());
    assert.deepEqual(await paged('&agent=bob', 5), bob);
    assert.deepEqual(seqs(await paged('&after=10&before=20&order=desc', 4)),
      [19, 18, 17, 16, 15, 14, 13, 12, 11]);
    assert.deepEqual(seqs(await paged('&after=10&before=20', 4)),
      [11, 12, 13, 14, 15, 16, 17, 18, 19]);
  });

  it('say what is allowed where they are not well asked for', async () => {
    for (const [query, field] of [['agent=a.b', 'agent'], ['thread=', 'thread'],
      ['since=7', 'since'], ['until=2025-13-01T00:00:00Z', 'until'], ['order=up', 'order'],
      ['cursor=x', 'cursor'], ['type=session.fork', 'type']]) {
      const { detail } = refused(await server.get(`/v1/sessions/${sid}/events?${query}`), 400,
        'malformed', field);
      assert.match(detail, /must/);
    }
    for (const query of ['agent=ann', 'thread=general', 'since=2025-01-01T00:00:00Z',
      'until=2025-01-01T00:00:00Z', 'order=desc', 'cursor=1', 'before=3', 'limit=3'])
      refused(await openEvents(server, `/v1/sessions/${sid}/events?${query}`, SSE), 400,
        'malformed', query.split('=')[0]);
  });
});
