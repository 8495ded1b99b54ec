/*
 * Who may do what, by the tokens they bring: each route of the document, each command, each face.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import WebSocket from 'ws';
import { canonical, expect, newId, openEvents, refused, run, spec, until, within } from './harness.mjs';
import { as, inSeconds, servingWithKey, sign } from './tokens.mjs';

const server = servingWithKey({ args: ['--shards', '2', '--heartbeat', '200ms'] });
const admin = () => server.as('root', '*', 'admin');
const session = (sid = newId('p-')) => admin().session(['ann', 'bob'], { sid });

/** Opens a WebSocket: {say, next, closed}. */
async function socket(token, path) {
  const ws = new WebSocket(server.url.replace('http', 'ws') + path, 'atoll.v1',
    { headers: { authorization: `Bearer ${token}` } });
  const messages = [], waiting = [];
  const closed = new Promise((done) => ws.on('close', (code, why) => done({ code, why: `${why}` })));
  ws.on('message', (data) => {
    messages.push(JSON.parse(data));
    waiting.splice(0).forEach((look) => look());
  });
  server.streams.add(ws);
  await within(new Promise((done, fail) => ws.once('open', done).once('error', fail)), path);
  return {
    ws,
    closed,
    say: (message) => ws.send(JSON.stringify(message)),
    async answer(ref) {
      for (;;) {
        const found = messages.find((m) => m.ref === ref);
        if (found) return found;
        await within(new Promise((done) => waiting.push(done)), `the answer to ${ref}`);
      }
    },
  };
}

describe('without a token', () => {
  const open = new Set(['health', 'ready', 'openapi', 'login', 'logout']);
  for (const [path, item] of Object.entries(spec.paths))
    for (const method of ['get', 'put', 'post', 'patch', 'delete'].filter((m) => item[m])) {
      const { operationId, parameters = [] } = item[method];
      const at = path.replace('{sid}', 's').replace('{aid}', 'a').replace('{tid}', 't');
      const needed = [...(item.parameters ?? []), ...parameters]
        .filter((p) => p.in === 'query' && p.required).map((p) => `${p.name}=1`).join('&');
      if (!open.has(operationId))
        it(`${operationId} is refused with 401`, async () => {
          const answer = await server.request(method.toUpperCase(), `${at}?${needed}`);
          refused(answer, 401, 'unauthorized');
          assert.equal(answer.headers['www-authenticate'], 'Bearer realm="atoll"');
          assert.match(answer.headers['cache-control'], /private, no-store/);
        });
    }

  it('the dashboard, the document and the probes are served', async () => {
    for (const path of ['/', '/healthz', '/readyz', '/openapi.yaml'])
      expect(await server.get(path, { check: false }), 200);
  });
});

describe('a token that is not good', () => {
  const tries = {
    'signed with another key': () => sign({ sub: 'ann', sid: '*', scope: 'admin' }, 'x'.repeat(32)),
    'that has expired': () => server.keys.token('ann', '*', 'read', { exp: inSeconds(-1) }),
    'that is not yet good': () => server.keys.token('ann', '*', 'read', { nbf: inSeconds(60) }),
    'without a signature': () =>
      sign({ sub: 'ann', sid: '*', scope: 'admin' }, server.keys.secret, { alg: 'none' })
        .replace(/[^.]*$/, ''),
    'whose redact is no pointer': () => server.keys.token('ann', '*', 'read', { redact: ['x'] }),
    'whose sub is no id': () => server.keys.token('a b', '*', 'read'),
  };
  for (const [what, make] of Object.entries(tries))
    it(`${what} gets nobody in`, async () => {
      const answer = await as(server, make()).get('/v1/sessions');
      refused(answer, 401, 'unauthorized');
      assert.match(answer.headers['www-authenticate'], /error="invalid_token"/);
    });

  it('is not told apart by what it asks for', async () => {
    const bad = as(server, 'a.b.c');
    const sid = await session();
    const [there, not] = [await bad.get(`/v1/sessions/${sid}`), await bad.get('/v1/sessions/none')];
    assert.equal(there.text, not.text);
  });
});

