/*
 * What the server says for people: lines of JSON on standard error, by their level, which can be
 * changed while it runs; requests known by their id; and never anything secret.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { expect, refused, remove, run, serve, temporaryDirectory, until } from './harness.mjs';

const PARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';

/** All whole lines so far; fails on one that is no JSON, or lacks what all have. */
function lines(server) {
  return server.stderr.split('\n').slice(0, -1).map((text) => {
    const line = JSON.parse(text);
    assert.match(line.ts, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, text);
    assert.ok(['error', 'warn', 'info', 'debug'].includes(line.level), text);
    assert.match(line.event, /^[a-z][a-z0-9_]*$/, text);
    return line;
  });
}

const find = (server, wanted) => until(() => lines(server).find(wanted), `${wanted}`);
const setLevel = (server, level) => server.put('/v1/log-level', { level });

describe('the log', () => {
  it('begins with what is being served', async (t) => {
    const server = await serve(t, { args: ['--shards', '1'] });
    const ready = await find(server, (l) => l.event === 'ready');
    assert.equal(ready.level, 'info');
    assert.equal(ready.url, server.url);
    assert.deepEqual([ready.shards, ready.data], [1, server.data]);
  });

  it('has a line for each request at debug, and none above', async (t) => {
    const server = await serve(t);
    expect(await server.get('/v1/sessions'), 200);
    assert.equal(expect(await setLevel(server, 'debug'), 200).json.level, 'debug');
    assert.equal(expect(await server.get('/v1/log-level'), 200).json.level, 'debug');
    const body = { session: 'talk' };
    expect(await server.post('/v1/sessions', body), 201);
    expect(await server.get('/v1/sessions/talk?path=/agents'), 200);
    const made = await find(server, (l) => l.method === 'POST');
    assert.deepEqual([made.event, made.level, made.path, made.status],
      ['request', 'debug', '/v1/sessions', 201]);
    assert.ok(made.us >= 0 && made.bytes > 0 && made.request_id.length > 0);
    await find(server, (l) => l.path === '/v1/sessions/talk');
    expect(await setLevel(server, 'warn'), 200);
    const told = lines(server).filter((l) => l.event === 'request').length;
    expect(await server.get('/v1/sessions'), 200);
    expect(await setLevel(server, 'info'), 200); // told, so that all before it is there, too
    await until(() => lines(server).filter((l) => l.event === 'log_level_changed').length === 3);
    assert.equal(lines(server).filter((l) => l.event === 'request').length, told);
    assert.ok(lines(server).every((l) => l.path !== '/v1/sessions' || l.method !== 'GET'));
  });

  it('takes its level from the options, and refuses those that there are not', async (t) => {
    const server = await serve(t, { args: ['--log-level', 'error'] });
    assert.equal(expect(await server.get('/v1/log-level'), 200).json.level, 'error');
    assert.equal(server.stderr, '');
    for (const level of ['loud', '', 3, null])
      refused(await setLevel(server, level), 400, 'malformed', 'level');
    refused(await server.put('/v1/log-level', {}), 400, 'malformed', 'level');
    assert.equal(expect(await server.get('/v1/log-level'), 200).json.level, 'error');
    const { code, stderr } = await run(['serve', '--log-level', 'loud']);
    assert.equal(code, 2);
    assert.match(stderr, /log-level.*loud.*error.*warn.*info.*debug/);
  });

  it('says when the same comes too often, and how often', async (t) => {
    const server = await serve(t);
    for (let n = 0; n < 60; n++)
      expect(await setLevel(server, 'info'), 200);
    const sum = () => lines(server).reduce((n, l) =>
      n + (l.event === 'log_level_changed' ? 1
        : l.of === 'log_level_changed' ? l.lines : 0), 0);
    await until(() => sum() === 60);
  });
});

