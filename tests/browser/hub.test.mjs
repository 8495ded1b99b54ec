/*
 * The hub, which holds the one connection of all tabs, against a real server: what it tells pages
 * when the server is killed, when pages share a session, are slow, or speak while nobody hears.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { before, it } from 'node:test';
import { serve, until } from '../http/harness.mjs';
import { load } from './bundle.mjs';

const ws = createRequire(new URL('../http/x.js', import.meta.url))('ws');
globalThis.WebSocket ??= class extends ws {
  constructor(...args) {
    super(...args);
    this.on('error', () => {}); // browsers tell it by `close` alone
  }
};
let Hub;
before(async () => ({ Hub } = await load('data/hub.ts')));

/** A tab: what it was told, in order. */
class Page {
  constructor(t, hub, { lazy = false } = {}) {
    const { port1, port2 } = new MessageChannel();
    Object.assign(this, { port: port1, told: [], answers: new Map(), states: [], refused: [],
      again: 0, lazy });
    port1.onmessage = ({ data }) => this.hear(data);
    hub.attach(port2);
    t.after(() => port1.close());
  }

  hear(message) {
    if (message.kind === 'told') {
      this.told.push(...message.messages.map((text) => JSON.parse(text)));
      if (!this.lazy) this.say({ kind: 'ack' });
      else this.owed = (this.owed ?? 0) + 1;
    } else if (message.kind === 'answer') this.answers.set(message.ref, message.result);
    else if (message.kind === 'connection') this.states.push(message.connection);
    else if (message.kind === 'refused') this.refused.push(message);
    else if (message.kind === 'again') this.again++;
    else if (message.kind === 'status') this.status = JSON.parse(message.text);
  }

  say(message) { this.port.postMessage(message); }
  of(event) { return this.told.filter((message) => message.event === event); }
  get connected() { return this.states.at(-1)?.state === 'connected'; }
}

/** The hub never ends by itself, as its worker does: what it left running is stopped here. */
function hubOf(t, server, ...options) {
  const intervals = [];
  const real = globalThis.setInterval;
  globalThis.setInterval = (...args) => intervals[intervals.push(real(...args)) - 1];
  const hub = new Hub(server.url, ...options);
  globalThis.setInterval = real;
  t.after(() => {
    intervals.forEach(clearInterval);
    hub.connect = () => {};
    hub.pages.forEach((page) => hub.leave(page));
    hub.socket?.close();
  });
  return hub;
}

function contiguous(page) {
  let seq = page.of('snapshot').at(-1).seq;
  for (const patch of page.of('patch').filter((one) => one.seq > seq)) {
    assert.equal(patch.from ?? patch.seq, seq + 1, 'no gap and no repeat');
    seq = patch.seq;
  }
  return seq;
}

it('resumes by patches alone after a kill -9, and tells pages why they wait', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const page = new Page(t, hubOf(t, server));
  page.say({ kind: 'watch', sid });
  await until(() => page.of('snapshot').length === 1, 'the snapshot');
  await server.say(sid, 'ann', 'one');
  await until(() => page.of('patch').length >= 1, 'the patch');
  for (let round = 0; round < 3; round++) {
    await server.kill();
    await until(() => page.states.at(-1).state === 'waiting', 'the pause');
    assert.match(page.states.at(-1).reason, /cannot be reached/);
    await server.start();
    await server.say(sid, 'bob', `after ${round}`);
    const { seq } = await server.view(sid);
    page.say({ kind: 'retry' });
    await until(() => page.of('patch').at(-1).seq === seq, 'what was said meanwhile');
  }
  assert.equal(page.of('snapshot').length, 1, 'never told anew');
  assert.equal(contiguous(page), (await server.view(sid)).seq);
});