describe('the scope', () => {
  it('of reading changes nothing', async () => {
    const sid = await session();
    const reader = server.as('ann', sid, 'read');
    expect(await reader.get(`/v1/sessions/${sid}`), 200);
    const writes = [
      ['PUT', ''], ['PATCH', '', { labels: {} }], ['POST', '/close', {}], ['POST', '/commands', []],
      ['POST', '/agents', { agent: 'ann' }], ['PATCH', '/agents/ann', { note: 'x' }],
      ['DELETE', '/agents/ann'], ['POST', '/agents/ann/inbox/ack', { cursor: 'x' }],
      ['POST', '/agents/ann/ping'], ['PUT', '/agents/ann/wake', {}], ['POST', '/threads', {}],
      ['POST', '/threads/general/messages', {}], ['POST', '/threads/general/close', {}],
      ['PUT', '/threads/general/participants/bob'], ['POST', '/threads/general/read', {}],
    ];
    const before = await admin().view(sid);
    for (const [method, path, body] of writes)
      refused(await reader.request(method, `/v1/sessions/${sid}${path}`, { body }), 403, 'forbidden');
    assert.deepEqual(await admin().view(sid), before);
  });

  it('of writing deletes, imports and rebuilds nothing, and does not see the server', async () => {
    const sid = await session();
    const writer = server.as('ann', '*', 'read write');
    refused(await writer.delete(`/v1/sessions/${sid}`), 403, 'forbidden');
    refused(await writer.post(`/v1/sessions/${newId('p-')}/import`, '{}\n',
      { type: 'application/x-ndjson' }), 403, 'forbidden');
    refused(await writer.post(`/v1/sessions/${sid}/rebuild`), 403, 'forbidden');
    for (const path of ['/v1/status', '/metrics', '/v1/log-level'])
      refused(await writer.get(path), 403, 'forbidden');
    expect(await server.as('root', sid, 'admin').delete(`/v1/sessions/${sid}`), 204);
  });

  it('of an admin of some sessions does not reach the server', async () => {
    const some = server.as('root', 'p-*', 'admin');
    for (const path of ['/v1/status', '/metrics'])
      refused(await some.get(path), 403, 'forbidden');
    for (const path of ['/v1/status', '/metrics'])
      expect(await admin().get(path), 200);
  });

  it('that is not given allows nothing', async () => {
    refused(await server.as('ann', '*', '').get('/v1/sessions'), 403, 'forbidden');
  });
});

describe('the sid', () => {
  it('names a session, a prefix or several of them', async () => {
    const [one, two, three] = await Promise.all(['p-', 'q-', 'r-'].map((p) => session(newId(p))));
    const allows = async (sid, ...good) => {
      for (const each of [one, two, three]) {
        const answer = await server.as('ann', sid, 'read').get(`/v1/sessions/${each}`);
        if (good.includes(each)) expect(answer, 200);
        else refused(answer, 403, 'forbidden');
      }
    };
    await allows(one, one);
    await allows('p-*', one);
    await allows(['q-*', three], two, three);
    await allows('*', one, two, three);
    await allows(one.slice(0, -1));
    await allows([]);
  });

  it('hides whether other sessions exist', async () => {
    const other = await session(newId('q-'));
    const mine = server.as('ann', 'p-*', 'read write');
    const none = other.replace(/.$/, 'x');
    for (const [method, path, body] of [['GET', ''], ['GET', '/events'], ['GET', '/threads/general'],
      ['GET', '/diff?from=1'], ['GET', '/stream'], ['PUT', ''], ['POST', '/commands', []],
      ['POST', '/agents/ann/ping'], ['GET', '/agents/ann/inbox'], ['GET', '/proof']]) {
      const answers = await Promise.all([other, none].map((sid) =>
        mine.request(method, `/v1/sessions/${sid}${path}`, { body })));
      answers.forEach((answer) => refused(answer, 403, 'forbidden'));
      assert.equal(answers[0].text.replaceAll(other, ''), answers[1].text.replaceAll(none, ''));
    }
  });

  it('is all that lists and streams of many tell of', async () => {
    const label = newId('l');
    const [mine, other] = [newId('p-'), newId('q-')];
    for (const sid of [mine, other])
      expect(await admin().put(`/v1/sessions/${sid}`, { labels: { of: label } }), 201);
    const viewer = server.as('ann', 'p-*', 'read');
    const ids = async (query) => expect(await viewer.get(`/v1/sessions?${query}`), 200)
      .json.sessions.map((s) => s.session ?? s.id);
    assert.deepEqual(await ids(`label=of:${label}`), [mine]);
    assert.ok((await ids('limit=1000')).every((sid) => sid.startsWith('p-')));

    const headers = { authorization: `Bearer ${viewer.token}` };
    for (const query of [`label=of:${label}`, `session=${mine}&session=${other}`]) {
      for (const view of ['summary', 'full']) {
        const mark = newId('mark');
        const stream = await openEvents(server, `/v1/stream?${query}&view=${view}`, headers);
        const told = await stream.find((b) => b.data?.includes(mine));
        assert.ok(!told.data.includes(other));
        // What happens there later is told to nobody who may not see it: the mark behind it is.
        for (const sid of [other, mine])
          expect(await admin().patch(`/v1/sessions/${sid}`, { labels: { at: mark } }), 200);
        for (;;) {
          const block = await stream.next();
          assert.ok(!block.data?.includes(other), block.data);
          if (block.data?.includes(mark)) break;
        }
        stream.close();
      }
    }
  });

  it('bounds what is created', async () => {
    const writer = server.as('ann', 'p-*', 'read write');
    expect(await writer.post('/v1/sessions', { session: newId('p-') }), 201);
    refused(await writer.post('/v1/sessions', { session: newId('q-') }), 403, 'forbidden');
    refused(await writer.post('/v1/sessions', {}), 403, 'forbidden');
    const sid = await session();
    refused(await writer.post(`/v1/sessions/${sid}/fork`, { session: newId('q-') }), 403, 'forbidden');
    expect(await writer.post(`/v1/sessions/${sid}/fork`, { session: newId('p-') }), 201);
    const reader = server.as('ann', [sid, 'q-*'], 'read write');
    expect(await reader.post(`/v1/sessions/${sid}/fork`, { session: newId('q-') }), 201);
    refused(await reader.post(`/v1/sessions/${await session()}/fork`, { session: newId('q-') }), 403,
      'forbidden');
  });
});

