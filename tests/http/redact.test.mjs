/*
 * A token with `redact` shows no one what it hides, whatever is asked and whatever face answers. All
 * that is hidden here has a word of its own, which must stand in nothing that such a viewer is sent;
 * and what it folds must be the view of who sees all, without what its pointers name, as worked out
 * here. The answers are not those of the document, which says what is there where nothing is hidden.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import jsonPatch from 'fast-json-patch';
import WebSocket from 'ws';
import { canonical, expect, newId, openEvents, refused, until, within } from './harness.mjs';
import { Peer, agentPath, refusedRpc } from './mcp.mjs';
import { servingWithKey } from './tokens.mjs';

const HIDDEN = /HIDDEN|vault/;
const POINTERS = ['/labels/secret', '/agents/*/note', '/threads/vault',
  '/threads/*/messages/*/data/secret', '/threads/*/messages/*/data/list/*'];

const server = servingWithKey({ args: ['--shards', '2'] });
const admin = () => server.as('root', '*', 'admin');

/** What is left of a state. */
function redacted(value, pointers = POINTERS, path = []) {
  const hides = (key) => pointers.some((pointer) => {
    const parts = pointer.split('/').slice(1);
    const here = [...path, key];
    return parts.length <= here.length && parts.every((part, i) =>
      part === '*' || here[i] === null || part === here[i]);
  });
  if (Array.isArray(value))
    return value.map((v) => (hides(null) ? null : redacted(v, pointers, [...path, null])));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => !hides(key))
    .map(([key, v]) => [key, redacted(v, pointers, [...path, key])]));
}

const same = (found, expected) => assert.equal(canonical(found), canonical(expected));

/** A viewer whose every answer is looked at. */
function viewer(sid, redact = POINTERS, scope = 'write') {
  const own = server.as('ann', sid, scope, { redact });
  const ask = own.request;
  own.request = async (method, path, options = {}) => {
    const answer = await ask(method, path, { ...options, check: false });
    if (!path.includes('vault')) clean(answer.text, `${method} ${path}`);
    if (answer.status < 300) assert.equal(answer.headers['cache-control'], 'private, no-store');
    return answer;
  };
  return own;
}

const clean = (text, what) => assert.doesNotMatch(text, HIDDEN, what);

const secrets = (n) => [
  { type: 'agent.update', agent: 'bob', status: n % 2 ? 'working' : 'waiting',
    note: `HIDDEN note ${n}` },
  { type: 'message.send', thread: 'general', sender: 'bob', content: `shown ${n}`,
    mentions: ['ann'], data: { open: n, secret: `HIDDEN ${n}`, list: [{ x: 'HIDDEN' }, n] } },
  { type: 'message.send', thread: 'vault', sender: 'bob', content: `HIDDEN too ${n}` },
  { type: 'session.update', labels: { secret: `HIDDEN ${n}`, team: `blue ${n}` } },
];

/** A session in which a part of everything is hidden; `sid` of it. */
async function session() {
  const sid = await admin().session(['ann', 'bob'], { sid: newId('r-') });
  await apply(sid, [{ type: 'thread.create', thread: 'vault', creator: 'bob',
    name: 'HIDDEN vault', participants: ['ann'] }, ...secrets(0), ...secrets(1)]);
  return sid;
}

async function apply(sid, commands) {
  const { json } = expect(await admin().lines(sid, commands), 200);
  assert.ok(json.results.every(({ status }) => status === 200), JSON.stringify(json));
}

/** A stream of events: `next` gives {event, id, json}, looked at. */
async function listen(who, path, headers) {
  const wire = await openEvents(who, path, headers);
  return {
    close: () => wire.close(),
    async next(wanted = (block) => block.event) {
      for (;;) {
        const block = await wire.find((b) => b.event);
        assert.ok(block, `${path} has ended`);
        clean(JSON.stringify(block.json), `${path}: ${block.event}`);
        if (wanted(block)) return block;
      }
    },
  };
}

