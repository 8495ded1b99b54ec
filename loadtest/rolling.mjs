// A rolling restart of two nodes behind HAProxy under load, in figures: node loadtest/rolling.mjs
//
// Writers with idempotency keys and watchers that come back by their last id go through HAProxy
// (deploy/haproxy) to two nodes with some history, while one node after the other is stopped by
// SIGTERM and started again, then killed and started again. Prints for each restart how long the node
// was away, how many requests were answered 503 in that time, and the longest that a message took from
// its first attempt to its acknowledgement; and fails where one was lost, doubled or refused otherwise,
// where a watcher saw a gap, or where a node that was ready again refused. Needs Debian's haproxy and
// the npm packages of tests/http; the server is build/atoll or $ATOLL_BIN. --messages N: of history.

import assert from 'node:assert/strict';
import { cpus, loadavg } from 'node:os';
import { performance } from 'node:perf_hooks';
import { it } from 'node:test';
import { BIN, expect } from '../tests/http/harness.mjs';
import { Load, twoNodes } from '../tests/http/two-nodes.mjs';

const flag = process.argv.indexOf('--messages');
const HISTORY = flag < 0 ? 200_000 : Number(process.argv[flag + 1]);
const BATCH = 1000;
const STEADY = 1000; // messages acknowledged between two restarts

async function makeHistory(load) {
  const say = { type: 'message.send', thread: 'general', sender: 'ann', content: 'x'.repeat(500) };
  const sids = [];
  for (let n = 0; n < 16; n++)
    sids.push(expect(await load.all.post('/v1/sessions', {}), 201).headers.location.split('/')[3]);
  for (const sid of sids)
    expect(await load.all.lines(sid, [{ type: 'agent.register', agent: 'ann' },
      { type: 'thread.create', thread: 'general', creator: 'ann', name: 'x', participants: [] }]), 200);
  for (let n = 0; n < HISTORY / BATCH; n++)
    expect(await load.all.lines(sids[n % sids.length], Array(BATCH).fill(say)), 200);
}

it('a rolling restart under load', async (t) => {
  const nodes = await twoNodes(t, 'haproxy');
  const load = await new Load(nodes, { writers: 16, sessions: 32, watchers: 16 }).prepare();
  await makeHistory(load);
  console.log(`${BIN}; ${cpus().length} cores, load ${loadavg()[0].toFixed(1)}; ${HISTORY} messages ` +
    'of 500 bytes of history');
  await load.during(async () => {
    for (const [signal, tag] of [['SIGTERM', 'a'], ['SIGTERM', 'b'], ['SIGKILL', 'a'],
      ['SIGKILL', 'b']]) {
      await load.more(STEADY);
      Object.assign(load, { refused: [], lost: [], longest_ms: 0 });
      const began = { at_ms: performance.now(), count: load.acknowledged.length };
      const { signalled_ms, ready_ms, down_ms } = await load.restart(tag, signal);
      await load.more(STEADY);
      const turned = [...load.refused, ...load.lost];
      assert.ok(turned.every((r) => r.begun_ms <= ready_ms), 'a node that was ready refused');
      const last_ms = Math.max(0, ...turned.map((r) => r.ended_ms - signalled_ms));
      const rate = (load.acknowledged.length - began.count) / (performance.now() - began.at_ms);
      console.log(`${signal} ${tag}: away for ${down_ms.toFixed(0)} ms; ${load.refused.length} × 503, ` +
        `${load.lost.length} connections lost, the last after ${last_ms.toFixed(0)} ms; ` +
        `a message took ${load.longest_ms.toFixed(0)} ms at most; ${(rate * 1000).toFixed(0)}/s on both`);
    }
  });
  await load.check();
  console.log(`${load.acknowledged.length} messages acknowledged, each there once; ` +
    `${load.watchers.length} watchers without a gap`);
});