/** One of each command that an agent gives, as `who`. */
const commandsOf = (who) => [
  { type: 'agent.register', agent: who },
  { type: 'agent.update', agent: who, note: 'x' },
  { type: 'thread.create', creator: who, name: 'n', participants: [] },
  { type: 'thread.add', thread: 'general', agent: 'bob', by: who },
  { type: 'thread.read', thread: 'general', agent: who, upto: 1 },
  { type: 'message.send', thread: 'general', sender: who, content: 'x' },
  { type: 'thread.remove', thread: 'general', agent: 'bob', by: who },
  { type: 'thread.close', thread: 'general', by: who },
  { type: 'agent.leave', agent: who },
];
const unnamed = (command) => Object.fromEntries(Object.entries(command).filter(([name, value]) =>
  !(value === 'ann' && ['agent', 'creator', 'by', 'sender'].includes(name))));

describe('an agent', () => {
  it('speaks as itself, and for nobody else', async () => {
    for (const command of commandsOf('bob')) {
      const sid = await session();
      refused(await server.as('ann', sid, 'write').command(sid, command), 403, 'forbidden');
    }
    const sid = await session();
    const { json } = expect(await server.as('ann', sid, 'write').command(sid, commandsOf('ann')), 200);
    assert.deepEqual(json.results.map((r) => r.status), commandsOf('ann').map(() => 200));
  });

  it('need not say who it is', async () => {
    const sid = await session();
    const own = server.as('ann', sid, 'write');
    const { json } = expect(await own.command(sid, commandsOf('ann').map(unnamed)), 200);
    assert.deepEqual(json.results.map((r) => r.status), commandsOf('ann').map(() => 200));
    assert.ok((await admin().events(sid)).slice(-2).every(({ actor }) => actor === 'ann'));
  });

  it('need not say so in the forms of REST either', async () => {
    const sid = newId('p-');
    const own = server.as('ann', sid, 'write');
    const at = `/v1/sessions/${sid}`;
    expect(await own.put(at), 201);
    expect(await own.post(`${at}/agents`, {}), 201);
    expect(await server.as('bob', sid, 'write').post(`${at}/agents`, {}), 201);
    expect(await own.post(`${at}/threads`, { thread: 'x', name: 'x', participants: [] }), 201);
    expect(await own.put(`${at}/threads/x/participants/bob`), 200);
    expect(await own.post(`${at}/threads/x/messages`, { content: 'x' }), 201);
    expect(await own.post(`${at}/threads/x/read`, { upto: 4 }), 200);
    expect(await own.delete(`${at}/threads/x/participants/bob`), 200);
    expect(await own.post(`${at}/threads/x/close`, {}), 200);
    refused(await own.patch(`${at}/agents/bob`, { note: 'x' }), 403, 'forbidden');
    refused(await own.delete(`${at}/agents/bob`), 403, 'forbidden');
  });

  it('in a batch is refused what is not its own, and nothing else', async () => {
    const sid = await session();
    const own = server.as('ann', sid, 'write');
    const mixed = ['ann', 'bob', 'ann'].map((sender) =>
      ({ type: 'message.send', thread: 'general', sender, content: sender }));
    const { json } = expect(await own.command(sid, mixed), 200);
    assert.deepEqual(json.results.map((r) => r.status), [200, 403, 200]);
    const atomic = await own.post(`/v1/sessions/${sid}/commands?atomic=true`, mixed);
    expect(atomic, 409);
    assert.equal(atomic.json.results[1].status, 403);
    assert.equal((await admin().view(sid)).state.threads.general.messages.length, 2);
  });

  it('without a sub speaks for nobody', async () => {
    const sid = await session();
    const nobody = server.as(undefined, sid, 'write');
    refused(await nobody.command(sid, commandsOf('ann')[5]), 403, 'forbidden');
    expect(await nobody.patch(`/v1/sessions/${sid}`, { labels: { a: 'b' } }), 200);
  });

  it('that is an admin speaks for everybody', async () => {
    const sid = await session();
    const { json } = expect(await admin().command(sid, commandsOf('bob').slice(0, 6)), 200);
    assert.ok(json.results.every((r) => r.status === 200));
  });

  it('reads and acknowledges its own inbox alone', async () => {
    const sid = await session();
    await admin().say(sid, 'ann', 'hello');
    const [ann, bob] = ['ann', 'bob'].map((who) => server.as(who, sid, 'write'));
    const inbox = `/v1/sessions/${sid}/agents/bob/inbox`;
    refused(await ann.get(inbox), 403, 'forbidden');
    refused(await ann.get(`${inbox}?wait=5`), 403, 'forbidden');
    const { cursor, messages } = expect(await bob.get(inbox), 200).json;
    assert.equal(messages.length, 1);
    refused(await ann.post(`${inbox}/ack`, { cursor }), 403, 'forbidden');
    refused(await ann.command(sid, { type: 'inbox.ack', agent: 'bob', cursor }), 403, 'forbidden');
    expect(await admin().get(inbox), 200);
    expect(await bob.post(`${inbox}/ack`, { cursor }), 200);
  });

  it('has idempotency keys of its own', async () => {
    const sid = await session();
    const headers = { 'idempotency-key': newId() };
    const sent = [];
    for (const who of ['ann', 'bob', 'ann']) {
      const answer = await server.as(who, sid, 'write')
        .post(`/v1/sessions/${sid}/threads/general/messages`, { content: 'x' }, { headers });
      sent.push(expect(answer, 201).json.id);
    }
    assert.equal(sent[0], sent[2]);
    assert.notEqual(sent[0], sent[1]);
    const made = await Promise.all(['ann', 'bob'].map((who) =>
      server.as(who, '*', 'write').post('/v1/sessions', {}, { headers })));
    assert.notEqual(made[0].json.id, made[1].json.id);
  });
});

