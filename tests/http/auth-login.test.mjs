/*
 * Signing in by a browser: a cookie that holds the token, what it opens and what it does not.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import WebSocket from 'ws';
import {
  expect, newId, refused, remove, Server, serving, temporaryDirectory, within,
} from './harness.mjs';
import { as, inSeconds, servingWithKey } from './tokens.mjs';

const server = servingWithKey();
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** The cookies that an answer sets: {name: {value, httponly, path, …}}. */
function cookies({ headers }) {
  return Object.fromEntries((headers['set-cookie'] ?? []).map((text) => {
    const [pair, ...attributes] = text.split(/; */);
    const [name, value] = pair.split('=');
    return [name, { value, ...Object.fromEntries(attributes.map((a) => {
      const [key, of = true] = a.split('=');
      return [key.toLowerCase(), of];
    })) }];
  }));
}

const login = (token, headers = {}) => server.post('/v1/login', { token }, { headers });
const own = () => ({ origin: server.url });

describe('signing in', () => {
  it('puts the token into a cookie that scripts do not see and other sites do not send', async () => {
    const exp = inSeconds(500);
    const token = server.keys.token('ann', ['a', 'b-*'], 'write', { exp });
    const answer = expect(await login(token), 200);
    assert.deepEqual(answer.json, { sub: 'ann', scope: 'read write', sessions: ['a', 'b-*'],
      expires: new Date(exp * 1000).toISOString(), redacted: false });
    const { atoll, ...others } = cookies(answer);
    assert.deepEqual(others, {});
    const { 'max-age': age, ...rest } = atoll;
    assert.deepEqual(rest, { value: token, path: '/', httponly: true, samesite: 'Strict' });
    assert.ok(age > 480 && age <= 500, age);
    assert.match(answer.headers['cache-control'], /private, no-store/);
  });

  it('takes it from the header as well, and from one place alone', async () => {
    const token = server.keys.token('ann', '*', 'read');
    const headers = { authorization: `Bearer ${token}` };
    assert.match(cookies(expect(await server.post('/v1/login', undefined, { headers }), 200))
      .atoll.value, JWT);
    refused(await server.post('/v1/login', { token }, { headers }), 400, 'malformed', 'token');
    refused(await server.post('/v1/login'), 400, 'malformed', 'token');
  });

  it('for ever lasts as long as the browser', async () => {
    const { atoll } = cookies(await login(server.keys.token('ann', '*', 'read', { exp: undefined })));
    assert.equal(atoll['max-age'], undefined);
  });

  it('by TLS, be it before us, is for TLS alone', async () => {
    const host = 'atoll.example';
    const options = { headers: { host, origin: `https://${host}` } };
    const tls = servingHost(host);
    const token = tls.keys.token('ann', '*', 'read');
    await tls.start();
    try {
      const answer = expect(await tls.post('/v1/login', { token }, options), 200);
      const cookie = cookies(answer)['__Host-atoll'];
      assert.equal(cookie.secure, true);
      assert.equal(cookie.path, '/');
      assert.equal(cookie.domain, undefined);
      const headers = { host, cookie: `__Host-atoll=${cookie.value}` };
      expect(await tls.get('/v1/me', { headers }), 200);
      assert.deepEqual(Object.keys(cookies(await tls.post('/v1/logout', undefined, options))),
        ['atoll', '__Host-atoll']);
    } finally {
      await tls.stop();
    }
  });

  it('with a token that is not good sets nothing', async () => {
    for (const token of ['x', '', server.keys.token('ann', '*', 'read', { exp: inSeconds(-1) }),
      `${server.keys.token('ann', '*', 'read')}x`]) {
      const answer = await login(token);
      refused(answer, 401, 'unauthorized', 'token');
      assert.deepEqual(cookies(answer), {});
      assert.match(answer.headers['www-authenticate'], /^Bearer /);
    }
  });

  it('with a token that no browser would keep says so', async () => {
    const long = server.keys.token('ann', '*', 'read', { fill: 'x'.repeat(3000) });
    assert.match(refused(await login(long), 413, 'too-large', 'token').detail, /cookie/);
  });

  it('with something else than a token is refused, and not repeated', async () => {
    for (const body of ['{"token":1}', '{"tokn":"secret"}', '["secret"]', '"secret"', 'secret',
      '{"token":"a","token":"secret"}', '{"token":"a","more":"secret"}']) {
      const answer = await server.post('/v1/login', body);
      refused(answer, 400, 'malformed', 'token');
      assert.doesNotMatch(answer.text, /secret/);
    }
    refused(await server.post('/v1/login', 'token=x', { type: 'application/x-www-form-urlencoded' }),
      415, 'unsupported-media-type');
  });

  it('is for pages of this server', async () => {
    const token = server.keys.token('ann', '*', 'read');
    expect(await login(token, own()), 200);
    for (const origin of ['http://evil.example', 'null', `${server.url}0`]) {
      const answer = await login(token, { origin });
      refused(answer, 403, 'forbidden-origin', 'Origin');
      assert.deepEqual(cookies(answer), {});
    }
  });
});

