/*
 * The tests' view of Atoll: a server process of one's own, and clients that believe nothing. Every
 * answer is checked against web/openapi.yaml: path, status, content type, headers, body; and a
 * request that succeeded must be one that the document allows. So neither can drift from the other.
 * Each server has a port and a data directory of its own, so that test files may run side by side.
 * Nothing here sleeps to be on the safe side: one waits for an event, or for a condition with
 * `until`.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { constants, createGunzip } from 'node:zlib';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { EventSource } from 'eventsource';
import jsonPatch from 'fast-json-patch';
import { parse } from 'yaml';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const BIN = process.env.ATOLL_BIN ?? join(ROOT, 'build/atoll');
export const SPEC_PATH = join(ROOT, 'web/openapi.yaml');
const READY_MS = 60_000; // sanitizers are slow
const EVENT_MS = 30_000;
const ANSWER_MS = 70_000; // longer than any wait

// ---- small things

/** JSON with sorted keys and no spaces (RFC 8785): equal strings, equal values. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const field = (key) => `${JSON.stringify(key)}:${canonical(value[key])}`;
  return `{${Object.keys(value).sort().map(field).join(',')}}`;
}

/** The first truthy value of `probe`, looked at again and again. */
export async function until(probe, what = String(probe), ms = EVENT_MS) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value) return value;
    assert.ok(Date.now() < deadline, `waited ${ms} ms in vain for: ${what}`);
    await delay(10);
  }
}