describe('a WebSocket', () => {
  it('takes what the token allows, command by command', async () => {
    const sid = await session();
    const ann = await socket(server.keys.token('ann', sid, 'write'), `/v1/sessions/${sid}/ws`);
    for (const [ref, command] of commandsOf('bob').entries()) ann.say({ ref, ...command });
    for (const [ref] of commandsOf('bob').entries()) {
      const answer = await ann.answer(ref);
      assert.equal(answer.status, 403, JSON.stringify(answer));
      assert.equal(answer.error.type, '/problems/forbidden');
    }
    ann.say({ ref: 'own', type: 'message.send', thread: 'general', content: 'x' });
    assert.equal((await ann.answer('own')).status, 200);
    ann.ws.close();
  });

  it('of a reader watches and changes nothing', async () => {
    const sid = await session();
    const ann = await socket(server.keys.token('ann', sid, 'read'), `/v1/sessions/${sid}/ws`);
    ann.say({ ref: 1, type: 'message.send', thread: 'general', content: 'x' });
    assert.equal((await ann.answer(1)).status, 403);
    ann.ws.close();
  });

  it('of many sessions reaches those of its sid alone', async () => {
    const [mine, other] = [await session(newId('p-')), await session(newId('q-'))];
    const ann = await socket(server.keys.token('ann', 'p-*', 'write'), '/v1/ws');
    const none = other.replace(/.$/, 'x');
    for (const sid of [mine, other, none]) {
      ann.say({ ref: `w${sid}`, watch: { session: sid } });
      ann.say({ ref: `c${sid}`, session: sid, type: 'message.send', thread: 'general', content: 'x' });
    }
    assert.equal((await ann.answer(`w${mine}`)).status, 200);
    assert.equal((await ann.answer(`c${mine}`)).status, 200);
    for (const sid of [other, none])
      for (const ref of [`w${sid}`, `c${sid}`]) assert.equal((await ann.answer(ref)).status, 403);
    ann.ws.close();
  });

  it('opens for nobody without a token', async () => {
    const ws = new WebSocket(`${server.url.replace('http', 'ws')}/v1/ws`, 'atoll.v1');
    const status = await within(new Promise((done) => {
      ws.on('unexpected-response', (request, response) => done(response.statusCode));
      ws.on('error', () => {});
    }), 'the refusal');
    assert.equal(status, 401);
  });
});

