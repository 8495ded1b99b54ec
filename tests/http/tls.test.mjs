/* The same over TLS: requests, streams, WebSockets and MCP, by clients that check the certificate;
 * certificates that change while the server runs. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import tls from 'node:tls';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { Server, expect, newId, parseAnswer, refused, remove, run, serving, temporaryDirectory,
  until, within } from './harness.mjs';

const directory = temporaryDirectory();
after(() => remove(directory));
const path = (name) => join(directory, name);

/** A certificate of its own authority: {cert, key} are paths. */
function certify(name, hosts, kind = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']) {
  const [cert, key] = [path(`${name}.crt`), path(`${name}.key`)];
  execFileSync('openssl', ['req', '-x509', '-newkey', ...kind, '-nodes', '-days', '2', '-subj',
    `/CN=${name}`, '-addext', `subjectAltName=${hosts}`, '-keyout', key, '-out', cert],
  { stdio: 'pipe' });
  return { cert, key };
}

const first = certify('first', 'DNS:localhost,IP:127.0.0.1');
const second = certify('second', 'DNS:second.example', ['rsa:2048']);
const third = certify('third', 'DNS:localhost,IP:127.0.0.1');
const ca = [first, second, third].map(({ cert }) => readFileSync(cert));

/** One answer over TLS: {status, headers, json}. */
async function ask(port, method, target, { body, headers = {}, agent, servername } = {}) {
  const answered = new Promise((done, fail) => {
    const request = https.request({ host: '127.0.0.1', port, method, path: target, ca, agent,
      servername: servername ?? 'localhost',
      headers: { ...(body && { 'content-type': 'application/json' }), ...headers } }, (response) => {
      const chunks = [];
      response.on('data', (d) => chunks.push(d)).on('error', fail);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        done({ status: response.statusCode, headers: response.headers, text,
          json: /json/.test(response.headers['content-type']) ? JSON.parse(text) : undefined });
      });
    });
    request.on('error', fail);
    request.end(body && JSON.stringify(body));
  });
  return within(answered, `${method} ${target} over TLS`);
}

const handshake = (port, options = {}) => within(new Promise((done, fail) => {
  const socket = tls.connect({ host: '127.0.0.1', port, ca, servername: 'localhost', ...options },
    () => done(socket)).on('error', fail);
}), 'a handshake');

