/* Clients that take their time, or all there is of something: they are told, or closed, and nobody
 * else notices. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import http from 'node:http';
import net from 'node:net';
import { describe, it } from 'node:test';
import { BIN, bytes, expect, newId, parseAnswer, refused, remove, serve, serving,
  temporaryDirectory, until, within } from './harness.mjs';

/** A connection that counts what it hears. */
async function connect(server) {
  const socket = net.connect({ host: server.hostname, port: Number(server.port) });
  const client = { socket, heard: Buffer.alloc(0), open: true };
  socket.on('data', (chunk) => { client.heard = Buffer.concat([client.heard, chunk]); });
  socket.on('error', () => {});
  client.closed = new Promise((done) => socket.on('close', () => { client.open = false; done(); }));
  await within(new Promise((done) => socket.on('connect', done)), 'a connection');
  return client;
}

/** Writes one byte at a time, until the other side has closed. */
function drip(client, text, ms) {
  let n = 0;
  const timer = setInterval(() => client.socket.write(text[n++ % text.length]), ms);
  client.closed.then(() => clearInterval(timer));
}

describe('clients that take their time', () => {
  const server = serving({ args: ['--header-timeout', '400ms', '--body-timeout', '600ms',
    '--shards', '1'] });

  it('a head that comes byte by byte: 408, however regularly it comes', async () => {
    const client = await connect(server);
    drip(client, `GET /healthz HTTP/1.1\r\nx: ${'a'.repeat(1000)}`, 20);
    await within(client.closed, 'the end of the connection');
    refused(parseAnswer(client.heard), 408, 'request-timeout');
  });

  it('a head that stays away after its first byte: 408', async () => {
    const client = await connect(server);
    client.socket.write('G');
    await until(() => client.heard.length > 0);
    client.socket.end();
    await within(client.closed, 'the end of the connection');
    refused(parseAnswer(client.heard), 408, 'request-timeout');
  });

  it('a body that comes byte by byte: 408', async () => {
    for (const framing of ['content-length: 100000', 'transfer-encoding: chunked']) {
      const client = await connect(server);
      client.socket.write(`POST /v1/sessions HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n` +
        `content-type: application/json\r\n${framing}\r\n\r\n`);
      drip(client, framing.startsWith('c') ? ' ' : '1\r\n \r\n', 20);
      await within(client.closed, 'the end of the connection');
      refused(parseAnswer(client.heard), 408, 'request-timeout');
    }
  });

  it('a body that takes longer in all, but keeps coming: answered', async () => {
    const client = await connect(server);
    const sid = newId('steady');
    const body = JSON.stringify({ session: sid, labels: {} }) + ' '.repeat(60_000);
    client.socket.write(bytes(server, 'POST', '/v1/sessions', body).slice(0, -body.length));
    const begun = Date.now();
    for (let at = 0; at < body.length; at += 2000) { // 30 pieces
      client.socket.write(body.slice(at, at + 2000));
      await new Promise((done) => setTimeout(done, 40));
    }
    await within(client.closed, 'the end of the connection');
    assert.ok(Date.now() - begun > 900, 'longer than the time for a body');
    expect(parseAnswer(client.heard), 201);
  });

  it('others are answered while a thousand take their time', async () => {
    const sid = await server.session();
    const slow = await Promise.all(Array.from({ length: 1000 }, () => connect(server)));
    for (const [n, { socket }] of slow.entries())
      socket.write(n % 2 ? 'POST /v1/sessions HTTP/1.1\r\nhost: loc'
        : bytes(server, 'POST', '/v1/sessions', '{"session":"never"}').slice(0, -5));
    for (let n = 0; n < 50; n++) await server.say(sid, 'ann', `${n}`);
    await within(Promise.all(slow.map((c) => c.closed)), 'the end of all of them');
    for (const client of slow) refused(parseAnswer(client.heard), 408, 'request-timeout');
    expect(await server.get('/v1/sessions/never'), 404);
  });
});

it('a connection without a request is closed, one with a wait or a stream is not', async (t) => {
  const server = await serve(t, { args: ['--idle-timeout', '900ms', '--shards', '1'] });
  const sid = await server.session();
  server.agent.destroy(); // its connection, too, is closed when it is idle
  server.agent = new http.Agent();
  const idle = await connect(server);
  const used = await connect(server);
  const waits = await connect(server);
  const streams = await connect(server);
  used.socket.write(`GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n\r\n`);
  waits.socket.write(bytes(server, 'GET', `/v1/sessions/${sid}/agents/ann/inbox?wait=2`));
  streams.socket.write(bytes(server, 'GET', `/v1/sessions/${sid}/stream`));
  await within(Promise.all([idle.closed, used.closed]), 'the end of idle connections');
  assert.equal(idle.heard.length, 0, 'nothing is said to who has not asked');
  expect(parseAnswer(used.heard), 200);
  assert.ok(streams.open && waits.open);
  await within(waits.closed, 'the answer to who waits');
  expect(parseAnswer(waits.heard), 200);
  await server.say(sid, 'ann', 'still there');
  await until(() => streams.heard.includes('still there'));
  streams.socket.destroy();
});

it('an address has no more connections than it may', async (t) => {
  const server = await serve(t, { args: ['--max-connections-per-address', '5', '--shards', '2'] });
  server.agent.destroy(); // the harness's own
  const asks = async (client) => {
    client.socket.write(`GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n\r\n`);
    await until(() => client.heard.length > 0 || !client.open);
    return client.heard.length > 0;
  };
  const first = [];
  await until(async () => { // those that are going still count
    first.forEach((c) => c.socket.destroy());
    first.length = 0;
    for (let n = 0; n < 5; n++) first.push(await connect(server));
    return (await Promise.all(first.map(asks))).every((answered) => answered);
  }, 'five connections');
  const more = await Promise.all(Array.from({ length: 5 }, () => connect(server)));
  await within(Promise.all(more.map((c) => c.closed)), 'the end of those above');
  assert.ok(more.every((c) => c.heard.length === 0));
  first[0].socket.destroy();
  await until(async () => asks(await connect(server)), 'its place for another');
  first.forEach((c) => c.socket.destroy());
});

it('when file descriptors run out, idle connections make room, and all recovers', async (t) => {
  const directory = temporaryDirectory();
  t.after(() => remove(directory));
  const child = spawn('bash', ['-c', `ulimit -n 120; exec ${BIN} serve --listen 127.0.0.1:0 ` +
    `--shards 1 --data ${directory}/data`], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((done) => child.on('close', (code) => done(code)));
  t.after(async () => { child.kill('SIGTERM'); assert.equal(await ended, 0); });
  let said = '';
  child.stdout.on('data', (d) => { said += d; });
  await until(() => said.includes('\n'), 'the line that says ready');
  const url = new URL(said.trim());
  const server = { hostname: url.hostname, port: url.port };
  const ask = async (client) => {
    client.heard = Buffer.alloc(0);
    client.socket.write(`GET /healthz HTTP/1.1\r\nhost: ${url.host}\r\n\r\n`);
    await until(() => parseAnswer(client.heard).complete || !client.open);
    return client.open;
  };
  const idle = [];
  for (let n = 0; n < 60; n++) idle.push(await connect(server));
  for (const client of idle) assert.ok(await ask(client));
  const many = await Promise.all(Array.from({ length: 200 }, () => connect(server)));
  await until(() => idle.some((c) => !c.open), 'idle ones make room');
  many.forEach((c) => c.socket.destroy());
  await until(async () => ask(await connect(server)), 'an answer as ever');
  idle.forEach((c) => c.socket.destroy());
});