describe('the end of a token', () => {
  const short = (sub, sid, scope) => server.keys.token(sub, sid, scope, { exp: inSeconds(2) });

  it('ends streams, WebSockets and waits', async () => {
    const sid = await session();
    const token = short('ann', sid, 'write');
    const headers = { authorization: `Bearer ${token}` };
    const streams = await Promise.all([`/v1/sessions/${sid}/stream`, '/v1/stream',
      `/v1/sessions/${sid}/events`].map((path) =>
      openEvents(server, path, { accept: 'text/event-stream', ...headers })));
    const ws = await socket(token, `/v1/sessions/${sid}/ws`);
    const wait = as(server, token).get(`/v1/sessions/${sid}/agents/ann/inbox?wait=55`);
    for (const stream of streams) assert.equal(await stream.find(() => false), undefined);
    const { code, why } = await within(ws.closed, 'the close');
    assert.deepEqual({ code, why }, { code: 1008, why: 'the token is no longer good' });
    expect(await wait, 200);
    refused(await as(server, token).get(`/v1/sessions/${sid}`), 401, 'unauthorized');
  });

  it('of another on the same connection does not matter', async () => {
    const sid = await session();
    const [short1, long] = [as(server, short('ann', sid, 'read')), server.as('ann', sid, 'read')];
    expect(await short1.get(`/v1/sessions/${sid}`), 200);
    expect(await long.get(`/v1/sessions/${sid}`), 200);
    await until(async () => (await short1.get(`/v1/sessions/${sid}`)).status === 401, 'the end');
    expect(await long.get(`/v1/sessions/${sid}`), 200);
  });
});

describe('another key', () => {
  const own = servingWithKey({ args: ['--shards', '2'] });

  it('ends within a second whatever the old one let in', async () => {
    const root = own.as('root', '*', 'admin');
    const sid = await root.session();
    const headers = { authorization: `Bearer ${root.token}` };
    const stream = await openEvents(own, `/v1/sessions/${sid}/stream`, headers);
    await stream.next();
    const wait = root.get(`/v1/sessions/${sid}/agents/ann/inbox?wait=55`);
    // It waits, as far as another connection can see.
    await until(async () =>
      (await root.status()).reactors.some(({ waiting }) => waiting === 1), 'the wait');
    const began = performance.now();
    own.keys.renew();
    assert.equal(await stream.find(() => false), undefined);
    assert.ok([200, 401].includes((await wait).status));
    await until(async () => (await root.get('/v1/sessions')).status === 401, 'the refusal');
    assert.ok(performance.now() - began < 1000, `after ${performance.now() - began} ms`);
    const view = await own.as('root', '*', 'admin').view(sid);
    assert.equal(canonical(Object.keys(view.state.agents)), canonical(['ann', 'bob']));
  });
});

describe('atoll export and atoll import', () => {
  it('bring the token of a file, or of the environment', async () => {
    const sid = await session();
    const file = join(server.directory, 'session.ndjson');
    const [tokenFile, args] = [join(server.directory, 'token'), ['--server', server.url]];
    const token = server.keys.token('root', '*', 'admin');
    writeFileSync(tokenFile, `${token}\n`);
    const none = await run(['export', sid, '--output', file, ...args]);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /needs a token.*\(401\)/);
    const env = { ATOLL_TOKEN: token };
    assert.equal((await run(['export', sid, '--output', file, ...args], { env })).code, 0);
    expect(await admin().delete(`/v1/sessions/${sid}`), 204);
    const taken = await run(['import', file, ...args, '--token-file', tokenFile]);
    assert.equal(taken.code, 0, taken.stderr);
    assert.ok((await admin().view(sid)).state.agents.ann);
    const empty = await run(['import', file, ...args, '--token-file', '/dev/null']);
    assert.match(empty.stderr, /--token-file: \/dev\/null/);
  });
});