/** `promise`, or a failure that says what was waited for. */
export function within(promise, what, ms = EVENT_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function temporaryDirectory() {
  return mkdtempSync(join(tmpdir(), 'atoll-test-'));
}

export const remove = (path) => rmSync(path, { recursive: true, force: true });
export const ndjson = (values) =>
  values.map((v) => (typeof v === 'string' ? v : JSON.stringify(v))).join('\n') + '\n';
export const NDJSON = 'application/x-ndjson';

// ---- the contract

export const spec = parse(readFileSync(SPEC_PATH, 'utf8'));
const ajv = new Ajv2020({ strict: false, discriminator: true });
addFormats(ajv);
// A discriminator's mapping says for other tools what `const` says already; ajv refuses to see it.
const withoutMapping = (key, value) => (key === 'mapping' ? undefined : value);
ajv.addSchema(JSON.parse(JSON.stringify(spec, withoutMapping)), 'api');

const pointer = (...parts) =>
  parts.map((p) => p.replaceAll('~', '~0').replaceAll('/', '~1'))
    .map((p) => `/${encodeURIComponent(p)}`).join('');
const validators = new Map();

/** Fails unless `value` is what the schema at `at` says. */
export function conforms(at, value, what) {
  if (!validators.has(at)) validators.set(at, ajv.compile({ $ref: `api#${at}` }));
  const valid = validators.get(at);
  if (valid(value)) return;
  const shown = JSON.stringify(value);
  const errors = ajv.errorsText(valid.errors, { dataVar: 'body' });
  assert.fail(`${what}: ${errors} (${at})\n${shown.slice(0, 2000)}`);
}

const resolve = (node, at) => (node.$ref ? [follow(node.$ref), node.$ref.slice(1)] : [node, at]);
const follow = (ref) => ref.slice(2).split('/').reduce((node, part) => node[part], spec);

const routes = Object.keys(spec.paths)
  .map((path) => {
    const pattern = path.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+');
    return { path, pattern: new RegExp(`^${pattern}$`) };
  })
  .sort((a, b) => a.path.split('{').length - b.path.split('{').length);
const METHODS = ['get', 'put', 'post', 'patch', 'delete'];

/**
 * The documented operation that a request goes to: {path, item, operation}, each undefined where
 * there is none.
 */
export function findOperation(method, url) {
  const { pathname } = new URL(url, 'http://x');
  const path = routes.find((route) => route.pattern.test(pathname))?.path;
  const item = spec.paths[path];
  const known = method === 'HEAD' ? 'get' : method.toLowerCase(); // GET without the body
  return { path, item, operation: item?.[known] };
}

export const allowedMethods = (item) =>
  METHODS.filter((m) => item[m]).map((m) => m.toUpperCase()).sort();
const TOLD_HEADERS = ['etag', 'location', 'retry-after', 'idempotent-replayed', 'allow', 'upgrade',
  'content-encoding', 'sec-websocket-version', 'sec-websocket-accept', 'sec-websocket-protocol'];
const mediaType = (value) => value?.split(';')[0].trim().toLowerCase();

/** Fails unless the answer is one that the document has for this request. */
export function checkAnswer(request, answer) {
  const { method, path: url } = request;
  const what = `${method} ${url} → ${answer.status}`;
  const { path, item, operation } = findOperation(method, url);
  const problem = (at = '/components/schemas/Problem') => {
    assert.equal(mediaType(answer.headers['content-type']), 'application/problem+json',
      `${what}: ${answer.text}`);
    if (method === 'HEAD') return;
    conforms(at, answer.json, what);
    assert.equal(answer.json.status, answer.status, `${what}: status in the body`);
    if (answer.headers['retry-after'] && answer.json.retry_after !== undefined)
      assert.equal(Number(answer.headers['retry-after']), answer.json.retry_after, what);
  };
  if (!operation && answer.status === 403) return problem();
  if (!item) {
    assert.equal(answer.status, 404, `${what}: not a documented path`);
    problem();
    assert.equal(answer.json.type, '/problems/unknown-route', what);
    return;
  }
  if (!operation) {
    assert.equal(answer.status, 405, `${what}: not a documented method`);
    problem();
    if (method !== 'HEAD') assert.equal(answer.json.type, '/problems/method-not-allowed', what);
    assert.deepEqual((answer.headers.allow ?? '').split(/, */).sort(), allowedMethods(item),
      `${what}: Allow`);
    return;
  }
  if (method === 'HEAD' && answer.status === 405) return; // of what has no end
  const at = ['paths', path, method === 'HEAD' ? 'get' : method.toLowerCase()];
  assert.ok(operation.responses[answer.status],
    `${what}: not a documented status\n${answer.text?.slice(0, 500)}`);
  const [documented, responseAt] = resolve(
    operation.responses[answer.status], pointer(...at, 'responses', String(answer.status)));
  checkHeaders(documented.headers ?? {}, `${responseAt}/headers`, answer.headers, what);
  if (method === 'HEAD') return assert.equal(answer.text, '', what);
  checkBody(documented.content, responseAt, answer, what);
  if (mediaType(answer.headers['content-type']) === 'application/problem+json')
    assert.equal(answer.json.status, answer.status, `${what}: status in the body`);
  if (answer.status < 300) checkRequest(request, answer, item, operation, at, what);
}

function checkHeaders(documented, headersAt, headers, what) {
  for (const name of TOLD_HEADERS) {
    const key = Object.keys(documented).find((k) => k.toLowerCase() === name);
    if (!key) {
      assert.equal(headers[name], undefined, `${what}: the header ${name} is not documented`);
      continue;
    }
    const [header, at] = resolve(documented[key], `${headersAt}${pointer(key)}`);
    assert.ok(headers[name] !== undefined || !header.required, `${what}: lacks the header ${name}`);
    if (headers[name] === undefined) continue;
    const value = header.schema.type === 'integer' ? Number(headers[name]) : headers[name];
    conforms(`${at}/schema`, value, `${what}: header ${name}`);
  }
}

function checkBody(content, at, answer, what) {
  if (!content) return assert.equal(answer.text, '', `${what}: no body is documented`);
  const type = mediaType(answer.headers['content-type']);
  assert.ok(content[type], `${what}: content type ${type} is not documented`);
  if (type === 'text/event-stream') return;
  if (type === NDJSON) return checkLines(content[type].schema['x-lines'], answer.text, what);
  const body = type.endsWith('json') ? answer.json : answer.text;
  conforms(`${at}${pointer('content', type, 'schema')}`, body, what);
}

/** Lines that an export writes and an import takes. */
function checkLines(schemas, text, what) {
  assert.ok(text === '' || text.endsWith('\n'), `${what}: the last line is whole`);
  text.split('\n').slice(0, -1).forEach((line, n) => {
    const value = JSON.parse(line);
    const schema = value.atoll ? schemas.header : schemas.event;
    conforms(schema.$ref.slice(1), value, `${what}: line ${n + 1}`);
  });
}

function checkRequest(request, answer, item, operation, at, what) {
  const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])]
    .map((p) => resolve(p)[0]);
  for (const name of new URL(request.path, 'http://x').searchParams.keys())
    assert.ok(parameters.some((p) => p.in === 'query' && p.name === name),
      `${what}: took undocumented ?${name}`);
  const type = mediaType(request.type);
  if (!request.body?.length) return;
  assert.ok(operation.requestBody, `${what}: took an undocumented body`);
  const [body, bodyAt] = resolve(operation.requestBody, pointer(...at, 'requestBody'));
  assert.ok(body.content[type], `${what}: took an undocumented body`);
  const lines = body.content[type].schema['x-lines'];
  if (lines) return checkLines(lines, request.body.toString(), `${what}: the request`);
  if (answer.json?.results) { // a batch: each command that was applied
    const commands = type === NDJSON
      ? request.body.toString().split('\n').filter((line) => line.trim())
      : JSON.parse(request.body);
    assert.equal(answer.json.results.length, commands.length,
      `${what}: one result for each command`);
    answer.json.results.forEach(({ status }, n) => {
      if (status !== 200) return;
      const command = type === NDJSON ? JSON.parse(commands[n]) : commands[n];
      conforms('/components/schemas/Command', command, `${what}: command ${n}`);
    });
    return;
  }
  conforms(`${bodyAt}${pointer('content', type, 'schema')}`, JSON.parse(request.body),
    `${what}: the request`);
}

