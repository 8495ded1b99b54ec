/* The REST forms of the commands: the same answers, 201 with Location where something is made. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, refused, serving, until } from './harness.mjs';

describe('REST forms', () => {
  const server = serving();

  it('POST /v1/sessions makes ids that ascend', async () => {
    const made = [];
    for (let n = 0; n < 3; n++) {
      const { json, headers } = expect(await server.post('/v1/sessions', {}), 201);
      assert.match(json.id, /^s[0-9a-z]+$/);
      assert.equal(headers.location, `/v1/sessions/${json.id}`);
      assert.equal((await server.view(json.id)).state.id, json.id);
      made.push(json.id);
      const madeAt = Date.now();
      await until(() => Date.now() > madeAt + 1);
    }
    assert.deepEqual(made, [...made].sort());
    assert.equal(new Set(made).size, 3);
    expect(await server.post('/v1/sessions'), 201);
  });

  it('creating twice with the same body is a 200, with another a 409', async () => {
    const sid = newId();
    const body = { session: sid, labels: { a: '1' }, ttl_s: 60 };
    const { json } = expect(await server.post('/v1/sessions', body), 201);
    assert.deepEqual(json.events[0].labels, { a: '1' });
    assert.deepEqual(expect(await server.post('/v1/sessions', body), 200).json.events, []);
    const { session, ...rest } = body;
    assert.deepEqual(expect(await server.put(`/v1/sessions/${sid}`, rest), 200).json.events, []);
    refused(await server.put(`/v1/sessions/${sid}`, { labels: { a: '2' } }), 409, 'refused');
    refused(await server.put(`/v1/sessions/${sid}`), 409, 'refused');
    refused(await server.post('/v1/sessions', { session: sid }), 409, 'refused');
  });

  it('PUT works without a body and is answered where the session then is', async () => {
    const sid = newId();
    const { headers, json } = expect(await server.put(`/v1/sessions/${sid}`), 201);
    assert.equal(headers.location, `/v1/sessions/${sid}`);
    assert.equal(json.seq, 1);
    assert.deepEqual(json.events[0].labels, {});
    assert.deepEqual(expect(await server.put(`/v1/sessions/${sid}`), 200).json,
      { seq: 1, events: [] });
  });

  it('go through a session from its beginning to its end', async () => {
    const sid = newId();
    const at = `/v1/sessions/${sid}`;
    expect(await server.put(at, { labels: { a: '1' }, trace: 'T' }), 201);
    expect(await server.patch(at, { labels: { a: null, b: '2' } }), 200);
    const ann = expect(await server.post(`${at}/agents`, { agent: 'ann', description: 'plans' }),
      201);
    assert.equal(ann.headers.location, `${at}/agents/ann`);
    assert.equal(ann.json.id, 'ann');
    const again = expect(await server.post(`${at}/agents`, { agent: 'ann', description: 'thinks' }),
      200);
    assert.equal(again.json.events.length, 1);
    assert.equal(again.json.id, undefined);
    for (const agent of ['bob', 'cat']) expect(await server.post(`${at}/agents`, { agent }), 201);
    const updated = expect(await server.patch(`${at}/agents/ann`,
      { status: 'waiting', note: 'for bob', cause: 'C' }), 200);
    assert.equal(updated.json.events[0].cause, 'C');

    const made = expect(await server.post(`${at}/threads`,
      { creator: 'ann', name: 'Plan', participants: ['bob'] }), 201);
    const tid = made.json.id;
    assert.equal(tid, `t${made.json.seq}`);
    assert.equal(made.headers.location, `${at}/threads/${tid}`);
    const named = { creator: 'ann', name: 'Own', participants: [], thread: 'own' };
    assert.equal(expect(await server.post(`${at}/threads`, named), 201).json.id, 'own');

    const added = expect(await server.put(
      `${at}/threads/${tid}/participants/cat?by=ann&history=true`), 200).json;
    assert.equal(added.events[0].type, 'thread.participant_added');
    assert.equal(added.events[0].by, 'ann');
    const sent = expect(await server.post(`${at}/threads/${tid}/messages`,
      { sender: 'ann', content: 'hi', mentions: ['cat'] }), 201);
    assert.equal(sent.json.id, `m${sent.json.seq}`);
    const located = expect(await server.get(sent.headers.location), 200).json;
    assert.deepEqual(located.messages.map((m) => m.id), [sent.json.id]);

    const thread = expect(await server.get(`${at}/threads/${tid}`), 200);
    const view = await server.view(sid);
    assert.deepEqual(thread.json,
      { epoch: view.epoch, seq: view.seq, ts: view.ts,
      thread: { id: tid, ...view.state.threads[tid] } });
    assert.equal(thread.headers.etag, `"${view.epoch}-${view.seq}"`);
    expect(await server.get(`${at}/threads/${tid}`,
      { headers: { 'if-none-match': thread.headers.etag } }), 304);

    const read = expect(await server.post(`${at}/threads/${tid}/read`,
      { agent: 'bob', upto: sent.json.seq }), 200).json;
    assert.deepEqual(read.events[0].taken, []);
    const { cursor } = await server.inbox(sid, 'cat');
    expect(await server.post(`${at}/agents/cat/inbox/ack`, { cursor }), 200);
    assert.deepEqual((await server.inbox(sid, 'cat')).messages, []);

    expect(await server.delete(`${at}/threads/${tid}/participants/cat?by=cat`), 200);
    expect(await server.post(`${at}/threads/${tid}/close`, { by: 'ann', summary: 'done' }), 200);
    assert.equal(expect(await server.delete(`${at}/agents/bob`), 200).json.events[0].type,
      'agent.left');
    expect(await server.post(`${at}/close`), 200);
    assert.equal((await server.view(sid)).state.summary, null);
    const gone = expect(await server.delete(at), 204);
    assert.equal(gone.text, '');
    refused(await server.get(at), 404, 'unknown-session');
    refused(await server.delete(at), 404, 'unknown-session');
  });

  it('an id that was deleted begins another life', async () => {
    const sid = await server.session();
    const first = await server.view(sid);
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    expect(await server.put(`/v1/sessions/${sid}`), 201);
    const second = await server.view(sid);
    assert.equal(second.seq, 1);
    assert.notEqual(second.epoch, first.epoch);
    assert.deepEqual(second.state.agents, {});
  });

  it('say 404 for an unknown session, agent or thread, on every route', async () => {
    const sid = await server.session();
    const bodies = {
      PATCH: { '': { labels: {} }, '/agents/ann': { status: 'idle' } },
      POST: {
        '/commands': { type: 'session.close' }, '/close': {}, '/agents': { agent: 'x' },
        '/threads': { creator: 'ann', name: 'n', participants: [] },
          '/threads/general/close': { by: 'ann' },
        '/threads/general/messages': { sender: 'ann', content: 'x' },
          '/threads/general/read': { agent: 'ann', upto: 1 },
        '/agents/ann/inbox/ack': { cursor: (await server.inbox(sid, 'ann')).cursor },
      },
      GET: { '': 0, '/threads/general': 0, '/threads/general/messages': 0, '/agents/ann/inbox': 0,
        '/stream': 0, '/events': 0 },
      PUT: { '/threads/general/participants/bob?by=ann': 0 },
      DELETE: { '': 0, '/agents/ann': 0, '/threads/general/participants/bob?by=ann': 0 },
    };
    for (const [method, routes] of Object.entries(bodies))
      for (const [route, body] of Object.entries(routes)) {
        const options = body === 0 ? {} : { body };
        refused(await server.request(method, `/v1/sessions/nowhere${route}`, options), 404,
          'unknown-session', 'session');
        if (route.startsWith('/threads/general'))
          refused(await server.request(method,
            `/v1/sessions/${sid}${route.replace('general', 'none')}`, options), 404,
            'unknown-thread', 'thread');
        if (route.startsWith('/agents/ann'))
          refused(await server.request(method, `/v1/sessions/${sid}${route.replace('ann', 'zoe')}`,
            options), 404, 'unknown-agent', 'agent');
      }
  });

  it('list sessions by id, by page and by label', async () => {
    const prefix = newId('list');
    const ids = Array.from({ length: 7 }, (_, n) => `${prefix}-${n}`);
    for (const [n, sid] of ids.entries())
      expect(await server.put(`/v1/sessions/${sid}`,
        { labels: { group: prefix, parity: n % 2 ? 'odd' : 'even',
        ...(n === 3 && { 'x:y': 'z:1' }) } }), 201);
    await server.post(`/v1/sessions/${ids[4]}/close`);
    const list = async (query) => expect(await server.get(`/v1/sessions?${query}`), 200).json;
    const mine = `label=group:${prefix}`;
    const all = await list(mine);
    assert.deepEqual(all.sessions.map((s) => s.id), ids);
    assert.equal(all.cursor, null);
    assert.equal(all.sessions[4].status, 'closed');
    const { state, ...view } = await server.view(ids[4]);
    assert.deepEqual(all.sessions[4], { id: ids[4], ...view, status: 'closed', labels: state.labels,
      created_at: state.created_at });

    const pages = [];
    for (let cursor = ''; cursor !== null;) {
      const page = await list(`${mine}&limit=3${cursor
        && `&cursor=${encodeURIComponent(cursor)}`}`);
      assert.ok(page.sessions.length <= 3);
      pages.push(...page.sessions.map((s) => s.id));
      cursor = page.cursor;
    }
    assert.deepEqual(pages, ids);
    assert.deepEqual((await list(`${mine}&label=parity:odd`)).sessions.map((s) => s.id),
      [ids[1], ids[3], ids[5]]);
    assert.deepEqual((await list(`label=parity&${mine}&limit=5000`)).sessions.length, 7);
    assert.deepEqual((await list(`label=nobody-has-this`)).sessions, []);
    const everything = [];
    for (let cursor = ''; cursor !== null;) {
      const page = await list(`limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      everything.push(...page.sessions.map((s) => s.id));
      cursor = page.cursor;
    }
    assert.deepEqual(everything, [...everything].sort());
    refused(await server.get('/v1/sessions?cursor=%21%21'), 400, 'malformed', 'cursor');
  });

  it('tell health, readiness and status', async () => {
    assert.deepEqual(expect(await server.get('/healthz'), 200).json, { alive: true });
    assert.deepEqual(expect(await server.get('/readyz'), 200).json, { ready: true });
    const status = await server.status();
    assert.equal(status.durability, 'commit');
    const sessions = await server.total('sessions');
    await server.session();
    assert.equal(await server.total('sessions'), sessions + 1);
  });
});
