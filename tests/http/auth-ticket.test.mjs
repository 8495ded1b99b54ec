/*
 * Tickets: what stands in a URL in place of a token, for EventSource and WebSocket. Good once, for
 * what it was made for, on whatever connection and reactor it comes.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EventSource } from 'eventsource';
import http from 'node:http';
import WebSocket from 'ws';
import { expect, newId, refused, until, within } from './harness.mjs';
import { as, servingWithKey } from './tokens.mjs';

const server = servingWithKey({ args: ['--shards', '2'] });
const admin = () => server.as('root', '*', 'admin');
const session = () => admin().session(['ann', 'bob']);

/** A ticket of what this token may do; of one session alone where `sid` is given. */
async function ticket(of, sid) {
  const path = sid ? `/v1/sessions/${sid}/tickets` : '/v1/tickets';
  const { json } = expect(await of.post(path), 200);
  assert.match(json.ticket, /^[\w-]{22}$/);
  assert.equal(json.expires_in, 30);
  return json.ticket;
}

/** The status that a GET begins with, on a connection of its own; a stream is left at once. */
function opens(path) {
  const answered = new Promise((done, fail) => {
    const request = http.get({ host: server.hostname, port: server.port, path, agent: false },
      (answer) => {
        done(answer.statusCode);
        answer.destroy();
      });
    request.on('error', fail);
  });
  return within(answered, path);
}

/** The same of a WebSocket. */
function opensSocket(path) {
  const ws = new WebSocket(server.url.replace('http', 'ws') + path, 'atoll.v1');
  const opened = new Promise((done) => {
    ws.on('open', () => done(101));
    ws.on('unexpected-response', (request, answer) => done(answer.statusCode));
    ws.on('error', () => {});
  });
  return within(opened, path).finally(() => ws.terminate());
}

