/*
 * Connections that break, at any byte: whoever comes back with its last id misses nothing and gets
 * nothing twice.
 */
import assert from 'node:assert/strict';
import net from 'node:net';
import { it } from 'node:test';
import { Fold, openEvents, randomFrom, serve, until } from './harness.mjs';

const CUTS = 50;
const KINDS = [
  { query: '' }, { query: '?view=compact' }, { query: '?path=/threads/general&path=/labels' },
  { query: '?path=/agents&view=compact' }, { query: '', headers: { 'accept-encoding': 'gzip' } },
];

/**
 * What stands before the server: relays bytes, and breaks each connection after a number of the
 * server's bytes that it draws, by a reset or by an end, until it has done so CUTS times.
 */
async function cutter(t, server, random) {
  const open = new Set();
  const relay = { cuts: 0 };
  const listener = net.createServer((client) => {
    let left = Math.floor(random() ** 3 * 60_000);
    const reset = random() < 0.5;
    const upstream = net.connect(Number(server.port), server.hostname);
    const both = [client, upstream];
    both.forEach((socket) => open.add(socket));
    const end = (how) => both.forEach((socket) => { open.delete(socket); socket[how](); });
    both.forEach((socket) => socket.on('error', () => end('destroy'))
      .on('close', () => end('destroy')));
    client.on('data', (bytes) => upstream.write(bytes));
    upstream.on('data', (bytes) => {
      if (relay.cuts >= CUTS || bytes.length < left) {
        left -= bytes.length;
        client.write(bytes);
        return;
      }
      relay.cuts++;
      left = Infinity;
      if (reset) end('resetAndDestroy');
      else client.end(bytes.subarray(0, left), () => end('destroy'));
    });
  });
  await new Promise((done) => listener.listen(0, '127.0.0.1', done));
  t.after(() => {
    listener.close();
    open.forEach((socket) => socket.destroy());
  });
  return Object.assign(relay, { port: listener.address().port });
}

/** A client that reads the stream off its socket and comes back until it is told to stop. */
class Persistent extends Fold {
  async run(port, headers = {}) {
    const { sid, query } = this;
    for (;;) {
      const resumed = this.id === undefined ? {} : { 'last-event-id': this.id };
      try {
        this.wire = await openEvents(this.server, `/v1/sessions/${sid}/stream${query}`,
          { ...headers, ...resumed }, { port });
      } catch (error) {
        if (error.code !== 'ECONNRESET') throw error;
        continue; // cut before the answer
      }
      for (let block; (block = await this.wire.find((b) => b.event));)
        this.tell(block.event, block.id, block.json);
      if (this.ended) return;
      this.breaks = (this.breaks ?? 0) + 1;
    }
  }
}

/** The same for events: each once, in order. */
async function followEvents(server, sid, port, told) {
  for (;;) {
    const { id } = told.at(-1) ?? {};
    try {
      const wire = await openEvents(server, `/v1/sessions/${sid}/events?after=0`,
        { accept: 'text/event-stream', ...(id ? { 'last-event-id': id } : {}) }, { port });
      for (let block; (block = await wire.find((b) => b.event));) {
        if (block.event === 'end') return;
        told.push({ id: block.id, data: block.json });
      }
    } catch (error) {
      if (error.code !== 'ECONNRESET') throw error;
    }
  }
}

it(`${CUTS} cut connections lose and repeat nothing`, async (t) => {
  const seed = Number(process.env.ATOLL_SEED ?? Date.now() % 2 ** 31);
  t.diagnostic(`ATOLL_SEED=${seed}`);
  const server = await serve(t, { args: ['--window-messages', '20', '--shards', '2'] });
  const sid = await server.session();
  const relay = await cutter(t, server, randomFrom(seed));
  const sources = KINDS.slice(0, 4).map(({ query }) =>
    server.stream(sid, { query, url: `http://127.0.0.1:${relay.port}`, retry_ms: 5 }));
  const persistent = KINDS.map(({ query }) =>
    Object.assign(new Persistent(server, sid, { query }), { query }));
  const running = persistent.map((client, n) => client.run(relay.port, KINDS[n].headers));
  const events = [];
  running.push(followEvents(server, sid, relay.port, events));
  const failed = Promise.all(running);
  let failure;
  failed.catch((error) => { failure = error; });
  let rounds = 0;
  await until(async () => {
    if (failure) throw failure;
    await server.live(sid, 1, `r${rounds++}`);
    return relay.cuts >= CUTS;
  }, `${CUTS} cuts`);
  await server.live(sid, 1, 'last');
  for (const source of sources) {
    await source.equalsView();
    assert.equal(source.counts.reset, 0);
    source.close();
  }
  for (const client of persistent) {
    const view = await client.view();
    await until(() => failure ?? client.has(view), `${client.query} at ${view.seq}`);
    if (failure) throw failure;
    client.isAt(view);
    assert.equal(client.counts.reset, 0);
  }
  const all = await server.events(sid);
  await until(() => failure ?? events.length >= all.length, 'all events');
  assert.deepEqual(events.map((e) => e.data), all);
  const breaks = persistent.reduce((sum, c) => sum + (c.breaks ?? 0), 0)
    + sources.reduce((sum, s) => sum + s.opens - 1, 0);
  assert.ok(breaks > CUTS / 2, `${breaks} came back`);
  await server.delete(`/v1/sessions/${sid}`);
  await failed;
});
