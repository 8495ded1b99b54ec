/* Many commands in one request: each on its own, or all or none. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NDJSON, expect, newId, refused, serving } from './harness.mjs';

const say = (content, fields) =>
  ({ type: 'message.send', thread: 'general', sender: 'ann', content, ...fields });
const statuses = (json) => json.results.map((r) => r.status);

describe('batches', () => {
  const server = serving();
  const contents = async (sid) =>
    (await server.events(sid)).filter((e) => e.type === 'message.sent').map((e) => e.content);

  for (const [form, post] of [
    ['an array', (sid, commands, query = '') =>
      server.post(`/v1/sessions/${sid}/commands${query}`, commands)],
    ['NDJSON', (sid, commands, query) => server.lines(sid, commands, { query })],
  ]) {
    it(`${form} is applied in order, with a result for each`, async () => {
      const sid = await server.session();
      const { seq } = await server.view(sid);
      const { json } = expect(await post(sid, Array.from({ length: 200 }, (_, n) => say(`${n}`))),
        200);
      assert.deepEqual(json.results, Array.from({ length: 200 }, (_, n) =>
        ({ status: 200, seq: seq + n + 1, id: `m${seq + n + 1}` })));
      assert.equal(json.seq, seq + 200);
      assert.deepEqual(await contents(sid), Array.from({ length: 200 }, (_, n) => `${n}`));
    });

    it(`${form} goes on behind a bad command`, async () => {
      const sid = await server.session();
      const { seq } = await server.view(sid);
      const commands = [say('a'), say('no', { thread: 'none' }), say('b'), { type: 'nonsense' }, 7,
        say('no', { expected_seq: 1 }), say('c')];
      const { json } = expect(await post(sid, commands), 200);
      assert.deepEqual(statuses(json), [200, 404, 200, 400, 400, 412, 200]);
      assert.equal(json.results[1].error.field, 'thread');
      assert.equal(json.results[5].error.seq, seq + 2);
      assert.equal(json.seq, seq + 3);
      assert.deepEqual(await contents(sid), ['a', 'b', 'c']);
    });

    it(`${form} sees what the commands before it did`, async () => {
      const sid = newId();
      const { json } = expect(await post(sid, [
        { type: 'session.create', session: sid },
        { type: 'agent.register', agent: 'ann' },
        { type: 'thread.create', thread: 'general', creator: 'ann', name: 'g', participants: [] },
        say('hi'),
        { type: 'thread.close', thread: 'general', by: 'ann' },
        say('too late'),
      ]), 200);
      assert.deepEqual(statuses(json), [200, 200, 200, 200, 200, 409]);
      assert.deepEqual(json.results.map((r) => r.id),
        [sid, 'ann', 'general', 'm4', undefined, undefined]);
      assert.equal(json.seq, 5);
    });

    it(`${form} is all or none with atomic`, async () => {
      const sid = await server.session();
      const before = await server.view(sid);
      const stream = server.stream(sid);
      await stream.reach(before.seq);
      for (const [bad, status, type] of [
        [say('no', { thread: 'none' }), 404, 'unknown-thread'],
        [say('no', { mentions: ['zoe'] }), 404, 'unknown-agent'],
        [{ type: 'nonsense' }, 400, 'malformed'],
        [{ type: 'thread.create', thread: 'general', creator: 'ann', name: 'n', participants: [] },
          409, 'refused'],
      ]) {
        const commands = [say('a'), { type: 'agent.register', agent: 'new' }, bad,
          { type: 'session.close' }];
        const { json } = expect(await post(sid, commands, '?atomic=true'), 409);
        assert.equal(json.results[2].status, status);
        assert.equal(json.results[2].error.type, `/problems/${type}`);
        for (const n of [0, 1, 3]) {
          assert.equal(json.results[n].status, 424);
          assert.equal(json.results[n].error.type, '/problems/not-applied');
        }
        assert.deepEqual(await server.view(sid), before);
      }
      const { json } = expect(await post(sid,
        [say('a'), { type: 'agent.update', agent: 'ann', status: 'working' }, say('b')],
        '?atomic=true'), 200);
      assert.deepEqual(statuses(json), [200, 200, 200]);
      assert.equal(json.seq, before.seq + 3);
      await stream.equalsView();
      assert.equal((await server.events(sid)).length, before.seq + 3);
    });
  }

  it('a line that is no JSON is a 400 of that line alone', async () => {
    const sid = await server.session();
    const lines = ['{"type":', JSON.stringify(say('a')), '',
      '{"type":"agent.register","agent":"x","agent":"y"}', '   ', JSON.stringify(say('b')), 'null'];
    const { json } = expect(await server.lines(sid, lines), 200);
    assert.deepEqual(statuses(json), [400, 200, 400, 200, 400]);
    assert.deepEqual(await contents(sid), ['a', 'b']);
  });

  it('the last line needs no line feed, and lines may end as on Windows', async () => {
    const sid = await server.session();
    const body = `${JSON.stringify(say('a'))}\r\n${JSON.stringify(say('b'))}`;
    const { json } = expect(await server.post(`/v1/sessions/${sid}/commands`, body,
      { type: NDJSON }), 200);
    assert.deepEqual(statuses(json), [200, 200]);
  });

  it('an array that is no JSON is a 400 as a whole', async () => {
    const sid = await server.session();
    refused(await server.command(sid, `[${JSON.stringify(say('a'))},`), 400, 'malformed');
    assert.deepEqual(await contents(sid), []);
  });

  it('of nothing changes nothing', async () => {
    const sid = await server.session();
    const { seq } = await server.view(sid);
    assert.deepEqual(expect(await server.command(sid, []), 200).json, { results: [], seq });
    assert.deepEqual(expect(await server.lines(sid, []), 200).json, { results: [], seq });
  });

  it('to an unknown session are a 404, unless they create it', async () => {
    refused(await server.command('nowhere', [say('a')]), 404, 'unknown-session', 'session');
    refused(await server.lines('nowhere', [say('a')], { query: '?atomic=true' }), 404,
      'unknown-session', 'session');
    const sid = newId();
    const { json } = expect(await server.command(sid,
      [say('too early'), { type: 'session.create' }]), 200);
    assert.deepEqual(statuses(json), [404, 200]);
    const other = newId();
    expect(await server.command(other, [{ type: 'session.create' }, say('no thread')], {}), 200);
    const none = newId();
    expect(await server.lines(none, [{ type: 'session.create' }, say('no thread')],
      { query: '?atomic=true' }), 409);
    refused(await server.get(`/v1/sessions/${none}`), 404, 'unknown-session');
  });

  it('many at once to one session neither lose nor mix', async () => {
    const sid = await server.session();
    const { seq } = await server.view(sid);
    const batches = Array.from({ length: 20 }, (_, b) =>
      Array.from({ length: 50 }, (_, n) => say(`${b}.${n}`)));
    await Promise.all(batches.map(async (batch, b) =>
      expect(await server.lines(sid, batch, { query: b % 2 ? '?atomic=true' : '' }), 200)));
    const said = (await server.events(sid)).slice(seq);
    assert.deepEqual(said.map((e) => e.seq), Array.from({ length: 1000 }, (_, n) => seq + n + 1));
    for (let b = 0; b < 20; b++) {
      const own = said.filter((e) => e.content.startsWith(`${b}.`));
      assert.deepEqual(own.map((e) => e.content), batches[b].map((c) => c.content));
      if (b % 2) assert.equal(own.at(-1).seq - own[0].seq, 49, 'an atomic batch stands together');
    }
  });

  it('atomic makes no difference to one command', async () => {
    const sid = await server.session();
    expect(await server.post(`/v1/sessions/${sid}/commands?atomic=true`, say('a')), 200);
    refused(await server.post(`/v1/sessions/${sid}/commands?atomic=true`,
      say('a', { thread: 'none' })), 404, 'unknown-thread');
    refused(await server.post(`/v1/sessions/${sid}/commands?atomic=perhaps`, say('a')), 400,
      'malformed', 'atomic');
  });
});
