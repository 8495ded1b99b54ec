/* Pages of other origins: those allowed may ask and read, with tokens and never with cookies; and
 * HEAD, which caches and monitors ask with. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bytes, expect, newId, raw, refused, serving, within } from './harness.mjs';

const ORIGIN = 'https://app.example';

describe('pages of other origins', () => {
  const server = serving({ args: ['--allowed-origin', ORIGIN, '--shards', '1'] });
  const ask = (method, path, headers, body = '') =>
    raw(server, bytes(server, method, path, body, headers));
  const preflight = (path, headers = {}) => ask('OPTIONS', path, { origin: ORIGIN,
    'access-control-request-method': 'POST', ...headers });
  const list = (text) => text.split(/, */).map((name) => name.toLowerCase());

  it('an answer to one that is allowed says so, whatever it is', async () => {
    const sid = await server.session();
    for (const [path, status] of [[`/v1/sessions/${sid}`, 200], ['/v1/sessions/nobody', 404],
      ['/nowhere', 404], ['/v1/sessions?limit=x', 400], ['/healthz', 200]]) {
      const { headers } = expect(await ask('GET', path, { origin: ORIGIN }), status);
      assert.equal(headers['access-control-allow-origin'], ORIGIN, path);
      assert.equal(headers['access-control-allow-credentials'], undefined);
      assert.ok(list(headers.vary).includes('origin'));
      for (const name of ['etag', 'location', 'retry-after', 'ratelimit', 'idempotent-replayed',
        'mcp-session-id'])
        assert.ok(list(headers['access-control-expose-headers']).includes(name), name);
    }
  });

  it('an event stream, too', async () => {
    const sid = await server.session();
    const answer = within(new Promise((done, fail) => {
      fetch(`${server.url}/v1/sessions/${sid}/stream`, { headers: { origin: ORIGIN } })
        .then(done, fail);
    }), 'the head of a stream');
    const { headers, body } = await answer;
    assert.equal(headers.get('access-control-allow-origin'), ORIGIN);
    await body.cancel();
  });

  it('who is no such page is told nothing of it, but that answers vary', async () => {
    for (const headers of [{}, { origin: `http://127.0.0.1:${server.port}` }]) {
      const answer = expect(await ask('GET', '/healthz', headers), 200);
      assert.equal(answer.headers['access-control-allow-origin'], undefined);
      assert.ok(list(answer.headers.vary).includes('origin'));
    }
    for (const origin of ['https://evil.example', `${ORIGIN}.evil.example`, 'null',
      'http://app.example', `${ORIGIN}:8443`]) {
      const answer = refused(await ask('GET', '/healthz', { origin }), 403, 'forbidden-origin');
      assert.ok(answer);
      const refusedToo = await preflight('/v1/sessions', { origin });
      expect(refusedToo, 403);
      assert.equal(refusedToo.headers['access-control-allow-origin'], undefined);
    }
  });

  it('a preflight is answered for every path, before anything else is looked at', async () => {
    for (const path of ['/v1/sessions', '/v1/sessions/a/commands', '/mcp', '/v1/login', '/nowhere']) {
      const { headers, text } = expect(await preflight(path), 204);
      assert.equal(text, '');
      assert.equal(headers['access-control-allow-origin'], ORIGIN);
      assert.equal(headers['access-control-allow-credentials'], undefined);
      for (const name of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'])
        assert.ok(list(headers['access-control-allow-methods']).includes(name.toLowerCase()));
      for (const name of ['authorization', 'content-type', 'idempotency-key', 'if-match',
        'if-none-match', 'last-event-id', 'mcp-session-id', 'mcp-protocol-version'])
        assert.ok(list(headers['access-control-allow-headers']).includes(name), name);
      assert.ok(Number(headers['access-control-max-age']) > 0);
    }
  });

  it('OPTIONS alone is no preflight', async () => {
    refused(await ask('OPTIONS', '/v1/sessions', { origin: ORIGIN }), 405, 'method-not-allowed');
    refused(await ask('OPTIONS', '/v1/sessions', {}), 405, 'method-not-allowed');
  });
});

describe('HEAD', () => {
  const server = serving({ args: ['--shards', '1'] });

  it('is GET without the body', async () => {
    const sid = await server.session();
    for (const path of ['/', '/healthz', '/readyz', '/openapi.yaml', '/v1/status', '/v1/sessions',
      `/v1/sessions/${sid}`, `/v1/sessions/${sid}/events`, `/v1/sessions/${sid}/export`,
      `/v1/sessions/${newId('none')}`, '/nowhere', '/v1/sessions?limit=x']) {
      const get = await server.get(path, { check: false });
      const head = await server.request('HEAD', path, { check: false });
      assert.equal(head.status, get.status, path);
      assert.equal(head.text, '', path);
      for (const name of ['content-type', 'etag', 'cache-control', 'x-content-type-options'])
        assert.equal(head.headers[name], get.headers[name], `${path}: ${name}`);
      if (path !== '/v1/status' && get.headers['content-length'])
        assert.equal(head.headers['content-length'], get.headers['content-length'], path);
    }
    expect(await server.request('HEAD', `/v1/sessions/${sid}/events`,
      { headers: { accept: 'text/event-stream' }, check: false }), 200);
  });

  it('leaves nothing behind on the connection', async () => {
    const sid = await server.session();
    const line = (method, path, more = '') =>
      `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n${more}\r\n`;
    const { text } = await raw(server, line('HEAD', `/v1/sessions/${sid}/export`) +
      line('HEAD', '/nowhere') + line('GET', '/healthz', 'connection: close\r\n'));
    assert.ok(text !== undefined);
    expect(await server.request('HEAD', `/v1/sessions/${sid}/export`, { check: false }), 200);
    expect(await server.get('/healthz'), 200); // on the same connection
  });

  it('is not for what has no end', async () => {
    const sid = await server.session();
    for (const path of [`/v1/sessions/${sid}/stream`, '/v1/stream', `/v1/sessions/${sid}/ws`,
      '/v1/ws', '/sse'])
      expect(await server.request('HEAD', path, { check: false }), 405);
  });
});
