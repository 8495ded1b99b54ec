/*
 * SIGTERM: what is open is answered, what comes late is turned away, and the process ends with 0.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { expect, openEvents, serve, until, within } from './harness.mjs';

it('a stopping server answers waits, closes streams with a time to come back, and ends',
  async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const waits = ['ann', 'bob'].map((agent) => server.inbox(sid, agent, '?wait=50'));
  const wires = [await openEvents(server, `/v1/sessions/${sid}/stream`),
    await openEvents(server, `/v1/sessions/${sid}/events`, { accept: 'text/event-stream' })];
  await until(async () => (await server.total('waiting')) === 2, 'two waits');
  server.child.kill('SIGTERM');
  for (const wait of waits) {
    const inbox = await wait;
    assert.deepEqual([inbox.messages, typeof inbox.cursor], [[], 'string']);
  }
  for (const wire of wires) {
    const retry = await wire.find((b) => b.retry !== undefined);
    assert.match(retry?.retry ?? 'no retry', /^\d+$/);
    assert.equal(await wire.find((b) => b.event === 'end'), undefined, 'the session has not ended');
  }
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});

it('a stopping server loses nothing that it has acknowledged', async (t) => {
  const server = await serve(t);
  const sids = await Promise.all(Array.from({ length: 4 }, () => server.session()));
  const acknowledged = new Map(sids.map((sid) => [sid, []]));
  let turnedAway = 0;
  const writers = sids.map(async (sid) => {
    for (let n = 0; ; n++) {
      const answer = await server.post(`/v1/sessions/${sid}/threads/general/messages`,
        { sender: 'ann', content: `${n}` }).catch((error) => {
        if (error.name === 'AssertionError') throw error;
        return undefined; // the connection is gone
      });
      if (answer?.status !== 201) {
        if (answer) expect(answer, 503);
        turnedAway++;
        return;
      }
      acknowledged.get(sid).push(answer.json.id);
    }
  });
  await until(() => [...acknowledged.values()].every((ids) => ids.length > 20),
    'twenty messages in each session');
  server.child.kill('SIGTERM');
  await Promise.all(writers);
  assert.equal(turnedAway, sids.length);
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
  await server.start();
  for (const [sid, ids] of acknowledged) {
    const kept = (await server.events(sid)).filter((e) => e.type === 'message.sent').map((e) =>
      e.id);
    assert.deepEqual(kept.slice(0, ids.length), ids);
    assert.ok(kept.length <= ids.length + 1, 'at most the one whose answer was lost');
  }
});

it('a server that is interrupted ends the same way', async (t) => {
  const server = await serve(t);
  server.child.kill('SIGINT');
  assert.deepEqual(await within(server.exited, 'the end of the process'),
    { code: 0, signal: null });
});

it('clients that do not read do not hold the end up beyond the grace', async (t) => {
  const server = await serve(t, { args: ['--grace', '500ms'] });
  const sid = await server.session();
  const wire = await openEvents(server, `/v1/sessions/${sid}/stream`);
  wire.response.pause();
  for (let n = 0; n < 60; n++) await server.say(sid, 'ann', 'x'.repeat(250_000));
  server.child.kill('SIGTERM');
  assert.deepEqual(await within(server.exited, 'the end of the process', 20_000),
    { code: 0, signal: null });
});