// ---- a server

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** The environment without options of Atoll that somebody has set. */
export function cleanEnvironment(extra = {}) {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('ATOLL_'));
  return { ...Object.fromEntries(kept), ...extra };
}

/** Runs the program to its end: {code, signal, stdout, stderr}. */
export async function run(args, { env = {}, cwd, ms = READY_MS } = {}) {
  const child = spawn(BIN, args,
    { env: cleanEnvironment(env), cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const out = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'])
    child[name].setEncoding('utf8').on('data', (d) => (out[name] += d));
  const ended = new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) => done({ code, signal, ...out }));
  });
  try {
    return await within(ended, `the end of: atoll ${args.join(' ')}`, ms);
  } finally {
    child.kill('SIGKILL');
    running.delete(child);
  }
}

export function assertNoSanitizerReport(stderr) {
  assert.doesNotMatch(stderr, /Sanitizer|runtime error:|Assertion .* failed/,
    `stderr of the server:\n${stderr}`);
}

export class Server {
  /** `under`: a command that runs another one, with its first arguments. */
  constructor({ args = [], env = {}, data, listen, under = [] } = {}) {
    this.directory = temporaryDirectory();
    this.data = data ?? join(this.directory, 'data');
    this.args = args;
    this.env = env;
    this.listen = listen;
    this.under = under;
    this.streams = new Set();
  }

