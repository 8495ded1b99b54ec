/*
 * Presence: an agent that gave a lease and is not heard of any more becomes offline by an event,
 * and idle again when it is. One agent is the clock of the other here: both have a lease of the
 * same length, and the one that nobody hears of is told offline first.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, refused, serve, serving, until } from './harness.mjs';

describe('presence', { concurrency: true }, () => {
  const server = serving();

  /** A session with agents that have a lease of a second, in this order. */
  async function leased(agents, lease_s = 1) {
    const sid = newId();
    const commands = [{ type: 'session.create' },
      ...agents.map((agent) => ({ type: 'agent.register', agent, lease_s })),
      { type: 'thread.create', thread: 'general', creator: agents[0], name: 'g',
        participants: agents }];
    expect(await server.command(sid, commands), 200);
    const stream = server.stream(sid);
    await stream.until(() => stream.state, 'the snapshot');
    return [sid, stream];
  }

  const isOffline = (agent) => (stream) => stream.state?.agents[agent].status === 'offline';
  // By its events: a stream that is read late may tell several of them as one.
  const statuses = async ({ sid }, agent) => (await server.events(sid))
    .filter((event) => event.type === 'agent.updated' && event.agent === agent && event.status)
    .map(({ status }) => status);
  const ping = (sid, agent) => server.post(`/v1/sessions/${sid}/agents/${agent}/ping`);

  it('ends by an event when a lease runs out, and not before', async () => {
    const [sid, stream] = await leased(['ann']);
    const { state } = await server.view(sid);
    assert.equal(state.agents.ann.lease_s, 1);
    await stream.until(isOffline('ann'), 'ann offline');
    const events = await server.events(sid);
    const [registered] = events.filter(({ type }) => type === 'agent.registered');
    const [offline] = events.filter(({ type }) => type === 'agent.updated');
    assert.equal(offline.agent, 'ann');
    assert.equal(offline.status, 'offline');
    assert.ok(Date.parse(offline.ts) - Date.parse(registered.ts) >= 950, 'a second went by');
    await stream.equalsView();
  });

  for (const [what, renew] of [
    ['a ping', async (sid) => expect(await ping(sid, 'ann'), 204)],
    ['a command', async (sid) => server.say(sid, 'ann', 'here')],
    ['a look into the inbox', async (sid) => server.inbox(sid, 'ann')],
  ]) {
    it(`is renewed by ${what}`, async () => {
      const [sid, stream] = await leased(['ann', 'clock'], 3);
      await renew(sid);
      await stream.until(isOffline('ann'), 'ann offline');
      assert.ok(isOffline('clock')(stream), 'the one that was not heard of went before');
      const { seq } = stream;
      await stream.equalsView();
      assert.equal(stream.seq, seq, 'renewing is no event');
    });
  }

  it('lasts as long as a wait, and begins anew at its end', async () => {
    const [sid, stream] = await leased(['ann', 'clock']);
    const wait = server.inbox(sid, 'ann', '?wait=55');
    await stream.until(isOffline('clock'), 'the clock offline');
    expect(await ping(sid, 'clock'), 204);
    await until(async () => (await statuses(stream, 'clock')).length === 3, 'the clock offline again');
    // Unless its wait came too late: then it has come back with it, and stayed.
    assert.notEqual(stream.state.agents.ann.status, 'offline');
    await server.say(sid, 'clock', 'wake up');
    assert.equal((await wait).messages.length, 1);
    await stream.until(isOffline('ann'), 'ann offline');
  });

  it('comes back as idle when the agent is heard of, unless it says what it does', async () => {
    const [sid, stream] = await leased(['ann', 'bob', 'cat']);
    const all = (status) => () => ['ann', 'bob', 'cat'].every((agent) =>
      stream.state?.agents[agent].status === status);
    await stream.until(all('offline'), 'all offline');
    expect(await ping(sid, 'ann'), 204);
    await server.say(sid, 'bob', 'back');
    expect(await server.patch(`/v1/sessions/${sid}/agents/cat`, { status: 'working' }), 200);
    await until(async () => (await Promise.all(['ann', 'bob', 'cat'].map((agent) =>
      statuses(stream, agent)))).every(({ length }) => length >= 2), 'all back');
    assert.equal((await statuses(stream, 'ann'))[1], 'idle');
    assert.equal((await statuses(stream, 'bob'))[1], 'idle');
    assert.equal((await statuses(stream, 'cat'))[1], 'working');
    await stream.until(all('offline'), 'all offline again');
    await stream.equalsView();
  });

  it('is not touched by a ping where somebody said offline', async () => {
    const [sid, stream] = await leased(['ann', 'clock'], null);
    expect(await server.patch(`/v1/sessions/${sid}/agents/ann`, { status: 'offline' }), 200);
    expect(await ping(sid, 'ann'), 204);
    await stream.equalsView();
    assert.deepEqual(await statuses(stream, 'ann'), ['offline']);
  });

  it('is for ever without a lease', async () => {
    const [sid, stream] = await leased(['ann', 'clock']);
    expect(await server.patch(`/v1/sessions/${sid}/agents/ann`, { lease_s: null }), 200);
    await stream.until(isOffline('clock'), 'the clock offline');
    expect(await ping(sid, 'clock'), 204);
    await until(async () => (await statuses(stream, 'clock')).length === 3, 'the clock offline again');
    assert.equal(stream.state.agents.ann.lease_s, null);
    const told = await statuses(stream, 'ann');
    assert.ok(told.length === 0 || told.at(-1) === 'idle');
  });

  it('begins anew with the server', async (t) => {
    const own = await serve(t);
    const sid = newId();
    expect(await own.command(sid, [{ type: 'session.create' },
      { type: 'agent.register', agent: 'ann', lease_s: 2 }]), 200);
    await own.kill();
    await own.start();
    // Nobody asks for the session: its events say what happened, and when.
    const ready = Date.now();
    const stream = own.stream(sid);
    await stream.until(isOffline('ann'), 'ann offline');
    const [offline] = (await own.events(sid)).filter(({ type }) => type === 'agent.updated');
    assert.equal(offline.status, 'offline');
    assert.ok(Date.parse(offline.ts) > ready - 60_000);
  });

  it('is refused leases and pings that are none', async () => {
    const sid = await server.session();
    for (const lease_s of [0, -1, 1.5, 86401, '60', true]) {
      refused(await server.post(`/v1/sessions/${sid}/agents`, { agent: 'new', lease_s }), 400,
        'malformed', 'lease_s');
      refused(await server.patch(`/v1/sessions/${sid}/agents/ann`, { lease_s }), 400, 'malformed',
        'lease_s');
    }
    refused(await ping(sid, 'zoe'), 404, 'unknown-agent');
    refused(await ping('nowhere', 'ann'), 404, 'unknown-session');
    refused(await server.post(`/v1/sessions/${sid}/agents/ann/ping`, { now: true }, {}), 400,
      'malformed');
    expect(await ping(sid, 'ann'), 204);
  });
});