/** A server that stands behind a proxy which speaks TLS for this host. */
function servingHost(host) {
  const { keys } = server;
  const made = new Server({ args: ['--auth-key', keys.file, '--allowed-host', host,
    '--allowed-origin', `https://${host}`, '--allowed-origin', 'https://friend.example'] });
  return Object.assign(made, { keys });
}

describe('an allowed origin', () => {
  it('may read with a token of its own, and use nobody\'s cookie', async () => {
    const made = servingHost('atoll.example');
    await made.start();
    try {
      const token = made.keys.token('ann', '*', 'admin');
      const friend = { origin: 'https://friend.example' };
      refused(await made.post('/v1/login', { token }, { headers: friend }), 403,
        'forbidden-origin', 'Origin');
      refused(await made.post('/v1/logout', undefined, { headers: friend }), 403,
        'forbidden-origin', 'Origin');
      const path = `/v1/sessions/${newId()}`;
      refused(await made.put(path, undefined, { headers: { ...friend, cookie: `atoll=${token}` } }),
        403, 'forbidden-origin', 'Origin');
      const headers = { ...friend, authorization: `Bearer ${token}` };
      expect(await made.put(path, undefined, { headers }), 201);
    } finally {
      await made.stop();
    }
  });
});

describe('the cookie', () => {
  const cookie = (claims = ['ann', '*', 'admin']) => `atoll=${server.keys.token(...claims)}`;

  it('reads by itself, and writes for pages of this server alone', async () => {
    const headers = { cookie: cookie() };
    const path = `/v1/sessions/${newId()}`;
    refused(await server.put(path, undefined, { headers }), 403, 'forbidden-origin', 'Origin');
    expect(await server.put(path, undefined, { headers: { ...headers, ...own() } }), 201);
    expect(await server.get(path, { headers }), 200);
    refused(await server.delete(path, { headers }), 403, 'forbidden-origin', 'Origin');
    refused(await server.delete(path, { headers: { ...headers, origin: 'http://evil.example' } }),
      403, 'forbidden-origin', 'Origin');
    refused(await server.post('/v1/tickets', undefined, { headers }), 403, 'forbidden-origin');
    expect(await server.delete(path, { headers: { ...headers, ...own() } }), 204);
  });

  it('opens WebSockets for pages of this server alone', async () => {
    const open = (headers) => {
      const ws = new WebSocket(`${server.url.replace('http', 'ws')}/v1/ws`, 'atoll.v1', { headers });
      const opened = new Promise((done) => {
        ws.on('open', () => done(101));
        ws.on('unexpected-response', (request, answer) => done(answer.statusCode));
        ws.on('error', () => {});
      });
      return within(opened, 'a WebSocket to open').finally(() => ws.terminate());
    };
    assert.equal(await open({ cookie: cookie(), ...own() }), 101);
    assert.equal(await open({ cookie: cookie() }), 403);
    assert.equal(await open({ cookie: cookie(), origin: 'http://evil.example' }), 403);
  });

  it('goes behind what is said by header', async () => {
    const headers = { cookie: cookie(['ann', '*', 'read']),
      authorization: `Bearer ${server.keys.token('bob', '*', 'write')}` };
    assert.equal((await server.get('/v1/me', { headers })).json.sub, 'bob');
    expect(await server.put(`/v1/sessions/${newId()}`, undefined, { headers }), 201);
  });

  it('counts for nothing where there are two of it', async () => {
    const headers = { cookie: `${cookie(['ann', '*', 'read'])}; ${cookie(['bob', '*', 'read'])}` };
    refused(await server.get('/v1/me', { headers }), 401, 'unauthorized');
  });

  it('is found among others', async () => {
    for (const text of [`a=1; ${cookie()}; b="x"`, `xatoll=1; atollx=2;${cookie()}`])
      expect(await server.get('/v1/me', { headers: { cookie: text } }), 200);
    for (const text of ['a=1', 'atoll', 'atoll=', '=', ';;;', 'atoll=x'])
      refused(await server.get('/v1/me', { headers: { cookie: text } }), 401, 'unauthorized');
  });
});