/** Reads up to `seq`: the folded state and the last id. */
async function fold(stream, seq, from = {}) {
  const at = { ...from };
  while ((at.seq ?? 0) < seq) {
    const { event, id, json } = await stream.next();
    if (event === 'snapshot') {
      Object.assign(at, { state: json.state, reset: json.reset });
    } else {
      assert.equal(event, 'patch');
      jsonPatch.applyPatch(at.state, structuredClone(json.ops), true);
    }
    Object.assign(at, { seq: json.seq, id });
  }
  return at;
}

describe('what is hidden is in no answer:', () => {
  it('views, past ones, parts and threads', async () => {
    const sid = await session();
    const own = viewer(sid);
    for (const query of ['', '?at=8', '?view=compact', '?path=/threads', '?path=/labels/secret',
      '?path=/threads/vault&path=/agents/bob'])
      same((await own.view(sid, query)).state, redacted((await admin().view(sid, query)).state));
    const { json } = expect(await own.get(`/v1/sessions/${sid}/threads/general`), 200);
    const whole = (await admin().view(sid)).state.threads.general;
    same(json.thread, { id: 'general', ...redacted(whole, POINTERS, ['threads', 'general']) });
    const page = expect(await own.get(`/v1/sessions/${sid}/threads/general/messages`), 200).json;
    same(page.messages, json.thread.messages);
    same(redacted(whole.messages[0].data, ['/secret', '/list/*']), page.messages[0].data);
  });

  it('a thread that is hidden is as little there as one that never was', async () => {
    const sid = await session();
    for (const rest of ['', '/messages']) {
      const [hidden, none] = await Promise.all(['vault', 'voult'].map(async (thread) =>
        refused(await viewer(sid).get(`/v1/sessions/${sid}/threads/${thread}${rest}`), 404,
          'unknown-thread')));
      assert.deepEqual(hidden, JSON.parse(JSON.stringify(none).replaceAll('voult', 'vault')));
    }
  });

  it('differences lead from one redacted view to another', async () => {
    const sid = await session();
    const { seq } = await admin().view(sid);
    for (const [from, to] of [[5, seq], [seq, 6], [7, 7]]) {
      const { ops } = await viewer(sid).diff(sid, `?from=${from}&to=${to}`);
      const { state } = await viewer(sid).view(sid, `?at=${from}`);
      jsonPatch.applyPatch(state, ops, true);
      same(state, redacted((await admin().view(sid, `?at=${to}`)).state));
    }
  });

  it('events, which tell no more than seq, time and type of what is hidden as a whole', async () => {
    const sid = await session();
    const { events } = expect(await viewer(sid).get(`/v1/sessions/${sid}/events`), 200).json;
    const all = await admin().events(sid);
    assert.equal(events.length, all.length);
    for (const [i, event] of all.entries()) {
      if (event.thread === 'vault')
        assert.deepEqual(events[i],
          { seq: event.seq, ts: event.ts, type: event.type, actor: null });
      else assert.equal(events[i].actor, event.actor);
    }
    const stream = await listen(viewer(sid), `/v1/sessions/${sid}/events?after=2`,
      { accept: 'text/event-stream' });
    for (const event of events.slice(2)) same((await stream.next()).json, event);
    stream.close();
  });

  it('the inbox, whose hidden messages can still be acknowledged', async () => {
    const sid = await session();
    const own = viewer(sid);
    const inbox = await own.inbox(sid, 'ann');
    assert.deepEqual(inbox.messages.map((m) => m && m.content), ['shown 0', null, 'shown 1', null]);
    expect(await own.post(`/v1/sessions/${sid}/agents/ann/inbox/ack`, { cursor: inbox.cursor }),
      200);
    assert.deepEqual((await own.inbox(sid, 'ann')).messages, []);
  });

  it('answers to commands, also when they are given again', async () => {
    const sid = await session();
    const own = viewer(sid);
    const command = { type: 'message.send', thread: 'general', sender: 'ann', content: 'mine',
      data: { open: 1, secret: 'HIDDEN', list: [1] } };
    for (const replayed of [undefined, 'true']) {
      const answer = expect(await own.command(sid, command,
        { headers: { 'idempotency-key': 'k' } }), 200);
      assert.equal(answer.headers['idempotent-replayed'], replayed);
      const [event] = answer.json.events;
      assert.deepEqual([event.content, event.data], ['mine', { open: 1, list: [null] }]);
    }
    const made = expect(await own.post(`/v1/sessions/${sid}/threads/general/messages`,
      { content: 'x', data: { secret: 'HIDDEN' } }), 201);
    assert.equal(made.json.id, `m${made.json.seq}`);
    assert.match(made.headers.location, new RegExp(`after=${made.json.seq - 1}&`));
    const { results } = expect(await own.command(sid, [command, { type: 'message.send',
      thread: 'vault', sender: 'ann', content: 'HIDDEN' }]), 200).json;
    assert.deepEqual(results.map(({ status }) => status), [200, 200]);
  });

  it('lists', async () => {
    const sid = await session();
    const { sessions } = expect(await viewer(sid).get('/v1/sessions'), 200).json;
    assert.deepEqual(sessions.map(({ id, labels }) => [id, labels]), [[sid, { team: 'blue 1' }]]);
  });
});

