/*
 * A start that has to recover: the server answers from its first moment, says that it is alive, and
 * takes commands only when it says that it is ready. How long the recovery takes is nobody's
 * promise, so each answer is judged by what it says, not by when it came.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Server, expect, remove, temporaryDirectory, until } from './harness.mjs';

/** The answer, or undefined where nobody listens yet. */
const ask = (server, path, socketPath) => server.get(path, { socketPath }).catch((error) => {
  if (['ENOENT', 'ECONNREFUSED', 'ECONNRESET'].includes(error.code)) return undefined;
  throw error;
});

function prepare(t) {
  const directory = temporaryDirectory();
  t.after(() => remove(directory));
  const socketPath = join(directory, 'atoll.sock');
  return { server: new Server({ listen: [`unix:${socketPath}`] }), socketPath };
}

function assertRecovering(answer) {
  expect(answer, 503);
  assert.match(answer.json.detail, /^recovering: \d{1,3} % of [\d ]+ MB of log read$/);
  assert.equal(answer.headers['retry-after'], '1');
}

describe('a start after a kill', () => {
  it('is alive at once and ready when it says so', async (t) => {
    const { server, socketPath } = prepare(t);
    await server.start();
    const put = (path, body) => server.put(path, body, { socketPath });
    expect(await put('/v1/sessions/one', {}), 201);
    expect(await server.command('one', { type: 'agent.register', agent: 'ann' }, { socketPath }),
      200);
    const say = { type: 'message.send', thread: 'general', sender: 'ann', content: 'x'.repeat(500) };
    for (let n = 0; n < 4; n++)
      expect(await server.lines('one', Array(5000).fill(say), { socketPath }), 200);
    const before = expect(await server.get('/v1/sessions/one', { socketPath }), 200).json;
    await server.kill();

    let ready = false;
    let refused = 0;
    const starting = server.start().finally(() => (ready = true));
    while (!ready) {
      const alive = await ask(server, '/healthz', socketPath);
      if (alive) expect(alive, 200);
      const answer = await ask(server, '/readyz', socketPath);
      if (answer && answer.status !== 200) {
        assertRecovering(answer);
        const view = await ask(server, '/v1/sessions/one', socketPath);
        if (view.status !== 200) assertRecovering(view);
        refused++;
      }
    }
    await starting;
    t.diagnostic(`${refused} times not ready`);
    expect(await server.get('/readyz', { socketPath }), 200);
    const after = expect(await server.get('/v1/sessions/one', { socketPath }), 200).json;
    assert.deepEqual(after, before);
    await server.stop();
  });

  it('ends at once and well when it is told to stop', async (t) => {
    const { server, socketPath } = prepare(t);
    await server.start();
    expect(await server.put('/v1/sessions/one', {}, { socketPath }), 201);
    await server.kill();
    const starting = server.start().catch(() => undefined); // it may end before it is ready
    await until(async () => (await ask(server, '/healthz', socketPath))?.status === 200,
      'a server that is alive');
    server.child.kill('SIGTERM');
    await starting;
    assert.deepEqual(await server.exited, { code: 0, signal: null }, server.stderr);
    await server.start();
    expect(await server.get('/v1/sessions/one', { socketPath }), 200);
    await server.stop();
  });
});
