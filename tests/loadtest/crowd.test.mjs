/*
 * atoll-load with a token, and its crowds: a flood that another token's messages go through, slow
 * heads that come again when they are closed.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { expect, remove, run, start, temporaryDirectory, until } from '../http/harness.mjs';
import { SHORT, begin, finish, good, load } from './harness.mjs';

/** A server with a key, and a token for it; both gone with the test. */
async function withKey(t, args = []) {
  const directory = temporaryDirectory();
  const key = join(directory, 'key');
  t.after(() => remove(directory));
  writeFileSync(key, randomBytes(32));
  const server = await start({ args: ['--shards', '1', '--auth-key', key, ...args] });
  t.after(() => server.stop());
  const token = async (scope = 'read,write') => {
    const { code, stdout, stderr } = await run(['token', '--key', key, '--sub', 'a1', '--sid', '*',
      '--scope', scope, '--ttl', '1h']);
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  return { server, token };
}

/** A crowd that has come. */
async function gather(...args) {
  const crowd = begin('crowd', '--quiet', '--json', '-', ...args);
  await until(() => crowd.stderr.includes('begun'), 'the crowd');
  return crowd;
}

async function sendAway(crowd) {
  crowd.child.kill('SIGTERM');
  const { code, report, stderr } = await finish(crowd);
  assert.equal(code, 0, stderr);
  return report;
}

describe('with a token', () => {
  it('each mode has it in all its requests', async (t) => {
    const { server, token } = await withKey(t);
    const own = ['--url', server.url, '--token', await token(), ...SHORT, '--connections', '2'];
    await good('post', ...own, '--sessions', '2');
    await good('batch', ...own, '--batch', '5', '--prefix', 'batch');
    await good('watch', ...own, '--watchers', '3', '--writers', '2', '--sessions', '1',
      '--prefix', 'watch');
    await good('ws', ...own, '--sessions', '1', '--prefix', 'ws');
    await good('mcp', ...own, '--sessions', '1', '--prefix', 'mcp', '--slice', '0.04');
    await good('request', ...own, '/v1/sessions');
    await good('idle', ...own, '--streams', '3', '--sessions', '1', '--prefix', 'idle');
  });

  it('and without one nobody gets in', async (t) => {
    const { server } = await withKey(t);
    const { code } = await load('post', '--url', server.url, ...SHORT);
    assert.notEqual(code, 0);
    const { code: refused, stderr } = await load('post', '--url', server.url, '--token', 'a b');
    assert.equal(refused, 2);
    assert.match(stderr, /--token has to be a token of at most 1024 bytes/);
  });
});

describe('a crowd', () => {
  it('floods, and is held while another token is served', async (t) => {
    const { server, token } = await withKey(t, ['--rate-token', '200/s,burst=200']);
    const crowd = await gather('--url', server.url, '--token', await token(), '--connections', '8',
      '--prefix', 'crowd');
    const { figures } = await good('post', '--url', server.url, '--token', await token(),
      '--seconds', '1', '--warmup', '0', '--quiet', '--rate', '50', '--connections', '2',
      '--sessions', '2');
    assert.ok(figures.operations > 0);
    const report = await sendAway(crowd);
    assert.equal(report.mode, 'crowd');
    assert.ok(report.figures.limited > 0, JSON.stringify(report.figures));
    assert.ok(!JSON.stringify(report).includes('eyJ'), 'no token is told');
  });

  it('says heads that never end, and comes again', async (t) => {
    const server = await start({ args: ['--header-timeout', '200ms', '--shards', '1'] });
    t.after(() => server.stop());
    const crowd = await gather('--url', server.url, '--kind', 'slow', '--connections', '50',
      '--interval', '0.05');
    const accepted = async () => (await server.get('/v1/status', { check: false })).json.reactors
      .reduce((sum, reactor) => sum + reactor.connections_accepted, 0);
    await until(async () => (await accepted()) > 150, 'each to have come again');
    expect(await server.get('/healthz'), 200);
    const { figures } = await sendAway(crowd);
    assert.ok(figures.opened > 100, JSON.stringify(figures));
  });
});
