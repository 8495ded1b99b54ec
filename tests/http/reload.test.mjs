/*
 * Settings that change while the server runs: keys and certificates when their files do, all that can
 * change on SIGHUP. Whatever is wrong with the new ones leaves the old ones in force, and the log
 * says why.
 */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Server, expect, refused, remove, serve, temporaryDirectory, until, within }
  from './harness.mjs';
import { Keys, as, inSeconds, sign } from './tokens.mjs';

const REVOKED_MS = 1000 + 4000; // what is promised, and what sanitizers take on a busy machine

/** The lines of the log with this event. */
const logged = (server, event) => server.stderr.split('\n').filter((l) => l.startsWith('{'))
  .map((line) => { try { return JSON.parse(line); } catch { return {}; } })
  .filter((line) => line.event === event);

/** Does something, and waits for one more line of the log than there were. */
async function andLogs(server, event, act) {
  const before = logged(server, event).length;
  await act();
  return until(() => logged(server, event)[before], `a line ${event} in the log`);
}

const hangUp = (server, event = 'reloaded') =>
  andLogs(server, event, () => server.child.kill('SIGHUP'));

function directoryFor(t) {
  const directory = temporaryDirectory();
  t.after(() => remove(directory));
  return directory;
}

/** A server with a configuration file that the test may rewrite. */
async function configured(t, text, options = {}) {
  const file = join(directoryFor(t), 'atoll.yaml');
  const rewrite = (changed) => {
    writeFileSync(`${file}.new`, changed);
    renameSync(`${file}.new`, file);
  };
  rewrite(text);
  const server = await serve(t, { ...options, args: ['--config', file, ...(options.args ?? [])] });
  return { server, rewrite };
}

async function withKey(t, args = []) {
  const keys = new Keys();
  t.after(() => keys.remove());
  const server = await serve(t, { args: ['--auth-key', keys.file, '--shards', '2', ...args] });
  return { keys, server, token: keys.token('ann', '*', 'read write admin') };
}

const list = (server, token) => as(server, token).get('/v1/sessions');