describe('the id of a request', () => {
  it('is the one that it brings, which the answer has too', async (t) => {
    const server = await serve(t, { args: ['--log-level', 'debug'] });
    const get = (headers, path = '/v1/sessions') => server.get(path, { headers });
    const id = async (headers, path) => (await get(headers, path)).headers['x-request-id'];
    assert.equal(await id({ 'x-request-id': 'abc/1.2' }), 'abc/1.2');
    await find(server, (l) => l.request_id === 'abc/1.2');
    assert.equal(await id({ 'x-request-id': 'abc', traceparent: PARENT }), 'abc');
    assert.equal(await id({}), undefined);
    assert.equal(await id({ traceparent: PARENT }), undefined);
    await find(server, (l) => l.request_id === TRACE);
    assert.equal(await id({ traceparent: PARENT }, '/v1/nothing'), TRACE);
    const longest = 'x'.repeat(128);
    assert.equal(await id({ 'x-request-id': longest }), longest);
    for (const bad of ['x'.repeat(129), 'a b', 'caf\u00e9'])
      assert.equal(await id({ 'x-request-id': bad }), undefined, bad);
  });

  it('is made where a refusal has none, each another', async (t) => {
    const server = await serve(t, { args: ['--log-level', 'debug'] });
    const ids = new Set();
    for (let n = 0; n < 20; n++) {
      const answer = await server.get('/v1/sessions/nobody');
      const made = refused(answer, 404, 'unknown-session') && answer.headers['x-request-id'];
      assert.match(made, /^\S{1,128}$/);
      ids.add(made);
      await find(server, (l) => l.request_id === made && l.status === 404);
    }
    assert.equal(ids.size, 20);
  });

  it('of a traceparent goes into the events of commands that name none', async (t) => {
    const server = await serve(t);
    const sid = await server.session();
    const send = async (command, traceparent = PARENT) => {
      const answer = expect(await server.command(sid, command, { headers: { traceparent } }), 200);
      return answer.json.events[0].trace;
    };
    const note = (n, more) => ({ type: 'agent.update', agent: 'ann', note: `${n}`, ...more });
    assert.equal(await send(note(1)), TRACE);
    assert.equal(await send(note(2, { trace: 'mine' })), 'mine');
    for (const [n, bad] of [PARENT.slice(1), PARENT.replace('4bf', 'XYZ'), `${PARENT}-more`,
      PARENT.replace(TRACE, '0'.repeat(32)), PARENT.replace('00-', 'ff-')].entries())
      assert.equal(await send(note(`bad${n}`), bad), undefined, bad);
    assert.equal(await send(note(3), `01${PARENT.slice(2)}-more`), TRACE, 'a later version');
    const parts = await server.command(sid, [note(4), note(5, { trace: 'own' })],
      { headers: { traceparent: PARENT } });
    assert.deepEqual(expect(parts, 200).json.results.map((r) => r.status), [200, 200]);
    const { json: { events } } = expect(await server.get(`/v1/sessions/${sid}/events`), 200);
    assert.deepEqual(events.slice(-2).map((e) => e.trace), [TRACE, 'own']);
  });
});

describe('secrets', () => {
  it('are in no line: not what a query says, nor a header', async (t) => {
    const server = await serve(t, { args: ['--log-level', 'debug'] });
    const headers = { authorization: 'Bearer s3cr3t-token', cookie: 'atoll=s3cr3t-cookie' };
    await server.get('/v1/sessions/one?path=/s3cr3t-path', { headers });
    await server.get('/v1/nothing?ticket=s3cr3t-ticket', { headers });
    await find(server, (l) => l.path === '/v1/nothing');
    assert.ok(!server.stderr.includes('s3cr3t'), server.stderr);
  });
});

describe('the audit log', () => {
  it('is made for its owner alone, tells who and what, and begins anew after a rotation', async (t) => {
    const directory = temporaryDirectory();
    t.after(() => remove(directory));
    const path = join(directory, 'audit.log');
    const key = join(directory, 'key');
    writeFileSync(key, 'k'.repeat(32));
    const server = await serve(t, { args: ['--audit-log', path, '--auth-key', key] });
    const { stdout } = await run(['token', '--key', key, '--sub', 'boss', '--sid', '*',
      '--scope', 'admin']);
    const headers = { authorization: `Bearer ${stdout.trim()}` };
    const told = (file = path) => readFileSync(file, 'utf8').split('\n').slice(0, -1).map(JSON.parse);
    const first = (file) => until(() => told(file).length > 0 && told(file)[0]);

    assert.equal(statSync(path).mode & 0o777, 0o600);
    expect(await server.put('/v1/log-level', { level: 'warn' }, { headers }), 200);
    const act = await first();
    assert.deepEqual([act.event, act.method, act.path, act.sub],
      ['admin_act', 'PUT', '/v1/log-level', 'boss']);
    assert.ok(act.request_id);
    renameSync(path, `${path}.1`);
    server.child.kill('SIGHUP');
    await until(() => existsSync(path));
    refused(await server.get('/metrics', { headers: { authorization: 'Bearer x.y.z' } }), 401,
      'unauthorized');
    const refusal = await first();
    assert.deepEqual([refusal.event, refusal.status, refusal.path], ['refused', 401, '/metrics']);
    assert.equal(told(`${path}.1`).length, 1);
    assert.ok(!lines(server).some((l) => ['admin_act', 'refused'].includes(l.event)));
    const counted = expect(await server.get('/metrics', { headers }), 200).text;
    assert.match(counted, /^atoll_tokens_refused_total\{reason="malformed"\} 1$/m);
    assert.ok(!(readFileSync(path, 'utf8') + server.stderr).includes('Bearer'));
  });

  it('that cannot be written keeps the server from starting', async () => {
    const { code, stderr } = await run(['serve', '--listen', '127.0.0.1:0', '--audit-log',
      '/nowhere/audit.log']);
    assert.equal(code, 1);
    assert.equal(stderr,
      'atoll: cannot write the audit log /nowhere/audit.log: No such file or directory\n');
  });
});
