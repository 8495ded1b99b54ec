/*
 * Two nodes of Atoll, tagged a and b, behind a load balancer: HAProxy or nginx, with the files of
 * deploy/ as they are but for addresses. And a load on them that must not notice it when a node is
 * restarted: `Load`.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Reader, Server, expect, newId, openEvents, remove, temporaryDirectory, until,
  within } from './harness.mjs';

const DEPLOY = fileURLToPath(new URL('../../deploy/', import.meta.url));
export const TAGS = ['a', 'b'];

/** A socket that listens on a port which was free. */
async function freePort() {
  const socket = net.createServer().listen(0, '127.0.0.1');
  await within(new Promise((done, fail) => socket.on('listening', done).on('error', fail)),
    'a free port');
  return socket;
}
const closed = (socket) => new Promise((done) => socket.close(done));

/** One replacement for each row of [what, by what]; fails where a row does not occur. */
function replaced(text, rows) {
  return rows.reduce((result, [what, by]) => {
    assert.ok(result.includes(what), `no ${what} in the configuration`);
    return result.replaceAll(what, by);
  }, text);
}

// What runs, for the sockets to listen on: for all, for a alone, for b alone.

/** Takes over the sockets: as 3, 4 and 5. */
function haproxy(directory, nodes, sockets) {
  const files = join(DEPLOY, 'haproxy');
  const env = {
    FILES: files, BIND: 'fd@3', BIND_A: 'fd@4', BIND_B: 'fd@5',
    ATOLL_A: `127.0.0.1:${nodes.a.port}`, ATOLL_B: `127.0.0.1:${nodes.b.port}`,
  };
  const command = ['haproxy', '-db', '-f', join(files, 'haproxy.cfg')];
  return { command, env, descriptors: sockets.map((s) => s._handle.fd) };
}

/** Binds by itself, so that the ports are free for a moment. */
async function nginx(directory, nodes, sockets) {
  const [all, a, b] = sockets.map((s) => s.address().port);
  await Promise.all(sockets.map(closed));
  const site = replaced(readFileSync(join(DEPLOY, 'nginx/atoll.conf'), 'utf8'), [
    ['atoll-a:8080', `127.0.0.1:${nodes.a.port}`], ['atoll-b:8080', `127.0.0.1:${nodes.b.port}`],
    ['listen 8080;', `listen 127.0.0.1:${all};`], ['listen 8081;', `listen 127.0.0.1:${a};`],
    ['listen 8082;', `listen 127.0.0.1:${b};`], [' 8081 ', ` ${a} `], [' 8082 ', ` ${b} `],
  ]);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${directory}/${name};`).join('\n');
  const file = join(directory, 'nginx.conf');
  writeFileSync(file, `daemon off;\nmaster_process off;\npid ${directory}/pid;
error_log stderr warn;\nevents { worker_connections 1024; }
http {\naccess_log off;\n${temporary}\n${site}\n}\n`);
  return { command: ['nginx', '-e', 'stderr', '-c', file], env: {}, descriptors: [] };
}

const BALANCERS = { haproxy, nginx };

/** What the tests of one server take for a server: only the front of something. */
function front(port) {
  const server = new Server();
  remove(server.directory);
  return Object.assign(server, { hostname: '127.0.0.1', port, url: `http://127.0.0.1:${port}`,
    agent: new http.Agent({ keepAlive: true, timeout: 5000 }) });
}

/**
 * Both nodes and the balancer: `a`, `b`, `all`, and `onlyA`, `onlyB`: the ports of one node. All
 * end with the test; the nodes have to end well.
 */
