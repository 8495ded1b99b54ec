/*
 * Fair shares: what one token, or one address, may ask for; how it is told; and that a flood of one
 * harms no other. Rates are by the hour where a test must not depend on how quick it is.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import WebSocket from 'ws';
import { expect, ndjson, refused, NDJSON, serve, until, within } from './harness.mjs';
import { Keys, as } from './tokens.mjs';

async function limited(t, rates, options = {}) {
  const keys = new Keys();
  t.after(() => keys.remove());
  const server = await serve(t,
    { ...options, args: ['--auth-key', keys.file, '--shards', '2', ...rates] });
  const caller = (sub) => as(server, keys.token(sub, '*', 'read write admin'));
  return { server, keys, caller };
}

/** "token";r=9;t=3 → { token: { r: 9, t: 3 } } */
const parse = (value) => Object.fromEntries((value ?? '').split(', ').filter(Boolean).map((item) => {
  const [name, ...fields] = item.split(';');
  return [JSON.parse(name), Object.fromEntries(fields.map((f) => f.split('='))
    .map(([k, v]) => [k, Number(v)]))];
}));

function assertTooMany(answer, whose,
  detail = new RegExp(`^This ${whose} has used up its rate`)) {
  const problem = refused(answer, 429, 'too-many');
  assert.match(problem.detail, detail);
  assert.match(answer.headers['retry-after'], /^[1-9]\d*$/);
  assert.equal(problem.retry_after, Number(answer.headers['retry-after']));
  const { r, t } = parse(answer.headers.ratelimit)[whose];
  assert.equal(r, 0);
  assert.ok(t >= problem.retry_after);
  return problem.retry_after;
}