  /** Starts, with other options if given, and waits for the one line. */
  async start(args = this.args) {
    this.args = args;
    this.child?.kill('SIGKILL'); // one that a failed test has left
    await this.exited;
    const listen = this.listen ?? [`127.0.0.1:${this.port ?? 0}`];
    const all = ['serve', ...listen.flatMap((l) => ['--listen', l]), '--data', this.data, ...args];
    this.agent = new http.Agent({ keepAlive: true, timeout: 5000 });
    this.stderr = '';
    this.stdout = '';
    const [program, ...before] = [...this.under, BIN];
    this.child = spawn(program, [...before, ...all],
      { env: cleanEnvironment(this.env), stdio: ['ignore', 'pipe', 'pipe'] });
    const child = this.child;
    running.add(child);
    this.exited = new Promise((done) => {
      child.on('error', (error) => done({ code: null, error }));
      child.on('close', (code, signal) => done({ code, signal }));
    }).finally(() => running.delete(child));
    child.stderr.setEncoding('utf8').on('data', (d) => (this.stderr += d));
    const ready = new Promise((done, fail) => {
      child.stdout.setEncoding('utf8').on('data', (d) => {
        this.stdout += d;
        if (this.stdout.includes('\n')) done(this.stdout.split('\n')[0]);
      });
      this.exited.then((e) =>
        fail(new Error(`atoll ended before it was ready: ${JSON.stringify(e)}\n${this.stderr}`)));
    });
    try {
      this.ready = await within(ready, 'the line that says ready', READY_MS);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
    this.url = this.ready.match(/https?:\/\/[^\s/]+/)?.[0];
    if (this.url) ({ hostname: this.hostname, port: this.port } = new URL(this.url));
    return this;
  }

  /** What a SIGTERM must lead to: exit status 0 and nothing that a sanitizer had to say. */
  async stop() {
    this.hangUp();
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGTERM');
    const end = await within(this.exited, 'the end after SIGTERM').catch((error) => error);
    if (end instanceof Error) this.child.kill('SIGKILL');
    remove(this.directory);
    assertNoSanitizerReport(this.stderr);
    assert.deepEqual(end, { code: 0, signal: null }, `end of the server; stderr:\n${this.stderr}`);
    assert.equal(this.stdout.trimEnd().split('\n').length, 1,
      `one line on stdout, not:\n${this.stdout}`);
  }

  /** Stops without removing the data, and starts again on the same port. */
  async restart(args = this.args) {
    this.hangUp();
    this.child.kill('SIGTERM');
    assert.deepEqual(await within(this.exited, 'the end after SIGTERM'), { code: 0, signal: null },
      this.stderr);
    assertNoSanitizerReport(this.stderr);
    return this.start(args);
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
    this.hangUp();
    assertNoSanitizerReport(this.stderr);
  }

  hangUp() {
    this.streams.forEach((stream) => stream.close());
    this.agent.destroy();
  }

  /**
   * One request: {status, headers, text, json}, checked against the document unless told not to.
   */
  async request(method, path, { body, type, headers = {}, check = true, signal, socketPath } = {}) {
    if (body !== undefined && typeof body !== 'string' && !Buffer.isBuffer(body))
      body = JSON.stringify(body);
    if (type === undefined && body !== undefined) type = 'application/json';
    const all = { ...headers };
    if (type) all['content-type'] = type;
    if (body !== undefined) all['content-length'] = Buffer.byteLength(body);
    const target = socketPath ? { socketPath } : { host: this.hostname, port: this.port };
    const answered = new Promise((done, fail) => {
      const options = { ...target, agent: this.agent, method, path, headers: all, signal };
      const request = http.request(options, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () => done({
          status: response.statusCode,
          headers: response.headers,
          text: Buffer.concat(chunks).toString('utf8'),
        }));
      });
      request.on('error', fail);
      request.end(body);
    });
    const answer = await within(answered, `the answer to ${method} ${path}`, ANSWER_MS);
    const kind = mediaType(answer.headers['content-type']);
    if (kind?.endsWith('json') && kind !== NDJSON && answer.text !== '')
      answer.json = JSON.parse(answer.text);
    if (check) checkAnswer({ method, path, body, type }, answer);
    return answer;
  }

  get(path, options) { return this.request('GET', path, options); }
  put(path, body, options) { return this.request('PUT', path, { body, ...options }); }
  post(path, body, options) { return this.request('POST', path, { body, ...options }); }
  patch(path, body, options) { return this.request('PATCH', path, { body, ...options }); }
  delete(path, options) { return this.request('DELETE', path, options); }

  command(sid, command, options) {
    return this.post(`/v1/sessions/${sid}/commands`, command, options);
  }
  lines(sid, commands, { query = '', ...options } = {}) {
    return this.post(`/v1/sessions/${sid}/commands${query}`, ndjson(commands),
      { type: NDJSON, ...options });
  }

  async view(sid, query = '') {
    return expect(await this.get(`/v1/sessions/${sid}${query}`), 200).json;
  }
  async proof(sid, query = '') {
    return expect(await this.get(`/v1/sessions/${sid}/proof${query}`), 200).json;
  }
  async diff(sid, query) {
    return expect(await this.get(`/v1/sessions/${sid}/diff${query}`), 200).json;
  }
  /** A fork of the session: its answer. */
  async fork(sid, body, status = 201) {
    return expect(await this.post(`/v1/sessions/${sid}/fork`, body), status).json;
  }
  /** The lines of an export, as text. */
  async export(sid) {
    return expect(await this.get(`/v1/sessions/${sid}/export`), 200).text;
  }
  async events(sid) {
    const events = [];
    for (let after = 0; after !== null;) {
      const page = expect(await this.get(`/v1/sessions/${sid}/events?after=${after}&limit=1000`),
        200).json;
      events.push(...page.events);
      after = page.next;
    }
    return events;
  }
  async inbox(sid, agent, query = '') {
    return expect(await this.get(`/v1/sessions/${sid}/agents/${agent}/inbox${query}`), 200).json;
  }
  async status() { return expect(await this.get('/v1/status'), 200).json; }
  /** A figure of /v1/status, over all shards. */
  async total(name) {
    return (await this.status()).shards.reduce((sum, shard) => sum + shard[name], 0);
  }

  /** A session with agents that share a thread: its id. */
  async session(agents = ['ann', 'bob'],
    { sid = newId(), thread = 'general', participants = agents } = {}) {
    const commands = [
      { type: 'session.create' },
      ...agents.map((agent) => ({ type: 'agent.register', agent })),
      ...(thread ? [{ type: 'thread.create', thread, creator: agents[0], name: thread,
        participants }] : []),
    ];
    const { json } = expect(await this.command(sid, commands), 200);
    assert.ok(json.results.every((r) => r.status === 200), JSON.stringify(json.results));
    return sid;
  }

  /**
   * Gives a session a past: agents come, speak, read, change threads and labels, and leave again.
   * `rounds` of about ten events each; a second past, say in a fork, needs a `topic` of its own.
   */
  async live(sid, rounds, topic = 'side') {
    for (let n = 0; n < rounds; n++) {
      const thread = `${topic}-${n % 3}`;
      const guest = `guest-${n % 5}`;
      const commands = [
        { type: 'message.send', thread: 'general', sender: 'ann', content: `round ${n} "ü\n`,
          mentions: n % 2 ? ['bob'] : [], data: n % 3 ? { n, deep: [{}] } : null },
        { type: 'agent.register', agent: guest, description: `of ${topic} ${n}`,
          labels: { round: `${topic} ${n}`, 'a/b~c': 'x' } },
        { type: 'thread.add', thread: 'general', agent: guest, by: 'ann', history: n % 2 === 0 },
        { type: 'message.send', thread: 'general', sender: guest, content: 'here' },
        { type: 'agent.update', agent: 'bob', status: n % 2 ? 'working' : 'waiting',
          note: n % 4 ? `${topic} ${n}` : null, priority: n, labels: n % 2 ? { busy: 'yes' }
            : { busy: null } },
        { type: 'thread.create', thread: `${thread}-${n}`, creator: 'bob', name: thread,
          participants: ['ann', guest] },
        { type: 'message.send', thread: `${thread}-${n}`, sender: 'bob', content: 'aside' },
        { type: 'thread.close', thread: `${thread}-${n}`, by: 'bob', summary: `done ${n}` },
        { type: 'session.update', labels: n % 2 ? { phase: `${n}`, odd: 'yes' } : { odd: null } },
        { type: 'thread.read', thread: 'general', agent: 'bob', upto: 4 + n },
        { type: 'agent.leave', agent: guest },
      ];
      const { json } = expect(await this.lines(sid, commands), 200);
      assert.ok(json.results.every((r) => r.status === 200), JSON.stringify(json.results));
    }
    return sid;
  }

  async say(sid, sender, content, fields = {}) {
    const { thread = 'general', ...rest } = fields;
    return expect(await this.post(`/v1/sessions/${sid}/threads/${thread}/messages`,
      { sender, content, ...rest }), 201).json;
  }

  stream(sid, options) { return new Stream(this, sid, options); }
}

