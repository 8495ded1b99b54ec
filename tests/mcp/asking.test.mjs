/*
 * What only tools that ask or log can show, so by the suite's fixtures: requests of the server to
 * its client, whose answers may come on any connection and any reactor; how they end when nobody
 * can answer any more; and a session's log level, which outlives a crash.
 */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

// The harness takes the program to be run from there.
const HERE = fileURLToPath(new URL('.', import.meta.url));
const atoll = process.env.ATOLL_BIN ?? join(HERE, '../../build/atoll');
process.env.ATOLL_BIN = join(dirname(atoll), 'tests/atoll_conformance');
const { expect, serve, serving } = await import('../http/harness.mjs');
const { MODERN, Peer, agentPath, refusedRpc } = await import('../http/mcp.mjs');

const SAMPLING = { capabilities: { sampling: {}, elicitation: {} } };
const sampled = (text) => ({ role: 'assistant', model: 'm', content: { type: 'text', text } });
const asks = (m) => m.method === 'sampling/createMessage';
const logs = (m) => m.method === 'notifications/message';

/** Calls the tool that asks for a sample: its stream, and what it asks. */
async function ask(peer) {
  const stream = expect(await peer.begin('test_sampling', { prompt: 'Well?' }), 200);
  const request = await stream.find(asks);
  return { stream, request };
}

describe('a request of the server to its client', () => {
  const server = serving({ args: ['--shards', '2'] });
  const connect = (options) => Peer.connect(server, '/mcp', { ...SAMPLING, ...options });

  it('is answered on any connection', async () => {
    const peer = await connect();
    for (let n = 0; n < 10; n++) {
      const { stream, request } = await ask(peer);
      expect(await peer.post({ jsonrpc: '2.0', id: request.id, result: sampled(`answer ${n}`) }),
        202);
      const { result } = await stream.result(stream.requestId);
      assert.match(result.content[0].text, new RegExp(`answer ${n}`));
    }
  });

  it('is told when the client refuses', async () => {
    const peer = await connect();
    const { stream, request } = await ask(peer);
    expect(await peer.post({ jsonrpc: '2.0', id: request.id,
      error: { code: -1, message: 'The user said no.' } }), 202);
    const { result, error } = await stream.result(stream.requestId);
    assert.match(error?.message ?? result.content[0].text, /The user said no\./);
  });

  it('is answered by nobody but its own session', async () => {
    const [peer, other] = [await connect(), await connect()];
    const { stream, request } = await ask(peer);
    const answer = (who, text) =>
      who.post({ jsonrpc: '2.0', id: request.id, result: sampled(text) });
    assert.ok([202, 400, 403, 404].includes((await answer(other, 'forged')).status));
    expect(await answer(peer, 'true'), 202);
    const { result } = await stream.result(stream.requestId);
    assert.match(result.content[0].text, /true/);
    assert.ok((await answer(peer, 'late')).status < 500, 'a second answer does no harm');
  });

  it('is not made of a client that cannot answer', async () => {
    const peer = await connect({ capabilities: {} });
    const message = peer.message('tools/call',
      { name: 'test_sampling', arguments: { prompt: 'Well?' } });
    const { result, error } = await (await peer.post(message)).result(message.id);
    assert.ok(error || result.isError, JSON.stringify(result));
    assert.match(error?.message ?? result.content[0].text, /sampl/i);
  });

  it('ends with the call that asked, when that is cancelled', async () => {
    const peer = await connect();
    const { stream, request } = await ask(peer);
    await peer.notify('notifications/cancelled', { requestId: stream.requestId });
    for (let m; (m = await stream.message());) assert.notEqual(m.id, stream.requestId);
    assert.ok((await peer.post({ jsonrpc: '2.0', id: request.id, result: sampled('late') }))
      .status < 500);
    assert.deepEqual(await peer.request('ping'), {});
  });
});

describe('a crash', () => {
  it('ends what was asked of a client, and says so', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const sid = await server.session();
    const peer = await Peer.connect(server, agentPath(sid, 'ann'), SAMPLING);
    const { stream, request } = await ask(peer);
    assert.ok(stream.lastId);
    await server.kill();
    await server.start();
    const again = expect(await peer.listen({ lastEventId: stream.lastId }), 200);
    const { error } = await again.result(stream.requestId);
    assert.match(error.message, /again|lost|restart/i);
    const late = await peer.post({ jsonrpc: '2.0', id: request.id, result: sampled('late') });
    assert.ok([202, 400, 404].includes(late.status), late.text);
    assert.deepEqual(await peer.request('ping'), {});
  });

  it('leaves the log level of a session as it was set', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const sid = await server.session();
    const [loud, quiet] = [await Peer.connect(server, agentPath(sid, 'ann')),
      await Peer.connect(server, agentPath(sid, 'ann'))];
    await loud.request('logging/setLevel', { level: 'debug' });
    await quiet.request('logging/setLevel', { level: 'error' });
    const heard = async (peer) => {
      const notes = [];
      await peer.request('tools/call', { name: 'test_tool_with_logging' },
        { on: (m) => logs(m) && notes.push(m.params.level) });
      return notes;
    };
    for (let life = 0; life < 2; life++) {
      assert.deepEqual(await heard(loud), ['info', 'info', 'info']);
      assert.deepEqual(await heard(quiet), []);
      await server.kill();
      await server.start();
    }
    const modern = new Peer(server, agentPath(sid, 'ann'), { version: MODERN });
    assert.deepEqual(await heard(modern), [], 'none that were not asked for');
    await refusedRpc(modern.request('logging/setLevel', { level: 'debug' }), -32601, /./, 404);
  });
});
