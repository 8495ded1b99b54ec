/*
 * Keys and tokens, with jose as the other side: every algorithm both ways, several keys at once,
 * and what must never pass. And the audit log: every refusal, no token, and no flood.
 */
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import WebSocket from 'ws';
import {
  exportPKCS8, exportSPKI, generateKeyPair, decodeProtectedHeader, jwtVerify, SignJWT, UnsecuredJWT,
} from 'jose';
import { expect, newId, refused, remove, run, Server, temporaryDirectory, until } from
  './harness.mjs';

const directory = temporaryDirectory();
after(() => remove(directory));
const file = (name) => join(directory, name);
const write = (name, text) => (writeFileSync(file(name), text), file(name));

/** By algorithm: {alg, kid, sign, verify, option, signer}: jose's keys, the server's option and the
 * file that signs for it. */
const keys = {};
for (const [alg, bytes] of [['HS256', 32], ['HS384', 48], ['HS512', 64]]) {
  const secret = randomBytes(bytes);
  if (secret.at(-1) === 0x0a) secret[bytes - 1] = 0; // that one newline would not be of the secret
  const path = write(`${alg}.secret`, secret);
  const option = alg === 'HS256' ? path : `${path}#alg=${alg}`;
  keys[alg] = { alg, kid: alg, sign: secret, verify: secret, option, signer: option };
}
for (const [alg, options] of [['RS256', { modulusLength: 2048 }], ['ES256', {}],
  ['EdDSA', { crv: 'Ed25519' }]]) {
  const pair = await generateKeyPair(alg, { ...options, extractable: true });
  const option = write(`${alg}.pem`, await exportSPKI(pair.publicKey));
  const signer = `${write(`${alg}-private.pem`, await exportPKCS8(pair.privateKey))}#kid=${alg}`;
  keys[alg] = { alg, kid: alg, sign: pair.privateKey, verify: pair.publicKey, option, signer };
}
const algorithms = Object.keys(keys);

const nowS = () => Math.floor(Date.now() / 1000);
const claims = (more = {}) => ({ sub: 'ann', sid: '*', scope: 'admin', exp: nowS() + 600, ...more });
const signed = ({ alg, kid, sign }, payload = claims(), header = {}) =>
  new SignJWT(payload).setProtectedHeader({ alg, kid, ...header }).sign(sign);