let ids = 0;
export const newId = (prefix = 'w') => `${prefix}${process.pid}-${++ids}`;

export function start(options) { return new Server(options).start(); }

/** Within `describe`: one server for all its tests. */
export function serving(options) {
  const server = new Server(options);
  before(() => server.start());
  after(() => server.stop());
  return server;
}

/** Within a test: a server of its own, stopped at its end. */
export async function serve(t, options) {
  const server = await start(options);
  t.after(() => server.stop());
  return server;
}

// ---- what an answer should be

/** The answer, if it has this status. */
export function expect(answer, status) {
  assert.equal(answer.status, status,
    `${answer.status} instead of ${status}: ${answer.text?.slice(0, 1000)}`);
  return answer;
}

/** Fails unless the answer is this problem; `field` is what it must blame, if given. */
export function refused(answer, status, type, field) {
  expect(answer, status);
  assert.equal(answer.json.type, `/problems/${type}`, answer.text);
  if (field !== undefined) assert.equal(answer.json.field, field, answer.text);
  return answer.json;
}

// ---- streams

/** Numbers between 0 and 1, the same ones for the same seed (mulberry32). */
export function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Of a stream's query what says which view it is of, for a GET of the same. */
function viewQuery(query) {
  const kept = [...new URLSearchParams(query)].filter(([name]) => ['view', 'path'].includes(name));
  return kept.length > 0 ? `?${new URLSearchParams(kept)}` : '';
}