describe('what is watched', () => {
  it('folds to the redacted view, live and from where it left off', async () => {
    const sid = await session();
    for (const query of ['', '?view=compact', '?path=/threads&path=/labels']) {
      const path = `/v1/sessions/${sid}/stream${query}`;
      const viewAt = async () => {
        const { seq, state } = await admin().view(sid, query);
        return { seq, state: redacted(state) };
      };
      let view = await viewAt();
      const stream = await listen(viewer(sid), path);
      let at = await fold(stream, view.seq);
      same(at.state, view.state);
      await apply(sid, secrets(2));
      view = await viewAt();
      at = await fold(stream, view.seq, at);
      same(at.state, view.state);
      stream.close();
      await apply(sid, secrets(3));
      view = await viewAt();
      const again = await listen(viewer(sid), path, { 'last-event-id': at.id });
      at = await fold(again, view.seq, { ...at, reset: 'none' });
      assert.equal(at.reset, 'none', 'no snapshot');
      same(at.state, view.state);
      again.close();
    }
  });

  it('begins anew from the place of a viewer with other eyes', async () => {
    const sid = await session();
    const path = `/v1/sessions/${sid}/stream`;
    const ids = [];
    for (const who of [admin(), viewer(sid), viewer(sid, ['/agents/*/note'])]) {
      const wire = await openEvents(who, path);
      ids.push((await wire.find((b) => b.event)).id);
      wire.close();
    }
    assert.equal(new Set(ids).size, 3);
    for (const id of [ids[0], ids[2]]) {
      const stream = await listen(viewer(sid), path, { 'last-event-id': id });
      const { event, json } = await stream.next();
      assert.equal(event, 'snapshot');
      assert.match(json.reset, /another view/);
      same(json.state, redacted((await admin().view(sid)).state));
      stream.close();
    }
  });

  it('names nobody who acts where that is hidden', async () => {
    const sid = await session();
    const own = viewer(sid, [...POINTERS, '/threads/*/messages/*/sender']);
    const { seq } = await admin().view(sid);
    const stream = await listen(own, `/v1/sessions/${sid}/stream?after=${seq}`);
    await apply(sid, secrets(4));
    const told = [];
    for (let n = 0; n < 4; n++) told.push((await stream.next()).json);
    assert.deepEqual(told.map(({ type, actor, ops }) => [type, actor, ops.length > 0]), [
      ['agent.updated', 'bob', true], ['message.sent', null, true], ['message.sent', null, false],
      ['session.updated', null, true]]);
    assert.ok(!JSON.stringify(told[1]).includes('bob'));
    stream.close();
  });

  it('as many sessions at once, summaries and all', async () => {
    const sid = await session();
    for (const view of ['summary', 'full', 'compact']) {
      const wanted = redacted((await admin().view(sid)).state);
      const stream = await listen(viewer(sid), `/v1/stream?view=${view}`);
      const { json } = await stream.next(({ event }) => ['summary', 'snapshot'].includes(event));
      assert.equal(json.session, sid);
      same((json.state ?? json).labels, wanted.labels);
      if (view === 'full') same(json.state, wanted);
      if (view === 'summary')
        assert.deepEqual([json.agents, json.threads, json.messages], [2, undefined, undefined]);
      await apply(sid, secrets(5));
      await stream.next(({ event, json: now }) => view === 'summary'
        ? event === 'summary' && now.labels.team === 'blue 5'
        : event === 'patch' && now.type === 'session.updated');
      stream.close();
      await apply(sid, [{ type: 'session.update', labels: { secret: 'HIDDEN', team: 'blue 1' } }]);
    }
  });

  it('from the place of other eyes on many sessions it begins anew too', async () => {
    const sid = await session();
    const wire = await openEvents(admin(), `/v1/stream?session=${sid}`);
    const { id } = await wire.find((b) => b.event === 'ready');
    wire.close();
    const stream = await listen(viewer(sid), `/v1/stream?session=${sid}`, { 'last-event-id': id });
    const { json } = await stream.next();
    assert.match(json.reset, /another view|other sessions/);
    stream.close();
  });
});