describe('a ticket', () => {
  it('opens an EventSource, and not a second one', async () => {
    const sid = await session();
    const ann = server.as('ann', sid, 'read');
    const url = `${server.url}/v1/sessions/${sid}/stream?ticket=${await ticket(ann)}`;
    const source = new EventSource(url);
    server.streams.add(source);
    const seen = [];
    source.addEventListener('snapshot', (event) => seen.push(JSON.parse(event.data)));
    source.addEventListener('patch', (event) => seen.push(JSON.parse(event.data)));
    await until(() => seen.length === 1);
    assert.equal(seen[0].state.id, sid);
    await admin().say(sid, 'ann', 'over there');
    await until(() => seen.length === 2);
    assert.equal(await opens(new URL(url).pathname + new URL(url).search), 401);
    source.close();
  });

  it('opens each route that a browser cannot send a header to', async () => {
    const sid = await session();
    const ann = server.as('ann', sid, 'write');
    const paths = [`/v1/sessions/${sid}/stream`, '/v1/stream', `/v1/stream?session=${sid}`];
    for (const path of paths)
      assert.equal(await opens(`${path}${path.includes('?') ? '&' : '?'}ticket=${
        await ticket(ann)}`), 200, path);
    for (const path of [`/v1/sessions/${sid}/ws`, '/v1/ws'])
      assert.equal(await opensSocket(`${path}?ticket=${await ticket(ann)}`), 101, path);
  });

  it('lets speak and see what its token does, and no more', async () => {
    const sid = await session();
    const other = await session();
    const ann = server.as('ann', sid, 'read');
    assert.equal(await opens(`/v1/sessions/${other}/stream?ticket=${await ticket(ann)}`), 403);
    const ws = new WebSocket(`${server.url.replace('http', 'ws')}/v1/sessions/${sid}/ws?ticket=${
      await ticket(ann)}`, 'atoll.v1');
    server.streams.add(ws);
    const answer = new Promise((done) => ws.on('message', (data) => {
      const message = JSON.parse(data);
      if (message.ref === 1) done(message);
    }));
    await within(new Promise((done, fail) => ws.once('open', done).once('error', fail)), 'open');
    ws.send(JSON.stringify({ ref: 1, type: 'message.send', thread: 'general', sender: 'ann',
      content: 'no' }));
    assert.equal((await within(answer, 'the answer')).status, 403);
    ws.terminate();
  });

  it('is good on any connection, whichever reactor has it, once', async () => {
    const sid = await session();
    const ann = server.as('ann', '*', 'read');
    const tickets = await Promise.all(Array.from({ length: 32 }, () => ticket(ann)));
    const path = (t) => `/v1/sessions/${sid}/stream?ticket=${t}`;
    assert.deepEqual(await Promise.all(tickets.map((t) => opens(path(t)))), Array(32).fill(200));
    const last = await ticket(ann);
    const race = await Promise.all(Array.from({ length: 16 }, () => opens(path(last))));
    assert.deepEqual(race.sort(), [200, ...Array(15).fill(401)]);
  });

  it('of a session is good there alone, and gone after a try elsewhere', async () => {
    const [sid, other] = [await session(), await session()];
    const ann = server.as('ann', '*', 'read');
    const spent = await ticket(ann, sid);
    assert.equal(await opens(`/v1/sessions/${other}/stream?ticket=${spent}`), 401);
    assert.equal(await opens(`/v1/sessions/${sid}/stream?ticket=${spent}`), 401);
    assert.equal(await opens(`/v1/stream?ticket=${await ticket(ann, sid)}`), 401);
    assert.equal(await opens(`/v1/sessions/${sid}/stream?ticket=${await ticket(ann, sid)}`), 200);
    assert.equal(await opens(`/v1/sessions/${sid}/ws?ticket=${await ticket(ann, other)}`), 401);
  });

  it('of a session is made by who may see it', async () => {
    const ann = server.as('ann', 'a-*', 'read');
    refused(await ann.post(`/v1/sessions/${newId('b-')}/tickets`), 403, 'forbidden');
    expect(await ann.post(`/v1/sessions/${newId('a-')}/tickets`), 200);
  });

  it('opens nothing but streams', async () => {
    const sid = await session();
    const ann = server.as('ann', '*', 'admin');
    const made = await ticket(ann);
    for (const path of [`/v1/sessions/${sid}`, '/v1/sessions', '/v1/me', '/v1/status'])
      expect(await server.get(`${path}?ticket=${made}`, { check: false }), 400);
    expect(await server.delete(`/v1/sessions/${sid}?ticket=${made}`, { check: false }), 400);
    refused(await server.post('/v1/tickets', undefined, { headers: { authorization:
      `Bearer ${made}` } }), 401, 'unauthorized');
    assert.equal(await opens(`/v1/stream?ticket=${made}`), 200);
  });

  it('is not taken beside a token', async () => {
    const sid = await session();
    const ann = server.as('ann', '*', 'read');
    const path = `/v1/sessions/${sid}/stream?ticket=${await ticket(ann)}`;
    refused(await ann.get(path), 400, 'malformed', 'ticket');
  });

  it('that nobody has made is refused', async () => {
    for (const made of ['', 'x', 'x'.repeat(22), 'x'.repeat(4000)])
      assert.equal(await opens(`/v1/stream?ticket=${made}`), 401, made);
    const twice = await ticket(server.as('ann', '*', 'read'));
    assert.equal(await opens(`/v1/stream?ticket=${twice}&ticket=${twice}`), 400);
  });

  it('is one of 64 that a token may have waiting', async () => {
    const [greedy, modest] = [server.as('greedy', '*', 'read'), server.as('modest', '*', 'read')];
    const made = [];
    for (let n = 0; n < 64; n++) made.push(await ticket(greedy));
    const { retry_after: after } = refused(await greedy.post('/v1/tickets'), 429, 'too-many');
    assert.ok(after > 0 && after <= 30, after);
    await ticket(modest);
    assert.equal(await opens(`/v1/stream?ticket=${made[0]}`), 200);
    await ticket(greedy);
  });

  it('ends with the key that its token was good by', async () => {
    const sid = await session();
    const old = server.keys.token('ann', '*', 'read');
    const made = await ticket(as(server, old));
    server.keys.renew();
    server.child.kill('SIGHUP');
    await until(async () =>
      (await as(server, old).get('/v1/me')).status === 401, 'the old key to be gone');
    assert.equal(await opens(`/v1/sessions/${sid}/stream?ticket=${made}`), 401);
  });
});