const open = async (server, path, headers) => {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}${path}`, 'atoll.v1', { headers });
  socket.answers = [];
  socket.on('message', (text) => {
    const message = JSON.parse(text);
    if (message.ref !== undefined) socket.answers.push(message);
  });
  await within(once(socket, 'open'), 'an open socket');
  return socket;
};

describe('the rate of a token', () => {
  it('lets through what it says, tells what is left, and then says when to come back', async (t) => {
    const { caller } = await limited(t, ['--rate-token', '10/h']);
    const [ann, bob] = [caller('ann'), caller('bob')];
    for (let left = 9; left >= 0; left--) {
      const answer = expect(await ann.get('/v1/sessions'), 200);
      assert.equal(parse(answer.headers.ratelimit).token.r, left);
      assert.deepEqual(parse(answer.headers['ratelimit-policy']), { token: { q: 10, w: 3600 } });
    }
    const wait_s = assertTooMany(await ann.get('/v1/sessions'), 'token');
    assert.ok(wait_s > 300 && wait_s <= 360, `${wait_s} s`);
    assertTooMany(await ann.put('/v1/sessions/one', {}), 'token');
    expect(await bob.get('/v1/sessions'), 200); // another token
    expect(await bob.get('/v1/sessions/one'), 404);
    for (const path of ['/healthz', '/readyz', '/openapi.yaml'])
      assert.equal((await ann.get(path, { check: false })).status, 200, path);
  });

  it('is one over all connections, reactors and sessions', async (t) => {
    const { server, caller } = await limited(t, ['--rate-token', '30/h']);
    const ann = caller('ann');
    const answers = await Promise.all(Array.from({ length: 60 }, (_, n) =>
      ann.get(`/v1/sessions/s${n}`, { headers: { connection: 'close' } })));
    assert.equal(answers.filter((a) => a.status === 404).length, 30);
    assert.equal(answers.filter((a) => a.status === 429).length, 30);
    server.agent.destroy();
    assertTooMany(await ann.get('/v1/sessions'), 'token');
  });

  it('comes back with time', async (t) => {
    const { caller } = await limited(t, ['--rate-token', '2/s']);
    const ann = caller('ann');
    let told;
    await until(async () => {
      const answer = await ann.get('/v1/sessions');
      if (answer.status === 429) told = assertTooMany(answer, 'token');
      return told;
    }, 'a refusal');
    await delay(told * 1000); // what is promised is just this
    expect(await ann.get('/v1/sessions'), 200);
  });

  it('counts each command of a batch, which is taken whole and then paid off', async (t) => {
    const { caller } = await limited(t, ['--rate-token', '20/h']);
    const ann = caller('ann');
    const batch = [{ type: 'session.create' },
      ...Array.from({ length: 49 }, (_, n) => ({ type: 'agent.register', agent: `a${n}` }))];
    const answer = expect(await ann.post('/v1/sessions/one/commands', ndjson(batch),
      { type: NDJSON }), 200);
    assert.ok(answer.json.results.every((r) => r.status !== 429));
    const wait_s = assertTooMany(await ann.get('/v1/sessions/one'), 'token');
    assert.ok(wait_s > 30 * 180, `${wait_s} s: 31 too many, at 180 s each`);
  });

  it('counts messages on a WebSocket, and answers those that are too many', async (t) => {
    const { server, caller, keys } = await limited(t, ['--rate-token', '12/h']);
    const bob = caller('bob');
    await bob.session();
    const headers = { authorization: `Bearer ${keys.token('ann', '*', 'read write')}` };
    expect(await bob.put('/v1/sessions/one', {}), 201);
    const socket = await open(server, '/v1/sessions/one/ws', headers);
    t.after(() => socket.terminate());
    for (let ref = 1; ref <= 15; ref++)
      socket.send(JSON.stringify({ ref, type: 'session.update', labels: { n: `${ref}` } }));
    await until(() => socket.answers.length === 15, 'fifteen answers');
    assert.deepEqual(socket.answers.map((a) => a.ref), [...Array(15).keys()].map((n) => n + 1));
    assert.deepEqual(socket.answers.map((a) => a.status),
      [...Array(11).fill(200), ...Array(4).fill(429)]); // one was the upgrade
    const { error } = socket.answers[14];
    assert.equal(error.type, '/problems/too-many');
    assert.ok(error.retry_after > 0);
    assert.equal(expect(await bob.get('/v1/sessions/one'), 200).json.state.labels.n, '11');
  });

  it('can change while the server runs, and is forgiven what the old one was owed', async (t) => {
    const { writeFileSync } = await import('node:fs');
    const keys = new Keys();
    t.after(() => keys.remove());
    const file = join(keys.directory, 'atoll.yaml');
    const rate = (text) => writeFileSync(file, `auth_key: ["${keys.file}"]\nrate_token: ${text}\n`);
    rate('2/h');
    const server = await serve(t, { args: ['--config', file] });
    const ann = as(server, keys.token('ann', '*', 'read'));
    expect(await ann.get('/v1/sessions'), 200);
    expect(await ann.get('/v1/sessions'), 200);
    assertTooMany(await ann.get('/v1/sessions'), 'token');
    rate('1000/h');
    server.child.kill('SIGHUP');
    const answer = await until(async () => {
      const got = await ann.get('/v1/sessions');
      return got.status === 200 && got;
    }, 'the new rate');
    assert.equal(parse(answer.headers['ratelimit-policy']).token.q, 1000);
    rate('none');
    server.child.kill('SIGHUP');
    await until(async () => (await ann.get('/v1/sessions')).headers.ratelimit === undefined,
      'no rate');
  });
});

describe('the rate of an address', () => {
  it('holds for what is refused, too', async (t) => {
    const server = await serve(t, { args: ['--rate-address', '6/h'] });
    refused(await server.get('/nowhere', { check: false }), 404, 'unknown-route');
    refused(await server.get('/v1/sessions?limit=x'), 400, 'malformed');
    refused(await server.get('/v1/sessions', { headers: { host: 'elsewhere' } }), 403,
      'forbidden-host');
    refused(await server.get('/v1/sessions', { headers: { origin: 'http://elsewhere' } }), 403,
      'forbidden-origin');
    refused(await server.delete('/v1/sessions'), 405, 'method-not-allowed');
    refused(await server.get('/v1/sessions/nobody'), 404, 'unknown-session');
    for (const path of ['/nowhere', '/v1/sessions?limit=x', '/v1/sessions'])
      assertTooMany(await server.get(path, { check: false }), 'address');
    expect(await server.get('/healthz'), 200);
  });

  it('holds for all its tokens together, and for those that have none', async (t) => {
    const { server, caller } = await limited(t, ['--rate-address', '6/h']);
    for (const sub of ['ann', 'bob']) {
      expect(await caller(sub).get('/v1/sessions'), 200);
      expect(await caller(sub).get('/v1/sessions'), 200);
    }
    refused(await server.get('/v1/sessions'), 401, 'unauthorized');
    refused(await as(server, 'not.a.token').get('/v1/sessions'), 401, 'unauthorized');
    assertTooMany(await caller('ann').get('/v1/sessions'), 'address');
    assertTooMany(await server.get('/v1/sessions'), 'address'); // no token is looked at any more
    expect(await server.get('/readyz'), 200);
  });

  it('holds where there are no keys, and tells both rates where there are two', async (t) => {
    const open = await serve(t, { args: ['--rate-address', '5/h', '--rate-token', '5/h'] });
    const answer = expect(await open.get('/v1/sessions'), 200);
    assert.deepEqual(Object.keys(parse(answer.headers.ratelimit)), ['address']);
    const { caller } = await limited(t, ['--rate-address', '50/h', '--rate-token', '5/h']);
    const both = expect(await caller('ann').get('/v1/sessions'), 200);
    assert.deepEqual(parse(both.headers['ratelimit-policy']),
      { token: { q: 5, w: 3600 }, address: { q: 50, w: 3600 } });
    assert.equal(parse(both.headers.ratelimit).address.r, 49);
  });

  it('is none on a Unix socket', async (t) => {
    const path = join('/tmp', `atoll-rates-${process.pid}.sock`);
    const server = await serve(t, { listen: [`unix:${path}`], args: ['--rate-address', '1/h'] });
    for (let n = 0; n < 5; n++)
      expect(await server.get('/v1/sessions', { socketPath: path }), 200);
  });
});

it('the rate of a session holds for all its writers, and for no other session', async (t) => {
  const { caller } = await limited(t, ['--rate-session', '20/h']);
  const [ann, bob] = [caller('ann'), caller('bob')];
  for (const sid of ['one', 'two']) expect(await ann.put(`/v1/sessions/${sid}`, {}), 201);
  const patch = (who, sid, n) => who.patch(`/v1/sessions/${sid}`, { labels: { n: `${n}` } });
  let refusal;
  let written = 0;
  for (let n = 0; n < 60 && !refusal; n++) {
    const answer = await patch(n % 2 ? ann : bob, 'one', n);
    if (answer.status === 429) refusal = answer;
    else written += expect(answer, 200).status === 200;
  }
  assert.equal(written, 19); // and the session's own beginning
  assertTooMany(refusal, 'session', /session/);
  assert.deepEqual(parse(refusal.headers['ratelimit-policy']), { session: { q: 20, w: 3600 } });
  assert.equal((await patch(ann, 'one', 'x')).status, 429);
  expect(await patch(ann, 'two', 'x'), 200);
  expect(await ann.get('/v1/sessions/one'), 200); // reads are no commands
});

it('without rates answers say nothing of them', async (t) => {
  const server = await serve(t);
  const { headers } = expect(await server.get('/v1/sessions'), 200);
  assert.equal(headers.ratelimit, undefined);
  assert.equal(headers['ratelimit-policy'], undefined);
});

it('a flood of one token leaves another one its answers', async (t) => {
  const { server, caller, keys } = await limited(t, ['--rate-token', '200/s']);
  const [ann, bob] = [caller('ann'), caller('bob')];
  const sid = await bob.session();
  let flooding = true;
  const counts = { 200: 0, 429: 0 };
  const token = keys.token('ann', '*', 'read');
  const flood = Array.from({ length: 8 }, async () => {
    while (flooding) {
      const { status } = await server.get('/v1/sessions',
        { headers: { authorization: `Bearer ${token}` }, check: false });
      counts[status]++;
    }
  });
  await until(() => counts[429] > 100, 'a flood that is refused');
  const taken = [];
  for (let n = 0; n < 50; n++) {
    const began = performance.now();
    await bob.say(sid, 'bob', `${n}`);
    taken.push(performance.now() - began);
  }
  flooding = false;
  await Promise.all(flood);
  taken.sort((a, b) => a - b);
  t.diagnostic(`bob's slowest of 50: ${taken[49].toFixed(1)} ms, with ${counts[429]} refusals to the other`);
  assert.equal((await bob.events(sid)).filter((e) => e.type === 'message.sent').length, 50);
  expect(await until(async () => {
    const answer = await ann.get('/v1/sessions');
    return answer.status === 200 && answer;
  }, "ann's own token, which is another one"), 200);
});