describe('over TLS', () => {
  const directory = temporaryDirectory();
  const [cert, key] = ['crt', 'key'].map((name) => join(directory, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt',
    'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-keyout', key,
    '-out', cert], { stdio: 'pipe' });
  const safe = new Server({ listen: ['tls:127.0.0.1:0'],
    args: ['--auth-key', server.keys.file, '--tls-cert', cert, '--tls-key', key] });
  before(() => safe.start());
  after(async () => {
    await safe.stop();
    remove(directory);
  });
  const host = () => `127.0.0.1:${safe.port}`;

  async function ask(method, path, headers) {
    const answered = new Promise((done, fail) => {
      const request = https.request({ host: '127.0.0.1', port: safe.port, method, path, headers,
        ca: readFileSync(cert), servername: 'localhost' }, (response) => {
        response.resume().on('end', () =>
          done({ status: response.statusCode, headers: response.headers, text: '' }));
      });
      request.on('error', fail).end();
    });
    return within(answered, `${method} ${path}`);
  }

  it('the cookie has the name that no page without TLS can set, and no other counts', async () => {
    const token = server.keys.token('ann', '*', 'admin');
    const answer = expect(await ask('POST', '/v1/login',
      { authorization: `Bearer ${token}`, origin: `https://${host()}` }), 200);
    assert.deepEqual(Object.keys(cookies(answer)), ['__Host-atoll']);
    assert.equal(cookies(answer)['__Host-atoll'].secure, true);
    expect(await ask('GET', '/v1/me', { cookie: `__Host-atoll=${token}` }), 200);
    expect(await ask('GET', '/v1/me', { cookie: `atoll=${token}` }), 401);
  });

  it('a page without TLS is none of ours', async () => {
    const cookie = `__Host-atoll=${server.keys.token('ann', '*', 'admin')}`;
    const path = `/v1/sessions/${newId()}`;
    expect(await ask('PUT', path, { cookie, origin: `http://${host()}` }), 403);
    expect(await ask('PUT', path, { cookie, origin: `https://${host()}` }), 201);
  });
});

describe('signing out', () => {
  it('ends the cookie, with or without one', async () => {
    for (const headers of [{}, own(), { cookie: 'atoll=x' }]) {
      const answer = expect(await server.post('/v1/logout', undefined, { headers }), 204);
      const { atoll } = cookies(answer);
      assert.deepEqual(atoll, { value: '', path: '/', httponly: true, samesite: 'Strict',
        'max-age': '0' });
    }
  });

  it('is for pages of this server', async () => {
    const headers = { origin: 'http://evil.example' };
    refused(await server.post('/v1/logout', undefined, { headers }), 403, 'forbidden-origin');
  });
});

describe('/v1/me', () => {
  it('says who calls, and nothing to nobody', async () => {
    refused(await server.get('/v1/me'), 401, 'unauthorized');
    const token = server.keys.token(null, ['a'], 'read',
      { exp: undefined, redact: ['/agents/*/note'] });
    assert.deepEqual((await as(server, token).get('/v1/me')).json, { auth: 'token', sub: null,
      scope: 'read', sessions: ['a'], expires: null, redacted: true, insecure: false });
    const nothing = server.keys.token('ann', [], '');
    const { json } = await as(server, nothing).get('/v1/me');
    assert.deepEqual([json.scope, json.sessions], ['', []]);
  });
});

describe('a server without keys', () => {
  const open = serving();
  const insecure = serving({ args: ['--insecure-no-auth'] });

  it('says that everybody may do everything', async () => {
    const everything = { auth: 'open', sub: null, scope: 'read write admin', sessions: ['*'],
      expires: null, redacted: false };
    assert.deepEqual((await open.get('/v1/me')).json, { ...everything, insecure: false });
    assert.deepEqual((await insecure.get('/v1/me')).json, { ...everything, insecure: true });
  });

  it('needs nobody to sign in', async () => {
    refused(await open.post('/v1/login', { token: 'x' }), 409, 'refused');
    refused(await open.post('/v1/tickets'), 409, 'refused');
    expect(await open.post('/v1/logout'), 204);
  });
});