describe('a key file that is replaced', () => {
  it('revokes what it verified, and takes what it verifies now, within a second', async (t) => {
    const { keys, server, token } = await withKey(t);
    expect(await list(server, token), 200);
    keys.renew();
    const renewed = keys.token('ann', '*', 'read');
    const began = performance.now();
    await until(async () => (await list(server, token)).status === 401, 'the end of the old token');
    await until(async () => (await list(server, renewed)).status === 200, 'the new token');
    const took = performance.now() - began;
    t.diagnostic(`revoked after ${Math.round(took)} ms`);
    assert.ok(took < REVOKED_MS, `${took} ms`);
    for (let n = 0; n < 20; n++) { // on each reactor's connections
      server.agent.destroy();
      refused(await list(server, token), 401, 'unauthorized');
    }
  });

  it('may have any name', async (t) => {
    const keys = new Keys();
    t.after(() => keys.remove());
    keys.file = join(keys.directory, 'a#b.key');
    keys.renew();
    const server = await serve(t, { args: ['--auth-key', `${keys.file}#alg=HS256#kid=k`] });
    const token = keys.token('ann', '*', 'read');
    expect(await list(server, token), 200);
    keys.renew();
    await until(async () => (await list(server, token)).status === 401, 'the end of the old token');
  });

  it('ends streams, waits and sockets of tokens that it verifies no more, and no others', async (t) => {
    const keys = new Keys();
    const other = new Keys();
    t.after(() => { keys.remove(); other.remove(); });
    const server = await serve(t,
      { args: ['--auth-key', `${keys.file}#kid=one`, '--auth-key', `${other.file}#kid=two`] });
    const claims = { sub: 'ann', sid: '*', scope: 'read write admin', exp: inSeconds(3600) };
    const tokens = [keys, other].map((k, i) =>
      sign(claims, k.secret, { kid: ['one', 'two'][i] }));
    const sid = await as(server, tokens[1]).session();
    const open = (token) => new Promise((done, fail) => {
      const stream = { text: '' };
      http.get({ host: server.hostname, port: server.port, path: `/v1/sessions/${sid}/stream`,
        headers: { authorization: `Bearer ${token}` } }, (response) => {
        response.setEncoding('utf8').on('data', (d) => { stream.text += d; if (stream.text) done(stream); })
          .on('close', () => (stream.ended = true)).on('error', () => (stream.ended = true));
        stream.close = () => response.destroy();
      }).on('error', fail);
    });
    const streams = await Promise.all(tokens.map(open));
    t.after(() => streams.forEach((s) => s.close()));
    const waits = tokens.map((token) =>
      as(server, token).get(`/v1/sessions/${sid}/agents/ann/inbox?wait=50`));
    await until(async () => (await as(server, tokens[1]).total('waiting')) === 2, 'two waits');
    keys.renew();
    expect(await within(waits[0], 'the end of the wait'), 200);
    await until(() => streams[0].ended, 'the end of the stream');
    expect(await list(server, tokens[1]), 200);
    assert.ok(!streams[1].ended, 'the other one goes on');
    expect(await as(server, tokens[1]).post(`/v1/sessions/${sid}/threads/general/messages`,
      { sender: 'bob', content: 'for you, ann', mentions: ['ann'] }), 201);
    assert.equal(expect(await waits[1], 200).json.messages.length, 1);
    await until(() => streams[1].text.includes('for you, ann'), 'the message in the stream');
  });

  it('is seen where a symbolic link beside it changes, as in a volume of Kubernetes', async (t) => {
    const directory = directoryFor(t);
    const secrets = ['first', 'second'].map((name) => {
      const secret = `${name} secret of more than thirty-two bytes`;
      mkdirSync(join(directory, `..${name}`));
      writeFileSync(join(directory, `..${name}`, 'atoll.key'), secret);
      return secret;
    });
    const point = (name) => {
      symlinkSync(`..${name}`, join(directory, '..data_tmp'));
      renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
    };
    point('first');
    symlinkSync(join('..data', 'atoll.key'), join(directory, 'atoll.key'));
    const server = await serve(t, { args: ['--auth-key', join(directory, 'atoll.key')] });
    const token = (secret) => sign({ sub: 'ann', sid: '*', scope: 'read' }, secret);
    expect(await list(server, token(secrets[0])), 200);
    point('second');
    rmSync(join(directory, '..first'), { recursive: true });
    await until(async () => (await list(server, token(secrets[1]))).status === 200, 'the new key');
    refused(await list(server, token(secrets[0])), 401, 'unauthorized');
  });

  it('keeps the old key where the new one is none, and says why, once', async (t) => {
    const { keys, server, token } = await withKey(t);
    const { reason } = await andLogs(server, 'reload_failed',
      () => writeFileSync(keys.file, 'short\n'));
    assert.ok(reason.includes(keys.file), reason);
    assert.doesNotMatch(reason, /short\n/);
    expect(await list(server, token), 200);
    await andLogs(server, 'reload_failed', () => rmSync(keys.file));
    expect(await list(server, token), 200);
    // Bytes that were there before are not new; others are.
    await andLogs(server, 'reloaded', () => keys.renew());
    await until(async () => (await list(server, token)).status === 401, 'the end of the token');
    assert.equal(logged(server, 'reload_failed').length, 2);
  });

  it('may lie among files that change all the time', async (t) => {
    const { keys, server, token } = await withKey(t);
    let busy = true;
    const noise = (async () => {
      for (let n = 0; busy; n++) {
        writeFileSync(join(keys.directory, `noise-${n % 10}`), `${n}`);
        await new Promise((done) => setImmediate(done));
      }
    })();
    try {
      expect(await list(server, token), 200);
      keys.renew();
      await until(async () => (await list(server, token)).status === 401, 'the end of the token');
    } finally {
      busy = false;
      await noise;
    }
    assert.equal(logged(server, 'reloaded').length, 1);
  });
});

