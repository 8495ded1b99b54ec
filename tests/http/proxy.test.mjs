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

it('a proxy and the server agree on where a request ends', async (t) => {
  const server = await serve(t);
  const socketPath = await proxied(t, server);
  const inner = (sid) => `POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\n` +
    `content-type: application/json\r\ncontent-length: ${sid.length + 14}\r\n\r\n` +
    `{"session":"${sid}"}`;
  const outer = (lines, rest) => 'POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\n' +
    `content-type: application/json\r\n${lines}\r\n${rest}`;
  const disguises = {
    lengths: (rest) => outer(`content-length: 0\r\ncontent-length: ${rest.length}\r\n`, rest),
    'length and chunks': (rest) => outer(`content-length: ${rest.length + 5}\r\n` +
      'transfer-encoding: chunked\r\n', `0\r\n\r\n${rest}`),
    'a coding with a tab': (rest) => outer(`content-length: ${rest.length + 5}\r\n` +
      'transfer-encoding:\tchunked\r\n', `0\r\n\r\n${rest}`),
    'a strange coding': (rest) => outer(`content-length: ${rest.length + 5}\r\n` +
      'transfer-encoding: xchunked\r\n', `0\r\n\r\n${rest}`),
    'a name with a blank': (rest) => outer(`content-length: ${rest.length + 5}\r\n` +
      'transfer-encoding : chunked\r\n', `0\r\n\r\n${rest}`),
    'a bare LF in a chunk': (rest) => outer('transfer-encoding: chunked\r\n',
      `1;\n{\r\n0\r\n\r\n${rest}`),
    'a body that GET has': (rest) => outer(`content-length: ${rest.length}\r\n`, rest)
      .replace('POST', 'GET'),
  };
  for (const [what, disguise] of Object.entries(disguises)) {
    const sid = `smuggled-${Object.keys(disguises).indexOf(what)}`;
    const socket = net.connect(socketPath);
    socket.on('error', () => {});
    const closed = new Promise((done) => socket.on('close', done));
    let heard = '';
    socket.on('data', (d) => { heard += d; });
    // Behind it a good request of the same client: as many answers as the proxy saw requests.
    socket.write(`${disguise(inner(sid))}GET /healthz HTTP/1.1\r\nhost: localhost\r\n` +
      'connection: close\r\n\r\n');
    await within(closed, `the end of: ${what}`);
    const view = await server.get(`/v1/sessions/${sid}`);
    // Where the proxy took it for a request of its own, it has answered for it, too.
    if (view.status === 200) assert.match(heard, new RegExp(`"id":"${sid}"`), what);
    expect(await server.get('/healthz', { socketPath }), 200); // the next one's answer is its own
  }
});