it('sends commands of an outage again, and they count once', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const page = new Page(t, hubOf(t, server));
  await until(() => page.connected, 'the connection');
  const speak = (ref) => page.say({ kind: 'command', ref, sid,
    command: { type: 'message.send', thread: 'general', sender: 'ann', content: `n ${ref}` } });
  for (let ref = 1; ref <= 50; ref++) speak(ref);
  await server.kill();
  for (let ref = 51; ref <= 60; ref++) speak(ref);
  await server.start();
  page.say({ kind: 'retry' });
  await until(() => page.answers.size === 60, 'all answers');
  const sent = (await server.events(sid)).filter(({ type }) => type === 'message.sent');
  assert.deepEqual(sent.map(({ content }) => content),
    Array.from({ length: 60 }, (_, i) => `n ${i + 1}`), 'each once, in order');
  for (const [ref, { seq }] of page.answers)
    assert.equal(sent.find((event) => event.seq === seq).content, `n ${ref}`);
  page.say({ kind: 'command', ref: 99, sid, command: { type: 'message.send', thread: 'none',
    sender: 'ann', content: 'x' } });
  await until(() => page.answers.has(99), 'the refusal');
  assert.equal(page.answers.get(99).problem.type, '/problems/unknown-thread');
});

it('watches once for several pages, and no longer than one of them wants it', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const hub = hubOf(t, server);
  const pages = [new Page(t, hub), new Page(t, hub)];
  for (const page of pages) {
    page.say({ kind: 'watch', sid });
    page.say({ kind: 'summaries', labels: [] });
    await until(() => page.of('snapshot').length >= 1 && page.of('ready').length >= 1, 'the state');
  }
  assert.equal(await server.total('watching'), 1);
  await server.say(sid, 'ann', 'to both');
  for (const page of pages)
    await until(() => page.of('patch').some(({ type }) => type === 'message.sent'), 'the message');
  pages[0].say({ kind: 'unwatch', sid });
  await server.say(sid, 'ann', 'to one');
  await until(() => pages[1].of('patch').length === 2, 'the message');
  assert.equal(pages[0].of('patch').length, 1);
  pages[1].say({ kind: 'bye' });
  await until(async () => await server.total('watching') === 0, 'the end of the watch');
  pages[0].say({ kind: 'status', on: true });
  await until(() => pages[0].status?.version, 'the figures');
  const refused = pages[0];
  refused.say({ kind: 'watch', sid: 'nobody-made-this' });
  await until(() => refused.refused.length === 1, 'the refusal');
  assert.equal(refused.refused[0].problem.status, 404);
});

it('narrows the list where pages agree, and tells late comers what others know', async (t) => {
  const server = await serve(t);
  await server.put('/v1/sessions/red', { labels: { colour: 'red' } });
  await server.put('/v1/sessions/blue', { labels: { colour: 'blue' } });
  const hub = hubOf(t, server);
  const one = new Page(t, hub);
  one.say({ kind: 'summaries', labels: ['colour:red'] });
  await until(() => one.of('ready').length === 1, 'the list');
  assert.deepEqual(one.of('summary').map(({ session }) => session), ['red']);
  const two = new Page(t, hub);
  two.say({ kind: 'summaries', labels: ['colour:red'] });
  await until(() => two.of('ready').length === 1, 'the list again');
  assert.deepEqual(two.of('summary').map(({ session }) => session), ['red']);
  assert.equal(one.of('ready').length, 1, 'nothing new for the first');
  const three = new Page(t, hub);
  three.say({ kind: 'summaries', labels: ['colour:blue'] });
  await until(() => three.of('ready').length === 1, 'all of them');
  assert.deepEqual(three.of('summary').map(({ session }) => session).sort(), ['blue', 'red']);
});

it('stops telling a page that takes nothing, and lets it begin anew', async (t) => {
  const server = await serve(t);
  const sid = await server.session();
  const hub = hubOf(t, server, 1_000_000);
  const page = new Page(t, hub, { lazy: true });
  const other = new Page(t, hub);
  for (const each of [page, other]) each.say({ kind: 'watch', sid });
  await until(() => page.of('snapshot').length >= 1 && other.of('snapshot').length >= 1,
    'the snapshots');
  for (let n = 0; n < 10; n++) {
    const { seq } = await server.say(sid, 'ann', 'x'.repeat(250_000));
    await until(() => other.told.at(-1).seq === seq, 'the message, to the page that takes it');
  }
  const { seq } = await server.view(sid);
  assert.ok(page.told.at(-1).seq < seq, 'the other one was spared');
  page.lazy = false;
  for (let n = page.owed; n > 0; n--) page.say({ kind: 'ack' });
  await until(() => page.again === 1, 'the invitation to begin anew');
  page.say({ kind: 'watch', sid });
  await until(() => page.of('snapshot').at(-1).seq === seq, 'a fresh snapshot');
});
