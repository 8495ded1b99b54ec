/*
 * The transport of 2024-11-05, HTTP with server-sent events, for agents that know no newer one: a
 * stream whose first event names where to POST, and on which every answer comes.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { EventSource } from 'eventsource';
import { expect, serve, serving, until, within } from './harness.mjs';
import { send } from './mcp.mjs';

const ssePath = (sid, agent, query = '') => `/v1/sessions/${sid}/agents/${agent}/sse${query}`;

/** The stream, and where to POST. */
async function open(server, path) {
  const stream = expect(await send(server, 'GET', path), 200);
  const first = await stream.event();
  assert.equal(first.event, 'endpoint');
  const endpoint = new URL(first.data, server.url);
  assert.equal(endpoint.origin, server.url, 'of the same origin');
  const post = (body, options) =>
    send(server, 'POST', endpoint.pathname + endpoint.search, { body, ...options });
  const say = async (body, options) => expect(await post(body, options), 202);
  return { stream, endpoint, post, say,
    async request(id, method, params) {
      await say({ jsonrpc: '2.0', id, method, ...(params && { params }) });
      const answer = await stream.find((m) => m.id === id);
      return answer.result ?? answer.error;
    } };
}
const HELLO = { protocolVersion: '2024-11-05', capabilities: {},
  clientInfo: { name: 'old', version: '0' } };

describe('the older transport', () => {
  const server = serving({ args: ['--shards', '2'] });

  it('serves the SDK\'s own client of it', async (t) => {
    const sid = await server.session();
    const client = new Client({ name: 'tests', version: '1' });
    const told = [];
    client.fallbackNotificationHandler = async (note) => told.push(note.params?.uri);
    await client.connect(new SSEClientTransport(new URL(ssePath(sid, 'ann'), server.url)));
    t.after(() => client.close());
    assert.ok((await client.listTools()).tools.length > 5);
    await client.ping();
    const waiting = client.callTool({ name: 'atoll_wait', arguments: {} });
    await until(async () => (await server.total('waiting')) === 1, 'it waits');
    await server.say(sid, 'bob', 'hello');
    const { structuredContent } = await waiting;
    assert.deepEqual(structuredContent.messages.map((m) => m.content), ['hello']);
    const uri = `atoll://sessions/${sid}/threads/general`;
    await client.subscribeResource({ uri });
    await server.say(sid, 'bob', 'again');
    await until(() => told.includes(uri), 'the notification');
  });

  it('serves Coral\'s names too', async (t) => {
    const sid = await server.session();
    const client = new Client({ name: 'tests', version: '1' });
    await client.connect(new SSEClientTransport(
      new URL(ssePath(sid, 'ann', '?tools=coral'), server.url)));
    t.after(() => client.close());
    const wait = () => client.callTool({ name: 'coral_wait_for_message',
      arguments: { currentUnixTime: Date.now(), maxWaitMs: 50_000 } });
    for (const content of ['1', '2']) await server.say(sid, 'bob', content);
    assert.equal((await wait()).structuredContent.message.text, '1');
    assert.equal((await wait()).structuredContent.message.text, '2');
  });

  it('is an event stream for any EventSource', async (t) => {
    const sid = await server.session();
    const source = new EventSource(server.url + ssePath(sid, 'ann'));
    t.after(() => source.close());
    const next = (name) => within(new Promise((done) =>
      source.addEventListener(name, (e) => done(e.data), { once: true })), `the event ${name}`);
    const endpoint = new URL(await next('endpoint'), server.url);
    const answer = next('message');
    expect(await send(server, 'POST', endpoint.pathname + endpoint.search,
      { body: { jsonrpc: '2.0', id: 1, method: 'initialize', params: HELLO } }), 202);
    const { result } = JSON.parse(await answer);
    assert.equal(result.protocolVersion, '2024-11-05');
    assert.equal(result.serverInfo.name, 'atoll');
  });

  it('takes what is POSTed on any connection, whatever reactor that comes to', async () => {
    const sid = await server.session();
    const { request } = await open(server, ssePath(sid, 'ann'));
    assert.equal((await request(0, 'initialize', HELLO)).protocolVersion, '2024-11-05');
    for (let n = 1; n < 16; n++) assert.deepEqual(await request(n, 'ping'), {});
  });

  it('cancels a wait, by a message or by going', async () => {
    const sid = await server.session();
    const { stream, say, request } = await open(server, ssePath(sid, 'ann'));
    await request(1, 'initialize', HELLO);
    const nobody = () => until(async () => (await server.total('waiting')) === 0, 'no wait');
    const wait = async (id) => {
      await say({ jsonrpc: '2.0', id, method: 'tools/call',
        params: { name: 'atoll_wait', arguments: {} } });
      await until(async () => (await server.total('waiting')) === 1, 'it waits');
    };
    await wait('w1');
    await say({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'w1' } });
    await nobody();
    await wait('w2');
    stream.close();
    await nobody();
  });

  it('says on the stream what was wrong with a message', async () => {
    const sid = await server.session();
    const { stream, say, request } = await open(server, ssePath(sid, 'ann'));
    await request(1, 'initialize', HELLO);
    for (const [body, code] of [['{', -32700],
      [[{ jsonrpc: '2.0', id: 2, method: 'ping' }], -32600],
      [{ jsonrpc: '2.0', id: null, method: 'ping' }, -32600],
      [{ jsonrpc: '2.0', id: 3, method: 'nowhere' }, -32601]]) {
      await say(body, { check: body !== '{' }); // no document allows it, but it is heard out
      assert.equal((await stream.find((m) => m.error)).error.code, code, JSON.stringify(body));
    }
    assert.deepEqual(await request(4, 'ping'), {});
  });

  it('refuses what is POSTed for a stream that is not there', async () => {
    const sid = await server.session();
    const { stream, endpoint, post } = await open(server, ssePath(sid, 'ann'));
    const ping = { jsonrpc: '2.0', id: 1, method: 'ping' };
    const forged = new URL(endpoint);
    for (const [name, value] of forged.searchParams)
      forged.searchParams.set(name, `${value.slice(0, -2)}${value.endsWith('AA') ? 'BB' : 'AA'}`);
    expect(await send(server, 'POST', forged.pathname + forged.search, { body: ping }), 404);
    stream.close();
    await until(async () => (await post(ping)).status === 404, 'the stream is gone');
  });
});

describe('the older transport, over a restart', () => {
  it('ends its streams, and its clients begin anew', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const sid = await server.session();
    const before = await open(server, ssePath(sid, 'ann'));
    await before.request(1, 'initialize', HELLO);
    await server.restart();
    const answer = await before.post({ jsonrpc: '2.0', id: 2, method: 'ping' });
    expect(answer, 404);
    const { request } = await open(server, ssePath(sid, 'ann'));
    assert.equal((await request(1, 'initialize', HELLO)).protocolVersion, '2024-11-05');
  });
});
