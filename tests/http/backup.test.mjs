/*
 * A backup is taken while the server is written to. It holds what had been acknowledged before it
 * was begun, and of what came after a beginning, in every session; with every fork and all that the
 * fork needs; and whether that is so is said by `atoll verify`, and by a server on the copy.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Server, assertNoSanitizerReport, expect, newId, remove, run, serve, serving,
  temporaryDirectory, until } from './harness.mjs';

// Small enough for segments to be filled, checkpoints taken and segments rewritten meanwhile.
const SMALL = ['--shards', '2', '--max-body', '64KiB', '--max-batch-bytes', '256KiB',
  '--segment-size', '2MiB', '--checkpoint-bytes', '1MiB', '--compact-after', '0ms'];
const CONTENT = 'x'.repeat(3000);

const backup = (server, to) => run(['backup', to, '--data', server.data], { ms: 60000 });
const verify = (data) => run(['verify', data], { ms: 60000 });

async function isWell(data) {
  const { code, stdout, stderr } = await verify(data);
  assert.equal(code, 0, stderr);
  assertNoSanitizerReport(stderr);
  assert.match(stdout, /is well/);
  return Object.fromEntries([...stdout.matchAll(/^ {2}(\w+) +(\d+)/gm)]
    .map(([, name, count]) => [name, Number(count)]));
}

/** Writes messages, forks and deletes until it is told to stop. */
class Writer {
  constructor(server, sids) {
    Object.assign(this, { server, sids, said: [], forks: [], count: 0, stopped: false });
  }

  async run() {
    for (; !this.stopped; this.count++) {
      const sid = this.sids[this.count % this.sids.length];
      const { id } = await this.server.say(sid, 'ann', `${this.count} ${CONTENT}`);
      this.said.push({ sid, id });
      if (this.count % 5 === 4)
        this.forks.push((await this.server.fork(sid, { session: newId('fork') })).session);
      if (this.count % 35 === 34) {
        const gone = this.forks.shift();
        expect(await this.server.delete(`/v1/sessions/${gone}`), 204);
      }
    }
  }
}

const messages = (events) => events.filter((e) => e.type === 'message.sent').map((e) => e.id);

/** What a server on the copy serves: all of `before`, and no session with a gap. */
async function serves(copy, sids, before, forks) {
  const kept = new Map();
  for (const sid of sids) {
    const events = await copy.events(sid);
    events.forEach((event, n) => assert.equal(event.seq, n + 1, `seq without a gap in ${sid}`));
    kept.set(sid, new Set(messages(events)));
    assert.equal((await copy.view(sid)).seq, events.length);
  }
  for (const { sid, id } of before) assert.ok(kept.get(sid).has(id), `${id} of ${sid}`);
  for (const fork of forks) {
    const { seq, state } = await copy.view(fork);
    assert.ok(state.parent.seq < seq);
    assert.equal((await copy.events(fork)).length, seq);
  }
}

it('a backup of a server that is being written to is consistent', async (t) => {
  const server = await serve(t, { args: SMALL });
  const sids = await Promise.all(Array.from({ length: 6 }, () => server.session()));
  const writers = Array.from({ length: 4 }, (_, n) =>
    new Writer(server, sids.slice(n).concat(sids.slice(0, n))));
  const running = Promise.all(writers.map((w) => w.run()));
  const copies = temporaryDirectory();
  t.after(() => remove(copies));
  const taken = [];
  for (let n = 0; n < 3; n++) {
    const least = writers.map((w) => w.count + 40);
    await until(() => writers.every((w, i) => w.count >= least[i]), 'some load', 60000);
    const before = writers.flatMap((w) => [...w.said]);
    const forks = new Set(writers.flatMap((w) => w.forks));
    const to = join(copies, `copy-${n}`);
    const { code, stdout, stderr } = await backup(server, to);
    assert.equal(code, 0, stderr);
    assertNoSanitizerReport(stderr);
    assert.match(stdout, /\d+ segments and \d+ checkpoints, \d+ bytes, in [\d.]+ s/);
    taken.push({ to, before, forks });
  }
  writers.forEach((w) => (w.stopped = true));
  await running;
  const alive = new Set(writers.flatMap((w) => w.forks));
  for (const { to, before, forks } of taken) {
    const counts = await isWell(to);
    assert.ok(counts.events >= before.length);
    const copy = await new Server({ data: to, args: SMALL }).start();
    try {
      await serves(copy, sids, before, [...forks].filter((fork) => alive.has(fork)));
      await copy.say(sids[0], 'bob', 'and goes on');
    } finally {
      await copy.stop();
    }
    await isWell(to);
  }
  await server.kill();
  await isWell(server.data);
  await server.start();
});

