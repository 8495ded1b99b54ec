/* Retries: the same key and body again gets the first answer again, whatever has happened since. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, refused, serve, serving } from './harness.mjs';

const keyed = (key) => ({ headers: { 'idempotency-key': key } });
const say = (content, fields) =>
  ({ type: 'message.send', thread: 'general', sender: 'ann', content, ...fields });

/** Fails unless `again` is `first` once more, and marked as such. */
function replayed(again, first) {
  expect(again, first.status);
  assert.equal(first.headers['idempotent-replayed'], undefined);
  assert.equal(again.headers['idempotent-replayed'], 'true');
  assert.equal(again.headers.location, first.headers.location);
  assert.deepEqual(again.json, first.json);
}

describe('idempotency keys', () => {
  const server = serving();
  const sent = async (sid) =>
    (await server.events(sid)).filter((e) => e.type === 'message.sent').length;

  it('replay the first answer, on every form', async () => {
    const sid = await server.session(['ann', 'bob', 'cat'], { participants: ['bob'] });
    const at = `/v1/sessions/${sid}`;
    const { cursor } = (await server.say(sid, 'ann', 'x'), await server.inbox(sid, 'bob'));
    const forms = [
      ['POST', `${at}/commands`, say('one')],
      ['POST', `${at}/threads/general/messages`, { sender: 'ann', content: 'two' }],
      ['POST', `${at}/threads`, { creator: 'ann', name: 'n', participants: [] }],
      ['POST', `${at}/agents`, { agent: 'new' }],
      ['PATCH', `${at}/agents/ann`, { status: 'working' }],
      // Changes nothing, and is kept too.
      ['POST', `${at}/threads/general/read`, { agent: 'bob', upto: 1 }],
      ['POST', `${at}/agents/bob/inbox/ack`, { cursor }],
      ['PUT', `${at}/threads/general/participants/cat?by=ann`],
      ['DELETE', `${at}/threads/general/participants/cat?by=ann`],
      ['DELETE', `${at}/agents/new`],
      ['PATCH', at, { labels: { a: '1' } }],
      ['POST', `${at}/threads/general/close`, { by: 'ann' }],
      ['POST', `${at}/close`, { summary: 's' }],
    ];
    const firsts = [];
    for (const [n, [method, path, body]] of forms.entries())
      firsts.push(await server.request(method, path, { body, ...keyed(`form-${n}`) }));
    const { seq } = await server.view(sid);
    for (const [n, [method, path, body]] of forms.entries()) {
      assert.ok(firsts[n].status < 300, firsts[n].text);
      replayed(await server.request(method, path, { body, ...keyed(`form-${n}`) }), firsts[n]);
    }
    assert.equal((await server.view(sid)).seq, seq);
  });

  it('compare bodies as canonical JSON', async () => {
    const sid = await server.session();
    const path = `/v1/sessions/${sid}/threads/general/messages`;
    const first = await server.post(path, '{"sender":"ann","content":"ä","data":{"a":1,"b":[]}}',
      keyed('k'));
    replayed(await server.post(path,
      '{ "data": {"b":[ ], "a":1.0}, "content":"\\u00e4", "sender":"ann" }', keyed('k')), first);
  });

  it('refuse another body with 422', async () => {
    const sid = await server.session();
    const path = `/v1/sessions/${sid}/threads/general/messages`;
    expect(await server.post(path, { sender: 'ann', content: 'one' }, keyed('k')), 201);
    refused(await server.post(path, { sender: 'ann', content: 'two' }, keyed('k')), 422,
      'idempotency-key-reused');
    refused(await server.post(path, { sender: 'bob', content: 'one' }, keyed('k')), 422,
      'idempotency-key-reused');
    refused(await server.command(sid, { type: 'agent.register', agent: 'x' }, keyed('k')), 422,
      'idempotency-key-reused');
    assert.equal(await sent(sid), 1);
  });

  it('may stand in the command, alone and in a batch', async () => {
    const sid = await server.session();
    const one = say('one', { key: 'k1' });
    const first = expect(await server.command(sid, one), 200);
    replayed(await server.command(sid, one), first);
    const batch = [one, say('two', { key: 'k2' }), say('two', { key: 'k2' }),
      say('other', { key: 'k1' })];
    for (const post of [server.command(sid, batch), server.lines(sid, batch)]) {
      const { results } = expect(await post, 200).json;
      assert.deepEqual(results.map((r) => r.status), [200, 200, 200, 422]);
      assert.deepEqual([results[0].seq, results[0].id, results[0].replayed],
        [first.json.seq, first.json.id, true]);
      assert.equal(results[2].replayed, true);
      assert.equal(results[2].seq, results[1].seq);
    }
    assert.equal(await sent(sid), 2);
  });

  it('work with atomic batches', async () => {
    const sid = await server.session();
    const batch = [say('one', { key: 'a1' }), say('two', { key: 'a2' })];
    const first = expect(await server.lines(sid, batch, { query: '?atomic=true' }), 200).json;
    const again = expect(await server.lines(sid, batch, { query: '?atomic=true' }), 200).json;
    assert.deepEqual(again.results, first.results.map((r) => ({ ...r, replayed: true })));
    assert.equal(await sent(sid), 2);
  });

  it('as a header are not for batches, and must agree with the command', async () => {
    const sid = await server.session();
    refused(await server.command(sid, [say('x')], keyed('k')), 400, 'malformed', 'Idempotency-Key');
    refused(await server.lines(sid, [say('x')], keyed('k')), 400, 'malformed', 'Idempotency-Key');
    refused(await server.command(sid, say('x', { key: 'other' }), keyed('k')), 400, 'malformed',
      'key');
    expect(await server.command(sid, say('x', { key: 'k' }), keyed('k')), 200);
  });

  it('do not keep refusals', async () => {
    const sid = await server.session(['ann', 'bob'], { thread: null });
    const command = say('x', { key: 'k' });
    refused(await server.command(sid, command), 404, 'unknown-thread');
    expect(await server.post(`/v1/sessions/${sid}/threads`,
      { creator: 'ann', name: 'n', participants: [], thread: 'general' }), 201);
    const first = expect(await server.command(sid, command), 200);
    replayed(await server.command(sid, command), first);
  });

  it('are looked at before the expected seq', async () => {
    const sid = await server.session();
    const { seq } = await server.view(sid);
    const command = say('x', { key: 'k', expected_seq: seq });
    const first = expect(await server.command(sid, command), 200);
    replayed(await server.command(sid, command), first);
  });

  it('let a second request wait for the first that is in flight', async () => {
    const sid = await server.session();
    const answers = await Promise.all(Array.from({ length: 16 }, () =>
      server.command(sid, say('once', { key: 'race' }))));
    answers.forEach((a) => expect(a, 200));
    assert.equal(answers.filter((a) => a.headers['idempotent-replayed'] === undefined).length, 1);
    for (const a of answers) assert.deepEqual(a.json, answers[0].json);
    assert.equal(await sent(sid), 1);
  });

  it('belong to a session', async () => {
    const [a, b] = [await server.session(), await server.session()];
    for (const sid of [a, b]) assert.equal((await server.command(sid, say('x', { key: 'same' })))
      .headers['idempotent-replayed'], undefined);
    expect(await server.delete(`/v1/sessions/${a}`), 204);
    await server.session(['ann'], { sid: a });
    const anew = expect(await server.command(a, say('x', { key: 'same' })), 200);
    assert.equal(anew.headers['idempotent-replayed'], undefined);
  });

  it('make one session where it has no id', async () => {
    const key = newId('key');
    const body = { labels: { key } };
    const answers = await Promise.all(Array.from({ length: 8 }, () =>
      server.post('/v1/sessions', body, keyed(key))));
    for (const a of answers) {
      expect(a, 201);
      assert.deepEqual(a.json, answers[0].json);
      assert.equal(a.headers.location, answers[0].headers.location);
    }
    assert.equal(expect(await server.get(`/v1/sessions?label=key:${key}`), 200)
      .json.sessions.length, 1);
    refused(await server.post('/v1/sessions', { labels: { key: 'other' } }, keyed(key)), 422,
      'idempotency-key-reused');
    assert.notEqual(expect(await server.post('/v1/sessions', body, keyed(newId('key'))), 201)
      .json.id, answers[0].json.id);
  });

  it('create a session with an id once', async () => {
    const sid = newId();
    const first = expect(await server.put(`/v1/sessions/${sid}`, { labels: {} }, keyed('k')), 201);
    replayed(await server.put(`/v1/sessions/${sid}`, { labels: {} }, keyed('k')), first);
  });

  it('have at least one and at most 128 bytes', async () => {
    const sid = await server.session();
    expect(await server.command(sid, say('x'), keyed('k'.repeat(128))), 200);
    refused(await server.command(sid, say('x'), keyed('k'.repeat(129))), 413, 'too-large',
      'Idempotency-Key');
    refused(await server.command(sid, say('x', { key: 'k'.repeat(129) })), 413, 'too-large', 'key');
    refused(await server.command(sid, say('x', { key: '' })), 400, 'malformed', 'key');
  });
});

it('idempotency keys survive a restart and a kill', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const path = `/v1/sessions/${sid}/threads/general/messages`;
  const first = expect(await server.post(path, { sender: 'ann', content: 'x' }, keyed('k')), 201);
  const made = expect(await server.post('/v1/sessions', {}, keyed('new')), 201);
  for (const again of [() => server.restart(), () => server.kill().then(() => server.start())]) {
    await again();
    replayed(await server.post(path, { sender: 'ann', content: 'x' }, keyed('k')), first);
    refused(await server.post(path, { sender: 'ann', content: 'y' }, keyed('k')), 422,
      'idempotency-key-reused');
    replayed(await server.post('/v1/sessions', {}, keyed('new')), made);
  }
  assert.equal((await server.events(sid)).filter((e) => e.type === 'message.sent').length, 1);
});
