/*
 * MCP as a protocol: which revision a request is of, what each of them refuses and with which code,
 * and JSON-RPC's own rules. What the revisions say is in the specification; here stands what of it
 * can be seen from outside.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bytes, expect, raw, refused, serving } from './harness.mjs';
import { MODERN, Peer, RpcError, VERSIONS, agentPath, refusedRpc, send } from './mcp.mjs';

const PARSE = -32700, INVALID = -32600, METHOD = -32601, PARAMS = -32602;
const MISMATCH = -32020, VERSION = -32022;

describe('an MCP endpoint', () => {
  const server = serving({ args: ['--shards', '2'] });
  const fresh = async (version, options = {}) => {
    const sid = await server.session();
    return Peer.connect(server, agentPath(sid, 'ann', options.query), { version, ...options });
  };
  /** The JSON-RPC error that a POST of this gets, with this status. */
  async function errorOf(peer, body, status, headers) {
    const answer = await send(server, 'POST', peer.path, { body, headers });
    expect(answer, status);
    assert.match(answer.headers['content-type'], /^application\/json/);
    assert.equal(answer.json.jsonrpc, '2.0');
    return answer.json;
  }

  for (const version of VERSIONS)
    it(`greets in ${version}, with a session and what it can do`, async () => {
      const peer = await fresh(version);
      assert.equal(peer.version, version);
      const { serverInfo, capabilities, instructions } = peer.greeting;
      assert.equal(serverInfo.name, 'atoll');
      assert.ok(serverInfo.version);
      assert.match(instructions, /\w/);
      assert.match(peer.sessionId, /^[\x21-\x7e]+$/);
      assert.deepEqual(capabilities.resources, { subscribe: true, listChanged: true });
      for (const name of ['tools', 'prompts', 'logging', 'completions'])
        assert.ok(capabilities[name], name);
      assert.deepEqual(await peer.request('ping'), {});
      assert.ok((await peer.request('tools/list')).tools.length > 5);
    });

  it('names the newest revision with a greeting to who asks for one it does not know', async () => {
    const peer = await fresh('2025-11-25');
    for (const unknown of ['1999-01-01', '2030-01-01', '2026-07-28', 'x'])
      assert.equal((await peer.initialize({ version: unknown })).protocolVersion, '2025-11-25');
  });

  it('refuses an unknown revision in the header, and names those it speaks', async () => {
    for (const version of VERSIONS) {
      const peer = await fresh(version);
      const answer = await peer.post(peer.message('ping'),
        { headers: { 'mcp-protocol-version': '2031-01-01' } });
      assert.equal(expect(answer, 400).json.error.code, VERSION);
      for (const known of [...VERSIONS, MODERN])
        assert.ok(answer.text.includes(known), `${known} is not named: ${answer.text}`);
    }
  });

  it('takes a request without the header for one of its session\'s revision', async () => {
    const peer = await fresh('2025-11-25');
    const answer = await peer.post(peer.message('ping'),
      { headers: { 'mcp-protocol-version': undefined } });
    assert.deepEqual(expect(answer, 200).json.result, {});
  });

  it('wants a session of who is before 2026-07-28', async () => {
    const peer = await fresh('2025-11-25');
    const answer = await peer.post(peer.message('tools/list'),
      { headers: { 'mcp-session-id': undefined } });
    assert.match(expect(answer, 400).json.error.message, /Mcp-Session-Id|initialize/i);
  });

  describe('of 2026-07-28', () => {
    const modern = (options) => fresh(MODERN, options);

    it('answers without a session, whole, and says how long that is good', async () => {
      const peer = await modern();
      const message = peer.message('tools/list');
      const answer = expect(await peer.post(message), 200);
      assert.equal(answer.headers['mcp-session-id'], undefined);
      const { result } = answer.json;
      assert.equal(result.resultType, 'complete');
      assert.equal(result.cacheScope, 'private');
      assert.ok(Number.isInteger(result.ttlMs) && result.ttlMs >= 0);
      assert.equal(result._meta['io.modelcontextprotocol/serverInfo'].name, 'atoll');
    });

    it('tells by server/discover what it speaks and can do', async () => {
      const result = await (await modern()).request('server/discover');
      assert.deepEqual([...result.supportedVersions].sort(),
        [...new Set([...result.supportedVersions])].sort());
      assert.ok(result.supportedVersions.includes(MODERN), String(result.supportedVersions));
      assert.ok(result.capabilities.tools && result.capabilities.resources.subscribe);
      assert.equal(result.cacheScope, 'private');
      assert.match(result.instructions, /\w/);
    });

    it('knows no initialize, ping, logging/setLevel nor resources/subscribe', async () => {
      const peer = await modern();
      for (const method of ['initialize', 'ping', 'logging/setLevel', 'resources/subscribe',
        'resources/unsubscribe', 'nowhere', 'tools/Call'])
        await refusedRpc(peer.request(method), METHOD, /./, 404);
    });

    it('does not mind a session\'s header of the older ones', async () => {
      const peer = await modern();
      const answer = await peer.post(peer.message('tools/list'),
        { headers: { 'mcp-session-id': 'whatever' } });
      assert.equal(expect(answer, 200).headers['mcp-session-id'], undefined);
    });

    it('refuses headers that do not say what the body says', async () => {
      const peer = await modern();
      const call = peer.message('tools/call', { name: 'atoll_list_agents', arguments: {} });
      for (const headers of [
        { 'mcp-protocol-version': '2025-11-25' }, { 'mcp-protocol-version': undefined },
        { 'mcp-method': 'tools/list' }, { 'mcp-method': 'Tools/Call' },
        { 'mcp-method': undefined }, { 'mcp-name': 'atoll_wait' }, { 'mcp-name': undefined },
        { 'mcp-name': '=?base64?!?=' }, { 'mcp-name': '=?BASE64?YXRvbGxfbGlzdF9hZ2VudHM=?=' }]) {
        const answer = await peer.post(call, { headers });
        assert.equal(expect(answer, 400).json.error.code, MISMATCH, JSON.stringify(headers));
        assert.equal(answer.json.id, call.id);
      }
    });

    it('reads a name that a header had to encode', async () => {
      const peer = await modern();
      const name = Buffer.from('atoll_list_agents').toString('base64');
      const result = await peer.request('tools/call', { name: 'atoll_list_agents', arguments: {} },
        { headers: { 'mcp-name': `=?base64?${name}?=` } });
      assert.equal(result.isError ?? false, false);
    });

    it('names the revisions to who asks for another one', async () => {
      const peer = await modern();
      for (const version of ['2030-01-01', '1900-01-01', 'x']) {
        peer.version = MODERN;
        const message = peer.message('tools/list');
        message.params._meta['io.modelcontextprotocol/protocolVersion'] = version;
        const answer = await peer.post(message, { headers: { 'mcp-protocol-version': version } });
        const { error } = expect(answer, 400).json;
        assert.equal(error.code, VERSION);
        assert.equal(error.data.requested, version);
        assert.ok(error.data.supported.includes(MODERN), JSON.stringify(error.data));
      }
    });

    it('wants to be told what the client can do', async () => {
      const peer = await modern();
      const message = peer.message('tools/list');
      delete message.params._meta['io.modelcontextprotocol/clientCapabilities'];
      const answer = await peer.post(message);
      assert.equal(expect(answer, 400).json.error.code, PARAMS);
      assert.match(answer.json.error.message, /clientCapabilities/);
    });

    it('refuses a log level that there is not', async () => {
      const peer = await modern();
      await refusedRpc(peer.request('tools/list',
        { _meta: { 'io.modelcontextprotocol/logLevel': 'loud' } }), PARAMS, /loud|debug/);
    });

    it('takes no batch and no response', async () => {
      const peer = await modern();
      const headers = { 'mcp-protocol-version': MODERN, 'mcp-method': 'tools/list' };
      const batch = [peer.message('tools/list'), peer.message('tools/list')];
      assert.equal((await errorOf(peer, batch, 400, headers)).error.code, INVALID);
      const message = { jsonrpc: '2.0', id: 1, result: {} };
      assert.equal((await errorOf(peer, message, 400, headers)).error.code, INVALID);
    });

    it('has no GET stream and no DELETE without a session of the older ones', async () => {
      const peer = await modern();
      for (const method of ['GET', 'DELETE']) {
        const answer = await send(server, method, peer.path,
          { headers: { 'mcp-protocol-version': MODERN } });
        assert.equal(expect(answer, 405).headers.allow, 'POST');
      }
    });
  });

  it('goes by what _meta says, whatever the session was', async () => {
    const legacy = await fresh('2025-11-25');
    const modern = new Peer(server, legacy.path, { version: MODERN });
    assert.equal((await modern.request('tools/list')).resultType, 'complete');
    const headers = { 'mcp-session-id': legacy.sessionId };
    await refusedRpc(modern.request('ping', undefined, { headers }), METHOD, /./, 404);
    assert.equal((await legacy.request('tools/list')).resultType, undefined);
    assert.deepEqual(await legacy.request('ping'), {});
  });

  it('takes batches in 2025-03-26 and in no other', async () => {
    const peer = await fresh('2025-03-26');
    const [ping, list] = [peer.message('ping'), peer.message('tools/list')];
    const unknown = peer.message('nowhere');
    const note = peer.message('notifications/whatever', {}, null);
    const answer = expect(await send(server, 'POST', peer.path,
      { body: [ping, note, list, unknown, { jsonrpc: '2.0', id: null, method: 'ping' }],
        headers: peer.headers() }), 200);
    const messages = [];
    if (answer.streams) for (let m; (m = await answer.message());) messages.push(m);
    else messages.push(...answer.json);
    const of = (id) => messages.find((m) => m.id === id);
    assert.deepEqual(of(ping.id).result, {});
    assert.ok(of(list.id).result.tools.length > 0);
    assert.equal(of(unknown.id).error.code, METHOD);
    assert.equal(messages.filter((m) => m.error?.code === INVALID).length, 1);
    assert.equal(messages.length, 4, 'one answer for each request, none for the notification');

    const notes = await send(server, 'POST', peer.path, { body: [note, note],
      headers: peer.headers() });
    assert.equal(expect(notes, 202).text, '');
    assert.equal((await errorOf(peer, [], 400, peer.headers())).error.code, INVALID);
    const hello = peer.message('initialize', { protocolVersion: '2025-03-26', capabilities: {},
      clientInfo: { name: 'x', version: '1' } });
    assert.equal((await errorOf(peer, [hello], 400)).error.code, INVALID);

    for (const version of ['2025-06-18', '2025-11-25']) {
      const other = await fresh(version);
      const { error } = await errorOf(other, [other.message('ping')], 400, other.headers());
      assert.equal(error.code, INVALID);
      assert.match(error.message, /batch/i);
      assert.match(error.message, /2025-03-26/);
    }
  });

  it('refuses what is no JSON-RPC, and gives the id back where there is one', async () => {
    const peer = await fresh('2025-11-25');
    const headers = peer.headers();
    for (const body of ['', '{', '{"jsonrpc":"2.0","id":1,"method":"ping"', '\xff\xfe'])
      assert.equal((await errorOf(peer, Buffer.from(body, 'latin1'), 400, headers)).error.code,
        PARSE, body);
    for (const [message, id] of [[7], ['x'], [null], [{}], [{ jsonrpc: '2.0' }],
      [{ jsonrpc: '1.0', id: 1, method: 'ping' }, 1], [{ id: 2, method: 'ping' }, 2],
      [{ jsonrpc: '2.0', id: null, method: 'ping' }], [{ jsonrpc: '2.0', id: 1.5, method: 'ping' }],
      [{ jsonrpc: '2.0', id: true, method: 'ping' }], [{ jsonrpc: '2.0', id: [1], method: 'ping' }],
      [{ jsonrpc: '2.0', id: {}, method: 'ping' }], [{ jsonrpc: '2.0', id: 3, method: 7 }, 3],
      [{ jsonrpc: '2.0', id: 4, method: 'ping', params: [] }, 4],
      [{ jsonrpc: '2.0', id: 5, method: 'ping', params: 'x' }, 5]]) {
      const answer = await errorOf(peer, JSON.stringify(message), 400, headers);
      assert.equal(answer.error.code, INVALID, JSON.stringify(message));
      assert.equal(answer.id ?? undefined, id, JSON.stringify(message));
    }
    assert.deepEqual(await peer.request('ping'), {}, 'the session goes on');
  });

  it('gives ids back as they came', async () => {
    const peer = await fresh('2025-11-25');
    for (const id of [0, -1, 2 ** 53 - 1, '', '1', 'a "b" \\ é 😀', 'x'.repeat(200)]) {
      const answer = expect(await peer.post(peer.message('ping', {}, id)), 200);
      assert.deepEqual(answer.json, { jsonrpc: '2.0', id, result: {} });
    }
  });

  it('takes notifications with 202, and no answers to what it did not ask', async () => {
    const peer = await fresh('2025-11-25');
    for (const message of [
      { jsonrpc: '2.0', method: 'notifications/initialized' },
      { jsonrpc: '2.0', method: 'notifications/unheard-of', params: { a: [1] } },
      { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'never was' } },
      { jsonrpc: '2.0', method: 'notifications/roots/list_changed' }])
      assert.equal(expect(await peer.post(message), 202).text, '');
    for (const message of [{ jsonrpc: '2.0', id: 99, result: { late: true } },
      { jsonrpc: '2.0', id: 'x', error: { code: -1, message: 'no' } }])
      assert.match(expect(await peer.post(message), 400).json.error.message, /not open/);
  });

  it('refuses unknown methods, tools and prompts by their names', async () => {
    for (const version of [...VERSIONS, MODERN]) {
      const peer = await fresh(version);
      await refusedRpc(peer.request('tools/nowhere'), METHOD, /tools\/nowhere/);
      await refusedRpc(peer.request('tools/call', { name: 'atoll_fly', arguments: {} }), PARAMS,
        /atoll_fly/);
      await refusedRpc(peer.request('prompts/get', { name: 'nobody' }), PARAMS, /nobody/);
      for (const params of [{}, { name: 7 }, { name: 'atoll_list_agents', arguments: [] },
        { name: 'atoll_list_agents', arguments: 'x' }]) {
        const headers = peer.modern ? { 'mcp-name': params.name && String(params.name) } : {};
        await peer.request('tools/call', params, { headers }).then(() => assert.fail('taken'),
          (error) => {
            assert.ok(error instanceof RpcError, error.stack);
            assert.ok([PARAMS, MISMATCH].includes(error.code), error.message);
          });
      }
    }
  });

  it('refuses cursors and levels that it did not give', async () => {
    const peer = await fresh('2025-11-25');
    await refusedRpc(peer.request('tools/list', { cursor: 'junk' }), PARAMS, /cursor/);
    await refusedRpc(peer.request('logging/setLevel', { level: 'loud' }), PARAMS, /loud|debug/);
    await refusedRpc(peer.request('logging/setLevel'), PARAMS, /level/);
    assert.deepEqual(await peer.request('logging/setLevel', { level: 'warning' }), {});
  });

  it('is closed to other Hosts and Origins', async () => {
    const peer = await fresh('2025-11-25');
    const modern = new Peer(server, peer.path, { version: MODERN });
    for (const path of [peer.path, '/mcp', `${peer.path.replace(/mcp$/, 'sse')}`])
      for (const method of ['POST', 'GET', 'DELETE'])
        for (const headers of [{ host: 'evil.example' }, { origin: 'http://evil.example' }]) {
          const body = method === 'POST' ? peer.message('ping') : undefined;
          const answer = await send(server, method, path,
            { body, headers: { ...peer.headers(), ...headers } });
          refused(answer, 403, headers.host ? 'forbidden-host' : 'forbidden-origin');
        }
    expect(await modern.post(modern.message('tools/list'),
      { headers: { origin: 'http://evil.example' } }), 403);
    expect(await modern.post(modern.message('tools/list'), { headers: { origin: server.url } }),
      200);
  });

  it('wants JSON, and answers in JSON whoever takes no events', async () => {
    const peer = await fresh('2025-11-25');
    for (const type of ['text/plain', 'application/x-ndjson', undefined])
      expect(await peer.post(peer.message('ping'), { headers: { 'content-type': type } }), 415);
    for (const accept of ['*/*', 'text/event-stream,application/json;q=0.5', 'application/json'])
      assert.deepEqual(expect(await peer.post(peer.message('ping'), { headers: { accept } }), 200)
        .json.result, {});
    const message = peer.message('tools/call', { name: 'atoll_wait', arguments: { wait_s: 1 },
      _meta: { progressToken: 1 } });
    const wait = expect(await peer.post(message, { headers: { accept: 'application/json' } }), 200);
    assert.deepEqual(wait.json.result.structuredContent.messages, []);
    expect(await peer.listen({ headers: { accept: 'application/json' } }), 406);
  });

  it('says which methods it knows', async () => {
    const sid = await server.session();
    for (const path of [agentPath(sid, 'ann'), '/mcp'])
      for (const method of ['PUT', 'PATCH']) {
        const answer = expect(await send(server, method, path, { body: {} }), 405);
        assert.deepEqual(answer.headers.allow.split(', ').sort(), ['DELETE', 'GET', 'POST']);
      }
  });

  it('holds to the limit of a body', async () => {
    const peer = await fresh('2025-11-25');
    const answer = await peer.post(peer.message('ping', { x: 'x'.repeat(1 << 20) }))
      .catch((error) => error);
    if (answer instanceof Error) assert.match(answer.code, /EPIPE|ECONNRESET/);
    else expect(answer, 413);
    assert.deepEqual(await peer.request('ping'), {});
  });

  it('survives bytes that are no request', async () => {
    const peer = await fresh('2025-11-25');
    const deep = `${'['.repeat(5000)}${']'.repeat(5000)}`;
    for (const body of [deep, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${deep}}`,
      '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
      '{"jsonrpc":"2.0","id":1e999,"method":"ping"}']) {
      const answer = await raw(server,
        bytes(server, 'POST', peer.path, body, { accept: '*/*', ...peer.headers() }));
      assert.equal(answer.status, 400, answer.text);
      assert.ok([PARSE, INVALID].includes(answer.json.error.code), answer.text);
    }
    assert.deepEqual(await peer.request('ping'), {});
  });

  it('has for every path the same ids as the rest of Atoll', async () => {
    for (const path of ['/v1/sessions/~x/agents/ann/mcp', '/v1/sessions/s/agents/a%20b/mcp',
      '/v1/sessions/s/agents/-/mcp'])
      expect(await send(server, 'POST', path, { body: {} }), 400);
  });
});
