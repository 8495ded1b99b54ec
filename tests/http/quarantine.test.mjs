/*
 * A session whose records cannot be read back: it alone is shut away, with the reason, everything
 * else goes on, and an operator brings it back. And memory that runs short, as clients see it.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { expect, refused, serve, serving, until } from './harness.mjs';

/** In all files of the directory `from` becomes `to`, of the same length. How often. */
function replace(directory, from, to) {
  let n = 0;
  for (const name of readdirSync(directory).filter((f) => f.startsWith('segment'))) {
    const path = join(directory, name);
    const bytes = readFileSync(path);
    const before = n;
    for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1), n++)
      bytes.write(to, at);
    if (n !== before) writeFileSync(path, bytes, { flag: 'r+' });
  }
  return n;
}

async function quarantined(server) {
  const { shards } = expect(await server.get('/v1/status'), 200).json;
  return shards.flatMap((shard) => shard.quarantine);
}

describe('a session whose records have rotted', () => {
  const server = serving({ args: ['--shards', '2', '--idle-passivate', '20ms'] });
  let sid;
  let other;
  let view;

  it('is shut away with the reason, and everything else goes on', async () => {
    sid = await server.session();
    other = await server.session();
    await server.say(sid, 'ann', 'something precious');
    view = await server.view(sid);
    await server.restart();
    assert.ok(replace(server.data, 'something precious', 'Something precious') > 0);
    const problem = refused(await server.get(`/v1/sessions/${sid}`), 503, 'quarantined');
    assert.match(problem.detail, /cannot be read back/);
    refused(await server.post(`/v1/sessions/${sid}/threads/general/messages`,
      { sender: 'ann', content: 'x' }), 503, 'quarantined');
    refused(await server.get(`/v1/sessions/${sid}/stream`), 503, 'quarantined');
    // Looked at and not written to: the log writes its last block again, and would repair it.
    assert.equal((await server.view(other)).seq, 4);
    const { sessions } = expect(await server.get('/v1/sessions'), 200).json;
    assert.deepEqual(sessions.map((s) => s.id), [other]);
  });

  it('is in the status', async () => {
    const [found, ...more] = await quarantined(server);
    assert.equal(found.session, sid);
    assert.match(found.reason, /cannot be read back/);
    assert.deepEqual(more, []);
  });

  it('stays there while a rebuild finds the same', async () => {
    refused(await server.post(`/v1/sessions/${sid}/rebuild`), 503, 'quarantined');
    assert.equal((await quarantined(server)).length, 1);
  });

  it('is back when a rebuild can read it', async () => {
    replace(server.data, 'Something precious', 'something precious');
    assert.deepEqual(expect(await server.post(`/v1/sessions/${sid}/rebuild`), 200).json,
      { session: sid, epoch: view.epoch, seq: view.seq, rebuilt: true });
    assert.deepEqual(await server.view(sid), view);
    assert.deepEqual(await quarantined(server), []);
    for (const each of [sid, other]) await server.say(each, 'ann', 'on');
  });
});

describe('a rebuild', () => {
  const server = serving({ args: ['--shards', '2'] });

  it('does nothing to a session that is well, nor to who watches it', async () => {
    const sid = await server.session();
    const stream = server.stream(sid);
    await stream.reach(4);
    const waiting = server.inbox(sid, 'bob', '?wait=50');
    const view = await server.view(sid);
    expect(await server.post(`/v1/sessions/${sid}/rebuild`), 200);
    assert.deepEqual(await server.view(sid), view);
    await server.say(sid, 'ann', 'for bob');
    assert.equal((await waiting).messages[0].content, 'for bob');
    await stream.equalsView();
    assert.equal(stream.log.filter((e) => e.event === 'snapshot').length, 1);
    stream.close();
  });

  it('is of a session that there is, and has no body', async () => {
    refused(await server.post('/v1/sessions/nobody/rebuild'), 404, 'unknown-session');
    const sid = await server.session();
    refused(await server.post(`/v1/sessions/${sid}/rebuild`, { force: true }), 400, 'malformed');
  });
});

it('where nearly all memory is in use reading goes on, and nothing is written', async (t) => {
  const server = await serve(t, { args: ['--shards', '1'] });
  const sid = await server.session();
  await server.restart(['--shards', '1', '--memory-limit', '1MiB']);
  const say = () => server.post(`/v1/sessions/${sid}/threads/general/messages`,
    { sender: 'ann', content: 'x' });
  await until(async () => (await say()).status === 503, 'a look at the memory');
  const answer = await say();
  assert.match(refused(answer, 503, 'unavailable').detail, /memory/);
  assert.match(answer.headers['retry-after'], /^[1-9]/);
  refused(await server.put('/v1/sessions/new', {}), 503, 'unavailable');
  assert.equal((await server.view(sid)).state.status, 'open');
  await server.restart(['--shards', '1']);
  expect(await say(), 201);
});

it('a session has as many watchers on a reactor as it may, and no more', async (t) => {
  const server = await serve(t, { args: ['--shards', '1', '--max-session-watchers', '2'] });
  const [sid, other] = [await server.session(), await server.session()];
  const streams = [server.stream(sid), server.stream(sid)];
  for (const stream of streams) await stream.reach(4);
  const problem = refused(await server.get(`/v1/sessions/${sid}/stream`), 429, 'too-many');
  assert.match(problem.detail, /max-session-watchers: 2/);
  const elsewhere = server.stream(other);
  await elsewhere.reach(4);
  streams[0].close();
  await until(async () => (await server.get('/v1/status')).json.reactors[0].streams === 2,
    'the end of a stream');
  const next = server.stream(sid);
  await next.reach(4);
  for (const stream of [next, elsewhere, streams[1]]) stream.close();
});

it('a session has as many events as it may, and can be read and deleted', async (t) => {
  const server = await serve(t, { args: ['--shards', '1', '--max-session-events', '6'] });
  const sid = await server.session(); // 4 events
  for (let n = 0; n < 2; n++) await server.say(sid, 'ann', `${n}`);
  const problem = refused(await server.post(`/v1/sessions/${sid}/threads/general/messages`,
    { sender: 'ann', content: 'x' }), 409, 'refused');
  assert.match(problem.detail, /max-session-events: 6/);
  assert.equal((await server.view(sid)).seq, 6);
  expect(await server.delete(`/v1/sessions/${sid}`), 204);
});
