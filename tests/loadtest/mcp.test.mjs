/*
 * atoll-load's modes of MCP: each finds nothing wrong with a real server, and what is wrong with one
 * that does not keep its word it does find.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { start } from '../http/harness.mjs';
import { Liar } from './liar.mjs';
import { SHORT, bad, checked, good, load } from './harness.mjs';

const isCall = (request, tool) =>
  request.path.endsWith('/mcp') && request.body.includes(`"name":"${tool}"`);
const isSend = (request) => isCall(request, 'atoll_send_message');
const isWait = (request) => isCall(request, 'atoll_wait');
const isModern = ({ headers }) => headers['mcp-protocol-version'] === '2026-07-28';
const ack = ({ body }) => JSON.parse(body).params.arguments.ack;

/** What a tool would have answered. */
const answer = ({ body }, structuredContent, more) => ({ status: 200, body: JSON.stringify({
  jsonrpc: '2.0', id: JSON.parse(body).id, result: { content: [], structuredContent, ...more } }) });
const sent = (request) => answer(request, { message: 'm999999', thread: 'work', seq: 999999 });

let server, url;
before(async () => {
  server = await start({ args: ['--shards', '1'] });
  url = server.url;
});
after(() => server.stop());

describe('mcp', { concurrency: false }, () => {
  const mcp = (where, prefix, ...more) => ['mcp', '--url', where, '--prefix', prefix,
    '--connections', '4', '--sessions', '3', '--seconds', '1', '--warmup', '0.1', '--slice', '0.05',
    '--quiet', ...more];

  it('sends by REST and by both generations of MCP, and reads all back', async () => {
    const report = await good(...mcp(url, 'all', '--pid', String(server.child.pid)));
    const { figures, latency } = report;
    for (const form of ['rest', 'modern', 'older']) {
      assert.ok(figures[`${form}_per_s`] > 0 && figures[`${form}_cpu_us`] > 0, form);
      assert.ok(latency[`${form}_us`].n > 0, form);
    }
    for (const form of ['modern', 'older'])
      assert.ok(Math.abs(figures[`${form}_ratio`] * figures.rest_per_s - figures[`${form}_per_s`])
        < 1e-3 * figures.rest_per_s, form);
    assert.equal(checked(report, 'messages read back'), figures.acknowledged);
    assert.equal(checked(report, 'sessions read back'), 3);
  });

  const lies = {
    'a message that is acknowledged by MCP and not kept': [{
      asked: (liar, request) => isSend(request) && isModern(request) && liar.now(5) && sent(request),
    }, /messages are acknowledged and not there/],
    'a message that is kept twice': [{
      answered: (liar, request) => {
        if (isSend(request) && !isModern(request) && liar.now(5))
          liar.ask({ ...request }, { on() {}, writeHead: () => ({ end() {} }) });
      },
    }, /messages are there more than once/],
    'a refusal of the tool': [{
      asked: (liar, request) => isSend(request) && isModern(request) && liar.now(5) &&
        answer(request, undefined, { isError: true }),
    }, /messages by MCP 2026-07-28 were not acknowledged: the first 200 /],
    'an error of the protocol': [{
      asked: (liar, request) => isSend(request) && !isModern(request) && liar.now(5) &&
        { status: 200, body: '{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}' },
    }, /messages by MCP 2025-11-25 were not acknowledged: the first 200 .*-32603/],
  };
  for (const [i, [what, [lie, problem]]] of Object.entries(lies).entries()) {
    it(`finds ${what}`, async (t) => {
      const liar = await new Liar(lie).start(t, url);
      assert.match(await bad(...mcp(liar.url, `lie${i}-`)), problem);
    });
  }

  it('says so where a form had no time', async () => {
    const { code, stderr } = await load(...mcp(url, 'short', '--slice', '1'));
    assert.equal(code, 2);
    assert.match(stderr, /--seconds is 1, and each of 3 forms needs 3 slices of 1 s/);
  });

  it('has no open loop', async () => {
    const { code, stderr } = await load(...mcp(url, 'open', '--rate', '5'));
    assert.equal(code, 2);
    assert.match(stderr, /mode mcp has no --rate/);
  });
});

describe('mcp-wait', { concurrency: false }, () => {
  const wait = (where, ...more) => ['mcp-wait', '--url', where, '--prefix', 'mcpwait', ...SHORT,
    '--agents', '12', '--sessions', '4', ...more];

  for (const revision of ['modern', 'older']) {
    it(`wakes each agent with what mentions it: ${revision}`, async () => {
      const report = await good(...wait(url, '--pid', String(server.child.pid),
        '--revision', revision));
      const { figures, latency } = report;
      assert.ok(figures.operations >= 1);
      assert.equal(typeof figures.agent_bytes, 'number');
      assert.equal(latency.woken_us.n, figures.operations);
      assert.ok(checked(report, 'messages that each agent') >= figures.operations);
      assert.equal(checked(report, 'inboxes empty'), 12);
      assert.equal(figures.expired, 0);
    });
  }

  it('waits that end without a message are no fault', async () => {
    const { figures } = await good(...wait(url, '--rate', '2', '--seconds', '2.5', '--wait', '1'));
    assert.ok(figures.expired >= 1, `${figures.expired}`);
  });

  const nothing = { messages: [], cursor: '', remaining: 0 };
  const lies = {
    'a wait that ends too early': [{
      asked: (liar, request) => isWait(request) && ack(request) && liar.now(10) &&
        answer(request, nothing),
    }, /agent \d+ was woken by nothing after \d+\.\d+ of 50 s/],
    'an acknowledgement that is not kept': [{
      asked: (liar, request) => {
        if (isWait(request) && ack(request) && liar.now(5))
          request.body = request.body.replace(/"ack":"[^"]*"/, '"ack":""');
      },
    }, /agent \d+ got message \d+ of session \d+ a second time/],
    'a message for somebody else': [{
      streamed: (liar, text, request) => (isWait(request) && text.includes('"content":"') && liar.now(5)
        ? text.replace(/("content":"[0-9a-f]{8}\.)\d+/, '$1999') : undefined),
    }, /agent \d+ got a message that is not for it: [0-9a-f]{8}\.999\./],
    'a message that nobody was woken with': [{
      asked: (liar, { method, path }) => method === 'POST' && path.endsWith('/messages') &&
        liar.now(5) && { status: 201, body: '{"seq":999999,"id":"m999999","events":[]}' },
    }, /agent \d+ never got message \d+ of session \d+|where message \d+ has to stand is/],
    'a wait that is refused': [{
      asked: (liar, request) => isWait(request) && ack(request) && liar.now(5) &&
        answer(request, undefined, { isError: true }),
    }, /agent \d+: a wait was refused/],
  };
  for (const [what, [lie, problem]] of Object.entries(lies)) {
    it(`finds ${what}`, async (t) => {
      const liar = await new Liar(lie).start(t, url);
      assert.match(await bad(...wait(liar.url, '--rate', '200', '--connections', '3')), problem);
    });
  }
});
