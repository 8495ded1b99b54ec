/*
 * Several nodes, and what stands before them: a session is always found where it was made, whatever
 * made its id; streams come through as they happen; a node that is restarted under load loses
 * nothing and nobody. HAProxy and nginx run with the files of deploy/.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import WebSocket from 'ws';
import { Reader, expect, newId, refused, run, serve, until, within } from './harness.mjs';
import { Load, TAGS, holders, twoNodes } from './two-nodes.mjs';

const MADE = /^a-s[0-7][0-9a-hjkmnp-tv-z]{25}$/;
const made = (answer) => expect(answer, 201).headers.location.split('/')[3];
const misdirected = (answer, ...words) => {
  const { detail, status } = refused(answer, 421, 'misdirected', 'session');
  assert.equal(status, 421);
  for (const word of words) assert.ok(detail.includes(word), `no ${word} in: ${detail}`);
};

describe('a node with a tag', () => {
  it('puts it before the ids that it makes, and takes no other where a balancer could not follow',
    async (t) => {
    const server = await serve(t, { args: ['--node-tag', 'a'] });
    const sid = made(await server.post('/v1/sessions', {}));
    assert.match(sid, MADE);
    const keyed = { headers: { 'idempotency-key': 'once' } };
    const first = made(await server.post('/v1/sessions', {}, keyed));
    const again = expect(await server.post('/v1/sessions', {}, keyed), 201);
    assert.match(first, MADE);
    assert.equal(again.headers['idempotent-replayed'], 'true');
    assert.equal(made(again), first);
    assert.match((await server.fork(sid, { at: 1 })).session, MADE);

    assert.equal(made(await server.post('/v1/sessions', { session: 'a-chosen' })), 'a-chosen');
    assert.equal((await server.fork(sid, { at: 1, session: 'a-fork' })).session, 'a-fork');
    expect(await server.put('/v1/sessions/whatever', {}), 201);
    for (const session of ['demo', 'b-chosen', 'ab-chosen', 'a'])
      misdirected(await server.post('/v1/sessions', { session }), '"a-"', 'PUT');
    misdirected(await server.post(`/v1/sessions/${sid}/fork`, { at: 1, session: 'demo' }), '"a-"');
    expect(await server.get('/v1/sessions/demo'), 404);
  });

  it('says whose session it is that was looked for at the wrong one', async (t) => {
    const server = await serve(t, { args: ['--node-tag', 'a'] });
    const theirs = `node7-s${'0'.repeat(26)}`;
    for (const path of ['', '/stream', '/events', '/agents/ann/inbox', '/ws'])
      misdirected(await server.get(`/v1/sessions/${theirs}${path}`), '"node7"', '"a"');
    misdirected(await server.put(`/v1/sessions/${theirs}`, {}), '"node7"');
    misdirected(await server.post(`/v1/sessions/${theirs}/agents/ann/mcp`, {}),
      '"node7"');
    expect(await server.get(`/v1/sessions/a-s${'0'.repeat(26)}`), 404);
    expect(await server.get(`/v1/sessions/node7-s${'0'.repeat(25)}`), 404);
  });

  it('is needed by nobody who is alone', async (t) => {
    const server = await serve(t);
    assert.match(made(await server.post('/v1/sessions', {})), /^s[0-7][0-9a-hjkmnp-tv-z]{25}$/);
    assert.equal(made(await server.post('/v1/sessions', { session: 'demo' })), 'demo');
    expect(await server.get(`/v1/sessions/b-s${'0'.repeat(26)}`), 404);
  });

  it('has a short and plain one', async () => {
    for (const tag of ['A', 'a-b', 'a_b', 'ninechars']) {
      const { code, stderr } = await run(['serve', '--node-tag', tag]);
      assert.equal(code, 2);
      for (const word of ['node-tag', tag, '1 to 8']) assert.ok(stderr.includes(word), stderr);
    }
  });
});

for (const kind of ['haproxy', 'nginx'])
  describe(`two nodes behind ${kind}`, () => {
    it('have each session once, and it is always found', async (t) => {
      const nodes = await twoNodes(t, kind);
      const { all } = nodes;
      const places = new Map();
      const found = async (sid) => {
        const [tag, ...others] = await holders(nodes, sid);
        assert.deepEqual([TAGS.includes(tag), others], [true, []], sid);
        for (let n = 0; n < 3; n++) assert.equal((await all.view(sid)).state.id, sid);
        places.set(sid, tag);
        return tag;
      };
      const both = (sids) => assert.deepEqual(
        [...new Set(sids.map((sid) => places.get(sid)))].sort(), TAGS, 'both nodes have some');

      const byServer = [];
      for (let n = 0; n < 8; n++) byServer.push(made(await all.post('/v1/sessions', {})));
      for (const sid of byServer) assert.equal(await found(sid), sid[0]);
      both(byServer);

      const byClient = Array.from({ length: 20 }, () => newId('what-if'));
      for (const sid of byClient) {
        expect(await all.put(`/v1/sessions/${sid}`, {}), 201);
        await found(sid);
      }
      both(byClient);

      const byKey = [];
      for (let n = 0; n < 20; n++) {
        const keyed = { headers: { 'idempotency-key': newId('key') } };
        const sid = made(await all.post('/v1/sessions', {}, keyed));
        const again = await all.post('/v1/sessions', {}, keyed);
        assert.equal(made(again), sid);
        assert.equal(again.headers['idempotent-replayed'], 'true');
        assert.equal(await found(sid), sid[0]);
        byKey.push(sid);
      }
      both(byKey);

      for (const tag of TAGS) {
        const sid = `${tag}-${newId()}`;
        expect(await all.put(`/v1/sessions/${sid}`, {}), 201);
        assert.equal(await found(sid), tag);
        const fork = await all.fork(sid, { at: 1 });
        assert.equal(await found(fork.session), tag);
      }
    });

    it('are found whatever the path looks like', async (t) => {
      const nodes = await twoNodes(t, kind);
      for (const sid of Array.from({ length: 8 }, () => newId('odd'))) {
        const coded = [...sid].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('');
        expect(await nodes.all.put(`/v1/sessions/${coded}`, {}, { check: false }), 201);
        assert.equal((await holders(nodes, sid)).length, 1);
        expect(await nodes.all.get(`/v1/sessions/${sid}`), 200);
        expect(await nodes.all.get(`/v1/%73essions/${coded}?view=full`, { check: false }), 200);
      }
    });

    it('give lists of their own, each under its port, and one of them under the common one',
      async (t) => {
      const nodes = await twoNodes(t, kind);
      const here = {};
      for (const tag of TAGS) {
        here[tag] = `${tag}-${newId()}`;
        expect(await nodes.all.put(`/v1/sessions/${here[tag]}`, {}), 201);
      }
      const listed = async (server) =>
        expect(await server.get('/v1/sessions'), 200).json.sessions.map((s) => s.id);
      assert.deepEqual(await listed(nodes.onlyA), [here.a]);
      assert.deepEqual(await listed(nodes.onlyB), [here.b]);
      const first = await listed(nodes.all);
      assert.equal(first.length, 1);
      for (let n = 0; n < 4; n++) assert.deepEqual(await listed(nodes.all), first, 'the same node');
    });

    it('are watched as it happens: events, compressed events, sockets, waits', async (t) => {
      const nodes = await twoNodes(t, kind, ['--heartbeat', '1h']); // which would push things along
      const { all } = nodes;
      for (const tag of TAGS) {
        const sid = await all.session(['ann', 'bob'], { sid: `${tag}-${newId()}` });
        await all.say(sid, 'bob', 'x'.repeat(50_000)); // worth compressing
        const readers = [await Reader.open(all, sid),
          await Reader.open(all, sid, { headers: { 'accept-encoding': 'gzip' } })];
        assert.equal(readers[1].wire.headers['content-encoding'], 'gzip');
        const socket = new WebSocket(`${all.url.replace('http', 'ws')}/v1/sessions/${sid}/ws`,
          'atoll.v1');
        const told = [];
        socket.on('message', (data) => told.push(JSON.parse(data)));
        await within(new Promise((done, fail) => socket.on('open', done).on('error', fail)),
          'a WebSocket');
        const wait = all.inbox(sid, 'bob', '?wait=50');
        await until(async () => (await nodes[tag].total('waiting')) === 1, 'the wait');
        socket.send(JSON.stringify({ ref: 1, type: 'message.send', thread: 'general',
          sender: 'ann', content: 'hello' }));
        const { status, seq } = await until(() => told.find((m) => m.ref === 1), 'the answer');
        assert.equal(status, 200);
        await until(() => told.some((m) => m.event === 'patch' && m.seq === seq), 'the patch');
        assert.equal((await wait).messages[0].content, 'hello');
        for (const reader of readers) {
          await reader.until((r) => r.seq >= seq);
          await reader.equalsView();
          reader.close();
        }
        socket.terminate();
      }
    });

    it('go on alone: what is on the other one gets 503 with Retry-After until it is back',
      async (t) => {
      const nodes = await twoNodes(t, kind);
      const { all } = nodes;
      const sids = { a: `a-${newId()}`, b: `b-${newId()}` };
      for (const sid of Object.values(sids)) expect(await all.put(`/v1/sessions/${sid}`, {}), 201);
      await nodes.b.kill();
      const answer = await all.get(`/v1/sessions/${sids.b}`);
      refused(answer, 503, 'unavailable');
      assert.equal(answer.headers['retry-after'], '1');
      expect(await all.get(`/v1/sessions/${sids.a}`), 200);
      for (let n = 0; n < 6; n++)
        assert.match(made(await all.post('/v1/sessions', {})), MADE);
      expect(await all.get('/v1/sessions'), 200);
      await nodes.b.start();
      expect(await all.get(`/v1/sessions/${sids.b}`), 200);
    });
  });

for (const [signal, tag] of [['SIGTERM', 'a'], ['SIGKILL', 'b']])
  it(`a node that is restarted under load by ${signal} loses nothing and nobody`, async (t) => {
    const nodes = await twoNodes(t, 'haproxy');
    const load = await new Load(nodes).prepare();
    const { ready_ms, down_ms } = await load.during(async () => {
      await load.more(300);
      const restart = await load.restart(tag, signal);
      await load.more(300);
      return restart;
    });
    await load.check();
    const late = [...load.refused, ...load.lost].filter((r) => r.begun_ms > ready_ms);
    assert.deepEqual(late, [], 'what was asked when the node was ready again was not refused');
    t.diagnostic(`down for ${Math.round(down_ms)} ms; ${load.acknowledged.length} acknowledged, ` +
      `${load.refused.length} answers of 503, ${load.lost.length} connections lost, ` +
      `${Math.round(load.longest_ms)} ms at most`);
  });