const bearer = (token) => ({ headers: { authorization: `Bearer ${token}` } });
const encode = (value) => Buffer.from(
  typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

function serving(args) {
  const server = new Server({ args });
  before(() => server.start());
  after(() => server.stop());
  return server;
}

async function assertRefused(server, token, words) {
  const answer = await server.get('/v1/me', bearer(token));
  assert.match(refused(answer, 401, 'unauthorized').detail, words);
  assert.equal(answer.headers['www-authenticate'], 'Bearer realm="atoll", error="invalid_token"');
}

describe('a server with a key of each kind', () => {
  const server = serving(algorithms.flatMap((alg) => ['--auth-key', keys[alg].option]));

  for (const alg of algorithms) {
    it(`takes what jose has signed by ${alg}, with and without a kid`, async () => {
      const sid = newId();
      expect(await server.put(`/v1/sessions/${sid}`, undefined,
        bearer(await signed(keys[alg]))), 201);
      const { json } = expect(await server.get('/v1/me',
        bearer(await signed(keys[alg], claims(), { kid: undefined, typ: 'JWT' }))), 200);
      assert.equal(json.sub, 'ann');
      assert.equal(json.scope, 'read write admin');
    });

    it(`takes what "atoll token" has signed by ${alg}, and so does jose`, async () => {
      const { stdout, code } = await run(['token', '--key', keys[alg].signer, '--sub', 'bob',
        '--sid', 'a,b-*', '--scope', 'read,write', '--ttl', '90s', '--redact', '/agents/*/note',
        '--issuer', 'desk', '--audience', 'atoll']);
      assert.equal(code, 0);
      const token = stdout.trimEnd();
      const { payload, protectedHeader } = await jwtVerify(token, keys[alg].verify,
        { issuer: 'desk', audience: 'atoll', algorithms: [alg] });
      assert.equal(protectedHeader.kid, alg);
      assert.deepEqual(payload.sid, ['a', 'b-*']);
      assert.equal(payload.scope, 'read write');
      assert.deepEqual(payload.redact, ['/agents/*/note']);
      assert.equal(payload.exp - payload.iat, 90);
      const { json } = expect(await server.get('/v1/me', bearer(token)), 200);
      assert.deepEqual(json, { auth: 'token', sub: 'bob', scope: 'read write',
        sessions: ['a', 'b-*'], expires: new Date(payload.exp * 1000).toISOString(),
        redacted: true, insecure: false });
    });

    it(`takes no ${alg} of another key, of another kid, or changed`, async () => {
      const stranger = alg.startsWith('HS') ? randomBytes(64)
        : (await generateKeyPair(alg, { modulusLength: 2048, crv: 'Ed25519' })).privateKey;
      await assertRefused(server, await signed({ ...keys[alg], sign: stranger }), /signature/);
      await assertRefused(server, await signed({ ...keys[alg], kid: 'elsewhere' }), /kid and alg/);
      const other = algorithms[(algorithms.indexOf(alg) + 1) % algorithms.length];
      await assertRefused(server, await signed({ ...keys[alg], kid: other }), /kid and alg/);
      const [header, payload, signature] = (await signed(keys[alg])).split('.');
      const more = encode({ ...claims(), sub: 'root' });
      await assertRefused(server, `${header}.${more}.${signature}`, /signature/);
      await assertRefused(server, `${header}.${payload}.`, /not a JWT/);
      await assertRefused(server, `${header}.${payload}.${signature}=`, /not a JWT/);
      const short = Buffer.from(signature, 'base64url').subarray(0, -1).toString('base64url');
      await assertRefused(server, `${header}.${payload}.${short}`, /signature/);
    });
  }

  it('takes no public key for a secret', async () => {
    for (const alg of ['RS256', 'ES256', 'EdDSA'])
      for (const kid of [alg, undefined, 'HS256']) {
        const text = `${encode({ alg: 'HS256', kid })}.${encode(claims())}`;
        const pem = readFileSync(file(`${alg}.pem`));
        const mac = createHmac('sha256', pem).update(text).digest('base64url');
        await assertRefused(server, `${text}.${mac}`, /kid and alg|signature/);
      }
  });

  it('takes no token without a signature', async () => {
    await assertRefused(server, new UnsecuredJWT(claims()).encode(), /not a JWT/);
    for (const alg of ['none', 'None', 'NONE']) {
      const text = `${encode({ alg, kid: 'HS256' })}.${encode(claims())}`;
      await assertRefused(server, `${text}.`, /not a JWT/);
      await assertRefused(server, `${text}.AAAA`, /kid and alg/);
    }
  });

  it('takes no token that says something twice', async () => {
    const sign = (header, payload) => {
      const text = `${encode(header)}.${encode(payload)}`;
      return `${text}.${createHmac('sha256', keys.HS256.sign).update(text).digest('base64url')}`;
    };
    const good = JSON.stringify(claims());
    expect(await server.get('/v1/me', bearer(sign('{"alg":"HS256"}', good))), 200);
    await assertRefused(server, sign('{"alg":"none","alg":"HS256"}', good), /not a JWT/);
    await assertRefused(server, sign('{"alg":"HS256"}', `{"sub":"root",${good.slice(1)}`),
      /not a JWT/);
    await assertRefused(server, sign('{"alg":"HS256"}', good.replace('"ann"', '"a\\u0000"')),
      /not a JWT/);
  });

  it('takes a token in its time alone', async () => {
    await assertRefused(server, await signed(keys.ES256, claims({ exp: nowS() })), /expired/);
    await assertRefused(server, await signed(keys.ES256, claims({ nbf: nowS() + 60 })),
      /not valid yet/);
    expect(await server.get('/v1/me',
      bearer(await signed(keys.ES256, claims({ nbf: nowS(), exp: undefined })))), 200);
  });

  it('takes no token that is too long, nor a header that is no Bearer', async () => {
    await assertRefused(server, await signed(keys.HS256, claims({ fill: 'x'.repeat(9000) })),
      /not a JWT/);
    const token = await signed(keys.HS256);
    for (const authorization of ['Bearer', 'Bearer ', token, `Basic ${token}`, `Bearer${token}`,
      `Bearer ${token} ${token}`])
      refused(await server.get('/v1/me', { headers: { authorization } }), 401, 'unauthorized');
    for (const authorization of [`bearer ${token}`, `BEARER  ${token}`])
      expect(await server.get('/v1/me', { headers: { authorization } }), 200);
  });
});

describe('a server with an issuer and an audience', () => {
  const server = serving(['--auth-key', keys.EdDSA.option, '--auth-issuer', 'https://id.example',
    '--auth-audience', 'atoll']);
  const ask = async (more) => server.get('/v1/me', bearer(await signed(keys.EdDSA, claims(more))));

  it('takes tokens of theirs alone', async () => {
    const iss = 'https://id.example';
    expect(await ask({ iss, aud: 'atoll' }), 200);
    expect(await ask({ iss, aud: ['other', 'atoll'] }), 200);
    assert.match(refused(await ask({ aud: 'atoll' }), 401, 'unauthorized').detail, /issuer/);
    assert.match(refused(await ask({ iss: `${iss}/`, aud: 'atoll' }), 401, 'unauthorized').detail,
      /issuer/);
    assert.match(refused(await ask({ iss }), 401, 'unauthorized').detail, /audience/);
    assert.match(refused(await ask({ iss, aud: ['other'] }), 401, 'unauthorized').detail,
      /audience/);
  });
});

describe('keys that are changed', () => {
  it('are used side by side until the old one is gone', async (t) => {
    const old = { alg: 'HS256', kid: '2026-01', sign: randomBytes(40).toString('hex') };
    const next = { alg: 'HS256', kid: '2026-02', sign: randomBytes(40).toString('hex') };
    const options = [old, next].map(({ kid, sign }) =>
      ['--auth-key', `${write(`month-${kid}`, `${sign}\n`)}#kid=${kid}`]);
    const token = (key, header) => signed({ ...key, sign: Buffer.from(key.sign) }, claims(), header);
    const server = new Server({ args: options.flat() });
    await server.start();
    t.after(() => server.stop());
    for (const key of [old, next])
      for (const header of [{}, { kid: undefined }])
        expect(await server.get('/v1/me', bearer(await token(key, header))), 200);
    await server.restart(options[1]);
    await assertRefused(server, await token(old), /kid and alg/);
    await assertRefused(server, await token(old, { kid: undefined }), /signature/);
    expect(await server.get('/v1/me', bearer(await token(next))), 200);
  });
});

describe('a start', () => {
  const serve = (...options) => run(['serve', '--listen', '127.0.0.1:0', '--data',
    join(temporaryDirectory(), 'data'), ...options.flatMap((o) => ['--auth-key', o])]);

  it('with a key that is none ends with a sentence that names file and reason', async () => {
    const weak = await generateKeyPair('RS256', { modulusLength: 2048, extractable: true });
    const curve = await generateKeyPair('ES384', { extractable: true });
    const spki = await exportSPKI(weak.publicKey);
    const cases = [
      [file('nowhere'), /nowhere" cannot be opened: No such file/],
      [directory, /is not a regular file/],
      ['/dev/zero', /is not a regular file/],
      [write('empty', ''), /is empty/],
      [write('short', `${'x'.repeat(31)}\n`), /31 bytes; must be at least 32/],
      [write('large', Buffer.alloc(65537)), /larger than the 64 KiB/],
      [write('curve', await exportSPKI(curve.publicKey)), /ES256 needs P-256/],
      [`${write('public', spki)}#alg=HS256`, /key for RS256, not for HS256/],
      [`${file('public')}#alg=none`, /#alg=none; must be HS256/],
      [write('two', spki + spki), /2 PEM keys/],
      [write('broken', spki.replace(/\n.{8}/, '\n????????')), /no key that can be used/],
    ];
    for (const [option, words] of cases) {
      const { code, stdout, stderr } = await serve(option);
      assert.equal(code, 2, `${option}: ${stderr}`);
      assert.equal(stdout, '');
      assert.match(stderr, words);
      assert.match(stderr, /^atoll: --auth-key: "[^\n]*\n$/);
    }
    const { code, stderr } = await serve(keys.HS256.option, `${keys.HS512.option}#kid=HS256`);
    assert.equal(code, 2);
    assert.match(stderr, /both have the name "HS256"/);
  });
});

describe('atoll token', () => {
  const token = (...args) => run(['token', ...args]);
  const good = ['--key', keys.HS256.option, '--sid', '*', '--scope', 'read'];

  it('prints a token of an hour that names no agent where nothing else is asked for', async () => {
    const { stdout, stderr, code } = await token(...good);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const { payload } = await jwtVerify(stdout.trim(), keys.HS256.verify);
    assert.equal(payload.exp - payload.iat, 3600);
    assert.deepEqual(Object.keys(payload).sort(), ['exp', 'iat', 'jti', 'scope', 'sid']);
    const again = (await token(...good)).stdout.trim();
    assert.notEqual((await jwtVerify(again, keys.HS256.verify)).payload.jti, payload.jti);
    assert.equal(decodeProtectedHeader(again).kid, 'HS256');
  });

  it('refuses what is wrong by one sentence, and prints nothing', async () => {
    const cases = [
      [[], /--key FILE is missing/],
      [['--key', keys.HS256.option], /--sid SESSION is missing/],
      [['--key', keys.HS256.option, '--sid', 's'], /--scope SCOPE is missing/],
      [['--key', file('nowhere'), '--sid', 's', '--scope', 'read'], /--key: ".*cannot be opened/],
      [['--key', keys.RS256.option, '--sid', 's', '--scope', 'read'], /public key, which cannot/],
      [[...good, '--sub', 'a b'], /--sub: "a b" is not allowed/],
      [[...good, '--sub', ''], /--sub: the value is empty/],
      [[...good, '--sub', 'a', '--sub', 'b'], /--sub: given twice/],
      [[...good, '--sid', '-x*'], /--sid: "-x\*" is not allowed/],
      [[...good, '--sid', ','.repeat(3) + 'a,'.repeat(16)], /--sid: 17 sessions; must be 1 to 16/],
      [[...good, '--scope', 'all'], /--scope: "all" is not allowed/],
      [[...good, '--ttl', '1y'], /--ttl: "1y" is not allowed/],
      [[...good, '--ttl', '10ms'], /--ttl: "10ms" is not allowed/],
      [[...good, '--redact', 'agents'], /--redact: "agents" is not allowed; must be a JSON Pointer/],
      [[...good, ...Array(40).fill(['--redact', `/${'x'.repeat(255)}`]).flat()],
        /would have \d+ bytes; must be at most 8192/],
      [[...good, '--ttl'], /"--ttl" is not an argument of this command, or lacks its value/],
      [[...good, 'more'], /"more" is not an argument/],
    ];
    for (const [args, words] of cases) {
      const { code, stdout, stderr } = await token(...args);
      assert.equal(code, 2, `${args}: ${stderr}`);
      assert.equal(stdout, '', `${args}`);
      assert.match(stderr, words);
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    }
  });
});

describe('the audit log', () => {
  const path = file('audit');
  const server = serving(['--auth-key', keys.HS256.option, '--audit-log', path, '--shards', '1']);
  const lines = () => readFileSync(path, 'utf8').split('\n').filter(Boolean).map((l) => JSON.parse(l));
  const admin = () => signed(keys.HS256, claims({ sub: 'root', jti: 'the-admin-s' }));
  const told = (test) => until(() => lines().find(test), `a line with ${test}`);

  it('tells who was refused what, and why', async () => {
    const token = await signed(keys.HS256, claims({ scope: 'read', sid: 'a-*', jti: 'a-reader-s' }));
    const sid = newId('b-');
    const { headers } = bearer(token);
    expect(await server.get(`/v1/sessions/${sid}?path=/agents`,
      { headers: { ...headers, 'x-request-id': `of-${sid}` } }), 403);
    const line = await told((l) => l.session === sid);
    assert.equal(line.event, 'refused');
    assert.equal(line.status, 403);
    assert.match(line.reason, /sid does not allow/);
    assert.equal(line.method, 'GET');
    assert.equal(line.path, `/v1/sessions/${sid}`);
    assert.deepEqual([line.sub, line.kid, line.jti], ['ann', 'HS256', 'a-reader-s']);
    assert.equal(line.address, '127.0.0.1');
    assert.equal(line.request_id, `of-${sid}`);
    assert.match(line.ts, /^\d{4}-.*Z$/);
  });

  it('tells what was refused on a WebSocket, command and watch alike', async () => {
    const token = await signed(keys.HS256, claims({ scope: 'write', sid: 'a-*', jti: 'a-socket-s' }));
    const ws = new WebSocket(`${server.url.replace('http', 'ws')}/v1/ws`, 'atoll.v1', bearer(token));
    const [watched, commanded] = [newId('b-'), newId('b-')];
    server.streams.add(ws);
    ws.once('open', () => {
      ws.send(JSON.stringify({ watch: { session: watched } }));
      ws.send(JSON.stringify({ session: commanded, type: 'session.create' }));
    });
    for (const sid of [watched, commanded]) {
      const line = await told((l) => l.event === 'refused' && l.session === sid);
      assert.deepEqual([line.status, line.sub, line.jti], [403, 'ann', 'a-socket-s']);
    }
    ws.close();
  });

  it('tells what admins do, and not what they look at', async () => {
    const sid = newId();
    const headers = bearer(await admin());
    expect(await server.put(`/v1/sessions/${sid}`, undefined, headers), 201);
    expect(await server.get('/v1/status', { ...headers, check: false }), 200);
    expect(await server.delete(`/v1/sessions/${sid}`, headers), 204);
    const line = await told((l) => l.event === 'admin_act' && l.session === sid);
    assert.deepEqual([line.method, line.path, line.sub, line.jti],
      ['DELETE', `/v1/sessions/${sid}`, 'root', 'the-admin-s']);
    assert.ok(!lines().some((l) => l.event === 'admin_act' && l.path === '/v1/status'));
  });

  it('tells when an admin speaks for another agent', async () => {
    const headers = bearer(await admin());
    const sid = newId();
    expect(await server.put(`/v1/sessions/${sid}`, undefined, headers), 201);
    expect(await server.post(`/v1/sessions/${sid}/agents`, { agent: 'puppet' }, headers), 201);
    const line = await told((l) => l.event === 'admin_act' && l.session === sid);
    assert.deepEqual([line.act, line.agent, line.sub], ['agent.register', 'puppet', 'root']);
    // A thousand of them in one batch are bounded, like refusals.
    const before = lines().length;
    const { json } = expect(await server.command(sid, Array.from({ length: 1000 }, () =>
      ({ type: 'agent.update', agent: 'puppet', status: 'idle' })), headers), 200);
    assert.ok(json.results.every(({ status }) => status === 200));
    await until(async () => {
      expect(await server.post(`/v1/sessions/${sid}/agents`, { agent: 'puppet' }, headers), 200);
      return lines().some((l) => l.omitted > 700 && l.act);
    }, 'a line that says how many were left out');
    assert.ok(lines().length - before < 500);
  });

  it('is for its owner alone', () => {
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it('has no token in it, nor has any other text of the server', async () => {
    const token = await admin();
    const bad = `${token}x`;
    for (const headers of [{ authorization: `Bearer ${bad}` }, { cookie: `atoll=${bad}` },
      { authorization: `Basic ${bad}` }])
      expect(await server.get('/v1/me', { headers }), 401);
    expect(await server.post('/v1/login', { token: bad }), 401);
    expect(await server.post('/v1/login', { token: bad, more: 1 }, { check: false }), 400);
    const { json } = expect(await server.post('/v1/tickets', undefined, bearer(token)), 200);
    expect(await server.get('/v1/me', bearer('last.one.here')), 401);
    await told((l) => l.status === 401 && l.path === '/v1/login');
    for (const text of [readFileSync(path, 'utf8'), server.stderr, server.stdout])
      for (const secret of [...token.split('.'), json.ticket])
        assert.ok(!text.includes(secret), `it has ${secret}`);
  });

  it('does not grow with a flood, and counts what it leaves out', async () => {
    const before = lines().length;
    const started = Date.now();
    const FLOOD = 3000;
    for (let n = 0; n < FLOOD; n += 50)
      await Promise.all(Array.from({ length: 50 }, async () =>
        expect(await server.get('/v1/me', { ...bearer('x.y.z'), check: false }), 401)));
    const seconds = Math.ceil((Date.now() - started) / 1000) + 1;
    const written = lines().length - before;
    assert.ok(written <= 100 * seconds, `${written} lines in ${seconds} s`);
    // The next line that there is room for tells of those that were left out.
    await until(async () => {
      expect(await server.get('/v1/me', bearer('x.y.z')), 401);
      const after = lines().slice(before);
      return after.length + after.reduce((sum, l) => sum + (l.omitted ?? 0), 0) > FLOOD;
    }, 'all of them told or counted');
  });
});
