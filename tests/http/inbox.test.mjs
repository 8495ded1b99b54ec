/*
 * How agents wait: nothing is lost, nothing comes twice once it is acknowledged, and a wait wakes.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, refused, serve, serving, until } from './harness.mjs';

const contents = (inbox) => inbox.messages.map((m) => m.content);

describe('the inbox', () => {
  const server = serving({ args: ['--window-messages', '5'] });
  const ack = async (sid, agent, cursor) =>
    expect(await server.post(`/v1/sessions/${sid}/agents/${agent}/inbox/ack`, { cursor }), 200)
    .json;
  /**
   * Starts a wait, and returns when the server holds it: the answer is what `wait.answer` resolves
   * to.
   */
  async function wait(sid, agent, query = '?wait=50') {
    const before = await server.total('waiting');
    const controller = new AbortController();
    const answer = server.get(`/v1/sessions/${sid}/agents/${agent}/inbox${query}`,
      { signal: controller.signal });
    answer.catch(() => {});
    await until(async () => (await server.total('waiting')) > before, 'the wait');
    return { answer, abort: () => controller.abort() };
  }

  it('has what others said since one joined, oldest first', async () => {
    const sid = await server.session();
    await server.post(`/v1/sessions/${sid}/threads`,
      { thread: 'two', creator: 'bob', name: 'two', participants: ['ann'] });
    await server.say(sid, 'bob', '1', { mentions: ['ann'], data: { d: 1 } });
    await server.say(sid, 'ann', 'own words');
    await server.say(sid, 'bob', '2', { thread: 'two' });
    await server.say(sid, 'bob', '3');
    const inbox = await server.inbox(sid, 'ann');
    assert.deepEqual(inbox.messages.map((m) => [m.content, m.thread]),
      [['1', 'general'], ['2', 'two'], ['3', 'general']]);
    assert.equal(inbox.remaining, 0);
    const { thread, ...message } = inbox.messages[0];
    assert.deepEqual(message, (await server.view(sid)).state.threads.general.messages[0]);
    assert.deepEqual(contents(await server.inbox(sid, 'bob')), ['own words']);
    await server.post(`/v1/sessions/${sid}/agents`, { agent: 'cat' });
    assert.deepEqual(contents(await server.inbox(sid, 'cat')), []);
    await server.put(`/v1/sessions/${sid}/threads/general/participants/cat?by=ann`);
    assert.deepEqual(contents(await server.inbox(sid, 'cat')), []);
    await server.say(sid, 'ann', '4');
    assert.deepEqual(contents(await server.inbox(sid, 'cat')), ['4']);
  });

  it('waits for as long as it was asked to, also after a time when nobody asked', async (t) => {
    const quiet = await serve(t, { args: ['--shards', '1'] });
    const sid = await quiet.session();
    await delay(2000); // the server sleeps
    const began = performance.now();
    assert.deepEqual((await quiet.inbox(sid, 'ann', '?wait=1')).messages, []);
    assert.ok(performance.now() - began > 990, `${performance.now() - began} ms`);
  });

  it('begins at the first message for who joins with history', async () => {
    const sid = await server.session(['ann', 'bob', 'cat'], { participants: ['bob'] });
    for (let n = 0; n < 12; n++) await server.say(sid, 'ann', `${n}`); // beyond the window
    await server.put(`/v1/sessions/${sid}/threads/general/participants/cat?by=ann&history=true`);
    assert.equal((await server.inbox(sid, 'cat')).messages.length, 12);
  });

  it('reads without consuming, and goes in pages that say how much remains', async () => {
    const sid = await server.session();
    await server.lines(sid, Array.from({ length: 30 }, (_, n) =>
      ({ type: 'message.send', thread: 'general', sender: 'bob', content: `${n}` })));
    const { seq } = await server.view(sid);
    const first = await server.inbox(sid, 'ann', '?limit=12');
    assert.deepEqual(await server.inbox(sid, 'ann', '?limit=12'), first);
    assert.equal((await server.view(sid)).seq, seq);
    assert.deepEqual([first.messages.length, first.remaining], [12, 18]);
    await ack(sid, 'ann', first.cursor);
    const second = await server.inbox(sid, 'ann', '?limit=12');
    assert.deepEqual([contents(second)[0], second.remaining], ['12', 6]);
    await ack(sid, 'ann', second.cursor);
    const third = await server.inbox(sid, 'ann');
    assert.deepEqual([third.messages.length, third.remaining], [6, 0]);
    await ack(sid, 'ann', third.cursor);
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), []);
  });

  it('counts what remains to a thousand', async () => {
    const sid = await server.session();
    await server.lines(sid, Array.from({ length: 1200 }, (_, n) =>
      ({ type: 'message.send', thread: 'general', sender: 'bob', content: `${n}` })));
    assert.equal((await server.inbox(sid, 'ann', '?limit=10')).remaining, 1000);
    const most = await server.inbox(sid, 'ann', '?limit=9999');
    assert.deepEqual([most.messages.length, most.remaining], [1000, 200]);
  });

  it('filters by mention and by sender', async () => {
    const sid = await server.session(['ann', 'bob', 'cat']);
    await server.say(sid, 'bob', 'b1', { mentions: ['ann'] });
    await server.say(sid, 'bob', 'b2');
    await server.say(sid, 'cat', 'c1', { mentions: ['bob', 'ann'] });
    await server.say(sid, 'cat', 'c2', { mentions: ['bob'] });
    assert.deepEqual(contents(await server.inbox(sid, 'ann', '?mentions=true')), ['b1', 'c1']);
    assert.deepEqual(contents(await server.inbox(sid, 'ann', '?mentions=false')),
      ['b1', 'b2', 'c1', 'c2']);
    assert.deepEqual(contents(await server.inbox(sid, 'ann', '?from=cat')), ['c1', 'c2']);
    assert.deepEqual(contents(await server.inbox(sid, 'ann', '?from=cat&mentions=true')), ['c1']);
    const page = await server.inbox(sid, 'ann', '?mentions=true&limit=1');
    assert.deepEqual([contents(page), page.remaining], [['b1'], 1]);
    expect(await server.delete(`/v1/sessions/${sid}/agents/cat`), 200);
    assert.deepEqual(contents(await server.inbox(sid, 'ann', '?from=cat')), ['c1', 'c2'],
      'also of who has left');
    assert.deepEqual(contents(await server.inbox(sid, 'ann', '?from=zoe')), []);
  });

  it('ack consumes exactly what the answer held', async () => {
    const sid = await server.session(['ann', 'bob', 'cat']);
    const said = {};
    for (const [name, sender, mentions] of [['b1', 'bob', []], ['c1', 'cat', ['ann']],
      ['b2', 'bob', ['ann']], ['c2', 'cat', []]])
      said[name] = (await server.say(sid, sender, name, { mentions })).seq;
    const mentions = await server.inbox(sid, 'ann', '?mentions=true');
    await server.say(sid, 'bob', 'b3', { mentions: ['ann'] }); // after the answer, so not in it
    const acked = await ack(sid, 'ann', mentions.cursor);
    assert.deepEqual(acked.events[0].threads[0].taken, [said.c1, said.b2]);
    assert.ok(acked.events[0].threads[0].read < said.b1);
    assert.deepEqual((await server.view(sid)).state.threads.general.participants.ann.taken,
      [said.c1, said.b2]);
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), ['b1', 'c2', 'b3']);
    assert.deepEqual((await ack(sid, 'ann', mentions.cursor)).events, []);

    await ack(sid, 'ann', (await server.inbox(sid, 'ann', '?from=bob&limit=1')).cursor);
    const { read, taken } = (await server.view(sid)).state.threads.general.participants.ann;
    assert.ok(read >= said.b2 && taken.length === 0, `the gap is closed: ${read} ${taken}`);
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), ['c2', 'b3']);
    await server.restart();
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), ['c2', 'b3']);
    await ack(sid, 'ann', (await server.inbox(sid, 'ann')).cursor);
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), []);
    assert.deepEqual(contents(await server.inbox(sid, 'bob')), ['c1', 'c2']);
  });

  it('ack goes over threads, and leaves out those it does not change', async () => {
    const sid = await server.session();
    for (const thread of ['x', 'y', 'z']) await server.post(`/v1/sessions/${sid}/threads`,
      { thread, creator: 'bob', name: thread, participants: ['ann'] });
    for (const thread of ['x', 'y', 'x']) await server.say(sid, 'bob', thread, { thread });
    const acked = await ack(sid, 'ann', (await server.inbox(sid, 'ann')).cursor);
    assert.deepEqual(acked.events[0].threads.map((t) => t.thread).sort(), ['x', 'y']);
  });

  it('keeps at most a thousand acknowledged above a gap', async () => {
    const sid = await server.session(['ann', 'bob']);
    const commands = [{ type: 'message.send', thread: 'general', sender: 'bob',
      content: 'the gap' }];
    for (let n = 0; n < 1001;
      n++) commands.push({ type: 'message.send', thread: 'general', sender: 'bob', content: `${n}`,
      mentions: ['ann'] });
    expect(await server.lines(sid, commands), 200);
    const page = await server.inbox(sid, 'ann', '?mentions=true&limit=1000');
    assert.deepEqual([page.messages.length, page.remaining], [1000, 1]);
    await ack(sid, 'ann', page.cursor);
    const rest = await server.inbox(sid, 'ann', '?mentions=true');
    refused(await server.post(`/v1/sessions/${sid}/agents/ann/inbox/ack`, { cursor: rest.cursor }),
      409, 'refused');
    const all = await server.inbox(sid, 'ann');
    assert.deepEqual(contents(all), ['the gap', '1000']);
    await ack(sid, 'ann', all.cursor);
    assert.deepEqual((await server.view(sid)).state.threads.general.participants.ann.taken, []);
  });

  it('thread.read takes what is acknowledged alone along', async () => {
    const sid = await server.session();
    const one = await server.say(sid, 'bob', 'one');
    const two = await server.say(sid, 'bob', 'two', { mentions: ['ann'] });
    await server.say(sid, 'bob', 'three');
    await ack(sid, 'ann', (await server.inbox(sid, 'ann', '?mentions=true')).cursor);
    const { json } = await server.post(`/v1/sessions/${sid}/threads/general/read`,
      { agent: 'ann', upto: one.seq });
    assert.ok(json.events[0].read >= two.seq && json.events[0].taken.length === 0,
      JSON.stringify(json));
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), ['three']);
    const read = `/v1/sessions/${sid}/threads/general/read`;
    refused(await server.post(read, { agent: 'ann', upto: 999_999 }), 409, 'refused', 'upto');
    const { seq } = await server.view(sid);
    expect(await server.post(read, { agent: 'ann', upto: seq }), 200);
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), []);
    await server.say(sid, 'bob', 'four');
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), ['four']);
  });

  it('a wait wakes with the message', async () => {
    const sid = await server.session();
    const held = await wait(sid, 'ann');
    await server.say(sid, 'bob', 'wake up');
    assert.deepEqual(contents(expect(await held.answer, 200).json), ['wake up']);
  });

  it('a wait is answered at once if there is something', async () => {
    const sid = await server.session();
    await server.say(sid, 'bob', 'already here');
    assert.deepEqual(contents(await server.inbox(sid, 'ann', '?wait=50')), ['already here']);
  });

  it('a wait ends empty after its time, with a cursor', async () => {
    const sid = await server.session();
    const begin = Date.now();
    const inbox = await server.inbox(sid, 'ann', '?wait=1');
    assert.ok(Date.now() - begin >= 900, 'not before');
    assert.deepEqual([inbox.messages, inbox.remaining, typeof inbox.cursor], [[], 0, 'string']);
    assert.deepEqual((await ack(sid, 'ann', inbox.cursor)).events, []);
  });

  it('a wait with filters sleeps through the rest', async () => {
    const sid = await server.session(['ann', 'bob', 'cat']);
    const mention = await wait(sid, 'ann', '?wait=50&mentions=true');
    const from = await wait(sid, 'ann', '?wait=50&from=cat');
    await server.say(sid, 'bob', 'not for ann');
    await server.say(sid, 'ann', 'own');
    await server.say(sid, 'bob', 'ann!', { mentions: ['ann'] });
    assert.deepEqual(contents(expect(await mention.answer, 200).json), ['ann!']);
    await server.say(sid, 'cat', 'from cat');
    assert.deepEqual(contents(expect(await from.answer, 200).json), ['from cat']);
  });

  it('a wait wakes for a thread that one is added to', async () => {
    const sid = await server.session(['ann', 'bob', 'cat'], { participants: ['bob'] });
    await server.say(sid, 'ann', 'before');
    const held = await wait(sid, 'cat');
    await server.put(`/v1/sessions/${sid}/threads/general/participants/cat?by=ann&history=true`);
    assert.deepEqual(contents(expect(await held.answer, 200).json), ['before']);
  });

  it('two waits of one agent both get it', async () => {
    const sid = await server.session();
    const held = [await wait(sid, 'ann'), await wait(sid, 'ann')];
    await server.say(sid, 'bob', 'both');
    for (const { answer } of held) assert.deepEqual(contents(expect(await answer, 200).json),
      ['both']);
  });

  it('loses nothing between two waits', async () => {
    const sid = await server.session();
    const writer = (async () => {
      for (let n = 0; n < 60; n++) await server.say(sid, 'bob', `${n}`);
    })();
    const got = [];
    while (got.length < 60) {
      const inbox = await server.inbox(sid, 'ann', '?wait=20');
      got.push(...contents(inbox));
      await ack(sid, 'ann', inbox.cursor);
    }
    await writer;
    assert.deepEqual(got, Array.from({ length: 60 }, (_, n) => `${n}`));
  });

  it('a client who goes away while it waits is forgotten', async () => {
    const sid = await server.session();
    const before = await server.total('waiting');
    const held = await wait(sid, 'ann');
    const reset = http.get({ host: server.hostname, port: server.port,
      path: `/v1/sessions/${sid}/agents/ann/inbox?wait=50`, agent: false });
    reset.on('error', () => {});
    await until(async () => (await server.total('waiting')) === before + 2, 'both waits');
    held.abort();
    reset.socket.resetAndDestroy();
    await until(async () => (await server.total('waiting')) === before, 'none of them left');
    await server.say(sid, 'bob', 'still here');
    assert.deepEqual(contents(await server.inbox(sid, 'ann')), ['still here']);
  });

  it('a wait ends when the session is deleted or the agent leaves', async () => {
    const sid = await server.session();
    const [ann, bob] = [await wait(sid, 'ann'), await wait(sid, 'bob')];
    expect(await server.delete(`/v1/sessions/${sid}/agents/ann`), 200);
    refused(await ann.answer, 404, 'unknown-agent');
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    refused(await bob.answer, 404, 'unknown-session');
  });

  it('refuses what it does not know', async () => {
    const sid = await server.session();
    const at = `/v1/sessions/${sid}/agents/ann/inbox`;
    for (const [query, field] of [['wait=-1', 'wait'], ['wait=56', 'wait'], ['wait=x', 'wait'],
      ['limit=0', 'limit'], ['mentions=perhaps', 'mentions'],
      ['from=a%20b', 'from'], ['nope=1', 'nope']])
      refused(await server.get(`${at}?${query}`), 400, 'malformed', field);
    for (const cursor of ['', 'junk', '999999999999999999999']) refused(
      await server.post(`${at}/ack`, { cursor }), 400, 'malformed', 'cursor');
  });
});

it('what is unread survives a kill', async (t) => {
  const server = await serve(t);
  const sid = await server.session(['ann', 'bob', 'cat']);
  await server.say(sid, 'bob', 'one');
  await server.say(sid, 'cat', 'two');
  const { cursor } = await server.inbox(sid, 'ann', '?from=cat');
  expect(await server.post(`/v1/sessions/${sid}/agents/ann/inbox/ack`, { cursor }), 200);
  const held = await server.inbox(sid, 'ann');
  await server.kill();
  await server.start();
  assert.deepEqual(await server.inbox(sid, 'ann'), held);
  expect(await server.post(`/v1/sessions/${sid}/agents/ann/inbox/ack`, { cursor: held.cursor }),
    200);
  assert.deepEqual((await server.inbox(sid, 'ann')).messages, []);
});
