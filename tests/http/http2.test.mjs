/* HTTP/2, where it is switched on: the same answers and streams, many on one connection; and clients
 * that would have the server work for nothing. Node's own client, and frames by hand. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import tls from 'node:tls';
import { createGunzip } from 'node:zlib';
import { Server, expect, newId, refused, remove, run, temporaryDirectory, until,
  within } from './harness.mjs';

const directory = temporaryDirectory();
after(() => remove(directory));
const [cert, key] = [join(directory, 'crt'), join(directory, 'key')];
execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
  '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext',
  'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'pipe' });
const ca = readFileSync(cert);
// h2o keeps a few buffers of HTTP/2 for each thread, which nobody else can reach to free.
const spares = join(directory, 'lsan.supp');
writeFileSync(spares, 'leak:h2o_mem_alloc_recycle\n');
const env = { LSAN_OPTIONS: `suppressions=${spares}:print_suppressions=0` };

describe('HTTP/2', () => {
  const server = new Server({ listen: ['tls:127.0.0.1:0'], env, args: ['--shards', '1', '--http2', 'on',
    '--tls-cert', cert, '--tls-key', key, '--write-timeout', '2s', '--heartbeat', '300ms',
    '--allowed-origin', 'https://app.example'] });
  const sid = newId('two');
  let client;
  const clients = [];

  const connect = async (options = {}) => {
    const session = http2.connect(`https://localhost:${server.port}`,
      { ca, lookup: (_, o, done) => done(null, o.all ? [{ address: '127.0.0.1', family: 4 }]
        : '127.0.0.1', 4), ...options });
    session.on('error', () => {});
    clients.push(session);
    await within(new Promise((done, fail) => session.on('connect', done).on('error', fail)),
      'an HTTP/2 connection');
    return session;
  };

  /** One answer: {status, headers, text, json}. */
  async function ask(method, path, { body, headers = {}, session = client } = {}) {
    const stream = session.request({ ':method': method, ':path': path,
      ...(body && { 'content-type': 'application/json' }), ...headers });
    const answered = new Promise((done, fail) => {
      const chunks = [];
      let head;
      stream.on('response', (h) => { head = h; });
      stream.on('data', (d) => chunks.push(d)).on('error', fail);
      stream.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        done({ status: head?.[':status'], headers: head, text,
          json: /[/+]json/.test(head?.['content-type']) && text ? JSON.parse(text) : undefined });
      });
    });
    stream.end(body && JSON.stringify(body));
    return within(answered, `${method} ${path} over HTTP/2`);
  }

  /** An event stream: {text, ended, code, stream}. */
  function watch(path, { headers = {}, session = client } = {}) {
    const stream = session.request({ ':path': path, ...headers });
    const seen = { stream, text: '', ended: false };
    stream.on('response', (h) => {
      seen.headers = h;
      const source = h['content-encoding'] === 'gzip' ? stream.pipe(createGunzip()) : stream;
      source.on('data', (d) => { seen.text += d; }).on('error', () => {});
    });
    stream.on('end', () => { seen.ended = true; });
    stream.on('error', () => {});
    stream.on('close', () => { seen.closed = true; seen.code = stream.rstCode; });
    return seen;
  }

  const say = async (content, options) => expect(await ask('POST',
    `/v1/sessions/${sid}/threads/general/messages`, { body: { sender: 'ann', content },
      ...options }), 201);
  const figures = async () => expect(await ask('GET', '/v1/status'), 200).json.reactors[0];

  before(async () => {
    await server.start();
    client = await connect();
    assert.equal(client.alpnProtocol, 'h2');
    expect(await ask('POST', '/v1/sessions', { body: { session: sid } }), 201);
    for (const agent of ['ann', 'bob'])
      expect(await ask('POST', `/v1/sessions/${sid}/agents`, { body: { agent } }), 201);
    expect(await ask('POST', `/v1/sessions/${sid}/threads`, { body: { thread: 'general',
      creator: 'ann', name: 'general', participants: ['bob'] } }), 201);
  });
  after(async () => {
    clients.forEach((c) => c.destroy());
    await server.stop();
  });

  it('answers are what they are in HTTP/1, header by header', async () => {
    const paths = ['/', '/healthz', '/openapi.yaml', '/nowhere', '/v1/sessions?limit=x',
      `/v1/sessions/${sid}`, `/v1/sessions/${sid}/events`, `/v1/sessions/${sid}/export`,
      `/v1/sessions/${sid}/ws`];
    for (const path of paths) {
      for (const origin of [undefined, 'https://app.example']) {
        const headers = origin ? { origin } : {};
        const two = await ask('GET', path, { headers });
        const one = await within(new Promise((done, fail) => {
          https.get({ host: '127.0.0.1', servername: 'localhost', port: server.port, path, ca,
            headers }, (response) => {
            let text = '';
            response.on('data', (d) => { text += d; });
            response.on('end', () => done({ status: response.statusCode,
              headers: response.headers, text }));
          }).on('error', fail);
        }), path);
        assert.equal(two.status, one.status, path);
        assert.equal(two.text, one.text, path);
        const own = ([name]) => !['date', 'connection', 'upgrade', 'transfer-encoding',
          'keep-alive'].includes(name) && !name.startsWith(':');
        assert.deepEqual(Object.fromEntries(Object.entries(two.headers).filter(own)),
          Object.fromEntries(Object.entries(one.headers).filter(own)), path);
      }
    }
  });

  it('many requests at once on one connection', async () => {
    await Promise.all(Array.from({ length: 90 }, (_, n) => say(`${n}${'x'.repeat(n * 100)}`)));
    const { json } = expect(await ask('GET', `/v1/sessions/${sid}`), 200);
    assert.ok(json.state.threads.general.messages.length >= 90);
  });

  it('large bodies both ways', async () => {
    for (let n = 0; n < 8; n++) await say('y'.repeat(250_000));
    const [a, b] = await Promise.all([ask('GET', `/v1/sessions/${sid}`),
      ask('GET', `/v1/sessions/${sid}`)]);
    assert.ok(a.text.length > 1_000_000);
    assert.equal(a.text, b.text);
    expect(await ask('POST', `/v1/sessions/${sid}/commands`,
      { body: { type: 'message.send', content: 'z'.repeat(2 ** 21) } }), 413);
  });

  it('event streams, several on one connection, beside everything else', async () => {
    const before = (await figures()).streams;
    const streams = Array.from({ length: 20 }, (_, n) => watch(`/v1/sessions/${sid}/stream`,
      n % 4 === 3 ? { headers: { 'accept-encoding': 'gzip' } } : {}));
    const all = watch('/v1/stream');
    await until(() => streams.every((s) => s.text.includes('event: snapshot')));
    assert.equal(streams[0].headers['content-type'], 'text/event-stream');
    assert.equal(streams[0].headers.connection, undefined);
    for (let n = 0; n < 30; n++) await say(`tick ${n} ${'w'.repeat(n * 500)}`);
    await until(() => streams.every((s) => s.text.includes('tick 29')));
    await until(() => all.text.includes(sid));
    await until(() => streams[0].text.endsWith(':\n\n'), 'a comment when nothing happens');
    assert.equal((await figures()).streams, before + 21);
    streams.slice(0, 10).forEach((s) => s.stream.close());
    await until(async () => (await figures()).streams === before + 11, 'their places are free');
    await say('last');
    await until(() => streams.slice(10).every((s) => s.text.includes('"last"')));
    [all, ...streams].forEach((s) => s.stream.close());
    await until(async () => (await figures()).streams === before);
  });

  it('a stream whose session is deleted ends', async () => {
    const other = newId('gone');
    expect(await ask('POST', '/v1/sessions', { body: { session: other } }), 201);
    const stream = watch(`/v1/sessions/${other}/stream`);
    await until(() => stream.text.includes('event: snapshot'));
    expect(await ask('DELETE', `/v1/sessions/${other}`), 204);
    await until(() => stream.ended && stream.closed);
    assert.equal(stream.code, 0);
  });

  it('a wait that is given up frees what it had', async () => {
    const waits = Array.from({ length: 10 }, () =>
      watch(`/v1/sessions/${sid}/agents/bob/inbox?wait=50`));
    await until(async () => (await figures()).waiting === 10);
    waits.forEach((w) => w.stream.close(http2.constants.NGHTTP2_CANCEL));
    await until(async () => (await figures()).waiting === 0);
    const gone = await connect();
    watch(`/v1/sessions/${sid}/agents/bob/inbox?wait=50`, { session: gone });
    await until(async () => (await figures()).waiting === 1);
    gone.destroy();
    await until(async () => (await figures()).waiting === 0);
  });

  it('a WebSocket is not spoken there', async () => {
    expect(await ask('GET', '/v1/ws'), 426);
  });

  it('headers that are too large, sent small or large', async () => {
    refused(await ask('GET', '/healthz', { headers: { x: ' '.repeat(2) + 'a'.repeat(24_000) } }), 431,
      'headers-too-large'); // 15 KB as Huffman codes them
    refused(await ask('GET', '/healthz', { headers: Object.fromEntries(
      Array.from({ length: 120 }, (_, n) => [`x${n}`, 'a'])) }), 431, 'headers-too-large');
    const session = await connect({ maxSendHeaderBlockLength: 2 ** 20 });
    const stream = session.request({ ':path': '/healthz', x: '\x7f~'.repeat(0) + '{}'.repeat(40_000) });
    stream.on('error', () => {});
    await within(new Promise((done) => session.on('close', done)), 'the end of the connection');
    expect(await ask('GET', '/healthz'), 200);
  });

  it('who cancels now and then among much that is answered is not', async () => {
    const session = await connect();
    for (let n = 0; n < 80; n++) {
      const stream = watch(`/v1/sessions/${sid}/stream`, { session });
      await until(() => stream.text.length > 0);
      stream.stream.close(http2.constants.NGHTTP2_CANCEL);
      expect(await ask('GET', '/healthz', { session }), 200);
    }
    session.close();
  });

  // ---- frames by hand

  const frame = (type, flags, id, payload = Buffer.alloc(0)) => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt8(flags, 4);
    head.writeUInt32BE(id, 5);
    return Buffer.concat([head, payload]);
  };
  const [DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, CONTINUATION] = [0, 1, 2, 3, 4, 6, 9];
  const literal = (name, value) => Buffer.concat([Buffer.from([0, name.length]),
    Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);
  const request = (id, path, { method = 'GET', flags = 5 } = {}) => frame(HEADERS, flags, id,
    Buffer.concat([literal(':method', method), literal(':path', path), literal(':scheme', 'https'),
      literal(':authority', 'localhost')]));

  /** A connection past its beginning, that counts what it hears of others' streams. */
  async function byHand() {
    const socket = tls.connect({ host: '127.0.0.1', servername: 'localhost', port: server.port,
      ca, ALPNProtocols: ['h2'] });
    socket.on('error', () => {}).on('data', () => {});
    const closed = new Promise((done) => socket.on('close', done));
    await within(new Promise((done) => socket.on('secureConnect', done)), 'a handshake');
    socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      frame(SETTINGS, 0, 0)]));
    return { socket, closed };
  }

  const cancel = Buffer.from([0, 0, 0, 8]);
  const floods = {
    'requests that are reset at once': (n) => Buffer.concat([
      request(2 * n + 1, `/v1/sessions/${sid}`), frame(RST_STREAM, 0, 2 * n + 1, cancel)]),
    'waits that are reset at once': (n) => Buffer.concat([
      request(2 * n + 1, `/v1/sessions/${sid}/agents/bob/inbox?wait=50`),
      frame(RST_STREAM, 0, 2 * n + 1, cancel)]),
    pings: () => frame(PING, 0, 0, Buffer.alloc(8)),
    settings: () => frame(SETTINGS, 0, 0),
    priorities: () => frame(PRIORITY, 0, 3, Buffer.from([0, 0, 0, 0, 7])),
    'empty data': (n) => (n === 0 ? request(1, '/', { method: 'POST', flags: 4 })
      : frame(DATA, 0, 1)),
    'headers that go on and on': (n) => (n === 0 ? request(1, '/', { flags: 1 })
      : frame(CONTINUATION, 0, 1, n % 2 ? Buffer.alloc(0) : literal('x', 'y'.repeat(100)))),
  };
  for (const [what, next] of Object.entries(floods)) {
    it(`a flood of ${what} is closed, and nobody else is`, async () => {
      const stays = watch(`/v1/sessions/${sid}/stream`);
      await until(() => stays.text.includes('event: snapshot'));
      const { socket, closed } = await byHand();
      for (let n = 0; n < 400; n++) socket.write(next(n));
      await within(closed, 'the end of the flood');
      await say(`after the flood of ${what}`);
      await until(() => stays.text.includes(`after the flood of ${what}`));
      stays.stream.close();
      await until(async () => (await figures()).waiting === 0);
    });
  }

  it('who opens a stream and takes nothing is closed, and costs nobody else a thing', async () => {
    const session = await connect({ settings: { initialWindowSize: 1000 } });
    const lazy = session.request({ ':path': `/v1/sessions/${sid}/stream` });
    lazy.on('error', () => {});
    lazy.pause();
    const closed = new Promise((done) => session.on('close', done));
    for (let n = 0; n < 10; n++) await say(`unseen ${n}`);
    await within(closed, 'the end of who takes nothing');
    expect(await ask('GET', '/healthz'), 200);
  });

  it('the end of the server tells its streams and ends them', async () => {
    const session = await connect();
    const stream = watch(`/v1/sessions/${sid}/stream`, { session });
    await until(() => stream.text.includes('event: snapshot'));
    const told = new Promise((done) => session.on('goaway', done));
    server.child.kill('SIGTERM');
    await until(() => stream.ended);
    assert.match(stream.text, /\nretry: \d+\n\n$/);
    await within(told, 'GOAWAY');
    clients.forEach((c) => c.close());
    assert.deepEqual(await within(server.exited, 'the end of the server'),
      { code: 0, signal: null });
  });
});

