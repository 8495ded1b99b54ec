/*
 * Under a service manager: the port that it holds refuses nobody while one process follows another;
 * it is told what it has to know; and load balancers get the time to see a stop. The unit files are
 * checked by systemd's own tools where these are.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BIN, assertNoSanitizerReport, cleanEnvironment, expect, remove, run, serve,
  start, temporaryDirectory, until, within } from './harness.mjs';

const MANAGER = fileURLToPath(new URL('manager.pl', import.meta.url));
const DEPLOY = fileURLToPath(new URL('../../deploy/', import.meta.url));

/** A server under the manager of manager.pl. */
async function managed(t, args = [], { env = {}, name = 'atoll' } = {}) {
  const directory = temporaryDirectory();
  const child = spawn('perl', [MANAGER, directory, name, BIN, 'serve', '--listen', 'fd:atoll',
    '--data', join(directory, 'data'), '--shards', '2', ...args],
  { env: cleanEnvironment(env), stdio: ['ignore', 'pipe', 'pipe'] });
  const service = { child, out: '', stderr: '', directory };
  child.stdout.setEncoding('utf8').on('data', (d) => (service.out += d));
  child.stderr.setEncoding('utf8').on('data', (d) => (service.stderr += d));
  service.exited = new Promise((done) => child.on('close', (code, signal) => done({ code, signal })));
  service.lines = (kind) => service.out.split('\n').filter((l) => l.startsWith(`${kind} `))
    .map((l) => l.slice(kind.length + 1).trim());
  service.told = (text) => service.lines('notify').filter((l) => l.includes(text));
  service.stop = async () => {
    child.kill('SIGTERM');
    const end = await within(service.exited, 'the end of server and manager').catch((error) => error);
    if (end instanceof Error) child.kill('SIGKILL');
    remove(directory);
    assertNoSanitizerReport(service.stderr);
    assert.deepEqual(end, { code: 0, signal: null }, service.stderr);
  };
  t.after(service.stop);
  service.port = Number((await until(() => service.lines('port')[0], 'the port')));
  service.pid = () => Number(service.lines('started').at(-1));
  service.ready = (times = 1) => until(() => service.told('READY=1').length >= times, `ready: ${times}`);
  await service.ready();
  return service;
}

/** One request on a connection of its own: {status, headers, json}, or {code} of what went wrong. */
function ask(port, method, path, body) {
  return within(new Promise((done) => {
    const request = http.request({ host: '127.0.0.1', port, method, path, agent: false,
      headers: body ? { 'content-type': 'application/json' } : {} }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (d) => (text += d))
        .on('end', () => done({ status: response.statusCode, headers: response.headers,
          json: text && JSON.parse(text) }))
        .on('error', ({ code }) => done({ code }));
    });
    request.on('error', ({ code }) => done({ code }));
    request.end(body && JSON.stringify(body));
  }), `the answer to ${method} ${path}`, 60_000);
}

async function makeSession(port) {
  const batch = [{ type: 'session.create' }, { type: 'agent.register', agent: 'ann' },
    { type: 'thread.create', thread: 'general', creator: 'ann', name: 'g', participants: [] }];
  assert.equal((await ask(port, 'POST', '/v1/sessions/one/commands', batch)).status, 200);
}

