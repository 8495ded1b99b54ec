/*
 * Watchers that read slowly, or not at all. They cost the writer and the others nothing; what they
 * missed comes merged, or, past what is kept, as a snapshot, and always folds to what is.
 *
 * They come over a Unix socket, for which the kernel keeps about 200 KiB: so a few hundred KiB that
 * nobody reads are sure to be the server's to deal with.
 */
import assert from 'node:assert/strict';
import net from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Reader, expect, newId, openEvents, randomFrom, remove, serve, temporaryDirectory,
  until } from './harness.mjs';
import { say } from './scenes.mjs';

const SHOWN = ['', '?view=compact', '?path=/threads/general', '?path=/labels&path=/agents/bob',
  '?path=/threads&view=compact'];

/** A server on a port and on a Unix socket. */
async function listening(t, args = []) {
  const directory = temporaryDirectory();
  const socketPath = join(directory, 's');
  t.after(() => remove(directory));
  const server = await serve(t, { args, listen: ['127.0.0.1:0', `unix:${socketPath}`] });
  return { server, socketPath };
}

/** What the reactors have counted. */
async function counted(server) {
  const { reactors } = await server.status();
  const sum = (name) => reactors.reduce((total, reactor) => total + reactor[name], 0);
  return { merged: sum('streams_merged'), reset: sum('streams_reset'), cut: sum('streams_cut'),
    streams: sum('streams') };
}

/** Fails unless these, all the watchers there are, were told as often as the server says. */
async function countsAgree(server, watchers) {
  const { merged, reset } = await counted(server);
  const told = (name) => watchers.reduce((sum, w) => sum + w.counts[name], 0);
  assert.deepEqual({ merged, reset }, { merged: told('merged'), reset: told('reset') });
}

/** Messages of a size, each an event of its own, as fast as they are taken. */
async function fill(server, sid, times, size, fields) {
  let n = 0;
  const writer = async () => {
    while (n < times) await server.say(sid, 'ann', `${n++} `.padEnd(size, 'x'), fields);
  };
  await Promise.all(Array.from({ length: 10 }, writer));
}

/**
 * A request whose answer is taken in bits, one at each `read`, or on and on when `flowing`: how
 * much it is so far.
 */
function readInBits(t, { hostname, port }, path) {
  const bits = { n: 0, closed: false, flowing: false };
  const callback = (n) => { bits.n += n; return bits.flowing; };
  const onread = { buffer: Buffer.alloc(16 * 1024), callback };
  const socket = net.connect({ host: hostname, port: Number(port), onread });
  t.after(() => socket.destroy());
  socket.on('error', () => {}).on('close', () => { bits.closed = true; });
  socket.write(`GET ${path} HTTP/1.1\r\nhost: ${hostname}\r\n\r\n`);
  return Object.assign(bits, { read: () => socket.resume() });
}

