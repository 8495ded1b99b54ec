/*
 * What is too much: 413 where the request is, 409 where the state is full; and that the limit
 * itself is allowed.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NDJSON, expect, newId, refused, serve, serving } from './harness.mjs';

const KIB = 1024;
const say = (fields) =>
  ({ type: 'message.send', thread: 'general', sender: 'ann', content: 'x', ...fields });
const labels = (n, prefix = 'l') =>
  Object.fromEntries(Array.from({ length: n }, (_, i) => [`${prefix}${i}`, 'v']));

describe('limits of a request', () => {
  const server = serving();

  it('name the field that is too long, and allow the longest', async () => {
    const sid = await server.session();
    // Counted in bytes, not characters.
    const snowmen = (bytes) => '☃'.repeat(bytes / 3) + 'x'.repeat(bytes % 3);
    const rows = [
      ['content', 256 * KIB, (content) => say({ content })],
      ['name', KIB, (name) => ({ type: 'thread.create', creator: 'ann', name, participants: [] })],
      ['note', KIB, (note) => ({ type: 'agent.update', agent: 'ann', note })],
      ['description', KIB, (description) =>
        ({ type: 'agent.register', agent: 'new', description })],
      ['trace', 128, (trace) => say({ trace })],
      ['cause', 128, (cause) => say({ cause })],
      ['labels', 256, (value) => ({ type: 'session.update', labels: { a: value } })],
      ['labels', 256, (key) => ({ type: 'session.update', labels: { [key]: 'v' } })],
      ['data', 64 * KIB, (text) => say({ data: text.slice(2) })], // with its quotes
      ['summary', KIB, (summary) => ({ type: 'session.close', summary })],
    ];
    for (const [field, most, command] of rows)
      for (const make of [snowmen, (n) => 'x'.repeat(n)]) {
        // Its two quotes are counted in characters below.
        if (field === 'data' && make === snowmen) continue;
        refused(await server.command(sid, command(make(most + 1))), 413, 'too-large', field);
        if (field !== 'summary' || make !== snowmen) expect(await server.command(sid,
          command(make(most))), 200);
      }
  });

  it('count mentions, participants and labels', async () => {
    const sid = await server.session();
    const many = Array.from({ length: 1001 }, (_, n) => `a${n}`);
    refused(await server.command(sid, say({ mentions: many })), 413, 'too-large', 'mentions');
    refused(await server.command(sid,
      { type: 'thread.create', creator: 'ann', name: 'n', participants: many }), 413, 'too-large',
      'participants');
    refused(await server.command(sid, { type: 'session.update', labels: labels(65) }), 413,
      'too-large', 'labels');
    refused(await server.command(sid, { type: 'agent.update', agent: 'ann', labels: labels(65) }),
      413, 'too-large', 'labels');
    refused(await server.post('/v1/sessions', { labels: labels(65) }), 413, 'too-large', 'labels');
    expect(await server.command(sid, { type: 'session.update', labels: labels(64) }), 200);
  });

  it('bound the body, also of a batch', async () => {
    const sid = await server.session();
    const padded = (n) => JSON.stringify(say()).padEnd(n);
    expect(await server.command(sid, padded(KIB * KIB)), 200);
    refused(await server.command(sid, padded(KIB * KIB + 1)), 413, 'too-large');
    refused(await server.post(`/v1/sessions/${sid}/threads/general/messages`,
      { sender: 'ann', content: 'x'.repeat(KIB * KIB) }), 413, 'too-large');
    const line = say({ content: 'x'.repeat(200 * KIB) });
    const big = Array.from({ length: 70 }, () => line); // 14 MB
    for (const post of [server.lines(sid, big), server.command(sid, big)]) assert.ok(
      expect(await post, 200).json.results.every((r) => r.status === 200));
    const over = Buffer.alloc(16 * KIB * KIB + 1, ' ');
    over.write('[]');
    for (const type of ['application/json', NDJSON])
      refused(await server.command(sid, over, { type }), 413, 'too-large');
    // Of far more the server need not read the rest: the client may meet a closed connection.
    const more = await server.lines(sid, [...big, ...big]).catch((error) => error);
    assert.ok(['ECONNRESET', 'EPIPE'].includes(more.code) || more.status === 413, more.stack);
    expect(await server.get('/healthz'), 200);
  });

  it('bound the commands of a batch', async () => {
    const sid = await server.session();
    const { seq } = await server.view(sid);
    const commands = Array.from({ length: 10_000 }, () => say());
    refused(await server.lines(sid, [...commands, say()]), 413, 'too-large');
    refused(await server.command(sid, [...commands, say()]), 413, 'too-large');
    assert.equal((await server.view(sid)).seq, seq);
    const { json } = expect(await server.lines(sid, commands), 200);
    assert.equal(json.seq, seq + 10_000);
    assert.ok(json.results.every((r) => r.status === 200));
  });
});

describe('limits of the state', () => {
  const server = serving({ args: ['--max-agents', '5', '--max-threads', '3', '--max-participants',
    '3', '--max-labels', '4'] });

  it('refuse one agent, thread or participant more', async () => {
    const sid = await server.session(['a', 'b', 'c', 'd', 'e'], { participants: ['b', 'c'] });
    const command = (c) => server.command(sid, c);
    refused(await command({ type: 'agent.register', agent: 'f' }), 409, 'refused');
    expect(await command({ type: 'agent.register', agent: 'a', description: 'again' }), 200);
    refused(await command({ type: 'thread.add', thread: 'general', agent: 'd', by: 'a' }), 409,
      'refused');
    expect(await command({ type: 'thread.add', thread: 'general', agent: 'c', by: 'a' }), 200);
    expect(await command({ type: 'thread.remove', thread: 'general', agent: 'c', by: 'a' }), 200);
    expect(await command({ type: 'thread.add', thread: 'general', agent: 'd', by: 'a' }), 200);
    for (const thread of ['x', 'y']) expect(
      await command({ type: 'thread.create', thread, creator: 'a', name: thread,
      participants: [] }), 200);
    refused(await command({ type: 'thread.create', thread: 'z', creator: 'a', name: 'z',
      participants: [] }), 409, 'refused');
    expect(await command({ type: 'agent.leave', agent: 'e' }), 200);
    expect(await command({ type: 'agent.register', agent: 'f' }), 200);
  });

  it('refuse labels that are too many together', async () => {
    const sid = newId();
    expect(await server.put(`/v1/sessions/${sid}`, { labels: labels(3) }), 201);
    const patch = (changes) => server.patch(`/v1/sessions/${sid}`, { labels: changes });
    refused(await patch(labels(2, 'm')), 409, 'refused');
    expect(await patch({ l0: null, ...labels(2, 'm') }), 200);
    assert.equal(Object.keys((await server.view(sid)).state.labels).length, 4);
  });
});

it('limits hold for a session made before they were lowered', async (t) => {
  const server = await serve(t);
  const sid = await server.session(['a', 'b', 'c']);
  await server.restart(['--max-agents', '2', '--max-participants', '2']);
  refused(await server.command(sid, { type: 'agent.register', agent: 'd' }), 409, 'refused');
  expect(await server.command(sid, say({ sender: 'a', mentions: ['b'] })), 200);
  await server.stream(sid).equalsView();
});