/**
 * What a watcher of one session has been told, folded with `fast-json-patch`: `epoch`, `seq`,
 * `state`, the last `id`, and with `track` the canonical state `at` each seq. Fails on a gap, a
 * repeat, a patch that does not fit, or one that says less or more than its stream should. To go
 * on from another one: `{ id, state, seq, epoch }` of that.
 */
export class Fold {
  constructor(server, sid, { query = '', id, state, seq, epoch, track = false } = {}) {
    Object.assign(this, { server, sid, id, seq, epoch, track, log: [], at: new Map() });
    this.state = state && structuredClone(state);
    this.viewQuery = viewQuery(query);
    this.narrowed = new URLSearchParams(query).has('path');
  }

  /** One message of the stream. */
  tell(event, id, data) {
    const known = spec.paths['/v1/sessions/{sid}/stream'].get.responses['200']
      .content['text/event-stream'].schema['x-events'];
    assert.ok(known[event], `a stream has no event ${event}`);
    conforms(known[event].$ref.slice(1), data, `event ${event} of the stream of ${this.sid}`);
    assert.ok(!this.ended, 'nothing comes behind the end');
    this[event](data);
    if (id !== undefined) this.id = id;
    this.log.push({ event, id, data });
    if (this.track && this.state) this.at.set(this.seq, canonical(this.state));
  }

  snapshot({ epoch, seq, state, reset }) {
    assert.ok(this.state === undefined || reset, 'a snapshot in the middle of a stream says why');
    Object.assign(this, { epoch, seq, state: structuredClone(state) });
  }

  patch({ seq, from, type, ops }) {
    assert.equal(from !== undefined, this.narrowed || type === 'merged',
      'merged patches and those of parts, and no others, say where they begin');
    assert.equal(from ?? seq, this.seq + 1, `gap or repeat in the stream of ${this.sid}`);
    assert.ok(seq >= this.seq + 1);
    assert.ok(ops.length > 0 || !this.narrowed, 'what touches no part is left out');
    jsonPatch.applyPatch(this.state, structuredClone(ops), true);
    this.seq = seq;
  }

  end() { this.ended = true; }

  /** What has come, by kind: how often. */
  get counts() {
    const counts = { snapshot: 0, patch: 0, merged: 0, reset: 0 };
    for (const { event, data } of this.log) {
      if (event === 'snapshot') counts[data.reset ? 'reset' : 'snapshot']++;
      else if (event === 'patch') counts[data.type === 'merged' ? 'merged' : 'patch']++;
    }
    return counts;
  }

  /** Where the session is now, as this stream shows it. */
  async view() { return this.server.view(this.sid, this.viewQuery); }

  /** Whether it has been told everything up to this view. */
  has(view) {
    if (this.seq === undefined || this.epoch !== view.epoch) return false;
    return this.narrowed ? canonical(this.state) === canonical(view.state) : this.seq >= view.seq;
  }

  /** Fails unless it folded to this view. */
  isAt(view) {
    assert.equal(this.epoch, view.epoch);
    if (!this.narrowed) assert.equal(this.seq, view.seq, 'the session went on meanwhile');
    assert.equal(canonical(this.state), canonical(view.state));
    return view;
  }

  /** Fails unless it was at each seq what the session shows of that; needs `track`. */
  async wasRight() {
    assert.ok(this.at.size > 0);
    for (const [seq, state] of this.at) {
      const at = `${this.viewQuery ? `${this.viewQuery}&` : '?'}at=${seq}`;
      assert.equal(state, canonical((await this.server.view(this.sid, at)).state),
        `the state at ${seq} of ${this.sid}${this.viewQuery}`);
    }
  }
}

/**
 * A watcher on the `eventsource` package, which comes back by itself when its connection breaks,
 * after `retry_ms` where given. `url`: of something before the server.
 */