/** A WebSocket's messages, looked at; `ask` gives the answer to a message. */
async function connect(t, who, path) {
  const ws = new WebSocket(`${server.url.replace('http', 'ws')}${path}`, 'atoll.v1',
    { headers: { authorization: `Bearer ${who.token}` } });
  const messages = [];
  ws.on('message', (data) => messages.push(String(data)));
  t.after(() => ws.terminate());
  await within(new Promise((done, fail) => ws.once('open', done).once('error', fail)), path);
  const find = (wanted, what) => until(() => {
    messages.forEach((text) => clean(text, path));
    return messages.map((text) => JSON.parse(text)).find(wanted);
  }, what);
  let refs = 0;
  return {
    find,
    ask(message) {
      const ref = ++refs;
      ws.send(JSON.stringify({ ref, ...message }));
      return find((m) => m.ref === ref, `the answer to ${JSON.stringify(message)}`);
    },
  };
}

describe('a WebSocket', () => {
  it('of one session shows and answers what is not hidden', async (t) => {
    const sid = await session();
    const socket = await connect(t, viewer(sid), `/v1/sessions/${sid}/ws`);
    const { state } = await socket.find((m) => m.event === 'snapshot', 'the snapshot');
    same(state, redacted((await admin().view(sid)).state));
    const answer = await socket.ask({ type: 'message.send', thread: 'general', content: 'by socket',
      data: { secret: 'HIDDEN' } });
    assert.equal(answer.status, 200);
    const { actor, ops } = await socket.find((m) => m.event === 'patch', 'the patch');
    assert.equal(actor, 'ann');
    assert.deepEqual(ops.at(-1).value.data, {});
  });

  it('of many sessions does too', async (t) => {
    const sid = await session();
    const socket = await connect(t, viewer(sid), '/v1/ws');
    assert.equal((await socket.ask({ watch: { session: sid } })).status, 200);
    const { state } = await socket.find((m) => m.event === 'snapshot', 'the snapshot');
    same(state, redacted((await admin().view(sid)).state));
    assert.equal((await socket.ask({ watch: { view: 'summary' } })).status, 200);
    const { labels } = await socket.find((m) => m.event === 'summary', 'the summary');
    assert.deepEqual(labels, { team: 'blue 1' });
    await apply(sid, secrets(6));
    await socket.find((m) => m.event === 'patch' && m.type === 'session.updated', 'a patch');
  });
});

it('tools, resources and prompts show what is not hidden', async () => {
  const sid = await session();
  const peer = await Peer.connect(viewer(sid), agentPath(sid, 'ann'));
  const shown = (value) => {
    clean(JSON.stringify(value), 'MCP');
    return value;
  };
  const { messages, cursor } = shown(await peer.call('atoll_wait', { wait_s: 0 }));
  assert.deepEqual(messages.map((m) => m.content), ['shown 0', '', 'shown 1', '']);
  assert.deepEqual(messages[0].data, { open: 0, list: [null, null] });
  assert.ok(cursor);
  const state = shown(await peer.call('atoll_get_state'));
  assert.deepEqual(state.threads.map((t) => t.thread), ['general']);
  assert.ok(state.agents.every((agent) => agent.note === ''));
  shown(await peer.call('atoll_list_agents'));
  const page = shown(await peer.call('atoll_read_thread', { thread: 'general' }));
  assert.deepEqual(page.messages.map((m) => m.content), ['shown 0', 'shown 1']);
  const call = peer.call('atoll_read_thread', { thread: 'vault' });
  await assert.rejects(call, /no thread/);
  const { resources } = shown(await peer.request('resources/list', {}));
  for (const { uri } of resources) shown(await peer.request('resources/read', { uri }));
  await refusedRpc(peer.request('resources/read',
    { uri: `atoll://sessions/${sid}/threads/vault` }), -32002);
  const briefing = shown(await peer.request('prompts/get', { name: 'atoll_briefing' }));
  assert.match(briefing.messages[0].content.text, /shown 1/);
  const sent = shown(await peer.call('atoll_send_message', { thread: 'general', content: 'hello' }));
  assert.match(sent.message, /^m\d+$/);
});