export async function twoNodes(t, kind, args = []) {
  const nodes = {};
  for (const tag of TAGS) {
    nodes[tag] = new Server({ args: ['--node-tag', tag, '--shards', '1', ...args] });
    await nodes[tag].start();
    t.after(() => nodes[tag].stop());
  }
  const directory = temporaryDirectory();
  const sockets = await Promise.all([freePort(), freePort(), freePort()]);
  const [all, onlyA, onlyB] = sockets.map((s) => front(s.address().port));
  const { command: [program, ...options], env, descriptors } =
    await BALANCERS[kind](directory, nodes, sockets);
  const child = spawn(program, options, { env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', ...descriptors] });
  await Promise.all(sockets.filter((s) => s.listening).map(closed));
  let said = '';
  child.stdout.on('data', (d) => (said += d));
  child.stderr.on('data', (d) => (said += d));
  const ended = new Promise((done) => {
    child.on('error', (error) => { said += error; done(); }).on('close', done);
  });
  t.after(async () => {
    [all, onlyA, onlyB].forEach((server) => server.hangUp());
    child.kill('SIGKILL');
    await ended;
    remove(directory);
  });
  await until(async () => {
    assert.ok(child.exitCode === null && child.pid, `${kind} did not start: ${said}`);
    const answer = await all.get('/readyz', { check: false }).catch(() => undefined);
    return answer?.status === 200;
  }, kind);
  return { ...nodes, all, onlyA, onlyB };
}

/** The tags of the nodes that have this session: one, if all is well. */
export async function holders(nodes, sid) {
  const found = [];
  for (const tag of TAGS) {
    const { status } = await nodes[tag].get(`/v1/sessions/${sid}`, { check: false });
    if (status === 200) found.push(tag);
    else assert.ok([404, 421].includes(status), `status ${status}`);
  }
  return found;
}

// ---- load

const SENDERS = ['ann', 'bob'];
const AGAIN_MS = 20; // sooner than Retry-After says, to see how long it lasts

/** One that says how often it was turned away, and how the requests were that were. */
class Client {
  constructor(load) {
    this.load = load;
  }

  /**
   * HAProxy closes a kept connection without a word where the node's was reset: as it is when a
   * node is killed, and never else.
   */
  unanswered(error, begun_ms) {
    if (error.code !== 'ECONNRESET' || !this.load.killed) throw error;
    this.load.lost.push({ begun_ms, ended_ms: performance.now() });
  }

  /** Whether this is a 503 as it should be; then it is counted, and some time has gone by. */
  async turnedAway({ status, headers, json }, begun_ms) {
    if (status !== 503) return false;
    assert.match(headers['retry-after'] ?? 'none', /^\d+$/, 'a 503 says when to come back');
    assert.equal(json.status, 503);
    this.load.refused.push({ begun_ms, ended_ms: performance.now() });
    await delay(AGAIN_MS);
    return true;
  }
}

/** Sends one message after the other, each with a key, until it is acknowledged. */
class Writer extends Client {
  async run(name) {
    const { all, sids, acknowledged } = this.load;
    for (let n = 0; !this.load.over; n++) {
      const content = `${name}-${n}`;
      const sid = sids[(n + name.length) % sids.length];
      const begun_ms = performance.now();
      for (;;) {
        const attempt_ms = performance.now();
        const answer = await all.post(`/v1/sessions/${sid}/threads/general/messages`,
          { sender: SENDERS[n % 2], content }, { headers: { 'idempotency-key': content } })
          .catch((error) => this.unanswered(error, attempt_ms));
        if (answer === undefined || await this.turnedAway(answer, attempt_ms)) continue;
        acknowledged.push({ sid, content, id: expect(answer, 201).json.id });
        break;
      }
      this.load.longest_ms = Math.max(this.load.longest_ms, performance.now() - begun_ms);
    }
  }
}

/** Watches a session, and comes back by its last id as often as it has to. */
class Watcher extends Client {
  constructor(load, sid) {
    super(load);
    this.sid = sid;
    this.fold = new Reader(load.all, sid);
    this.opened = 0;
  }

  async open() {
    const begun_ms = performance.now();
    const headers = this.fold.id === undefined ? {} : { 'last-event-id': this.fold.id };
    const wire = await openEvents(this.load.all, `/v1/sessions/${this.sid}/stream`, headers);
    if (await this.turnedAway(wire, begun_ms)) return false;
    this.fold.wire = expect(wire, 200);
    this.opened++;
    return true;
  }

  async run() {
    while (!this.load.over) {
      if (!await this.open()) continue;
      while (!this.load.over && await this.fold.read());
    }
    this.fold.close();
  }

  /** Fails unless it has folded everything, without a gap, a repeat or a reset. */
  async check() {
    while (!await this.open());
    await this.fold.equalsView();
    this.fold.close();
    const { snapshot, reset } = this.fold.counts;
    assert.deepEqual({ snapshot, reset }, { snapshot: 1, reset: 0 }, `the watcher of ${this.sid}`);
  }
}

/**
 * Writers and watchers of sessions on both nodes, half with ids that clients chose, through the
 * balancer; for as long as `during` takes.
 */
export class Load {
  constructor(nodes, { writers = 8, sessions = 12, watchers = 6 } = {}) {
    Object.assign(this, { nodes, all: nodes.all, counts: { writers, sessions, watchers },
      sids: [], acknowledged: [], refused: [], lost: [], longest_ms: 0, killed: false,
      over: false });
  }

  async prepare() {
    for (let n = 0; n < this.counts.sessions; n++) {
      const sid = n % 2 ? newId('load') : expect(await this.all.post('/v1/sessions', {}), 201)
        .headers.location.split('/').at(-1);
      if (n % 2) expect(await this.all.put(`/v1/sessions/${sid}`, {}), 201);
      const commands = [...SENDERS.map((agent) => ({ type: 'agent.register', agent })),
        { type: 'thread.create', thread: 'general', creator: 'ann', name: 'x',
          participants: SENDERS }];
      const { json } = expect(await this.all.lines(sid, commands), 200);
      assert.ok(json.results.every((r) => r.status === 200));
      this.sids.push(sid);
    }
    this.watchers = this.sids.slice(0, this.counts.watchers).map((sid) => new Watcher(this, sid));
    return this;
  }

  /** Waits for so many more messages that were acknowledged. */
  async more(count) {
    const goal = this.acknowledged.length + count;
    await until(() => this.failure || this.acknowledged.length >= goal, 'some load');
    if (this.failure) throw this.failure;
  }

  async during(action) {
    const writers = Array.from({ length: this.counts.writers }, () => new Writer(this));
    const clients = [...writers.map((w, n) => w.run(`w${'x'.repeat(n)}`)),
      ...this.watchers.map((w) => w.run())]
      .map((running) => running.catch((error) => { this.failure ??= error; this.over = true; }));
    try {
      return await action();
    } finally {
      this.over = true;
      this.watchers.forEach((w) => w.fold.wire?.close());
      await Promise.all(clients);
      if (this.failure) throw this.failure;
    }
  }

  /** Restarts a node under load: {down_ms}: from the signal until it says that it is ready. */
  async restart(tag, signal) {
    const node = this.nodes[tag];
    const signalled_ms = performance.now();
    this.killed = signal === 'SIGKILL';
    node.child.kill(signal);
    const end = await within(node.exited, `the end after ${signal}`);
    assert.deepEqual(end, this.killed ? { code: null, signal } : { code: 0, signal: null });
    node.hangUp();
    await node.start();
    const ready_ms = performance.now();
    return { signalled_ms, ready_ms, down_ms: ready_ms - signalled_ms };
  }

  /** Fails unless what was acknowledged is there once, in order and without a gap. */
  async check() {
    for (const sid of this.sids) {
      const [tag, ...others] = await holders(this.nodes, sid);
      assert.deepEqual(others, [], `${sid} is on one node`);
      const events = await this.nodes[tag].events(sid);
      events.forEach((event, n) => assert.equal(event.seq, n + 1, `seq without a gap in ${sid}`));
      const kept = new Map();
      for (const { type, content, id } of events.filter((e) => e.type === 'message.sent')) {
        assert.ok(!kept.has(content), `${type} ${content} is there twice`);
        kept.set(content, id);
      }
      const here = this.acknowledged.filter((a) => a.sid === sid);
      for (const { content, id } of here)
        assert.equal(kept.get(content), id, `${content} was acknowledged`);
      assert.equal(kept.size, here.length, 'and nothing else is there');
    }
    await Promise.all(this.watchers.map((w) => w.check()));
  }
}