export class Stream extends Fold {
  constructor(server, sid, { lastEventId, query = '', url = server.url, retry_ms, ...fold } = {}) {
    super(server, sid, { query, id: lastEventId, ...fold });
    this.opens = 0;
    this.waiting = new Set();
    const path = `/v1/sessions/${sid}/stream${query}`;
    this.source = new EventSource(url + path, {
      fetch: async (target, init) => {
        const first = this.opens++ === 0 && lastEventId !== undefined
          ? { 'Last-Event-ID': lastEventId } : {};
        const answer = await fetch(target, { ...init, headers: { ...init.headers, ...first } });
        const text = answer.status === 200 ? undefined : await answer.clone().text();
        const headers = Object.fromEntries(answer.headers);
        this.answered = { status: answer.status, headers, text, json: text && JSON.parse(text) };
        this.attempt(() => checkAnswer({ method: 'GET', path }, this.answered));
        return retry_ms === undefined ? answer : comingBack(answer, retry_ms);
      },
    });
    for (const name of ['snapshot', 'patch', 'end'])
      this.source.addEventListener(name, (event) => this.attempt(() =>
        this.tell(name, event.lastEventId, JSON.parse(event.data))));
    this.source.addEventListener('error', (event) => this.attempt(() => { this.failure = event; }));
    server.streams.add(this);
  }

  attempt(action) {
    try {
      action();
    } catch (error) {
      this.error ??= error;
    }
    this.waiting.forEach((look) => look());
  }

  /** Waits until `condition` holds; looked at after each event. */
  async until(condition, what = String(condition)) {
    let look;
    const met = new Promise((done, fail) => {
      look = () => {
        if (this.error) fail(this.error);
        else if (condition(this)) done(this);
      };
      this.waiting.add(look);
      look();
    });
    try {
      return await within(met,
        `${what}, in the stream of ${this.sid}, which stands at ${this.seq}`);
    } finally {
      this.waiting.delete(look);
    }
  }

  reach(seq) { return this.until(() => this.seq >= seq, `seq ${seq}`); }

  /**
   * Waits until the stream is where the session is, and fails unless it folded to the same state.
   */
  async equalsView() {
    const view = await this.view();
    await this.until(() => this.has(view), `seq ${view.seq} of ${this.viewQuery}`);
    return this.isAt(view);
  }

  close() {
    this.source.close();
    this.server.streams.delete(this);
  }
}

/** The answer with another time to come back after; the server's own ones still count. */
function comingBack({ body, redirected, status, headers }, retry_ms) {
  const before = new TransformStream({
    start: (controller) => controller.enqueue(new TextEncoder().encode(`retry: ${retry_ms}\n\n`)),
  });
  return { body: body.pipeThrough(before), redirected, status, headers };
}

/**
 * A watcher that reads only when asked to. Over a Unix socket (`socketPath`) the kernel keeps about
 * 200 KiB for it, so that the server knows soon.
 */
export class Reader extends Fold {
  static async open(server, sid, { query = '', lastEventId, headers = {}, ...rest } = {}) {
    const reader = new Reader(server, sid, { query, id: lastEventId, ...rest });
    const resumed = lastEventId === undefined ? {} : { 'last-event-id': lastEventId };
    reader.wire = await openEvents(server, `/v1/sessions/${sid}/stream${query}`,
      { ...headers, ...resumed }, rest);
    return reader;
  }

  /** Reads one message, heartbeats aside; false: the connection has ended. */
  async read() {
    const block = await this.wire.find((b) => b.event);
    if (block) this.tell(block.event, block.id, block.json);
    return block !== undefined;
  }

  /** Reads until it holds. */
  async until(condition, what = String(condition)) {
    while (!condition(this))
      assert.ok(await this.read(), `the stream of ${this.sid} ended before ${what}`);
    return this;
  }

  async equalsView() {
    const view = await this.view();
    await this.until(() => this.has(view), `seq ${view.seq}`);
    return this.isAt(view);
  }

  close() { this.wire.close(); }
}

/**
 * Server-sent events as they come over the wire, comments and `retry:` too. Reads only when asked
 * to. Over a Unix socket, or another port than the server's, if given.
 */