describe('SIGHUP', () => {
  it('adds a key and takes one away, for a rotation without a gap', async (t) => {
    const [old, young] = [new Keys(), new Keys()];
    t.after(() => { old.remove(); young.remove(); });
    const text = (...keys) => `auth_key:\n${keys.map((k) => `  - ${k.file}#kid=${k.name}\n`).join('')}`;
    old.name = 'old';
    young.name = 'young';
    const { server, rewrite } = await configured(t, text(old));
    const token = (k) => sign({ sub: 'ann', sid: '*', scope: 'read' }, k.secret, { kid: k.name });
    expect(await list(server, token(old)), 200);
    refused(await list(server, token(young)), 401, 'unauthorized');
    rewrite(text(old, young));
    await hangUp(server);
    await until(async () => (await list(server, token(young))).status === 200, 'the young key');
    expect(await list(server, token(old)), 200);
    young.renew(); // the file of a key that came by a signal is watched, too
    await until(async () => (await list(server, token(young))).status === 200, 'the renewed key');
    rewrite(text(young));
    await hangUp(server);
    await until(async () => (await list(server, token(old))).status === 401, 'the end of the old');
    expect(await list(server, token(young)), 200);
  });

  it('changes what can change, and names what cannot', async (t) => {
    const { server, rewrite } = await configured(t, 'max_batch_commands: 10\n');
    const asked = (host) => server.get('/readyz', { headers: { host }, check: false });
    assert.equal((await asked('atoll.example')).status, 403);
    rewrite('allowed_host: [atoll.example]\nmax_batch_commands: 2\nshards: 7\nlog_level: debug\n');
    await hangUp(server);
    await until(async () => (await asked('atoll.example')).status === 200, 'the new host');
    assert.deepEqual(logged(server, 'needs_restart').map((line) => line.option).sort(),
      ['max_batch_commands', 'shards']);
    const sid = await server.session(['ann', 'bob', 'eve', 'joe']); // six commands in a batch
    expect(await server.get(`/v1/sessions/${sid}`), 200);
    rewrite('max_batch_commands: 10\n');
    await hangUp(server);
    await until(async () => (await asked('atoll.example')).status === 403, 'the old hosts');
  });

  it('heeds flags and environment as the start did', async (t) => {
    const { server, rewrite } = await configured(t, 'allowed_host: [file.example]\n',
      { args: ['--allowed-host', 'flag.example'] });
    rewrite('allowed_host: [other.example]\n');
    await hangUp(server);
    const asked = async (host) =>
      (await server.get('/readyz', { headers: { host }, check: false })).status;
    assert.equal(await asked('flag.example'), 200);
    assert.equal(await asked('other.example'), 403);
  });

  it('changes nothing where anything is wrong, and says what', async (t) => {
    const { server, rewrite } = await configured(t, 'allowed_host: [a.example]\n');
    const bad = [
      ['allowed_host: [b.example]\nshards: many\n', /atoll\.yaml:2: shards: "many"/],
      ['allowed_host: [b.example]\nallowed_hosts: [c.example]\n', /unknown key "allowed_hosts"/],
      ['allowed_host: {', /atoll\.yaml/],
      ['allowed_host: [b.example]\nauth_key: [/nowhere/a.key]\n', /\/nowhere\/a\.key/],
      ['allowed_host: [b.example]\nmax_body: 2MiB\nmax_batch_bytes: 1MiB\n', /max_body/],
    ];
    for (const [text, why] of bad) {
      rewrite(text);
      assert.match((await hangUp(server, 'reload_failed')).reason, why);
    }
    const asked = async (host) =>
      (await server.get('/readyz', { headers: { host }, check: false })).status;
    assert.equal(await asked('a.example'), 200);
    assert.equal(await asked('b.example'), 403);
    assert.equal(logged(server, 'reloaded').length, 0);
  });

  it('opens no server that has keys, and shuts none that has not', async (t) => {
    const keys = new Keys();
    t.after(() => keys.remove());
    const { server, rewrite } = await configured(t, `auth_key: ["${keys.file}"]\n`);
    rewrite('auth_key: []\n');
    assert.match((await hangUp(server, 'reload_failed')).reason, /restart/);
    refused(await server.get('/v1/sessions'), 401, 'unauthorized');
    expect(await list(server, keys.token('ann', '*', 'read')), 200);
    const open = await configured(t, '');
    open.rewrite(`auth_key: ["${keys.file}"]\n`);
    assert.match((await hangUp(open.server, 'reload_failed')).reason, /restart/);
    expect(await open.server.get('/v1/sessions'), 200);
  });

  it('again and again disturbs nobody', async (t) => {
    const { keys, server, token } = await withKey(t);
    const ann = as(server, token);
    const sid = await ann.session();
    let done = false;
    let sent = 0;
    const writers = Array.from({ length: 4 }, async () => {
      while (!done) {
        await ann.say(sid, 'ann', `${sent}`);
        sent++;
      }
    });
    for (let n = 0; n < 50; n++) {
      const before = sent;
      server.child.kill('SIGHUP');
      await until(() => sent > before, 'a message');
    }
    done = true;
    await Promise.all(writers);
    assert.equal((await ann.events(sid)).filter((e) => e.type === 'message.sent').length, sent);
    assert.ok(logged(server, 'reloaded').length > 0);
    keys.renew();
    await until(async () => (await list(server, token)).status === 401, 'the end of the token');
  });
});

it('a server that others could reach does not start without a key, and says how to make one',
  async (t) => {
  const server = new Server({ listen: ['0.0.0.0:0'] });
  t.after(() => remove(server.directory));
  await assert.rejects(server.start(), /atoll ended/);
  assert.equal((await server.exited).code, 2);
  for (const word of ['0.0.0.0', '--auth-key', '/dev/urandom', 'atoll token', '--insecure-no-auth'])
    assert.ok(server.stderr.includes(word), `${word} in: ${server.stderr}`);
  assert.equal(server.stderr.trim().split('\n').length, 1);
  for (const listen of ['[::]:0', '127.0.0.1:0']) {
    const both = new Server({ listen: ['[::1]:0', listen] });
    t.after(() => remove(both.directory));
    if (listen.startsWith('[')) {
      await assert.rejects(both.start(), /atoll ended/);
    } else {
      await both.start();
      await both.stop();
    }
  }
  const insecure = await serve(t, { listen: ['0.0.0.0:0'], args: ['--insecure-no-auth'] });
  assert.equal(logged(insecure, 'insecure').length, 1);
  const keys = new Keys();
  t.after(() => keys.remove());
  const secured = await serve(t, { listen: ['0.0.0.0:0'], args: ['--auth-key', keys.file] });
  assert.equal(logged(secured, 'insecure').length, 0);
});