it('an MCP session is of one pair of eyes, for what it was told may be told again', async () => {
  const sid = await session();
  const [all, some] = [server.as('ann', sid, 'write'), viewer(sid)];
  for (const path of [agentPath(sid, 'ann'), '/mcp'])
    for (const [mine, other] of [[all, some], [some, all]]) {
      const { sessionId } = await Peer.connect(mine, path);
      const ask = (who) => {
        const peer = new Peer(who, path, { sessionId });
        return peer.post(peer.message('tools/list', {}));
      };
      expect(await ask(other), 403);
      expect(await ask(mine), 200);
    }
});

it('tools of Coral keep their form where a part is hidden', async () => {
  const sid = await session();
  const own = viewer(sid, [...POINTERS, '/threads/*/creator', '/threads/*/older',
    '/threads/*/messages/*/sender', '/threads/*/messages/*/mentions', '/agents/*/status']);
  const peer = await Peer.connect(own, agentPath(sid, 'ann', '?tools=coral'));
  const first = await peer.call('coral_wait_for_message', {});
  assert.deepEqual([first.message.text, first.message.senderName], ['shown 0', null]);
  const { contents } = await peer.request('resources/read', { uri: 'coral://state' });
  clean(JSON.stringify(contents), 'coral://state');
  const lists = contents[0].text.match(/```json\n(.*)\n```/g);
  assert.equal(lists.length, 2);
  lists.forEach((list) => JSON.parse(list.slice(8, -4)));
});

describe('what cannot be shown in parts is refused:', () => {
  it('proofs, exports and forks', async () => {
    const sid = await session();
    const own = viewer(sid, POINTERS, 'admin');
    const other = newId('r-');
    for (const answer of [await own.get(`/v1/sessions/${sid}/proof`),
      await own.get(`/v1/sessions/${sid}/export`),
      await own.post(`/v1/sessions/${sid}/fork`, { session: other })])
      refused(answer, 403, 'forbidden');
  });

  it('questions by what is hidden', async () => {
    const sid = await session();
    const own = viewer(sid, [...POINTERS, '/threads/*/messages/*/sender']);
    for (const [path, field] of [['/v1/sessions?label=secret:HIDDEN%201', 'label'],
      ['/v1/stream?label=secret', 'label'], [`/v1/sessions/${sid}/events?thread=general`, 'thread'],
      [`/v1/sessions/${sid}/events?agent=bob`, 'agent'],
      [`/v1/sessions/${sid}/agents/ann/inbox?from=bob`, 'from']]) {
      const answer = await own.get(path);
      if (path.includes('thread=general')) expect(answer, 200); // of which nothing is hidden
      else refused(answer, 403, 'forbidden', field);
    }
  });
});

describe('entity tags', () => {
  it('are of one view alone', async () => {
    const sid = await session();
    const path = `/v1/sessions/${sid}`;
    const tags = [];
    for (const who of [admin(), viewer(sid),
      server.as('ann', sid, 'read', { redact: ['/agents'] }),
      viewer(sid, [...POINTERS].reverse())])
      tags.push(expect(await who.get(path, { check: false }), 200).headers.etag);
    assert.equal(tags[1], tags[3], 'the order of pointers is nothing');
    assert.equal(new Set(tags).size, 3);
    const ask = async (who, tag) =>
      (await who.get(path, { headers: { 'if-none-match': tag } })).status;
    assert.equal(await ask(viewer(sid), tags[1]), 304);
    assert.equal(await ask(viewer(sid), tags[0]), 200);
    assert.equal(await ask(admin(), tags[1]), 200);
  });
});