describe('over TLS', () => {
  const server = new Server({ listen: ['tls:127.0.0.1:0', '127.0.0.1:0'], args: ['--shards', '2',
    '--tls-cert', first.cert, '--tls-key', first.key,
    '--tls-cert', second.cert, '--tls-key', second.key] });
  const sid = newId('tls');
  let port;
  before(async () => {
    await server.start();
    assert.match(server.ready, /^https:\/\//);
    port = server.port;
    expect(await ask(port, 'POST', '/v1/sessions', { body: { session: sid } }), 201);
    for (const agent of ['ann', 'bob'])
      expect(await ask(port, 'POST', `/v1/sessions/${sid}/agents`, { body: { agent } }), 201);
    expect(await ask(port, 'POST', `/v1/sessions/${sid}/threads`, { body: { thread: 'general',
      creator: 'ann', name: 'general', participants: ['bob'] } }), 201);
  });
  after(() => server.stop());
  const say = async (content) => expect(await ask(port, 'POST',
    `/v1/sessions/${sid}/threads/general/messages`, { body: { sender: 'ann', content } }), 201);

  it('requests in a row, small and large', async () => {
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    for (let n = 0; n < 30; n++) {
      const content = 'x'.repeat(n % 3 ? 10 : 200_000);
      expect(await ask(port, 'POST', `/v1/sessions/${sid}/threads/general/messages`,
        { body: { sender: 'ann', content }, agent }), 201);
    }
    const view = expect(await ask(port, 'GET', `/v1/sessions/${sid}`, { agent }), 200);
    assert.ok(view.text.length > 500_000);
    assert.equal(view.json.state.threads.general.messages.at(-1).content.length, 10);
    agent.destroy();
  });

  it('many at once, in one record each or cut anywhere', async () => {
    const socket = await handshake(port);
    let heard = Buffer.alloc(0);
    socket.on('data', (d) => { heard = Buffer.concat([heard, d]); });
    const one = `GET /healthz HTTP/1.1\r\nhost: localhost:${port}\r\n\r\n`;
    socket.write(one.repeat(50));
    for (const c of one) socket.write(c);
    socket.write(one.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'));
    await within(new Promise((done) => socket.on('end', done)), 'the end');
    assert.equal(heard.toString().split('HTTP/1.1 200 OK').length - 1, 52);
    socket.destroy();
  });

  it('an event stream', async () => {
    const seen = [];
    const source = new EventSource(`https://localhost:${port}/v1/sessions/${sid}/stream`, {
      fetch: (url, init) => new Promise((done, fail) => { // of Node's fetch one cannot say the CA
        https.get(url, { ca, host: '127.0.0.1', headers: init.headers }, (response) => done({
          url, status: response.statusCode, redirected: false,
          headers: new Headers(response.headers),
          body: new ReadableStream({
            start(c) {
              response.on('data', (d) => c.enqueue(d)).on('end', () => c.close())
                .on('error', (e) => c.error(e));
            },
            cancel() { response.destroy(); },
          }),
        })).on('error', fail);
      }),
    });
    for (const kind of ['snapshot', 'patch', 'merged'])
      source.addEventListener(kind, (e) => seen.push({ kind, ...JSON.parse(e.data) }));
    await until(() => seen.some((e) => e.kind === 'snapshot'));
    for (let n = 0; n < 20; n++) await say(`live ${n} ${'y'.repeat(n * 3000)}`);
    await until(() => JSON.stringify(seen.at(-1)).includes('live 19'));
    source.close();
  });

  it('a WebSocket, with commands and a proper end', async () => {
    const socket = new WebSocket(`wss://localhost:${port}/v1/sessions/${sid}/ws`, 'atoll.v1',
      { ca, lookup: (_, options, done) => done(null, options.all
        ? [{ address: '127.0.0.1', family: 4 }] : '127.0.0.1', 4) });
    const heard = [];
    socket.on('message', (d) => heard.push(JSON.parse(d)));
    await within(new Promise((done, fail) => socket.on('open', done).on('error', fail)), 'open');
    for (let ref = 1; ref <= 100; ref++)
      socket.send(JSON.stringify({ ref, type: 'message.send', thread: 'general', sender: 'bob',
        content: `${ref} ${'z'.repeat(ref * 50)}` }));
    await until(() => heard.filter((m) => m.status === 200).length === 100);
    const closed = new Promise((done) => socket.on('close', done));
    socket.close(1000);
    assert.equal(await within(closed, 'the end of the WebSocket'), 1000);
  });

  it('MCP', async () => {
    const answer = expect(await ask(port, 'POST', '/mcp', { headers: {
      accept: 'application/json, text/event-stream' }, body: { jsonrpc: '2.0', id: 1,
      method: 'initialize', params: { protocolVersion: '2025-06-18', capabilities: {},
        clientInfo: { name: 'a test', version: '1' } } } }), 200);
    assert.match(answer.text, /"serverInfo"/);
  });

  it('a client that goes in the middle of an answer or a wait frees what it had', async () => {
    const sockets = await Promise.all(Array.from({ length: 10 }, () => handshake(port)));
    for (const [n, socket] of sockets.entries())
      socket.write(`GET /v1/sessions/${sid}${n % 2 ? '/agents/bob/inbox?wait=50' : ''}` +
        ` HTTP/1.1\r\nhost: localhost:${port}\r\n\r\n`);
    await Promise.all(sockets.filter((_, n) => n % 2 === 0)
      .map((s) => within(new Promise((done) => s.once('data', done)), 'a beginning')));
    const waiting = async () => (await ask(port, 'GET', '/v1/status')).json.reactors
      .reduce((sum, r) => sum + r.waiting, 0);
    await until(async () => (await waiting()) === 5);
    sockets.forEach((s) => s.destroy());
    await until(async () => (await waiting()) === 0);
  });

  it('the certificate goes by the name that is asked for', async () => {
    const subject = async (servername) => {
      const socket = await handshake(port, { servername, checkServerIdentity: () => undefined });
      const { CN } = socket.getPeerCertificate().subject;
      socket.destroy();
      return CN;
    };
    assert.equal(await subject('localhost'), 'first');
    assert.equal(await subject('second.example'), 'second');
    assert.equal(await subject('SECOND.example'), 'second');
    assert.equal(await subject('other.example'), 'first');
  });

  it('old versions, and who does not speak HTTP/1.1, are refused in the handshake', async () => {
    for (const version of ['TLSv1.2', 'TLSv1.3']) {
      const socket = await handshake(port, { minVersion: version, maxVersion: version });
      assert.equal(socket.getProtocol(), version);
      socket.destroy();
    }
    const loose = { ciphers: 'DEFAULT@SECLEVEL=0' };
    await assert.rejects(handshake(port, { ...loose, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1' }));
    await assert.rejects(handshake(port, { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA' }));
    await assert.rejects(handshake(port, { ALPNProtocols: ['h2'] }));
    const socket = await handshake(port, { ALPNProtocols: ['h2', 'http/1.1'] });
    assert.equal(socket.alpnProtocol, 'http/1.1');
    socket.destroy();
  });

  it('plain HTTP is not spoken there, and requests are looked at as ever', async () => {
    const plain = net.connect({ host: '127.0.0.1', port });
    plain.on('error', () => {});
    plain.write(`GET / HTTP/1.1\r\nhost: localhost:${port}\r\n\r\n`);
    let heard = '';
    plain.on('data', (d) => { heard += d.toString('latin1'); });
    await within(new Promise((done) => plain.on('close', done)), 'the end');
    assert.doesNotMatch(heard, /HTTP/);
    const socket = await handshake(port);
    let answer = Buffer.alloc(0);
    socket.on('data', (d) => { answer = Buffer.concat([answer, d]); });
    socket.write('POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n' +
      'transfer-encoding: chunked\r\n\r\n');
    await within(new Promise((done) => socket.on('end', done)), 'the end');
    refused(parseAnswer(answer), 400, 'malformed');
    socket.destroy();
  });

  it('pages say that they are for TLS alone, and what browsers must not do with them', async () => {
    const { headers } = expect(await ask(port, 'GET', '/'), 200);
    assert.match(headers['content-type'], /text\/html/);
    assert.match(headers['strict-transport-security'], /max-age=\d{8}/);
    assert.match(headers['content-security-policy'], /frame-ancestors 'none'/);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    for (const what of ['opener', 'resource'])
      assert.equal(headers[`cross-origin-${what}-policy`], 'same-origin');
  });

  it('a session is resumed by a ticket', async () => {
    const one = await handshake(port, { maxVersion: 'TLSv1.2' });
    const session = one.getSession();
    one.destroy();
    const other = await handshake(port, { maxVersion: 'TLSv1.2', session });
    assert.ok(other.isSessionReused());
    other.destroy();
  });

  it('the end of the server closes its streams cleanly', async () => {
    const socket = await handshake(port);
    let text = '';
    socket.on('data', (d) => { text += d; });
    socket.write(`GET /v1/sessions/${sid}/stream HTTP/1.1\r\nhost: localhost:${port}\r\n\r\n`);
    await until(() => text.includes('event: snapshot'));
    const ended = new Promise((done, fail) => socket.on('end', done).on('error', fail));
    server.child.kill('SIGTERM');
    await within(ended, 'the end that TLS says'); // a cut would be an error
    assert.match(text, /\nretry: \d+\n\n$/);
    socket.end();
    await within(server.exited, 'the end of the server');
  });
});

describe('certificates that change', () => {
  const [cert, key] = [path('live.crt'), path('live.key')];
  const put = (from) => {
    writeFileSync(key, readFileSync(from.key));
    writeFileSync(cert, readFileSync(from.cert));
  };
  put(first);
  const server = new Server({ listen: ['tls:127.0.0.1:0'], args: ['--shards', '2', '--tls-cert',
    cert, '--tls-key', key, '--tls-min', '1.3', '--header-timeout', '500ms'] });
  before(() => server.start());
  after(() => server.stop());
  const shown = async () => {
    const socket = await handshake(server.port);
    const { CN } = socket.getPeerCertificate().subject;
    socket.destroy();
    return CN;
  };

  it('new connections get the new one, open ones go on', async () => {
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    expect(await ask(server.port, 'GET', '/healthz', { agent }), 200);
    assert.equal(await shown(), 'first');
    put(third);
    server.child.kill('SIGHUP');
    await until(async () => (await shown()) === 'third');
    expect(await ask(server.port, 'GET', '/healthz', { agent }), 200);
    agent.destroy();
  });

  it('one that is not good changes nothing, and is told of', async () => {
    writeFileSync(cert, 'nothing');
    server.child.kill('SIGHUP');
    await until(() => server.stderr.includes('cannot use the certificate'));
    assert.equal(await shown(), 'third');
    put(first);
    server.child.kill('SIGHUP');
    await until(async () => (await shown()) === 'first');
  });

  it('a handshake that does not come to its end is closed', async () => {
    const silent = net.connect({ host: '127.0.0.1', port: server.port });
    silent.on('error', () => {});
    silent.write('\x16\x03\x01');
    await within(new Promise((done) => silent.on('close', done)), 'the end');
  });

  it('--tls-min 1.3', async () => {
    await assert.rejects(handshake(server.port, { maxVersion: 'TLSv1.2' }));
  });
});

describe('without what it needs TLS is refused at the start', () => {
  const fails = async (args, pattern) => {
    const { code, stderr } = await run(['serve', '--data', path('none'), '--listen',
      'tls:127.0.0.1:0', ...args]);
    assert.notEqual(code, 0);
    assert.match(stderr, pattern);
  };
  it('no certificate', () => fails([], /tls:127\.0\.0\.1:0.*--tls-cert/));
  it('no key', () => fails(['--tls-cert', first.cert], /each certificate needs its key/));
  it('another key', () => fails(['--tls-cert', first.cert, '--tls-key', second.key],
    /cannot use the private key in .*second\.key/));
  it('no such file', () => fails(['--tls-cert', '/nowhere', '--tls-key', first.key],
    /cannot use the certificate in \/nowhere: No such file/));
  it('not a certificate', () => fails(['--tls-cert', first.key, '--tls-key', first.key],
    /cannot use the certificate in .*first\.key/));
});
