/*
 * SIGTERM: what is open is answered, what comes late is turned away, and the process ends with 0.
 */
import assert from 'node:assert/strict';
import net from 'node:net';
import { it } from 'node:test';
import { bytes, expect, openEvents, parseAnswer, serve, until, within } from './harness.mjs';

const LINGER_MS = 300; // FRONTEND_IDLE_LINGER_MS: so long an idle connection is still served

/**
 * A connection that stays open and tells how it ended. `ask` writes a request as a whole and gives
 * its answer, with when it was written; or without a status, where the connection ended before.
 */
async function keepAlive(server, options = {}) {
  const socket = net.connect({ host: server.hostname, port: Number(server.port), ...options })
    .setNoDelay();
  let received = Buffer.alloc(0);
  let look = () => {};
  const client = { socket, error: undefined, ended: false };
  socket.on('data', (chunk) => { received = Buffer.concat([received, chunk]); look(); })
    .on('error', (error) => { client.error = error; look(); })
    .on('end', () => { client.ended = true; look(); })
    .on('close', () => { client.ended = true; look(); });
  client.ask = async (method, path, body) => {
    received = Buffer.alloc(0);
    const written_ms = performance.now();
    socket.write(bytes(server, method, path, body && JSON.stringify(body),
      { connection: undefined }));
    await within(new Promise((done) => {
      look = () => (client.ended || client.error || parseAnswer(received).complete) && done();
      look();
    }), `the answer to ${method} ${path}, or the end`);
    return { written_ms, bytes: received.length, ...parseAnswer(received) };
  };
  await within(new Promise((done) => socket.on('connect', done)), 'a connection');
  return client;
}

/** What a stopping server may do with a request: answer it, or, where it came late, nothing. */
function checkLast(client, answer, killed_ms) {
  if (answer.written_ms - killed_ms >= LINGER_MS && answer.status === undefined) {
    assert.equal(answer.bytes, 0, 'no part of an answer');
    return;
  }
  assert.equal(client.error, undefined, 'a reset');
  assert.ok([201, 503].includes(answer.status), `status ${answer.status}`);
  assert.equal(answer.headers.connection, 'close');
  if (answer.status === 503) assert.match(answer.headers['retry-after'] ?? 'none', /^\d+$/);
}

it('a stopping server answers waits, closes streams with a time to come back, and ends',
  async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const waits = ['ann', 'bob'].map((agent) => server.inbox(sid, agent, '?wait=50'));
  const wires = [await openEvents(server, `/v1/sessions/${sid}/stream`),
    await openEvents(server, `/v1/sessions/${sid}/events`, { accept: 'text/event-stream' })];
  await until(async () => (await server.total('waiting')) === 2, 'two waits');
  server.child.kill('SIGTERM');
  for (const wait of waits) {
    const inbox = await wait;
    assert.deepEqual([inbox.messages, typeof inbox.cursor], [[], 'string']);
  }
  for (const wire of wires) {
    const retry = await wire.find((b) => b.retry !== undefined);
    assert.match(retry?.retry ?? 'no retry', /^\d+$/);
    assert.equal(await wire.find((b) => b.event === 'end'), undefined, 'the session has not ended');
  }
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});

it('a stopping server loses nothing that it has acknowledged', async (t) => {
  const server = await serve(t);
  const sids = await Promise.all(Array.from({ length: 4 }, () => server.session()));
  const acknowledged = new Map(sids.map((sid) => [sid, []]));
  let turnedAway = 0;
  const writers = sids.map(async (sid) => {
    for (let n = 0; ; n++) {
      const answer = await server.post(`/v1/sessions/${sid}/threads/general/messages`,
        { sender: 'ann', content: `${n}` }).catch((error) => {
        if (error.name === 'AssertionError') throw error;
        return undefined; // the connection is gone
      });
      if (answer?.status !== 201) {
        if (answer) expect(answer, 503);
        turnedAway++;
        return;
      }
      acknowledged.get(sid).push(answer.json.id);
    }
  });
  await until(() => [...acknowledged.values()].every((ids) => ids.length > 20),
    'twenty messages in each session');
  server.child.kill('SIGTERM');
  await Promise.all(writers);
  assert.equal(turnedAway, sids.length);
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
  await server.start();
  for (const [sid, ids] of acknowledged) {
    const kept = (await server.events(sid)).filter((e) => e.type === 'message.sent').map((e) =>
      e.id);
    assert.deepEqual(kept.slice(0, ids.length), ids);
    assert.ok(kept.length <= ids.length + 1, 'at most the one whose answer was lost');
  }
});

it('a server that is interrupted ends the same way', async (t) => {
  const server = await serve(t);
  server.child.kill('SIGINT');
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});

it('clients that do not read do not hold the end up beyond the grace', async (t) => {
  const server = await serve(t, { args: ['--grace', '500ms'] });
  const sid = await server.session();
  const wire = await openEvents(server, `/v1/sessions/${sid}/stream`);
  wire.response.pause();
  for (let n = 0; n < 60; n++) await server.say(sid, 'ann', 'x'.repeat(250_000));
  server.child.kill('SIGTERM');
  assert.deepEqual(await within(server.exited, 'the end of the process', 20_000),
    { code: 0, signal: null });
});

it('a stopping server still answers what comes on idle connections, and says that it closes them',
  async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const path = `/v1/sessions/${sid}/threads/general/messages`;
  const clients = await Promise.all(Array.from({ length: 32 }, () => keepAlive(server)));
  for (const client of clients) expect(await client.ask('GET', '/v1/status'), 200);
  const killed_ms = performance.now();
  server.child.kill('SIGTERM');
  await until(() => new Promise((done) => { // a port that is closed: it is stopping
    const probe = net.connect(Number(server.port), server.hostname);
    probe.on('connect', () => probe.destroy()).on('error', () => {})
      .on('close', (hadError) => done(hadError));
  }), 'a refused connection');
  await Promise.all(clients.map(async (client) => checkLast(client,
    await client.ask('POST', path, { sender: 'ann', content: 'late' }), killed_ms)));
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});

it('a stopping server resets nobody who is just posting', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const path = `/v1/sessions/${sid}/threads/general/messages`;
  const clients = await Promise.all(Array.from({ length: 32 }, () => keepAlive(server)));
  let killed_ms = Infinity;
  let posted = 0;
  const posting = clients.map(async (client) => {
    for (;;) {
      const answer = await client.ask('POST', path, { sender: 'ann', content: 'x' });
      if (answer.status !== 201 || answer.headers.connection === 'close') {
        checkLast(client, answer, killed_ms);
        return;
      }
      posted++;
    }
  });
  await until(() => posted > 500, 'posts');
  killed_ms = performance.now();
  server.child.kill('SIGTERM');
  await Promise.all(posting);
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});

it('idle clients get a FIN, and do not hold the end up if they leave it at that', async (t) => {
  const server = await serve(t, { args: ['--grace', '60s'] });
  const idle = await keepAlive(server, { allowHalfOpen: true });
  const half = await keepAlive(server, { allowHalfOpen: true });
  expect(await idle.ask('GET', '/v1/status'), 200);
  half.socket.write('GET /v1/status HTTP/1.1\r\nhost: ');
  t.after(() => [idle, half].forEach((client) => client.socket.destroy()));
  server.child.kill('SIGTERM');
  await until(() => idle.ended && half.ended, 'the end of both');
  assert.deepEqual([idle.error, half.error], [undefined, undefined]);
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});
