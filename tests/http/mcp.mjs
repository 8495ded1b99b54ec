/*
 * A client of MCP that knows nothing but the wire, for tests that have to see statuses, headers and
 * single events; the official SDKs stand beside it where they can say the same. Each request goes
 * over a connection of its own, so that with several shards every reactor comes to serve.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import { checkAnswer, expect, within } from './harness.mjs';

export const VERSIONS = ['2025-03-26', '2025-06-18', '2025-11-25'];
export const MODERN = '2026-07-28';
const BOTH = 'application/json, text/event-stream';
const META = 'io.modelcontextprotocol/';

export const agentPath = (sid, agent, query = '') =>
  `/v1/sessions/${sid}/agents/${agent}/mcp${query}`;

/** One server-sent event as it came: {event, id, retry, data, comment}; `data` may be empty. */
function parseEvent(text) {
  const event = {};
  for (const line of text.split(/\r?\n/)) {
    const [, name, value = ''] = line.match(/^([^:]*)(?:: ?(.*))?$/s);
    const key = name === '' ? 'comment' : name;
    event[key] = event[key] === undefined ? value : `${event[key]}\n${value}`;
  }
  return event;
}

async function* eventsOf(response) {
  let text = '';
  try {
    for await (const chunk of response.setEncoding('utf8')) {
      text += chunk;
      const parts = text.split(/\r?\n\r?\n/);
      text = parts.pop();
      for (const part of parts) if (part !== '') yield parseEvent(part);
    }
  } catch (error) {
    if (!['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(error.code)) throw error;
  }
}

/** An answer whose head is there. A stream is read event by event, anything else as a whole. */
export class Answer {
  /** Of a `request`, if given, checked against web/openapi.yaml as every answer is. */
  static async of(server, response, request) {
    const answer = new Answer();
    Object.assign(answer, { response, status: response.statusCode, headers: response.headers });
    answer.streams = response.headers['content-type']?.startsWith('text/event-stream') ?? false;
    server.streams.add(answer);
    response.once('close', () => server.streams.delete(answer));
    response.on('error', () => {});
    if (answer.streams) {
      answer.events = eventsOf(response);
    } else {
      answer.text = Buffer.concat(await response.toArray()).toString('utf8');
      if (/json/.test(response.headers['content-type'] ?? '') && answer.text !== '')
        answer.json = JSON.parse(answer.text);
    }
    if (request) checkAnswer(request, answer);
    return answer;
  }

  /** The next event but for comments; undefined: the server has closed. */
  async event() {
    for (;;) {
      const { value } = await within(this.events.next(), 'the next event of an MCP stream');
      if (value === undefined) return undefined;
      if (value.id) this.lastId = value.id;
      if (value.event || value.data !== undefined || value.id) return value;
    }
  }

  /** The next JSON-RPC message; undefined: there is none any more. */
  async message() {
    if (!this.streams) {
      const { json } = this;
      this.json = undefined;
      return json;
    }
    for (;;) {
      const event = await this.event();
      if (event === undefined) return undefined;
      if (event.data) {
        const message = JSON.parse(event.data);
        assert.equal(message.jsonrpc, '2.0', event.data);
        return message;
      }
    }
  }

  /** The first message from here on that `wanted` likes; what came before it is in `passed`. */
  async find(wanted, what = String(wanted)) {
    this.passed = [];
    for (;;) {
      const message = await this.message();
      assert.ok(message, `the stream ended before ${what}; passed: ${JSON.stringify(this.passed)}`);
      if (wanted(message)) return message;
      this.passed.push(message);
    }
  }

  /** The answer to the request `id`, and that the stream ends behind it. */
  async result(id) {
    const message = await this.find((m) => m.id === id && m.method === undefined,
      `the answer to request ${id}`);
    if (this.streams) assert.equal(await this.message(), undefined, 'nothing behind the answer');
    return message;
  }

  close() { this.response.destroy(); }
}

/**
 * One request over a fresh connection: resolves when the head of the answer is there. With
 * `ends_ms` the client closes its side so long after it has asked, and reads what still comes.
 */
export function send(server, method, path, { body, headers = {}, ends_ms, check = true } = {}) {
  const text = body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body
    : JSON.stringify(body);
  const all = Object.fromEntries(Object.entries({
    ...(text === undefined ? {} : { 'content-type': 'application/json',
      'content-length': Buffer.byteLength(text) }),
    accept: method === 'GET' ? 'text/event-stream' : BOTH,
    ...(server.token && { authorization: `Bearer ${server.token}` }),
    ...headers,
  }).filter(([, value]) => value !== undefined));
  const answered = new Promise((done, fail) => {
    const request = http.request({ host: server.hostname, port: server.port, agent: false, method,
      path, headers: all }, done);
    request.on('error', fail);
    request.end(text, () => {
      if (ends_ms !== undefined) setTimeout(() => request.socket.end(), ends_ms);
    });
  }).then((response) => Answer.of(server, response,
    check && { method, path, body: text, type: all['content-type'] }));
  return within(answered, `an answer to ${method} ${path}`, 70_000);
}

export class RpcError extends Error {
  constructor(error, status) {
    super(`${error.code}: ${error.message}`);
    Object.assign(this, error, { status });
  }
}

let ids = 0;

/**
 * A client that speaks one revision at one path. `initialize` first, before 2026-07-28; then
 * `request` and `call` give results, or throw an RpcError; `post` gives the bare Answer.
 */
export class Peer {
  constructor(server, path, { version = '2025-11-25', capabilities = {}, sessionId } = {}) {
    Object.assign(this, { server, path, version, capabilities, sessionId });
  }

  static async connect(server, path, options) {
    const peer = new Peer(server, path, options);
    if (!peer.modern) await peer.initialize();
    return peer;
  }

  get modern() { return this.version >= MODERN; }

  headers(method, params) {
    if (!this.modern)
      return {
        ...(this.sessionId && { 'mcp-session-id': this.sessionId }),
        ...(this.version > '2025-03-26' && { 'mcp-protocol-version': this.version }),
      };
    const name = params?.name ?? params?.uri;
    return { 'mcp-protocol-version': this.version, 'mcp-method': method,
      ...(name !== undefined && { 'mcp-name': name }) };
  }

  /** A message as this revision wants it; a notification where `id` is null. */
  message(method, params, id = ++ids) {
    const meta = this.modern && {
      [`${META}protocolVersion`]: this.version,
      [`${META}clientInfo`]: { name: 'tests', version: '1' },
      [`${META}clientCapabilities`]: this.capabilities,
    };
    const all = meta ? { ...params, _meta: { ...meta, ...params?._meta } } : params;
    return { jsonrpc: '2.0', ...(id !== null && { id }), method, ...(all && { params: all }) };
  }

  post(message, { headers = {}, ends_ms } = {}) {
    return send(this.server, 'POST', this.path, { body: message, ends_ms,
      headers: { ...this.headers(message.method, message.params), ...headers } });
  }

  async initialize({ version = this.version } = {}) {
    const hello = { jsonrpc: '2.0', id: ++ids, method: 'initialize', params: {
      protocolVersion: version, capabilities: this.capabilities,
      clientInfo: { name: 'tests', version: '1' } } };
    const answer = expect(await send(this.server, 'POST', this.path, { body: hello }), 200);
    const { result, error } = await answer.result(hello.id);
    if (error) throw new RpcError(error, answer.status);
    this.version = result.protocolVersion;
    this.sessionId = answer.headers['mcp-session-id'];
    this.greeting = result;
    await this.notify('notifications/initialized');
    return result;
  }

  async notify(method, params, options) {
    const answer = await this.post(this.message(method, params, null), options);
    assert.equal(expect(answer, 202).text, '');
  }

  /** The result of a request; what came before it goes to `on`. */
  async request(method, params, { on, ...options } = {}) {
    const message = this.message(method, params);
    const answer = await this.post(message, options);
    if (!answer.streams && answer.json === undefined)
      assert.fail(`${method}: ${answer.status} ${answer.text}`);
    const { result, error } = await answer.result(message.id);
    answer.passed?.forEach((m) => on?.(m));
    if (error) throw new RpcError(error, answer.status);
    assert.equal(answer.status, 200);
    return result;
  }

  /** What a tool gives; an error of the tool is thrown as {tool, message}. */
  async call(name, args = {}, options) {
    const result = await this.request('tools/call', { name, arguments: args }, options);
    if (result.isError) throw Object.assign(new Error(result.content[0].text), { tool: name });
    return result.structuredContent;
  }

  /** Begins a tool's call and returns when the answer has begun: a wait, say. */
  async begin(name, args = {}, options) {
    const message = this.message('tools/call', { name, arguments: args,
      ...(options?.progressToken && { _meta: { progressToken: options.progressToken } }) });
    const answer = await this.post(message, options);
    return Object.assign(answer, { requestId: message.id });
  }

  /** The GET stream. */
  listen({ lastEventId, headers = {} } = {}) {
    return send(this.server, 'GET', this.path, { headers: { ...this.headers(),
      ...(lastEventId !== undefined && { 'last-event-id': lastEventId }), ...headers } });
  }

  delete() { return send(this.server, 'DELETE', this.path, { headers: this.headers() }); }
}

/** Fails unless `action` is refused with this JSON-RPC error; the error. */
export async function refusedRpc(action, code, pattern = /./, status) {
  const error = await action.then(() => assert.fail('it was not refused'), (e) => e);
  assert.ok(error instanceof RpcError, error.stack);
  assert.equal(error.code, code, error.message);
  assert.match(error.message, pattern);
  if (status !== undefined) assert.equal(error.status, status, error.message);
  return error;
}

/** Fails unless a tool refuses with a text like that. */
export async function refusedTool(action, pattern) {
  const error = await action.then(() => assert.fail('it was not refused'), (e) => e);
  assert.ok(error.tool, error.stack);
  assert.match(error.message, pattern);
  return error.message;
}