it('a cookie is one, however many headers it comes in', async (t) => {
  const secret = join(directory, 'secret');
  writeFileSync(secret, 'k'.repeat(48));
  const server = new Server({ listen: ['tls:127.0.0.1:0'], env, args: ['--shards', '1', '--http2',
    'on', '--tls-cert', cert, '--tls-key', key, '--auth-key', secret] });
  await server.start();
  t.after(() => server.stop());
  const { stdout } = await run(['token', '--key', secret, '--sub', 'ann', '--sid', '*', '--scope',
    'read', '--ttl', '1h']);
  const session = http2.connect(`https://localhost:${server.port}`,
    { ca, lookup: (_, o, done) => done(null, o.all ? [{ address: '127.0.0.1', family: 4 }]
      : '127.0.0.1', 4) });
  const status = (cookie) => within(new Promise((done, fail) => {
    const stream = session.request({ ':path': '/v1/me', ...(cookie && { cookie }) });
    stream.on('response', (h) => done(h[':status'])).on('error', fail).resume().end();
  }), 'an answer');
  const own = `__Host-atoll=${stdout.trim()}`;
  assert.equal(await status(), 401);
  assert.equal(await status(own), 200);
  assert.equal(await status([own, 'other=1']), 200);
  assert.equal(await status(['a=1', 'b=2', own, 'c=3']), 200);
  assert.equal(await status(['a=1', own, own]), 401); // whoever could add one would choose
  session.close();
});
