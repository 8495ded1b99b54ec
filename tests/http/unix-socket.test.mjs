/* Listening on a Unix socket, alone or beside a port. */
import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Server, expect, remove, run, temporaryDirectory } from './harness.mjs';

async function listening(t, addresses) {
  const directory = temporaryDirectory();
  const socketPath = join(directory, 'atoll.sock');
  const server = new Server({ listen: [...addresses, `unix:${socketPath}`] });
  await server.start();
  t.after(async () => {
    await server.stop();
    remove(directory);
  });
  return { server, socketPath };
}

describe('a Unix socket', () => {
  it('serves like a port does, to its owner alone', async (t) => {
    const { server, socketPath } = await listening(t, ['127.0.0.1:0']);
    const mode = statSync(socketPath);
    assert.ok(mode.isSocket());
    assert.equal(mode.mode & 0o777, 0o600);
    expect(await server.put('/v1/sessions/one', { labels: { a: '1' } }, { socketPath }), 201);
    assert.deepEqual((await server.view('one')).state.labels, { a: '1' });
    expect(await server.get('/v1/sessions/one', { socketPath }), 200);
  });

  it('may be all there is, is named when ready, and is gone afterwards', async (t) => {
    const { server, socketPath } = await listening(t, []);
    assert.ok(server.ready.includes(socketPath), server.ready);
    expect(await server.get('/healthz', { socketPath }), 200);
    await server.restart();
    expect(await server.get('/healthz', { socketPath }), 200);
    await server.kill();
    assert.ok(existsSync(socketPath));
    await server.start(); // takes the place of one that nobody serves any more
    expect(await server.get('/healthz', { socketPath }), 200);
  });

  it('does not take the place of a file that is something else', async () => {
    const directory = temporaryDirectory();
    const path = join(directory, 'precious');
    writeFileSync(path, 'text');
    const { code, stderr } =
      await run(['serve', '--listen', `unix:${path}`, '--data', join(directory, 'data')]);
    assert.notEqual(code, 0);
    assert.ok(stderr.includes(path), stderr);
    assert.ok(statSync(path).isFile());
    remove(directory);
  });
});