describe('a socket of the service manager', () => {
  for (const [how, signal, mayReset] of [['is told to stop', 'SIGTERM', false],
    ['is killed', 'SIGKILL', true]]) {
    it(`refuses nobody while a process ${how} and another follows`, async (t) => {
      const service = await managed(t);
      await makeSession(service.port);
      let done = false;
      const seen = {};
      let acknowledged = 0;
      const writers = Array.from({ length: 8 }, async () => {
        while (!done) {
          const { status, code, headers } = await ask(service.port, 'POST',
            '/v1/sessions/one/threads/general/messages', { sender: 'ann', content: 'x' });
          if (status === 201) acknowledged++;
          if (status === 503) assert.match(headers['retry-after'], /^\d+$/);
          seen[status ?? code] = (seen[status ?? code] ?? 0) + 1;
        }
      });
      for (let n = 1; n <= 4; n++) {
        const before = acknowledged;
        await until(() => acknowledged > before + 20, 'messages');
        process.kill(service.pid(), signal);
        await service.ready(n + 1);
      }
      const last = acknowledged;
      await until(() => acknowledged > last, 'a message after the last start');
      done = true;
      await Promise.all(writers);
      t.diagnostic(JSON.stringify(seen));
      const allowed = new Set(['201', '503', ...(mayReset ? ['ECONNRESET', 'EPIPE'] : [])]);
      for (const what of Object.keys(seen)) assert.ok(allowed.has(what), JSON.stringify(seen));
      const { json } = await ask(service.port, 'GET', '/v1/sessions/one/events?limit=1000');
      let kept = json.events.filter((e) => e.type === 'message.sent').length;
      for (let next = json.next; next !== null;) {
        const page = (await ask(service.port, 'GET',
          `/v1/sessions/one/events?limit=1000&after=${next}`)).json;
        kept += page.events.filter((e) => e.type === 'message.sent').length;
        next = page.next;
      }
      assert.ok(kept >= acknowledged, `${kept} kept of ${acknowledged}`);
      assert.equal(service.lines('started').length, 5);
    });
  }

  it('is one that is named, and none that nobody wants', async (t) => {
    const rows = [
      ['other', 'no (further) socket of the name "atoll"'],
      ['atoll:more', 'no (further) socket of the name "two"'],
    ];
    const directory = temporaryDirectory();
    t.after(() => remove(directory));
    for (const [names, why] of rows) {
      const script = 'LISTEN_PID=$$ exec "$@"';
      const listen = names.includes(':') ? ['--listen', 'fd:atoll', '--listen', 'fd:two'] :
        ['--listen', 'fd:atoll'];
      const server = net.createServer().listen(0, '127.0.0.1');
      await new Promise((up) => server.on('listening', up));
      const { status, stderr } = spawnSync('sh', ['-c', script, 'sh', BIN, 'serve', ...listen,
        '--data', join(directory, 'data')], { encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe', server._handle.fd],
        env: cleanEnvironment({ LISTEN_FDS: '1', LISTEN_FDNAMES: names }) });
      assert.equal(status, 1, stderr);
      assert.ok(stderr.includes(why), stderr);
      const unwanted = spawnSync('sh', ['-c', script, 'sh', BIN, 'serve', '--listen', '127.0.0.1:0',
        '--data', join(directory, 'data')], { encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe', server._handle.fd],
        env: cleanEnvironment({ LISTEN_FDS: '1', LISTEN_FDNAMES: 'web' }) });
      assert.equal(unwanted.status, 1, unwanted.stderr);
      assert.ok(unwanted.stderr.includes('the socket "web"'), unwanted.stderr);
      server.close();
    }
    const alone = await run(['serve', '--listen', 'fd:atoll', '--data', join(directory, 'data')],
      { env: { LISTEN_FDS: '1', LISTEN_PID: '1', LISTEN_FDNAMES: 'atoll' } }); // for another
    assert.equal(alone.code, 1);
    assert.match(alone.stderr, /no \(further\) socket of the name "atoll"/);
  });
});

describe('the service manager', () => {
  it('is told of start, reload and stop', async (t) => {
    const service = await managed(t);
    assert.equal(service.told('READY=1').length, 1);
    process.kill(service.pid(), 'SIGHUP');
    await service.ready(2);
    const told = service.lines('notify').filter((l) => /RELOADING|READY/.test(l));
    assert.match(told[1], /^RELOADING=1 MONOTONIC_USEC=\d+$/);
    assert.match(told[2], /^READY=1/);
    await service.stop();
    assert.equal(service.told('STOPPING=1').length, 1);
    assert.equal(service.told('WATCHDOG').length, 0, 'nobody asked for that');
  });

  it('hears that all is well as often as it wants to, of a server that sleeps, too', async (t) => {
    const service = await managed(t, [], { env: { WATCHDOG_USEC: '400000' } });
    await until(() => service.told('WATCHDOG=1').length >= 10, 'ten times');
    await makeSession(service.port);
    await until(() => service.told('WATCHDOG=1').length >= 15, 'five more');
  });
});

it('a server is not ready, and serves on, for the time that load balancers get', async (t) => {
  const server = await serve(t, { args: ['--drain-delay', '3s'] });
  const sid = await server.session();
  const stream = server.stream(sid);
  expect(await server.get('/readyz'), 200);
  const began = performance.now();
  server.child.kill('SIGTERM');
  await until(async () => (await server.get('/readyz')).status === 503, 'not ready');
  let served = 0;
  for (;;) {
    const answer = await ask(server.port, 'POST', `/v1/sessions/${sid}/threads/general/messages`,
      { sender: 'ann', content: 'on the way out' });
    if (answer.status !== 201) break;
    assert.equal(expect(await server.get('/healthz'), 200).json.alive, true);
    served++;
  }
  const took = performance.now() - began;
  assert.ok(took > 2900, `${took} ms`);
  assert.ok(served > 10, `${served} served`);
  stream.close?.();
  assert.deepEqual(await within(server.exited, 'the end'), { code: 0, signal: null });
});

