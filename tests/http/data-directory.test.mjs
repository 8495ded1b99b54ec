/*
 * The data directory: what is not ours is left alone, and what is ours survives other shards and
 * another way to write.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Server, canonical, expect, remove, run, serve, temporaryDirectory } from './harness.mjs';

describe('a data directory', () => {
  const refuses = async (data, args = []) => {
    const { code, stdout, stderr } =
      await run(['serve', '--listen', '127.0.0.1:0', '--data', data, ...args]);
    assert.ok(code > 0, `code ${code}`);
    assert.equal(stdout, '');
    assert.ok(stderr.includes(data), `the directory is named in: ${stderr}`);
    return stderr;
  };

  it('that is not ours is left as it was', async () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, 'letters.txt'), 'private');
    await refuses(directory);
    assert.deepEqual(readdirSync(directory), ['letters.txt']);
    remove(directory);
  });

  it('that is empty or not there yet is taken', async (t) => {
    const directory = temporaryDirectory();
    mkdirSync(join(directory, 'empty'));
    for (const name of ['empty', 'absent']) {
      const server = await new Server({ data: join(directory, name) }).start();
      await server.session();
      await server.stop();
    }
    t.after(() => remove(directory));
  });

  it('that is a file, or below one, is refused', async () => {
    const directory = temporaryDirectory();
    const path = join(directory, 'file');
    writeFileSync(path, 'text');
    await refuses(path);
    await refuses(join(path, 'below'));
    assert.equal(readFileSync(path, 'utf8'), 'text');
    remove(directory);
  });

  it('that another process uses is refused, and the other goes on', async (t) => {
    const server = await serve(t);
    const sid = await server.session();
    assert.match(await refuses(server.data), /lock|use/i);
    await server.say(sid, 'ann', 'still here');
  });
});

/** Sessions with something of everything, and what they are known to hold. */
async function fill(server, count) {
  const known = [];
  for (let n = 0; n < count; n++) {
    const sid = await server.session();
    const keyed = { headers: { 'idempotency-key': 'once' } };
    const sent = expect(await server.post(`/v1/sessions/${sid}/threads/general/messages`,
      { sender: 'ann', content: `${n}` }, keyed), 201);
    const stream = server.stream(sid);
    await stream.equalsView();
    stream.close();
    known.push({ sid, keyed, sent, stream, n });
  }
  const gone = await server.session();
  expect(await server.delete(`/v1/sessions/${gone}`), 204);
  return { known, gone };
}

/** Fails unless all of it is still there, and goes on. */
async function holds(server, { known, gone }) {
  for (const k of known) {
    const again = expect(await server.post(`/v1/sessions/${k.sid}/threads/general/messages`,
      { sender: 'ann', content: `${k.n}` }, k.keyed), 201);
    assert.equal(again.headers['idempotent-replayed'], 'true');
    assert.deepEqual(again.json, k.sent.json);
    const view = await server.view(k.sid);
    assert.equal(view.epoch, k.stream.epoch);
    assert.equal(view.seq, k.stream.seq);
    assert.equal(canonical(view.state), canonical(k.stream.state));
    await server.say(k.sid, 'bob', 'on and on');
    const { id, state, seq, epoch } = k.stream;
    k.stream = server.stream(k.sid, { lastEventId: id, state, seq, epoch });
    await k.stream.equalsView();
    assert.ok(k.stream.log.every((e) => e.event === 'patch'),
      'the stream went on without a snapshot');
    k.stream.close();
  }
  expect(await server.get(`/v1/sessions/${gone}`), 404);
  assert.equal(await server.total('sessions'), known.length);
}

it('another number of shards loses nothing', async (t) => {
  const server = await serve(t, { args: ['--shards', '2'] });
  const filled = await fill(server, 12);
  for (const shards of ['1', '3', '3', '2']) {
    await server.restart(['--shards', shards]);
    assert.equal((await server.status()).shards.length, Number(shards));
    await holds(server, filled);
    filled.known.push(...(await fill(server, 1)).known);
  }
});

it('a session deleted and made again is the new one after every restart', async (t) => {
  const server = await serve(t, { args: ['--shards', '2'] });
  const sid = await server.session();
  await server.say(sid, 'ann', 'the first life');
  expect(await server.delete(`/v1/sessions/${sid}`), 204);
  await server.session(['zoe'], { sid });
  const view = await server.view(sid);
  for (const shards of ['1', '3']) {
    await server.restart(['--shards', shards]);
    assert.deepEqual(await server.view(sid), view);
  }
  await server.kill();
  await server.start();
  assert.deepEqual(await server.view(sid), view);
});

it('either way to write reads what the other wrote', async (t) => {
  const server = await serve(t, { args: ['--io', 'posix'] });
  assert.equal((await server.status()).io, 'posix');
  const filled = await fill(server, 4);
  await server.kill();
  const refusal = await server.start(['--io', 'uring']).then(() => undefined, (error) => error);
  if (refusal) { // many containers refuse it
    assert.match(refusal.message, /io_uring/, 'the message says so');
    t.diagnostic('io_uring is refused here');
    await server.start(['--io', 'auto']);
  }
  assert.equal((await server.status()).io, refusal ? 'posix' : 'uring');
  await holds(server, filled);
  await server.restart(['--io', 'posix']);
  await holds(server, filled);
});

it('relaxed durability keeps what a kill of the process leaves', async (t) => {
  const server = await serve(t, { args: ['--durability', 'relaxed'] });
  const filled = await fill(server, 4);
  await server.kill();
  await server.start();
  await holds(server, filled);
});
