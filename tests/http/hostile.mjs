/*
 * What the tests of hostile clients share: connections that say what they like, and a witness, a
 * well-behaved client of the same server. After each attack the witness has to be served, its
 * stream has to fold, and the server has to be as small as before: connections, files, memory.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { after, afterEach, before } from 'node:test';
import { BIN, Server, until, within } from './harness.mjs';

const MIB = 1024 * 1024;
/** Sanitizers keep what was freed for a while, and are slow. */
export const SANITIZER = ['asan', 'tsan'].find((name) =>
  readFileSync(BIN).includes(`__${name}_init`));
/** Beyond what it has when it has settled. With a sanitizer that is its quarantine, mostly. */
const MORE_MEMORY = (SANITIZER ? 768 : 160) * MIB;
/** Files that may be open in addition: segments, a snapshot that is being read. */
const MORE_FILES = 8;

/** Bytes of the process that are in memory. */
export function residentBytes(pid) {
  return Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+) kB/)[1]) * 1024;
}

export const openFiles = (pid) => readdirSync(`/proc/${pid}/fd`).length;

/** A figure of the reactors, over all of them. */
export async function figure(server, name) {
  const { json } = await server.get('/v1/status', { check: false });
  return json.reactors.reduce((sum, reactor) => sum + reactor[name], 0);
}

/** A connection as bytes: what was said to it is in `text`, `closed` is a promise. */
export class Wire {
  constructor(server, { paused = false, host = server.hostname, localAddress } = {}) {
    this.socket = net.connect({ host, port: Number(server.port), localAddress });
    this.bytes = [];
    this.size = 0;
    this.ended = false;
    this.socket.on('error', () => {});
    this.connected = new Promise((done) =>
      this.socket.once('connect', done).once('close', done));
    this.closed = new Promise((done) =>
      this.socket.once('close', () => { this.ended = true; done(this); }));
    if (paused) this.socket.pause();
    else this.socket.on('data', (chunk) => { this.bytes.push(chunk); this.size += chunk.length; });
  }

  get text() { return Buffer.concat(this.bytes).toString('latin1'); }
  /** Statuses of the answers so far. */
  get statuses() {
    return [...this.text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((m) => Number(m[1]));
  }

  /** Resolves when the kernel has taken it, or when there is nobody to give it to. */
  say(bytes) {
    return new Promise((done) => {
      if (this.ended || this.socket.destroyed) return done();
      this.socket.once('close', done);
      this.socket.write(bytes, () => { this.socket.off('close', done); done(); });
    });
  }

  reset() { this.socket.resetAndDestroy(); return this; }
  close() { this.socket.destroy(); return this; }
  /** Until the server has closed it. */
  end(what) { return within(this.closed, `the end of a connection that ${what}`); }
  async answer() {
    await within(Promise.race([this.closed,
      until(() => this.statuses.length > 0, 'an answer')]), 'an answer, or the end');
    return this.statuses[0];
  }
}

/** `n` of them, of which `parallel` at a time: what each call gives. */
export async function many(n, parallel, action) {
  const results = [];
  let next = 0;
  const worker = async () => {
    while (next < n) {
      const i = next++;
      results[i] = await action(i);
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallel, n) }, worker));
  return results;
}

/**
 * Within `describe`: a server, and a client that has nothing to do with what is done to it. Behind
 * each test it is served, and the server is as small as it was.
 */
export function witnessed(args = []) {
  const server = new Server({ args });
  let sid;
  let stream;
  let said = 0;
  let first;

  before(async () => {
    await server.start();
    server.agent = new http.Agent(); // keeps none that the server may close while it is used again
    sid = await server.session();
    stream = server.stream(sid);
    await stream.equalsView();
    first = { files: openFiles(server.child.pid), memory: residentBytes(server.child.pid) };
  });
  after(() => server.stop());

  server.serves = async () => {
    const content = `still here ${++said}`;
    await server.say(sid, 'ann', content);
    await stream.equalsView();
    const { messages } = stream.state.threads.general;
    assert.equal(messages.at(-1).content, content);
  };

  afterEach(async () => {
    await server.serves();
    const { pid } = server.child;
    // The witness has its stream, and the connection of this very request.
    await until(async () => (await figure(server, 'connections')) <= 2,
      'connections that have ended to be gone');
    assert.equal(await figure(server, 'streams'), 1);
    assert.equal(await figure(server, 'sockets'), 0);
    assert.equal(await figure(server, 'waiting'), 0);
    await until(() => openFiles(pid) <= first.files + MORE_FILES,
      'files of connections that have ended to be closed');
    await until(() => residentBytes(pid) < first.memory + MORE_MEMORY,
      'memory to be given back');
  });

  return server;
}

/** The head of a request, without what it needs to be good. */
export const head = (server, line, ...headers) =>
  [`${line} HTTP/1.1`, `host: ${server.hostname}:${server.port}`, ...headers, '', ''].join('\r\n');

/** A WebSocket that has been opened, for frames of one's own. */
export async function openSocket(server, path, { paused = false } = {}) {
  const wire = new Wire(server);
  await wire.say(head(server, `GET ${path}`, 'connection: upgrade', 'upgrade: websocket',
    'sec-websocket-version: 13', 'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
    'sec-websocket-protocol: atoll.v1'));
  assert.equal(await wire.answer(), 101, wire.text);
  if (paused) wire.socket.pause();
  return wire;
}

/** A client's frame; what is not said is as it should be. */
export function frame(payload, { opcode = 1, final = true, masked = true, reserved = 0,
  length = Buffer.byteLength(payload) } = {}) {
  const body = Buffer.from(payload);
  const mask = Buffer.from([1, 2, 3, 4]);
  const first = (final ? 0x80 : 0) | reserved << 4 | opcode;
  const flag = masked ? 0x80 : 0;
  let start;
  if (length < 126) {
    start = Buffer.from([first, flag | length]);
  } else if (length < 65536) {
    start = Buffer.from([first, flag | 126, length >> 8, length & 0xff]);
  } else {
    start = Buffer.alloc(10);
    start[0] = first;
    start[1] = flag | 127;
    start.writeBigUInt64BE(BigInt(length), 2);
  }
  if (!masked) return Buffer.concat([start, body]);
  for (let i = 0; i < body.length; i++) body[i] ^= mask[i % 4];
  return Buffer.concat([start, mask, body]);
}