it('a session in a backup has other epochs than it goes on with in the source', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const copies = temporaryDirectory();
  t.after(() => remove(copies));
  const to = join(copies, 'copy');
  assert.equal((await backup(server, to)).code, 0);
  const copy = await new Server({ data: to }).start();
  const [here, there] = [await server.view(sid), await copy.view(sid)];
  assert.deepEqual(here.state, there.state);
  assert.notEqual(here.epoch, there.epoch);
  await copy.stop();
});

describe('a backup', () => {
  const server = serving();

  it('into a directory that holds something is refused', async () => {
    const to = temporaryDirectory();
    writeFileSync(join(to, 'letters'), 'private');
    const { code, stderr } = await backup(server, to);
    assert.equal(code, 1);
    assert.ok(stderr.includes(to) && /is not empty/.test(stderr), stderr);
    assert.deepEqual(readdirSync(to), ['letters']);
    remove(to);
  });

  it('of something that is no data directory is refused', async () => {
    const directory = temporaryDirectory();
    mkdirSync(join(directory, 'other'));
    const { code, stderr } =
      await run(['backup', join(directory, 'to'), '--data', join(directory, 'other')]);
    assert.equal(code, 1);
    assert.match(stderr, /other is no data directory/);
    remove(directory);
  });

  it('without a destination says how it is used', async () => {
    for (const args of [[], ['--data', 'x'], ['a', 'b'], ['a', '--unknown']]) {
      const { code, stderr } = await run(['backup', ...args]);
      assert.equal(code, 2);
      assert.match(stderr, /usage: atoll backup DEST \[--data DIR\]/);
    }
  });
});

describe('atoll verify', () => {
  /** A server that will be killed and not be started again. */
  async function shortLived(t, args) {
    const server = await new Server({ args }).start();
    t.after(() => {
      server.child.kill('SIGKILL');
      remove(server.directory);
    });
    return server;
  }

  it('does not touch a directory that a server uses', async (t) => {
    const server = await serve(t);
    const { code, stderr } = await verify(server.data);
    assert.equal(code, 1);
    assert.match(stderr, /being used by a server/);
  });

  it('counts what it has checked, and tells how far it is', async (t) => {
    const server = await serve(t, { args: ['--shards', '1'] });
    const sid = await server.session();
    await server.say(sid, 'ann', 'one');
    await server.fork(sid, {});
    await server.kill();
    const { stderr } = await verify(server.data);
    assert.match(stderr, /verified 50 %/);
    const counts = await isWell(server.data);
    assert.equal(counts.sessions, 2);
    assert.equal(counts.forks, 1);
    assert.equal(counts.pins, 1);
    await server.start();
  });

  it('names file, offset and session of a damaged record', async (t) => {
    const server = await shortLived(t, ['--shards', '1']);
    const sid = await server.session();
    await server.say(sid, 'ann', 'what was said');
    await server.say(sid, 'ann', 'and then'); // else it could be a batch that was never committed
    await server.kill();
    const name = readdirSync(server.data).find((n) => n.startsWith('segment-'));
    const path = join(server.data, name);
    const bytes = readFileSync(path);
    const at = bytes.indexOf('what was said');
    assert.ok(at > 0);
    bytes[at] ^= 1;
    writeFileSync(path, bytes);
    const { code, stderr } = await verify(server.data);
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`${name}, offset \\d+, session "${sid}", epoch \\d+, seq 5:`));
  });

  it('names a missing segment and the sessions that it hits', async (t) => {
    // One shard, so that there is a checkpoint: of sessions that nothing else names nobody knows.
    const server = await shortLived(t, [...SMALL, '--shards', '1']);
    const sids = await Promise.all(Array.from({ length: 16 }, () => server.session()));
    for (let n = 0; n < 400; n++) await server.say(sids[n % 16], 'ann', `${n} ${CONTENT}`);
    await server.kill();
    const name = readdirSync(server.data).filter((n) => n.startsWith('segment-')).sort()[0];
    rmSync(join(server.data, name));
    const { code, stderr } = await verify(server.data);
    assert.equal(code, 1);
    assert.ok(stderr.includes(`${name} is missing`), stderr);
    const [, hits] = stderr.match(/this hits (\d+) sessions/);
    assert.ok(hits >= 1 && hits <= 16, stderr);
    assert.ok(sids.some((sid) => stderr.includes(`\n  ${sid}\n`)), stderr);
  });
});
