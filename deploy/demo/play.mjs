// Plays the bundled transcripts into a server, in real time and again and again, so that there is
// something to see: node deploy/demo/play.mjs URL [--server PID] [--speed X]
//
// Normal path: each conversation of loadtest/data/team.ndjson becomes a session of its own, with
// the distances in time that its messages had. Agents do what agents do besides: they work before
// they speak, wait for an answer, read what they were sent. A conversation that is over is closed,
// and after a pause begins anew under another id. The sessions delete themselves after a day.
// Failure: where the server is busy, or there was no answer, the same is tried again with the same
// key; another refusal is told on stderr and ends that round. Where no answer comes at all, or the
// process PID is gone, this ends too.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const TRANSCRIPT = new URL('../../loadtest/data/team.ndjson', import.meta.url);
const BETWEEN_STARTS_MS = 2_000;
const PAUSE_MS = 20_000;
const WRITING_MS = 6_000; // at most so long an agent is seen to work before it speaks
const READING_MS = 2_500;
const RETRY_MS = 1_000;
const TRIES = 10; // without any answer
const KEPT_S = 24 * 3600;

const { values: options, positionals: [url, ...rest] } = parseArgs({
  allowPositionals: true,
  options: { server: { type: 'string' }, speed: { type: 'string', default: '1' } },
});
const speed = Number(options.speed);
if (!url || rest.length > 0 || !(speed > 0)) {
  console.error('usage: node play.mjs http://HOST:PORT | unix:/PATH [--server PID] [--speed X]');
  process.exit(2);
}

// ---- the server

const agent = new http.Agent({ keepAlive: true });
const target = url.startsWith('unix:') ? { socketPath: url.slice('unix:'.length) }
  : { host: new URL(url).hostname.replace(/^\[|\]$/g, ''), port: new URL(url).port || 80 };

function request(path, body) {
  return new Promise((done, fail) => {
    const asked = http.request({
      ...target, agent, path, method: 'POST',
      headers: { host: 'localhost', 'content-type': 'application/json' },
    }, async (answer) => {
      let text = '';
      for await (const chunk of answer.setEncoding('utf8')) text += chunk;
      done({ status: answer.statusCode, body: JSON.parse(text) });
    });
    asked.on('error', fail);
    asked.end(JSON.stringify(body));
  });
}

const keyed = (command) => ({ ...command, key: `demo-${Math.random().toString(36).slice(2)}` });

/** Sends one command, or several that belong together, until the server has taken it. */
async function send(session, command) {
  const many = Array.isArray(command);
  const path = `/v1/sessions/${session}/commands${many ? '?atomic=true' : ''}`;
  const keyedOnce = many ? command.map(keyed) : keyed(command);
  for (let tries = 1; ; tries++) {
    try {
      const { status, body } = await request(path, keyedOnce);
      if (status < 300) return body;
      if (status !== 503 && status !== 429) {
        const refused = body.results?.find((result) => result.error && result.status !== 424);
        throw new Error(`${session}: ${(refused?.error ?? body).detail}`);
      }
    } catch (error) {
      if (!error.code || tries >= TRIES) throw error;
    }
    await delay(RETRY_MS);
  }
}

// ---- the conversations

function load() {
  const conversations = new Map();
  for (const line of readFileSync(TRANSCRIPT, 'utf8').split('\n')) {
    if (line === '') continue;
    const { session, ts, thread, sender, to, content } = JSON.parse(line);
    if (!conversations.has(session)) conversations.set(session, []);
    conversations.get(session).push({ at: Date.parse(ts), thread, sender, to, content });
  }
  return conversations;
}

/** Who takes part in what: everybody who speaks or is spoken to. */
function cast(messages) {
  const threads = new Map();
  for (const { thread, sender, to } of messages) {
    if (!threads.has(thread)) threads.set(thread, new Set());
    threads.get(thread).add(sender);
    if (to) threads.get(thread).add(to);
  }
  return threads;
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function opening(name, messages) {
  const threads = cast(messages);
  const agents = new Set([...threads.values()].flatMap((members) => [...members]));
  return [
    { type: 'session.create', labels: { project: name, from: 'demo' }, ttl_s: KEPT_S },
    ...[...agents].map((id) => ({ type: 'agent.register', agent: id,
      description: `The ${id} of ${name}.` })),
    ...[...threads].map(([thread, members]) => {
      const [creator, ...participants] = members;
      return { type: 'thread.create', thread, creator, name: capital(thread), participants };
    }),
  ];
}

const pause = (ms) => delay(ms / speed);

/** One message, with what can be seen of its sender before and after. */
async function speak(session, { thread, sender, to, content }, writing_ms, asked) {
  await send(session, { type: 'agent.update', agent: sender, status: 'working',
    note: `Writing in ${thread}` });
  await pause(writing_ms);
  const { id, seq } = await send(session, { type: 'message.send', thread, sender, content,
    mentions: to ? [to] : [], reply_to: asked.get(`${thread} ${sender}`) ?? null });
  asked.delete(`${thread} ${sender}`);
  if (to) asked.set(`${thread} ${to}`, id);
  const asks = to && content.includes('?');
  await send(session, [
    { type: 'thread.read', thread, agent: sender, upto: seq },
    { type: 'agent.update', agent: sender, status: asks ? 'question' : to ? 'waiting' : 'idle',
      note: to ? `Waiting for ${to}` : null },
  ]);
  if (!to || to === sender) return;
  await pause(READING_MS);
  await send(session, { type: 'thread.read', thread, agent: to, upto: seq });
}

async function closing(session, messages) {
  const threads = cast(messages);
  const agents = new Set([...threads.values()].flatMap((members) => [...members]));
  await send(session, [
    ...[...agents].map((id) => (
      { type: 'agent.update', agent: id, status: 'offline', note: null })),
    { type: 'session.close', summary: `${messages.length} messages, played.` },
  ]);
}

async function play(name, messages) {
  const session = `${name}-${new Date().toISOString().slice(11, 19).replaceAll(':', '')}`;
  const asked = new Map(); // thread and agent: the message it was last spoken to by
  await send(session, opening(name, messages));
  const began = Date.now();
  for (const message of messages) {
    const due = began + (message.at - messages[0].at) / speed;
    const left = Math.max(0, due - Date.now()) * speed;
    const writing = Math.min(WRITING_MS, left * 0.6);
    await pause(left - writing);
    await speak(session, message, writing, asked);
  }
  await pause(READING_MS);
  await closing(session, messages);
}

async function playForEver(name, messages, first_ms) {
  await pause(first_ms);
  for (;;) {
    try {
      await play(name, messages);
    } catch (error) {
      if (error.code) process.exit(0); // no answer: the server has ended
      console.error(`The demo's ${error.message}`);
    }
    await pause(PAUSE_MS);
  }
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

if (options.server) {
  const pid = Number(options.server);
  setInterval(() => { if (!isAlive(pid)) process.exit(0); }, 500);
}
let n = 0;
for (const [name, messages] of load()) void playForEver(name, messages, n++ * BETWEEN_STARTS_MS);
