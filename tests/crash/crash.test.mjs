/*
 * kill -9 under load, again and again, on one data directory. What must hold each time the server
 * is back: every acknowledged command is there exactly once, seq has no gap, and every stream that
 * goes on from its last id has no gap and no repeat and folds to the view.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { canonical, expect, serve, until } from '../http/harness.mjs';

const ROUNDS = 4;
const SESSIONS = 12;
const WRITERS = 8;
const SENDERS = ['ann', 'bob'];

/**
 * Writes one message after the other until the server is gone, then the same one again when it is
 * back.
 */
class Writer {
  constructor(server, name, sids) {
    Object.assign(this, { server, name, sids, count: 0, acknowledged: [] });
  }

  async run() {
    for (;;) {
      const content = `${this.name}-${this.count}`;
      const sid = this.sids[this.count % this.sids.length];
      const keyed = { headers: { 'idempotency-key': content } };
      const body = { sender: SENDERS[this.count % 2], content, mentions: SENDERS };
      try {
        const answer = await this.server.post(`/v1/sessions/${sid}/threads/general/messages`, body,
          keyed);
        if (answer.status !== 201) return expect(answer, 503);
        this.acknowledged.push({ sid, content, id: answer.json.id });
      } catch (error) {
        if (error.code === 'ERR_ASSERTION') throw error;
        return undefined; // killed; the same key is used again in the next round
      }
      this.count++;
    }
  }
}

async function checkSession(server, sid, acknowledged) {
  const events = await server.events(sid);
  events.forEach((event, n) => assert.equal(event.seq, n + 1, `seq without a gap in ${sid}`));
  const kept = new Map();
  for (const { type, content, id } of events)
    if (type === 'message.sent') {
      assert.ok(!kept.has(content), `${content} is there twice`);
      kept.set(content, id);
    }
  for (const { content, id } of acknowledged.filter((a) => a.sid === sid))
    assert.equal(kept.get(content), id, `${content} was acknowledged`);
  return kept.size;
}

async function resume(server, streams) {
  return Promise.all(streams.map(async ({ sid, id, state, seq, epoch }) => {
    const stream = server.stream(sid, { lastEventId: id, state, seq, epoch });
    await stream.until((s) => s.opens > 0 && s.answered, 'the stream');
    return stream;
  }));
}

for (const io of ['posix', 'auto'])
  it(`kill -9 under load loses nothing acknowledged, with --io ${io}`, async (t) => {
    const server = await serve(t, { args: ['--io', io, '--window-messages', '20'] });
    const sids = await Promise.all(Array.from({ length: SESSIONS }, () => server.session(SENDERS)));
    const writers = Array.from({ length: WRITERS }, (_, n) =>
      new Writer(server, `w${n}`, sids.slice(n).concat(sids.slice(0, n))));
    let streams = sids.slice(0, 6).map((sid) => server.stream(sid));
    for (const stream of streams) await stream.until((s) => s.seq !== undefined, 'the snapshot');
    for (let round = 0; round < ROUNDS; round++) {
      const before = writers.map((w) => w.count);
      const running = writers.map((w) => w.run());
      await until(() => writers.every((w, n) => w.count >= before[n] + 15 + 10 * round),
        'some load');
      server.child.kill('SIGKILL');
      await Promise.all(running);
      streams.forEach((s) => assert.ifError(s.error));
      await server.kill();
      await server.start();
      const acknowledged = writers.flatMap((w) => w.acknowledged);
      let total = 0;
      for (const sid of sids) total += await checkSession(server, sid, acknowledged);
      assert.ok(total <= acknowledged.length + WRITERS,
        'at most one unanswered message for each writer');
      streams = await resume(server, streams);
      for (const stream of streams) {
        await stream.equalsView();
        assert.ok(stream.log.every((e) => e.event === 'patch'),
          `a stream was reset: ${canonical(stream.log[0]?.data.reset ?? null)}`);
      }
    }
    // Each writer repeats what was in flight when the server was last killed: its key makes it
    // count once.
    for (const w of writers) {
      const content = `${w.name}-${w.count}`;
      const sid = w.sids[w.count % w.sids.length];
      const body = { sender: SENDERS[w.count % 2], content, mentions: SENDERS };
      const { json } = expect(await server.post(`/v1/sessions/${sid}/threads/general/messages`,
        body, { headers: { 'idempotency-key': content } }), 201);
      w.acknowledged.push({ sid, content, id: json.id });
    }
    const acknowledged = writers.flatMap((w) => w.acknowledged);
    let total = 0;
    for (const sid of sids) total += await checkSession(server, sid, acknowledged);
    assert.equal(total, acknowledged.length);
    for (const stream of streams) await stream.equalsView();
  });
