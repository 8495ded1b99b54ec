/*
 * Bad input: a 400 that names what is wrong, or a closed connection; never a trace in the state,
 * never a server that falls over.
 */
import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it } from 'node:test';
import { allowedMethods, bytes, expect, ndjson, raw, refused, serving, spec } from './harness.mjs';

const CHUNKED =
  'host: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n';
const nested = (depth) => '['.repeat(depth) + ']'.repeat(depth);

describe('malformed requests', () => {
  const server = serving();
  const at = (sid) => `/v1/sessions/${sid}/threads/general/messages`;
  const message = (data) => `{"sender":"ann","content":"x","data":${data}}`;

  it('bodies that are no JSON, or not ours, leave no trace', async () => {
    const sid = await server.session();
    const before = await server.view(sid);
    const bad = [
      '', ' ', '{', '}', 'nonsense', '{"sender":"ann","content":"x"',
        '{"sender":"ann","content":"x"}}', '{"sender":"ann","content":"x"} {}',
      "{'sender':'ann','content':'x'}", '{"sender":"ann","content":"x",}',
        '// c\n{"sender":"ann","content":"x"}',
      'null', '7', '"text"', '[]', '[{"sender":"ann","content":"x"}]',
      message('01'), message('+1'), message('.5'), message('1.'), message('NaN'),
        message('Infinity'), message('True'), message('1e400'), message('-1e400'),
      message('9007199254740993'), message('123456789012345678901234567890'), message('[1,]'),
        message('{"a":1,"a":2}'), message('[{"b":{"a":1,"a":1}}]'),
      message('{"a":1,"\\u0061":2}'), message(nested(32)), message(`[${nested(900)}]`),
      '{"sender":"ann","sender":"ann","content":"x"}', '{"sender":"ann","content":"\t"}',
        '{"sender":"ann","content":"\\x41"}',
      '{"sender":"ann","content":"\\ud800"}', '{"sender":"ann","content":"\\udc00\\ud800"}',
        '{"sender":"ann","content":"a\\u0000b"}',
      message('"a\\u0000b"'), message('{"a\\u0000":1}'),
    ];
    for (const body of bad) {
      const answer = await server.post(at(sid), body);
      assert.equal(answer.status, 400, `${answer.status} for ${body.slice(0, 80)}: ${answer.text}`);
      refused(answer, 400, 'malformed');
    }
    const utf8 = [[0x80], [0xc3], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80],
      [0xff], [0x00]];
    for (const wrong of utf8) {
      const body = Buffer.concat([Buffer.from('{"sender":"ann","content":"'), Buffer.from(wrong),
        Buffer.from('"}')]);
      refused(await server.request('POST', at(sid), { body, type: 'application/json' }), 400,
        'malformed');
    }
    assert.deepEqual(await server.view(sid), before);
  });

  it('what is just still JSON is taken', async () => {
    const sid = await server.session();
    const good = ['1e300', '-0.1', '9007199254740991', '0.1', nested(31),
      '"\\ud83d\\ude00 \\u2028 \\/"', '{"":{"":[]}}', '[1.5,true,false,null,"x",{}]', ' [ ] '];
    for (const data of good) {
      const { json } = expect(await server.request('POST', at(sid), { body: message(data) }), 201);
      assert.deepEqual(json.events[0].data, JSON.parse(data), data);
    }
  });

  it('wrong and unknown fields are named', async () => {
    const sid = await server.session();
    const rows = [
      ['POST', at(sid), { sender: 'ann', content: 'x', nope: 1 }, 'nope'],
      ['POST', at(sid), { sender: 'ann', content: 7 }, 'content'],
      ['POST', at(sid), { sender: 'ann' }, 'content'],
      // Stands in the path.
      ['POST', at(sid), { sender: 'ann', content: 'x', thread: 'general' }, 'thread'],
      ['POST', at(sid), { sender: 'ann', content: 'x', type: 'message.send' }, 'type'],
      ['POST', at(sid), { sender: 'ann', content: 'x', mentions: 'bob' }, 'mentions'],
      ['POST', `/v1/sessions/${sid}/agents`, { agent: 'a b' }, 'agent'],
      ['POST', `/v1/sessions/${sid}/agents`, { agent: 'x'.repeat(65) }, 'agent'],
      ['POST', `/v1/sessions/${sid}/threads`,
        { creator: 'ann', name: 'n', participants: ['bob', 7] }, 'participants'],
      ['POST', `/v1/sessions/${sid}/threads`,
        { creator: 'ann', name: 'n', participants: [], thread: 't1' }, 'thread'],
      ['PATCH', `/v1/sessions/${sid}`, {}, 'labels'],
      ['PATCH', `/v1/sessions/${sid}/agents/ann`, { status: 'asleep' }, 'status'],
      ['PATCH', `/v1/sessions/${sid}/agents/ann`, { agent: 'ann' }, 'agent'],
      ['POST', '/v1/sessions', { session: '_x' }, 'session'],
      ['POST', '/v1/sessions', { ttl_s: -1 }, 'ttl_s'],
      ['PUT', `/v1/sessions/${sid}`, { session: sid }, 'session'],
      ['POST', `/v1/sessions/${sid}/close`, { summary: 7 }, 'summary'],
    ];
    for (const [method, path, body, field] of rows) {
      refused(await server.request(method, path, { body }), 400, 'malformed', field);
    }
    const rule = refused(await server.post(`/v1/sessions/${sid}/agents`, { agent: 'a b' }), 400,
      'malformed', 'agent').detail;
    assert.ok(rule.includes('[A-Za-z0-9]'), rule);
    refused(await server.put(`/v1/sessions/${sid}/threads/general/participants/bob`), 400,
      'malformed', 'by');
    refused(await server.delete(`/v1/sessions/${sid}/threads/general/participants/bob`), 400,
      'malformed', 'by');
    const bob = `/v1/sessions/${sid}/threads/general/participants/bob?by=ann`;
    refused(await server.put(`${bob}&history=perhaps`), 400, 'malformed', 'history');
    refused(await server.delete(`${bob}&history=true`), 400, 'malformed', 'history');
  });

  it('ids in paths follow the rule, which stands in the text', async () => {
    const sid = await server.session();
    for (const id of ['a%20b', '_a', '-a', 'a.b', 'x'.repeat(65), '%00', 'a%2Fb', '%C3%A4',
      'a%0D%0Ab']) {
      const problem = refused(await server.put(`/v1/sessions/${id}`), 400, 'malformed', 'session');
      assert.ok(problem.detail.includes('[A-Za-z0-9]'), problem.detail);
      refused(await server.get(`/v1/sessions/${sid}/threads/${id}`), 400, 'malformed', 'thread');
      refused(await server.delete(`/v1/sessions/${sid}/agents/${id}`), 400, 'malformed', 'agent');
    }
    expect(await server.get(`/v1/sessions/${sid.replace('w', '%77')}`), 200);
  });

  it('unknown query parameters are named, on every route', async () => {
    const sid = await server.session();
    const cursor = (await server.inbox(sid, 'ann')).cursor;
    const bodies = { '/commands': [], '/agents': { agent: 'x' }, '/close': {}, '/ack': { cursor },
      '/threads': { creator: 'ann', name: 'n', participants: [] },
      '/messages': { sender: 'ann', content: 'x' }, '/read': { agent: 'ann', upto: 1 } };
    for (const [path, item] of Object.entries(spec.paths)) {
      if (!path.startsWith('/v1/')) continue;
      const real = path.replace('{sid}', sid).replace('{tid}', 'general').replace('{aid}', 'bob');
      for (const method of allowedMethods(item)) {
        const body = ['POST', 'PATCH'].includes(method) ? Object.entries(bodies).find(([end]) =>
          path.endsWith(end))?.[1] ?? {} : undefined;
        refused(await server.request(method,
          `${real}?${path.endsWith('{aid}') && path.includes('participants') ? 'by=ann&'
          : ''}nope=1`, { body }), 400, 'malformed', 'nope');
      }
    }
    expect(await server.get(`/v1/sessions/${sid}`), 200);
  });

  it('unknown routes are a 404, unknown methods a 405 that tells the known', async () => {
    for (const path of ['/v1', '/v1/', '/v1/session', '/v2/sessions',
      '/v1/sessions/a/nope', '/v1/sessions/a/threads/b/messages/m1',
      '/v1/sessions/a/agents/b/inbox/nope', '/healthz/x', '/V1/sessions', '/openapi.json'])
      refused(await server.get(path), 404, 'unknown-route');
    const sid = await server.session();
    for (const [path, item] of Object.entries(spec.paths)) {
      const real = path.replace('{sid}', sid).replace('{tid}', 'general').replace('{aid}', 'bob');
      for (const method of ['GET', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'BREW'])
        if (!item[method.toLowerCase()]) {
          const answer = await raw(server, bytes(server, method, real));
          refused(answer, 405, 'method-not-allowed');
          assert.deepEqual(answer.headers.allow.split(/, */).sort(), allowedMethods(item),
            `${method} ${path}`);
        }
    }
  });

  it('what is no HTTP is answered 400 or not at all', async () => {
    const wrong = ['nonsense\r\n\r\n', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01', '\0\0\0\0\r\n\r\n',
      `GET /${'x'.repeat(100_000)} HTTP/1.1\r\n\r\n`,
      'POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n',
      'POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-length: nine\r\n\r\n',
      'GET %zz HTTP/1.1\r\nhost: localhost\r\n\r\n',
      `POST /v1/sessions HTTP/1.1\r\n${CHUNKED}\r\nzz\r\n`];
    for (const text of wrong) {
      const answer = await raw(server, text, { end: true });
      assert.ok(answer.status === undefined || (answer.status >= 400 && answer.status < 500),
        `${answer.status} for ${text.slice(0, 60)}`);
    }
    expect(await server.get('/healthz'), 200);
  });

  it('a body that stops half-way does nothing', async () => {
    const sid = await server.session();
    const before = await server.view(sid);
    const body = JSON.stringify({ type: 'message.send', thread: 'general', sender: 'ann',
      content: 'half' });
    const lines = ndjson([body, body]);
    const whole = bytes(server, 'POST', `/v1/sessions/${sid}/commands`, body);
    const batch = bytes(server, 'POST', `/v1/sessions/${sid}/commands`, lines,
      { 'content-type': 'application/x-ndjson' });
    const halves = [whole.subarray(0, whole.length - 5),
      batch.subarray(0, batch.length - body.length),
      `POST /v1/sessions/${sid}/commands HTTP/1.1\r\n${CHUNKED}\r\n${body.length.toString(
      16)}\r\n${body}\r\n`];
    for (const half of halves) {
      const answer = await raw(server, half, { end: true });
      assert.ok(answer.status === undefined || answer.status >= 400, `status ${answer.status}`);
    }
    await new Promise((done) => {
      const socket = net.connect(Number(server.port), server.hostname, () =>
        socket.write(halves[0], () => socket.resetAndDestroy()));
      socket.on('close', done);
    });
    assert.deepEqual(await server.view(sid), before);
  });

  it('a chunked body, a pipelined request and one byte at a time are fine', async () => {
    const sid = await server.session();
    const path = `/v1/sessions/${sid}/commands`;
    const body = JSON.stringify({ type: 'message.send', thread: 'general', sender: 'ann',
      content: 'x' });
    const head = `POST ${path} HTTP/1.1\r\nconnection: close\r\n${CHUNKED}\r\n`;
    expect(await raw(server,
      `${head}5\r\n${body.slice(0, 5)}\r\n${(body.length - 5)
      .toString(16)}\r\n${body.slice(5)}\r\n0\r\n\r\n`), 200);
    const keep = bytes(server, 'POST', path, body, { connection: undefined });
    expect(await raw(server, Buffer.concat([keep, keep, bytes(server, 'POST', path, body)])), 200);
    const socket = net.connect(Number(server.port), server.hostname).setNoDelay();
    let received = '';
    const closed = new Promise((done) =>
      socket.on('data', (d) => (received += d)).on('close', done));
    for (const byte of bytes(server, 'POST', path, body)) await new Promise((done) =>
      socket.write(Buffer.from([byte]), done));
    await closed;
    assert.match(received, /^HTTP\/1\.1 200 /);
    await server.stream(sid).equalsView();
  });

  it('numbers in queries are whole and in range', async () => {
    const sid = await server.session();
    for (const value of ['', ' 1', '1 ', '+1', '0x10', '1e2', '9007199254740993',
      '99999999999999999999999', '-0'])
      refused(await server.get(`/v1/sessions/${sid}/events?after=${encodeURIComponent(value)}`),
        400, 'malformed', 'after');
    refused(await server.get(`/v1/sessions/${sid}/events?after=%zz`), 400, 'malformed');
    refused(await server.get(`/v1/sessions/${sid}/events?after=1&after=2`), 400, 'malformed',
      'after');
  });
});
