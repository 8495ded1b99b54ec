/* Who may call: so that no web page can write to a server on loopback. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NDJSON, bytes, expect, raw, refused, serving } from './harness.mjs';

describe('who may call', () => {
  const server = serving({ args: ['--allowed-host', 'atoll.example', '--allowed-origin',
    'https://app.example'] });
  const put = (name, headers) => server.put(`/v1/sessions/${name}`, undefined, { headers });

  it('a Host that is loopback, listened on or allowed', async () => {
    for (const host of [`127.0.0.1:${server.port}`, `localhost:${server.port}`,
      `LOCALHOST:${server.port}`, `[::1]:${server.port}`, 'localhost', '127.0.0.1',
      'atoll.example', 'Atoll.Example:443'])
      expect(await server.get('/v1/sessions', { headers: { host } }), 200);
    for (const host of ['evil.example', `evil.example:${server.port}`, '127.0.0.1.evil.example',
      'localhost.evil.example', 'notlocalhost', 'x.atoll.example',
      '10.0.0.1', '127.0.0.1@evil.example', '[::2]']) {
      refused(await server.get('/v1/sessions', { headers: { host } }), 403, 'forbidden-host');
      refused(await put('by-host', { host }), 403, 'forbidden-host');
    }
    expect(await server.get('/v1/sessions/by-host'), 404);
    for (const route of ['/healthz', '/openapi.yaml', '/nowhere'])
      refused(await server.get(route, { headers: { host: 'evil.example' } }), 403,
        'forbidden-host');
  });

  it('no request without a Host', async () => {
    const answer = await raw(server, 'GET /v1/sessions HTTP/1.1\r\nconnection: close\r\n\r\n');
    assert.ok([400, 403].includes(answer.status), `status ${answer.status}`);
  });

  it('a whole URL as target, whose host takes the place of the Host', async () => {
    const ask = (target, headers) => raw(server, bytes(server, 'GET', target, '', headers));
    for (const base of ['http://localhost', `http://127.0.0.1:${server.port}`, 'http://[::1]:80',
      'HTTP://Atoll.Example', 'https://atoll.example:443']) {
      for (const headers of [{}, { host: 'evil.example' },
        { origin: base.replace(/^HTTPS?/i, 'http') }]) {
        expect(await ask(`${base}/healthz`, headers), 200);
        expect(await ask(`${base}/v1/sessions?limit=1`, headers), 200);
        refused(await ask(`${base}/nowhere`, headers), 404, 'unknown-route');
        for (const page of [base, `${base}?thread=general`]) // the path is /
          assert.match(expect(await ask(page, headers), 200).headers['content-type'], /text\/html/);
      }
      refused(await ask(`${base}/healthz`, { origin: 'http://evil.example' }), 403,
        'forbidden-origin');
    }
    for (const target of ['http://evil.example/healthz', 'http://', 'http:///healthz',
      'http://user@localhost/healthz', 'http://localhost:x/healthz', 'http://localhost@evil/'])
      refused(await ask(target, {}), 403, 'forbidden-host');
    for (const target of ['ftp://localhost/healthz', 'localhost/healthz', 'http:/healthz',
      '//localhost/healthz', '/http://localhost/healthz'])
      refused(await ask(target, {}), 404, 'unknown-route');
    const sid = await server.session();
    const body = JSON.stringify({ agent: 'whole' });
    expect(await raw(server,
      bytes(server, 'POST', `http://localhost/v1/sessions/${sid}/agents`, body)), 201);
  });

  it('an Origin that is the server\'s own or allowed', async () => {
    const here = `localhost:${server.port}`;
    for (const headers of [{ origin: server.url }, { host: here, origin: `http://${here}` },
      { origin: server.url.replace('http', 'https') }, // as seen before a proxy that ends TLS
      { origin: 'https://app.example' }])
      expect(await server.get('/v1/sessions', { headers }), 200);
    for (const origin of ['http://evil.example', 'null', 'https://app.example.evil.example',
      'http://app.example', 'http://localhost:1', 'https://localhost:1']) {
      refused(await server.get('/v1/sessions', { headers: { origin } }), 403, 'forbidden-origin');
      refused(await put('by-origin', { origin }), 403, 'forbidden-origin');
    }
    expect(await server.get('/v1/sessions/by-origin'), 404);
    refused(await server.request('OPTIONS', '/v1/sessions',
      { headers: { origin: 'http://evil.example' } }), 403, 'forbidden-origin');
  });

  it('a body that says it is JSON', async () => {
    const sid = await server.session();
    const body = JSON.stringify({ type: 'agent.register', agent: 'x' });
    const at = `/v1/sessions/${sid}`;
    for (const type of ['application/json', 'application/json; charset=utf-8', 'Application/JSON',
      `${NDJSON};charset=UTF-8`])
      expect(await server.post(`${at}/commands`, body, { type }), 200);
    for (const type of ['text/plain', 'text/plain;application/json',
      'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/jsonp',
      'json', '']) {
      const answer = await raw(server,
        bytes(server, 'POST', `${at}/commands`, body, { 'content-type': type || undefined }));
      refused(answer, 415, 'unsupported-media-type');
    }
    refused(await server.post(`${at}/agents`, '{"agent":"y"}', { type: NDJSON }), 415,
      'unsupported-media-type');
    refused(await server.patch(at, '{"labels":{}}', { type: 'application/merge-patch+json' }), 415,
      'unsupported-media-type');
  });
});
