/*
 * Forks: a history shared up to a seq, and two ways from there; whatever becomes of the parent.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import jsonPatch from 'fast-json-patch';
import { canonical, expect, newId, refused, serving } from './harness.mjs';

describe('a fork', () => {
  const server = serving({ args: ['--shards', '2'] });
  const scene = async (rounds = 4) => server.live(await server.session(), rounds);

  it('begins as the parent stood, and goes its own way', async () => {
    const parent = await scene();
    const { epoch, seq: now } = await server.view(parent);
    const at = now - 13;
    const session = newId('fork');
    const answer = await server.post(`/v1/sessions/${parent}/fork`, { at, session });
    expect(answer, 201);
    assert.equal(answer.headers.location, `/v1/sessions/${session}`);
    const view = await server.view(session);
    assert.deepEqual(answer.json, { session, epoch: view.epoch, seq: at + 1,
      parent: { session: parent, epoch, seq: at } });
    assert.equal(view.seq, at + 1);

    const past = await server.view(parent, `?at=${at}`);
    assert.equal(canonical(view.state), canonical({ ...past.state, id: session,
      parent: { session: parent, epoch, seq: at } }));
    const events = await server.events(session);
    const { ts, ...forked } = events[at];
    assert.deepEqual(forked, { seq: at + 1, type: 'session.forked', actor: null, session, parent,
      parent_epoch: epoch, parent_seq: at });
    assert.ok(ts >= past.ts);
    assert.deepEqual(events.slice(0, at), (await server.events(parent)).slice(0, at));

    const before = await server.view(parent);
    assert.equal((await server.say(session, 'ann', 'here')).seq, at + 2);
    assert.deepEqual(await server.view(parent), before);
    await server.say(parent, 'bob', 'there');
    assert.equal((await server.view(session)).seq, at + 2);
    const page = expect(await server.get(
      `/v1/sessions/${session}/threads/general/messages?limit=1000`), 200).json;
    assert.equal(page.messages.at(-1).content, 'here');
    assert.deepEqual(page.messages.slice(0, -1).map((m) => m.seq),
      events.filter((e) => e.type === 'message.sent' && e.thread === 'general').map((e) => e.seq));
  });

  it('has every past state of its parent and of its own', async () => {
    const parent = await scene();
    const at = 30;
    const { session, epoch } = await server.fork(parent, { at });
    await server.live(session, 2, 'fork');
    const stream = server.stream(session, { query: '?after=31', track: true, seq: at + 1,
      state: (await server.view(session, `?at=${at + 1}`)).state });
    const { seq } = await server.view(session);
    await stream.reach(seq);
    for (let n = 1; n <= seq; n++) {
      const view = await server.view(session, `?at=${n}`);
      assert.deepEqual([view.epoch, view.seq], [epoch, n]);
      if (n <= at) // the view of the parent's history is the parent's
        assert.equal(canonical(view.state),
          canonical((await server.view(parent, `?at=${n}`)).state), `at ${n}`);
      else if (n > at + 1)
        assert.equal(canonical(view.state), stream.at.get(n), `at ${n}`);
    }
    for (const [from, to] of [[5, seq], [seq, 5], [at, at + 1], [at + 1, at], [at - 3, at + 3]]) {
      const { state } = await server.view(session, `?at=${from}`);
      jsonPatch.applyPatch(state, (await server.diff(session, `?from=${from}&to=${to}`)).ops, true);
      assert.equal(canonical(state), canonical((await server.view(session, `?at=${to}`)).state),
        `from ${from} to ${to}`);
    }
    for (const n of [1, at - 1, at])
      assert.equal((await server.proof(session, `?at=${n}`)).chain,
        (await server.proof(parent, `?at=${n}`)).chain);
  });

  it('again is the same; its id taken by anything else is refused', async () => {
    const parent = await scene(1);
    const other = await scene(1);
    const session = newId('fork');
    const first = await server.fork(parent, { at: 7, session });
    assert.deepEqual(await server.fork(parent, { at: 7, session }, 200), first);
    await server.say(session, 'ann', 'on');
    assert.deepEqual((await server.fork(parent, { at: 7, session }, 200)).parent, first.parent);
    for (const [sid, body] of [[parent, { at: 8, session }], [other, { at: 7, session }],
      [parent, { at: 7, session: other }], [parent, { at: 7, session: parent }]])
      refused(await server.post(`/v1/sessions/${sid}/fork`, body), 409, 'refused', 'session');
  });

  it('without an id gets one, the same for the same key', async () => {
    const parent = await scene(1);
    const { seq } = await server.view(parent);
    const path = `/v1/sessions/${parent}/fork`;
    const plain = expect(await server.post(path), 201).json;
    assert.equal(plain.parent.seq, seq);
    assert.notEqual(plain.session, expect(await server.post(path, {}), 201).json.session);
    const headers = { 'idempotency-key': newId('key') };
    const made = expect(await server.post(path, { at: 9 }, { headers }), 201).json;
    assert.deepEqual(expect(await server.post(path, { at: 9 }, { headers }), 200).json, made);
    await server.say(parent, 'ann', 'meanwhile');
    assert.deepEqual(expect(await server.post(path, { at: 9 }, { headers }), 200).json, made);
    refused(await server.post(path, { at: 10 }, { headers }), 409, 'refused', 'session');
  });

  it('inherits no idempotency keys', async () => {
    const parent = await server.session();
    const command = { type: 'message.send', thread: 'general', sender: 'ann', content: 'once',
      key: 'k1' };
    const first = expect(await server.command(parent, command), 200);
    const { session } = await server.fork(parent, {});
    const inFork = expect(await server.command(session, command), 200);
    assert.equal(inFork.headers['idempotent-replayed'], undefined);
    assert.equal(inFork.json.seq, first.json.seq + 2);
    assert.equal(expect(await server.command(parent, command), 200)
      .headers['idempotent-replayed'], 'true');
  });

  it('is refused where there is nothing to begin with', async () => {
    const parent = await scene(1);
    const { seq } = await server.view(parent);
    const fork = (sid, body) => server.post(`/v1/sessions/${sid}/fork`, body);
    refused(await fork(newId('no'), { at: 1 }), 404, 'unknown-session');
    assert.equal(refused(await fork(parent, { at: seq + 1 }), 400, 'malformed', 'at').seq, seq);
    for (const [body, field] of [[{ at: 0 }, 'at'], [{ at: '7' }, 'at'], [{ at: 1.5 }, 'at'],
      [{ session: '-' }, 'session'], [{ session: 7 }, 'session'], [{ sid: 'x' }, undefined],
      [[], undefined]])
      refused(await fork(parent, body), 400, 'malformed', field);
    refused(await server.post(`/v1/sessions/${parent}/fork`, '{}', { type: 'text/plain' }), 415,
      'unsupported-media-type');
    const deleted = await scene(1);
    expect(await server.delete(`/v1/sessions/${deleted}`), 204);
    refused(await fork(deleted, {}), 404, 'unknown-session');
  });

  it('of a fork of a fork has the whole history', async () => {
    const first = await scene(2);
    const line = [first];
    for (let n = 0; n < 6; n++) {
      const { session } = await server.fork(line.at(-1), {});
      await server.say(session, 'ann', `generation ${n}`);
      line.push(session);
    }
    const events = await server.events(line.at(-1));
    assert.deepEqual(events.map((e) => e.seq), events.map((e, n) => n + 1));
    assert.deepEqual(events.filter((e) => e.type === 'session.forked').map((e) => e.parent),
      line.slice(0, -1));
    for (const n of [3, events.length - 4, events.length]) {
      const view = await server.view(line.at(-1), `?at=${n}`);
      assert.equal(view.seq, n);
    }
    const { state } = await server.view(line.at(-1), '?at=3');
    assert.equal(state.id, first);
  });

  it('keeps its history when the parent is deleted, and over restarts', async () => {
    const parent = await scene(6);
    const { session } = await server.fork(parent, { at: 40 });
    const grandchild = await server.fork(session, { at: 20 });
    await server.live(session, 1, 'fork');
    const know = async () => ({
      events: await server.events(session), view: await server.view(session),
      past: await server.view(session, '?at=17'), proof: await server.proof(session, '?at=33'),
      child: await server.events(grandchild.session), text: await server.export(session) });
    const known = await know();
    expect(await server.delete(`/v1/sessions/${parent}`), 204);
    refused(await server.get(`/v1/sessions/${parent}`), 404, 'unknown-session');
    assert.deepEqual(await know(), known);
    await server.session(['zoe'], { sid: parent }); // another life of the parent's id
    assert.deepEqual(await know(), known);
    await server.restart();
    assert.deepEqual(await know(), known);
    await server.restart(['--shards', '1']);
    assert.deepEqual(await know(), known);
    await server.kill();
    await server.start(['--shards', '2']);
    assert.deepEqual(await know(), known);
    assert.deepEqual(known.view.state.parent.session, parent);
  });

  it('may itself be deleted, and leaves the parent as it is', async () => {
    const parent = await scene(2);
    const known = [await server.view(parent), await server.events(parent)];
    const { session } = await server.fork(parent, { at: 9 });
    expect(await server.delete(`/v1/sessions/${session}`), 204);
    refused(await server.get(`/v1/sessions/${session}`), 404, 'unknown-session');
    assert.deepEqual([await server.view(parent), await server.events(parent)], known);
    const again = await server.fork(parent, { at: 9, session });
    assert.equal(again.seq, 10);
  });
});