it('a second signal does not wait for load balancers', async (t) => {
  // An end at once leaves threads behind, which is no finding.
  const env = { TSAN_OPTIONS: `${process.env.TSAN_OPTIONS ?? ''} report_thread_leaks=0` };
  const server = await start({ args: ['--drain-delay', '1h'], env });
  t.after(() => { server.hangUp(); server.child.kill('SIGKILL'); remove(server.directory); });
  server.child.kill('SIGTERM');
  await until(async () => (await server.get('/readyz')).status === 503, 'not ready');
  server.child.kill('SIGTERM');
  assert.equal((await within(server.exited, 'the end')).code, 130);
  assertNoSanitizerReport(server.stderr);
});

it('a server ends with the terminal that it was started from, though SIGHUP else is no end',
  async (t) => {
  const directory = temporaryDirectory();
  const serve = `${BIN} serve --listen 127.0.0.1:0 --data ${join(directory, 'data')}`;
  const terminal = spawn('script', ['-qc', `exec ${serve}`, '/dev/null'],
    { env: cleanEnvironment(), stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => { terminal.kill('SIGKILL'); remove(directory); });
  let out = '';
  terminal.stdout.setEncoding('utf8').on('data', (d) => (out += d));
  const [, port] = await until(() => out.match(/^http:\/\/127\.0\.0\.1:(\d+)\r?$/m), 'the URL');
  const children = `/proc/${terminal.pid}/task/${terminal.pid}/children`;
  const pid = Number(readFileSync(children, 'utf8'));
  process.kill(pid, 'SIGHUP');
  await until(() => out.includes('"reloaded"'), 'a reload');
  assert.equal((await ask(port, 'GET', '/readyz')).status, 200);
  terminal.kill('SIGKILL');
  const state = () => {
    try {
      return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1][0];
    } catch {
      return 'gone';
    }
  };
  await until(() => ['Z', 'gone'].includes(state()), 'the end'); // nobody may be there to reap it
});

describe('the unit files', () => {
  const analyze = spawnSync('systemd-analyze', ['--version']).status === 0;

  it('are what systemd takes, and shut in what they can', { skip: !analyze && 'no systemd-analyze' },
    (t) => {
    const directory = temporaryDirectory();
    t.after(() => remove(directory));
    const unit = readFileSync(join(DEPLOY, 'atoll.service'), 'utf8');
    assert.ok(unit.includes('ExecStart=/usr/bin/atoll '));
    writeFileSync(join(directory, 'atoll.service'), unit.replaceAll('/usr/bin/atoll', BIN));
    cpSync(join(DEPLOY, 'atoll.socket'), join(directory, 'atoll.socket'));
    const files = ['atoll.service', 'atoll.socket'].map((f) => join(directory, f));
    const verified = spawnSync('systemd-analyze', ['verify', ...files], { encoding: 'utf8' });
    assert.equal(verified.status, 0, verified.stderr);
    assert.equal(verified.stderr.split('\n').filter((l) => l.includes('atoll')).join('\n'), '');
    const rated = spawnSync('systemd-analyze', ['security', '--offline=true', '--no-pager',
      '--threshold=15', files[0]], { encoding: 'utf8' });
    assert.equal(rated.status, 0, rated.stdout);
    t.diagnostic(rated.stdout.trim().split('\n').at(-1));
  });

  it('start the server with options that it has', async (t) => {
    const unit = readFileSync(join(DEPLOY, 'atoll.service'), 'utf8').replaceAll('\\\n', '');
    const [, args] = unit.match(/^ExecStart=\S+ (.*)$/m);
    const flags = args.match(/--[a-z-]+/g);
    const { stdout } = await run(['help', 'serve']);
    for (const flag of flags) assert.ok(stdout.includes(`  ${flag} `), flag);
    const socket = readFileSync(join(DEPLOY, 'atoll.socket'), 'utf8');
    const [, name] = socket.match(/^FileDescriptorName=(.*)$/m);
    assert.ok(args.includes(`--listen fd:${name}`));
  });
});
