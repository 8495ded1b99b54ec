/* Where one request ends and the next begins: nobody who reads the same bytes, a proxy in front of
 * the server say, may come to another answer. Raw sockets, since no client sends such things. */
import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it } from 'node:test';
import { bytes, expect, newId, parseAnswer, raw, refused, serving, within } from './harness.mjs';

/** All answers on one connection, until it closes: [{status, headers, json}]. */
async function converse(server, ...writes) {
  const socket = net.connect({ host: server.hostname, port: Number(server.port) });
  let received = Buffer.alloc(0);
  socket.on('data', (chunk) => { received = Buffer.concat([received, chunk]); });
  socket.on('error', () => {});
  const closed = new Promise((done) => socket.on('close', done));
  for (const write of writes) // each a segment of its own
    await new Promise((done) => socket.write(write, done));
  await within(closed, 'the end of the connection');
  const answers = [];
  while (received.length > 0) {
    const answer = parseAnswer(received);
    assert.ok(answer.complete, `an answer that is cut off: ${received}`);
    answers.push(answer);
    const head = received.indexOf('\r\n\r\n') + 4;
    received = received.subarray(head + Number(answer.headers['content-length'] ?? 0));
  }
  return answers;
}

describe('framing', () => {
  const server = serving({ args: ['--shards', '1'] });
  const head = (...lines) => ['POST /v1/sessions HTTP/1.1', `host: 127.0.0.1:${server.port}`,
    'content-type: application/json', ...lines].map((l) => `${l}\r\n`).join('') + '\r\n';
  const made = (sid) => server.get(`/v1/sessions/${sid}`);

  // What a proxy may take for a request of its own, hidden in the body of the one before.
  const hidden = (sid) => `POST /v1/sessions HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n` +
    `content-type: application/json\r\ncontent-length: ${sid.length + 14}\r\n\r\n` +
    `{"session":"${sid}"}`;
  const vectors = {
    'a length beside chunks': (rest) => head(`content-length: ${rest.length}`,
      'transfer-encoding: chunked') + `0\r\n\r\n${rest}`,
    'chunks beside a length': (rest) => head('transfer-encoding: chunked',
      `content-length: ${rest.length}`) + `0\r\n\r\n${rest}`,
    'two lengths': (rest) => head('content-length: 0', `content-length: ${rest.length}`) + rest,
    'the same length twice': (rest) => head('content-length: 0', 'content-length: 0') + rest,
    'a list of lengths': (rest) => head('content-length: 0, 0') + rest,
    'a length with a sign': (rest) => head('content-length: +0') + rest,
    'a length in hexadecimals': (rest) => head('content-length: 0x0') + rest,
    'another coding': (rest) => head('transfer-encoding: gzip, chunked') + `0\r\n\r\n${rest}`,
    'two codings': (rest) => head('transfer-encoding: chunked', 'transfer-encoding: identity') +
      `0\r\n\r\n${rest}`,
    'a coding with a control before it': (rest) => head('transfer-encoding: \x0bchunked') +
      `0\r\n\r\n${rest}`,
    'a coding that is said with a blank before the colon': (rest) =>
      head('transfer-encoding : chunked', 'content-length: 0') + rest,
    'a coding in a folded header': (rest) => head('x: a', ' transfer-encoding: chunked',
      'content-length: 0') + rest,
    'a header that goes on': (rest) => head('content-length:', ' 0') + rest,
    'a bare LF': (rest) => head('x: a\ncontent-length: 0') + rest,
    'a bare CR': (rest) => head('x: a\rcontent-length: 0') + rest,
    'a NUL': (rest) => head('x: a\0', 'content-length: 0') + rest,
    'a blank in the target': (rest) => head('content-length: 0').replace(' HTTP', ' /x HTTP') +
      rest,
    'two blanks in the request line': (rest) => head('content-length: 0').replace(' HTTP', '  HTTP') +
      rest,
    'two hosts': (rest) => head('host: localhost', 'content-length: 0') + rest,
    'chunks in HTTP/1.0': (rest) => head('transfer-encoding: chunked').replace('/1.1', '/1.0') +
      `0\r\n\r\n${rest}`,
    'a chunk whose size ends in a bare LF': (rest) => head('transfer-encoding: chunked') +
      `2;\nab\r\n0\r\n\r\n${rest}`,
    'a chunk whose data ends otherwise': (rest) => head('transfer-encoding: chunked') +
      `2\r\nabx\r\n0\r\n\r\n${rest}`,
    'trailers with a bare LF': (rest) => head('transfer-encoding: chunked') +
      `2\r\n{}\r\n0\r\na: b\n\r\n${rest}`,
  };

  for (const [what, vector] of Object.entries(vectors)) {
    it(`${what}: 400, the end, and nothing of what follows`, async () => {
      const sid = newId('hidden');
      const answers = await converse(server, vector(hidden(sid)));
      assert.deepEqual(answers.map((a) => a.status), [400], what);
      refused(answers[0], 400, 'malformed');
      assert.equal(answers[0].headers.connection, 'close');
      expect(await made(sid), 404);
    });

    it(`${what}, behind a good request`, async () => {
      const [sid, good] = [newId('hidden'), newId('good')];
      const answers = await converse(server, hidden(good) + vector(hidden(sid)));
      assert.deepEqual(answers.map((a) => a.status), [201, 400], what);
      expect(await made(good), 200);
      expect(await made(sid), 404);
    });
  }

  it('requests in a row are answered in a row, wherever their bytes are cut', async () => {
    const ids = Array.from({ length: 40 }, () => newId('row'));
    const chunked = (sid) => head('transfer-encoding: chunked') +
      `1;x=y\r\n{\r\n${(sid.length + 12).toString(16)}\r\n"session":"${sid}"\r\n` +
      '1\r\n}\r\n0\r\ntrailer: a\r\n\r\n';
    const all = ids.map((sid, n) => (n % 2 ? hidden(sid) : chunked(sid))).join('') +
      `GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\nconnection: close\r\n\r\n`;
    const answers = await converse(server, all);
    assert.deepEqual(answers.map((a) => a.status), [...ids.map(() => 201), 200]);
    assert.deepEqual(answers.slice(0, -1).map((a) => a.json.id), ids);
    for (const size of [1, 7, 64, 333]) {
      const again = all.replaceAll('row', `r${size}`)
        .replaceAll(/content-length: (\d+)/g, (_, n) => `content-length: ${Number(n) + `r${size}`.length - 3}`)
        .replaceAll(/\r\n([0-9a-f]+)\r\n"session/g, (_, n) =>
          `\r\n${(parseInt(n, 16) + `r${size}`.length - 3).toString(16)}\r\n"session`);
      const pieces = again.match(new RegExp(`[^]{1,${size}}`, 'g'));
      const some = await converse(server, ...pieces);
      assert.deepEqual(some.map((a) => a.status), [...ids.map(() => 201), 200], `in ${size}s`);
    }
  });

  it('many requests at once cost what they cost one by one', async () => {
    const one = `GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n\r\n`;
    const last = one.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n');
    const answers = await converse(server, one.repeat(2000) + last);
    assert.equal(answers.length, 2001);
    assert.ok(answers.every((a) => a.status === 200));
  });

  it('a client that asks before it sends a body is told to go on', async () => {
    const sid = newId('asked');
    const body = JSON.stringify({ session: sid });
    const socket = net.connect({ host: server.hostname, port: Number(server.port) });
    const text = async (pattern) => {
      let seen = '';
      await within(new Promise((done) => {
        socket.on('data', (d) => { seen += d; if (pattern.test(seen)) done(); });
      }), String(pattern));
      return seen;
    };
    socket.write(head(`content-length: ${body.length}`, 'expect: 100-continue'));
    await text(/^HTTP\/1\.1 100 /);
    socket.write(body.slice(0, 5));
    const answered = text(/"session.created"/);
    socket.write(body.slice(5));
    await answered;
    const next = text(/ 400 /); // what comes behind the body is looked at as ever
    socket.write('GET / HTTP/1.1\n\n');
    await next;
    socket.destroy();
  });

  it('what is no HTTP at all is told so at once, as a problem', async () => {
    for (const garbage of ['\x16\x03\x01\x02\x00\x01\x00', '\x00', 'SSH-2.0-x\r\n', '{"a":1}',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'GET /\r\n\r\n'])
      refused(await raw(server, garbage), 400, 'malformed');
    expect(await server.get('/healthz'), 200);
  });

  it('a head that is too large: 431', async () => {
    const ask = (headers) => raw(server, bytes(server, 'GET', '/healthz', '', headers));
    expect(await ask({ x: 'a'.repeat(15 * 1024) }), 200);
    refused(await ask({ x: 'a'.repeat(17 * 1024) }), 431, 'headers-too-large');
    refused(await ask({ x: 'a'.repeat(1024 * 1024) }), 431, 'headers-too-large');
    const many = Object.fromEntries(Array.from({ length: 120 }, (_, n) => [`x${n}`, 'a']));
    refused(await ask(many), 431, 'headers-too-large');
    refused(await raw(server, `GET /${'a'.repeat(20_000)}`), 431, 'headers-too-large');
  });
});