describe('a slow watcher', () => {
  it('gets what it missed as one patch', async (t) => {
    const { server, socketPath } = await listening(t);
    const sid = await server.session();
    const slow = await Reader.open(server, sid, { socketPath, track: true });
    const others = [server.stream(sid), await Reader.open(server, sid)];
    await slow.read();
    await others[0].until((s) => s.seq !== undefined, 'the snapshot');
    for (let n = 0; n < 10; n++) { // 2 MB, of which 4 MiB would be kept
      await fill(server, sid, 10, 20_000);
      await others[1].equalsView();
    }
    assert.deepEqual(slow.counts, { snapshot: 1, patch: 0, merged: 0, reset: 0 });
    await slow.equalsView();
    await others[0].equalsView();
    assert.ok(slow.counts.merged > 0 && slow.counts.reset === 0, JSON.stringify(slow.counts));
    assert.ok(slow.log.length < 100, `${slow.log.length} messages`);
    await slow.wasRight();
    await countsAgree(server, [slow, ...others]);
    const { from, seq, ts, actor } = slow.log.find((e) => e.data.type === 'merged').data;
    assert.ok(seq > from);
    assert.equal(actor, null);
    assert.equal(ts, (await server.events(sid))[seq - 1].ts);
    await server.say(sid, 'bob', 'live again');
    await slow.read();
    assert.equal(slow.log.at(-1).data.type, 'message.sent');
  });

  it('gets a snapshot where it missed more than is kept', async (t) => {
    const { server, socketPath } = await listening(t);
    const sid = await server.session();
    const stopped = [];
    for (let n = 0; n < 8; n++)
      stopped.push(await Reader.open(server, sid, { socketPath, query: SHOWN[n % 4] }));
    stopped.push(await Reader.open(server, sid)); // and one for which the kernel keeps more
    const other = await Reader.open(server, sid);
    for (let n = 0; n < 12; n++) { // 12 MB
      await fill(server, sid, 5, 200_000);
      await other.equalsView();
    }
    await server.patch(`/v1/sessions/${sid}`, { labels: { round: 'last' } });
    for (const [n, slow] of stopped.entries()) {
      await slow.equalsView();
      if (slow.viewQuery === '' && n < 8) {
        assert.ok(slow.counts.reset > 0, JSON.stringify(slow.counts));
        assert.ok(slow.log.find((e) => e.data.reset).data.reset.length > 10);
      }
      if (slow.viewQuery.includes('labels')) assert.equal(slow.counts.reset, 0);
    }
    await other.equalsView();
    await countsAgree(server, [...stopped, other]);
    await server.say(sid, 'bob', 'live again');
    for (const slow of stopped) await slow.equalsView();
  });

  it('folds to what is, however it reads and whatever happens', async (t) => {
    const seed = Number(process.env.ATOLL_SEED ?? Date.now() % 2 ** 31);
    t.diagnostic(`ATOLL_SEED=${seed}`);
    const random = randomFrom(seed);
    const below = (n) => Math.floor(random() * n);
    const { server, socketPath } = await listening(t, ['--window-messages', '20']);
    const sid = await server.session();
    await fill(server, sid, 20, 2000); // enough for gzip
    const slow = [await Reader.open(server, sid, { socketPath, track: true,
      headers: { 'accept-encoding': 'gzip' } })];
    assert.equal(slow[0].wire.headers['content-encoding'], 'gzip');
    for (const query of SHOWN)
      slow.push(await Reader.open(server, sid, { socketPath, query, track: true }));
    for (let burst = 0; burst < 5; burst++) {
      const blocked = burst === 0 || random() < 0.7;
      if (blocked) await fill(server, sid, 40, 20_000);
      await server.live(sid, 1 + below(4), `t${burst}`);
      if (blocked) await fill(server, sid, below(40), 10);
      await server.live(sid, below(3), `u${burst}`);
      if (random() < 0.3) expect(await server.post(`/v1/sessions/${sid}/threads`,
        { creator: 'ann', name: 'general', participants: ['bob'], thread: newId('w') }), 201);
      for (const reader of slow) {
        const view = await reader.view();
        for (let left = below(30); left > 0 && !reader.has(view); left--) await reader.read();
      }
    }
    for (const reader of slow) {
      await reader.equalsView();
      await reader.wasRight();
    }
    assert.ok(slow[1].counts.merged > 0, JSON.stringify(slow[1].counts));
    await countsAgree(server, slow);
  });

  it('is told of the end behind all that it missed', async (t) => {
    const { server, socketPath } = await listening(t);
    for (const [times, size] of [[30, 50_000], [60, 200_000]]) {
      const sid = await server.session();
      const slow = await Reader.open(server, sid, { socketPath });
      await slow.read();
      await fill(server, sid, times, size);
      const { seq } = await server.view(sid);
      expect(await server.delete(`/v1/sessions/${sid}`), 204);
      await server.session(['cat'], { sid }); // another life, with which it has nothing to do
      const { epoch, id } = slow;
      while (await slow.read());
      assert.deepEqual(slow.log.at(-1).data, { epoch, seq, reason: 'deleted' });
      assert.ok(slow.log.every((e) => e.data.epoch === undefined || e.data.epoch === epoch));
      const next = await Reader.open(server, sid, { socketPath, lastEventId: id });
      await next.equalsView();
      assert.equal(next.counts.reset, 1);
      next.close();
    }
  });

  it('gets through a batch that is larger than all that is kept', async (t) => {
    const { server, socketPath } = await listening(t, ['--window-messages', '20']);
    const sid = await server.session();
    const readers = [];
    for (const query of SHOWN) {
      readers.push(await Reader.open(server, sid, { query }));
      readers.push(await Reader.open(server, sid, { query, socketPath }));
    }
    for (let n = 0; n < 3; n++) { // 10 MB each
      const commands = Array.from({ length: 5000 }, (_, i) => (i % 1000 !== 500
        ? say(`${n}.${i} `.padEnd(2000, 'x'))
        : { type: 'agent.update', agent: 'bob', note: `${n}.${i}` }));
      expect(await server.lines(sid, commands, { query: '?atomic=true' }), 200);
      await readers[0].equalsView();
    }
    for (const reader of readers) await reader.equalsView();
    await countsAgree(server, readers);
  });

  it('of events gets every one', async (t) => {
    const { server, socketPath } = await listening(t);
    const sid = await server.session();
    const wire = await openEvents(server, `/v1/sessions/${sid}/events?after=0`,
      { accept: 'text/event-stream' }, { socketPath });
    await fill(server, sid, 60, 200_000);
    expect(await server.lines(sid, Array.from({ length: 1000 }, (_, n) => say(`${n}`))), 200);
    const events = await server.events(sid);
    for (const event of events) {
      const block = await wire.find((b) => b.event);
      assert.equal(block.event, 'event');
      assert.equal(block.json.seq, event.seq);
      assert.deepEqual(block.json, event);
    }
    await server.say(sid, 'bob', 'live again');
    assert.equal((await wire.find((b) => b.event)).json.seq, events.length + 1);
    wire.close();
  });

  it('is closed where it takes nothing at all, and not where it takes little', async (t) => {
    const { server, socketPath } = await listening(t, ['--write-timeout', '2s', '--heartbeat',
      '500ms']);
    const sid = await server.session();
    const stopped = [await openEvents(server, `/v1/sessions/${sid}/stream`, {}, { socketPath }),
      await openEvents(server, `/v1/sessions/${sid}/events`, { accept: 'text/event-stream' },
        { socketPath }),
      await openEvents(server, `/v1/sessions/${sid}/stream`)];
    stopped[2].response.pause();
    const little = await Reader.open(server, sid);
    const silent = await Reader.open(server, sid, { query: '?path=/agents/nobody' });
    await silent.read();
    await until(async () => {
      await fill(server, sid, 1, 250_000);
      await little.read(); // which is slow as well
      return (await counted(server)).cut >= stopped.length;
    }, 'three that were cut');
    const { cut, streams } = await counted(server);
    assert.deepEqual([cut, streams], [stopped.length, 2]);
    await little.equalsView();
    await server.post(`/v1/sessions/${sid}/close`);
    await silent.until(() => silent.state.status === 'closed');
    for (const wire of stopped) wire.close();
  });

  it('is not closed where it takes a large snapshot bit by bit', async (t) => {
    const { server, socketPath } = await listening(t, ['--write-timeout', '2s']);
    const sid = await server.session();
    for (let n = 0; n < 12; n++) { // 12 MB
      const thread = `t-${n}`;
      await server.command(sid, { type: 'thread.create', thread, creator: 'ann', name: 'n',
        participants: [] });
      await fill(server, sid, 5, 200_000, { thread });
    }
    const whole = JSON.stringify(await server.view(sid)).length;
    const bits = readInBits(t, server, `/v1/sessions/${sid}/stream`);
    const stopped = await openEvents(server, `/v1/sessions/${sid}/stream`, {}, { socketPath });
    await until(async () => {
      bits.read();
      return (await counted(server)).cut > 0;
    }, 'the one that takes nothing, and came later, was cut');
    stopped.close();
    assert.ok(!bits.closed && bits.n < whole, `${bits.n} bytes of ${whole}`);
    bits.flowing = true;
    bits.read();
    await until(() => bits.n > whole, 'all of the snapshot');
    assert.ok(!bits.closed);
  });
});
