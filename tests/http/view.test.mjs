/* Reading the state, and acting only on the state that one has read. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, refused, serving } from './harness.mjs';

describe('the view', () => {
  const server = serving();

  it('has an ETag of epoch and seq, and a 304 while nothing happens', async () => {
    const sid = await server.session();
    const at = `/v1/sessions/${sid}`;
    const first = expect(await server.get(at), 200);
    assert.equal(first.headers.etag, `"${first.json.epoch}-${first.json.seq}"`);
    for (const match of [first.headers.etag, `W/${first.headers.etag}`,
      `"other", ${first.headers.etag}`, '*']) {
      const same = expect(await server.get(at, { headers: { 'if-none-match': match } }), 304);
      assert.equal(same.headers.etag, first.headers.etag);
    }
    await server.say(sid, 'ann', 'x');
    const changed = expect(await server.get(at,
      { headers: { 'if-none-match': first.headers.etag } }), 200);
    assert.equal(changed.json.seq, first.json.seq + 1);
  });

  it('shows at once what was answered, to anybody', async () => {
    const sid = await server.session();
    for (let n = 0; n < 30; n++) {
      const { id, seq } = await server.say(sid, 'ann', `${n}`);
      const view = await server.view(sid);
      assert.equal(view.seq, seq);
      assert.equal(view.state.threads.general.messages.at(-1).id, id);
    }
  });

  it('has the time of its last event, not of the request', async () => {
    const sid = await server.session();
    const { events } = await server.say(sid, 'ann', 'x');
    assert.equal((await server.view(sid)).ts, events[0].ts);
    assert.equal((await server.view(sid)).ts, events[0].ts);
    assert.equal((await server.view(sid)).state.created_at, (await server.events(sid))[0].ts);
  });

  it('keeps a window of messages, and counts the older ones', async () => {
    const sid = await server.session();
    await server.lines(sid, Array.from({ length: 130 }, (_, n) =>
      ({ type: 'message.send', thread: 'general', sender: 'ann', content: `${n}` })));
    const { older, messages } = (await server.view(sid)).state.threads.general;
    assert.equal(older, 30);
    assert.deepEqual(messages.map((m) => m.content), Array.from({ length: 100 }, (_, n) =>
      `${n + 30}`));
  });

  it('keeps at most 1 MiB of messages a thread', async () => {
    const sid = await server.session();
    for (let n = 0; n < 12; n++) await server.say(sid, 'ann', `${n}`.padEnd(200_000, '.'));
    const { older, messages } = (await server.view(sid)).state.threads.general;
    assert.equal(older + messages.length, 12);
    const size = messages.reduce((sum, m) => sum + m.content.length, 0);
    assert.ok(size <= 1024 * 1024 && size >= 600_000, `${size} bytes`);
    assert.match(messages.at(-1).content, /^11\.+$/);
  });

  for (const [form, at] of [
    ['If-Match', (etag) => [{}, { headers: { 'if-match': etag } }]],
    ['expected_seq', (etag, seq) => [{ expected_seq: seq }, {}]],
  ]) {
    it(`${form} lets a command through only where it was expected`, async () => {
      const sid = await server.session();
      const path = `/v1/sessions/${sid}/threads/general/messages`;
      const { epoch, seq } = await server.view(sid);
      const send = (seq) => {
        const [fields, options] = at(`"${epoch}-${seq}"`, seq);
        return server.post(path, { sender: 'ann', content: `after ${seq}`, ...fields }, options);
      };
      expect(await send(seq), 201);
      for (const wrong of [seq, seq - 1, seq + 2])
        assert.equal(refused(await send(wrong), 412, 'expected-seq').seq, seq + 1);
      expect(await send(seq + 1), 201);
      assert.equal((await server.view(sid)).seq, seq + 2);
    });
  }

  it('of another epoch is not matched', async () => {
    const sid = newId();
    expect(await server.put(`/v1/sessions/${sid}`), 201);
    const { headers: { etag } } = await server.get(`/v1/sessions/${sid}`);
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    expect(await server.put(`/v1/sessions/${sid}`), 201);
    refused(await server.patch(`/v1/sessions/${sid}`, { labels: { a: '1' } },
      { headers: { 'if-match': etag } }), 412, 'expected-seq');
    refused(await server.delete(`/v1/sessions/${sid}`, { headers: { 'if-match': etag } }), 412,
      'expected-seq');
    const now = await server.get(`/v1/sessions/${sid}`);
    expect(await server.delete(`/v1/sessions/${sid}`,
      { headers: { 'if-match': now.headers.etag } }), 204);
  });

  it('If-Match guards a batch as a whole', async () => {
    const sid = await server.session();
    const { epoch, seq } = await server.view(sid);
    const batch = [1, 2].map((n) =>
      ({ type: 'message.send', thread: 'general', sender: 'ann', content: `${n}` }));
    const options = { headers: { 'if-match': `"${epoch}-${seq}"` } };
    expect(await server.lines(sid, batch, options), 200);
    refused(await server.lines(sid, batch, options), 412, 'expected-seq');
    assert.equal((await server.view(sid)).seq, seq + 2);
  });

  it('of two who expect the same only one gets it', async () => {
    const sid = await server.session();
    const { seq } = await server.view(sid);
    const tries = Array.from({ length: 10 }, (_, n) =>
      server.command(sid, { type: 'message.send', thread: 'general', sender: 'ann', content: `${n}`,
        expected_seq: seq }));
    const statuses = (await Promise.all(tries)).map((a) => a.status).sort();
    assert.deepEqual(statuses, [200, ...Array(9).fill(412)]);
  });

  it('a malformed If-Match is a 400', async () => {
    const sid = await server.session();
    for (const etag of ['7', '"x"', '"k3x9-"', '"k3x9-x"'])
      refused(await server.patch(`/v1/sessions/${sid}`, { labels: {} },
        { headers: { 'if-match': etag } }), 400, 'malformed', 'If-Match');
  });
});
