/*
 * Watching: snapshot and patches fold to the view at every seq, whatever happens to the connection.
 */
import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it } from 'node:test';
import { bytes, canonical, expect, newId, openEvents, refused, serving,
  until } from './harness.mjs';
import { liveThrough, say } from './scenes.mjs';

describe('the stream', () => {
  const server = serving({ args: ['--window-messages', '5', '--heartbeat', '200ms'] });

  it('gives a snapshot first', async () => {
    const sid = await server.session();
    const view = await server.view(sid);
    const stream = server.stream(sid);
    await stream.until(() => stream.log.length > 0);
    assert.equal(stream.log[0].event, 'snapshot');
    assert.deepEqual(stream.log[0].data, view);
  });

  it('folds to the view at every seq, for watchers who came at any time', async () => {
    const sid = newId();
    expect(await server.put(`/v1/sessions/${sid}`), 201);
    const streams = [];
    const views = new Map();
    await liveThrough(server, sid, async (n) => {
      const view = await server.view(sid);
      views.set(view.seq, canonical(view.state));
      if (n % 5 !== 0) return;
      streams.push(server.stream(sid, { track: true }));
      await streams.at(-1).until((s) => s.seq !== undefined, 'the snapshot');
    });
    for (const stream of streams) {
      await stream.equalsView();
      await stream.wasRight();
      for (const [seq, state] of stream.at) if (views.has(seq)) assert.equal(state, views.get(seq),
        `the state at ${seq}`);
      stream.close();
    }
    const patches = streams[0].log.filter((e) => e.event === 'patch').map((e) => e.data);
    const events = await server.events(sid);
    for (const patch of patches.filter((p) => p.type !== 'merged')) {
      const event = events[patch.seq - 1];
      assert.deepEqual([patch.type, patch.actor, patch.ts], [event.type, event.actor, event.ts]);
    }
  });

  it('ends when the session is deleted, and only then', async () => {
    const sid = await server.session();
    const streams = [server.stream(sid), server.stream(sid)];
    for (const s of streams) await s.equalsView();
    expect(await server.post(`/v1/sessions/${sid}/close`), 200);
    for (const s of streams) await s.equalsView();
    assert.ok(streams.every((s) => !s.ended));
    const { epoch, seq } = await server.view(sid);
    const wire = await openEvents(server, `/v1/sessions/${sid}/stream`);
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    for (const s of streams) {
      await s.until(() => s.ended);
      assert.deepEqual(s.log.at(-1).data, { epoch, seq, reason: 'deleted' });
      s.close();
    }
    assert.equal((await wire.find((b) => b.event === 'end')).event, 'end');
    assert.equal(await wire.find(() => false), undefined, 'the server closes behind the end');
  });

  it('has a comment as heartbeat', async () => {
    const sid = await server.session();
    const wire = await openEvents(server, `/v1/sessions/${sid}/stream`);
    for (let n = 0; n < 3; n++) assert.ok(await wire.find((b) => b.comment !== undefined));
    assert.equal(wire.headers['content-type'].split(';')[0], 'text/event-stream');
    wire.close();
  });

  /** What comes over a connection of its own: its text so far, and a wait for a piece of it. */
  function wireOf(t, request) {
    const socket = net.connect({ host: server.hostname, port: Number(server.port) });
    t.after(() => socket.destroy());
    const wire = { socket, text: '', ended: false };
    socket.setEncoding('utf8').on('data', (d) => { wire.text += d; })
      .on('error', () => {}).on('close', () => { wire.ended = true; });
    socket.write(request);
    return Object.assign(wire, {
      count: (piece) => wire.text.split(piece).length - 1,
      has: (piece, times = 1) => until(() => wire.count(piece) >= times, `${times} ${piece}`),
    });
  }

  it('is all that its connection carries, in neither chunks nor a length', async (t) => {
    const sid = await server.session();
    const path = `/v1/sessions/${sid}/stream`;
    const next = bytes(server, 'GET', '/v1/status').toString();
    const request = (version, headers) =>
      `GET ${path} HTTP/${version}\r\nhost: ${server.hostname}\r\n${headers}\r\n`;
    const wires = [request('1.1', ''), request('1.1', 'connection: keep-alive\r\n') + next,
      request('1.0', ''), request('1.0', 'connection: keep-alive\r\n')].map((r) => wireOf(t, r));
    // Behind another request of the same connection, and of the same packet.
    const before = bytes(server, 'GET', '/healthz', '', { connection: undefined }).toString();
    wires.push(wireOf(t, before + request('1.1', '')));
    for (const wire of wires) await wire.has('event: snapshot\n');
    wires[0].socket.write(next); // nobody listens any more
    await server.say(sid, 'ann', 'live');
    for (const wire of wires) {
      await wire.has('event: patch\n');
      if (wire === wires.at(-1)) wire.text = wire.text.slice(wire.text.lastIndexOf('HTTP/1.1 200'));
      const [head] = wire.text.split('\r\n\r\n');
      assert.match(head, /^HTTP\/1\.[01] 200 /);
      assert.match(head, /\r\ncontent-type: text\/event-stream/i);
      assert.match(head, /\r\ncache-control: (private, )?no-(store|cache)/i);
      assert.match(head, /\r\nconnection: close/i);
      assert.doesNotMatch(head, /\r\n(transfer-encoding|content-length|content-encoding):/i);
      assert.equal(wire.count('HTTP/1.'), 1, 'one answer');
    }
    wires[0].socket.end(); // a client that has said all it wants goes on watching, or is let go
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    for (const wire of wires.slice(1)) {
      await until(() => wire.ended, 'the end of the connection');
      assert.equal(wire.count('event: end\n'), 1);
      assert.ok(wire.text.endsWith('\n\n'));
    }
    await until(() => wires[0].ended, 'the end of the connection');
  });

  it('gives many watchers the same, while many write', async () => {
    const sid = await server.session(['ann', 'bob', 'cat']);
    const streams = Array.from({ length: 12 }, () => server.stream(sid));
    for (const s of streams) await s.until(() => s.seq !== undefined, 'the snapshot');
    const senders = ['ann', 'bob', 'cat'];
    await Promise.all(senders.map(async (sender) => {
      for (let n = 0; n < 40; n++) await server.say(sid, sender, `${n}`, { mentions: senders });
    }));
    for (const s of streams) {
      await s.equalsView();
      s.close();
    }
  });

  it('keeps up with batches', async () => {
    const sid = await server.session();
    const stream = server.stream(sid);
    await stream.until(() => stream.seq !== undefined, 'the snapshot');
    for (let n = 0; n < 5; n++)
      expect(await server.lines(sid, Array.from({ length: 2000 }, (_, i) => say(`${n}.${i}`)),
        { query: n % 2 ? '?atomic=true' : '' }), 200);
    await stream.equalsView();
  });

  it('frees a watcher who has gone', async () => {
    const sid = await server.session();
    const before = await server.total('watching');
    const wires = [];
    for (let n = 0; n < 5; n++) wires.push(await openEvents(server, `/v1/sessions/${sid}/stream`));
    await until(async () => (await server.total('watching')) === before + 5, 'five watchers');
    for (const wire of wires) wire.close();
    await until(async () => (await server.total('watching')) === before, 'none of them left');
  });

  it('refuses what it does not know', async () => {
    const sid = await server.session();
    refused(await openEvents(server, `/v1/sessions/${sid}/stream?after=x`), 400, 'malformed',
      'after');
    refused(await openEvents(server, `/v1/sessions/${sid}/stream?nope=1`), 400, 'malformed',
      'nope');
    refused(await openEvents(server, '/v1/sessions/nowhere/stream'), 404, 'unknown-session',
      'session');
  });
});