export async function openEvents(server, path, headers = {}, { socketPath, port } = {}) {
  const response = await new Promise((done, fail) => {
    const target = socketPath ? { socketPath }
      : { host: server.hostname, port: port ?? server.port };
    const all = { ...(server.token && { authorization: `Bearer ${server.token}` }), ...headers };
    http.get({ ...target, path, headers: all, agent: false }, done).on('error', fail);
  });
  const handle = { close: () => response.destroy() };
  server.streams.add(handle);
  response.once('close', () => server.streams.delete(handle));
  response.on('error', () => {});
  const answer = { status: response.statusCode, headers: response.headers };
  if (response.statusCode !== 200) {
    answer.text = Buffer.concat(await response.toArray()).toString('utf8');
    answer.json = JSON.parse(answer.text);
  }
  checkAnswer({ method: 'GET', path }, answer);
  const blocks = answer.status === 200 ? readBlocks(decoded(response)) : undefined;
  return {
    ...answer,
    response,
    close: handle.close,
    /**
     * The next block, {event, id, data, json, retry, comment}; undefined when the server has
     * closed.
     */
    next: async () => (await within(blocks.next(), `the next event of ${path}`)).value,
    /** The first block from here on that `wanted` likes; undefined when the server has closed. */
    async find(wanted) {
      const deadline = Date.now() + EVENT_MS; // heartbeats would keep `next` content for ever
      for (;;) {
        const block = await this.next();
        if (block === undefined || wanted(block)) return block;
        assert.ok(Date.now() < deadline, `waited in vain for an event of ${path}`);
      }
    },
  };
}

/** The text of an answer, as soon as there is some. */
function decoded(response) {
  if (response.headers['content-encoding'] !== 'gzip') return response.setEncoding('utf8');
  const plain = createGunzip({ flush: constants.Z_SYNC_FLUSH });
  response.on('error', () => plain.destroy()).on('close', () => plain.end());
  return response.pipe(plain).setEncoding('utf8');
}

async function* readBlocks(response) {
  let text = '';
  try {
    for await (const chunk of response) {
      text += chunk;
      const parts = text.split('\n\n');
      text = parts.pop();
      for (const part of parts) if (part !== '') yield parseBlock(part);
    }
  } catch (error) {
    if (!['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'Z_BUF_ERROR'].includes(error.code))
      throw error;
  }
}

export function parseBlock(text) {
  const block = {};
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    const name = colon === 0 ? 'comment' : colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    block[name] = block[name] === undefined ? value : `${block[name]}\n${value}`;
  }
  if (block.data !== undefined) block.json = JSON.parse(block.data);
  return block;
}

// ---- bytes

/**
 * Writes bytes to a fresh connection and reads what comes back until one answer is complete or the
 * server has closed: {status, headers, text, json} or, where there was no answer, {status:
 * undefined}. With `end` the client closes its side.
 */
export async function raw(server, bytes, { end = false } = {}) {
  const socket = net.connect({ host: server.hostname, port: Number(server.port) });
  let received = Buffer.alloc(0);
  const closed = new Promise((done) => {
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (parseAnswer(received).complete) done();
    });
    socket.on('error', () => {});
    socket.on('close', done);
  });
  socket.write(bytes);
  if (end) socket.end();
  try {
    await within(closed, 'an answer or the end of the connection');
  } finally {
    socket.destroy();
  }
  return parseAnswer(received);
}

export function parseAnswer(bytes) {
  const split = bytes.indexOf('\r\n\r\n');
  if (split < 0) return { status: undefined, complete: false };
  const [first, ...lines] = bytes.subarray(0, split).toString('latin1').split('\r\n');
  const headers = Object.fromEntries(lines.map((l) =>
    [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()]));
  const length = Number(headers['content-length'] ?? Infinity);
  const body = bytes.subarray(split + 4).subarray(0, length); // what follows is the next answer's
  const text = body.toString('utf8');
  const complete = body.length >= length;
  const isJson = complete && /json/.test(headers['content-type'] ?? '');
  const json = isJson ? JSON.parse(text) : undefined;
  return { status: Number(first.split(' ')[1]), headers, text, json, complete };
}

/** A request as bytes, with the headers that every request needs. */
export function bytes(server, method, path, body = '', headers = {}) {
  const all = {
    host: `${server.hostname}:${server.port}`, connection: 'close',
    ...(body.length ? { 'content-type': 'application/json',
      'content-length': Buffer.byteLength(body) } : {}),
    ...headers,
  };
  const head = Object.entries(all).filter(([, v]) => v !== undefined)
    .map(([k, v]) => `${k}: ${v}\r\n`).join('');
  return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\n${head}\r\n`, 'latin1'),
    Buffer.from(body)]);
}
