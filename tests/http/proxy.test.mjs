/* Behind a reverse proxy: HAProxy, as Debian has it, with nothing configured for streams. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { it } from 'node:test';
import { Reader, expect, openEvents, remove, serve, temporaryDirectory, until,
  within } from './harness.mjs';

/** HAProxy before the server: the path of the socket it listens on. */
async function proxied(t, server) {
  const directory = temporaryDirectory();
  const socketPath = join(directory, 's');
  const file = join(directory, 'haproxy.cfg');
  writeFileSync(file, `defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend all
    bind unix@${socketPath}
    default_backend atoll
backend atoll
    server one ${server.hostname}:${server.port}
`);
  const child = spawn('haproxy', ['-db', '-f', file], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.on('data', (d) => (said += d));
  child.stderr.on('data', (d) => (said += d));
  const ended = new Promise((done) => {
    child.on('error', (error) => { said += error; done(); }).on('close', done);
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
    remove(directory);
  });
  await until(() => {
    assert.ok(child.exitCode === null && child.pid, `haproxy did not start: ${said}`);
    return new Promise((done) => {
      const probe = net.connect(socketPath, () => done(true)).on('error', () => done(false));
      probe.on('connect', () => probe.destroy());
    });
  }, 'haproxy');
  return socketPath;
}

it('streams come through a proxy as they are, and end cleanly', async (t) => {
  const server = await serve(t);
  const socketPath = await proxied(t, server);
  const sid = await server.session();
  expect(await server.get(`/v1/sessions/${sid}`, { socketPath }), 200);
  for (let n = 0; n < 40; n++) await server.say(sid, 'ann', `${n} `.repeat(500));
  const readers = [];
  for (const options of [{}, { query: '?path=/threads' },
    { headers: { 'accept-encoding': 'gzip' } }])
    readers.push(await Reader.open(server, sid, { socketPath, ...options }));
  for (let n = 0; n < 20; n++) {
    await server.say(sid, 'bob', `live ${n}`);
    for (const reader of readers) await reader.equalsView(); // each as it happens
  }
  const [first] = readers;
  first.close();
  await server.say(sid, 'bob', 'meanwhile');
  const { id, state, seq, epoch } = first;
  const resumed = await Reader.open(server, sid,
    { socketPath, lastEventId: id, state, seq, epoch });
  await resumed.equalsView();
  assert.deepEqual(resumed.counts, { snapshot: 0, patch: 1, merged: 0, reset: 0 });
  expect(await server.delete(`/v1/sessions/${sid}`), 204);
  for (const reader of [resumed, ...readers.slice(1)]) {
    while (await reader.read());
    assert.ok(reader.ended);
    await within(new Promise((done) => {
      if (reader.wire.response.complete) done();
      reader.wire.response.once('end', done);
    }), 'the clean end of the answer');
  }
  await until(async () => (await server.total('watching')) === 0, 'nobody watches');
});

it('a client that leaves the proxy has left the server', async (t) => {
  const server = await serve(t, { args: ['--heartbeat', '200ms'] }); // by which it finds out
  const socketPath = await proxied(t, server);
  const sid = await server.session();
  const wires = [];
  for (let n = 0; n < 10; n++) {
    wires.push(await openEvents(server, `/v1/sessions/${sid}/stream`, {}, { socketPath }));
    await wires.at(-1).find((b) => b.event);
  }
  assert.equal(await server.total('watching'), 10);
  for (const wire of wires) wire.close();
  await until(async () => (await server.total('watching')) === 0, 'nobody watches');
});

it('a stopping server says through the proxy when to come back', async (t) => {
  const server = await serve(t);
  const socketPath = await proxied(t, server);
  const sid = await server.session();
  const wire = await openEvents(server, `/v1/sessions/${sid}/stream`, {}, { socketPath });
  await wire.find((b) => b.event);
  server.child.kill('SIGTERM');
  assert.match((await wire.find((b) => b.retry !== undefined)).retry, /^\d+$/);
  assert.equal(await wire.find(() => false), undefined, 'the end of the answer');
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});
