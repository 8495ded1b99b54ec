/*
 * What goes: history beyond what is to be kept, sessions whose time is over, and what was deleted.
 * What stays: the current state of all others, and what a fork needs.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { expect, newId, refused, serve, until } from './harness.mjs';
import { Peer, agentPath, refusedRpc } from './mcp.mjs';

const SMALL = ['--shards', '1', '--max-body', '512KiB', '--max-batch-bytes', '512KiB',
  '--segment-size', '2MiB', '--checkpoint-bytes', '1MiB', '--compact-rate', '0',
  '--compact-after', '20ms'];

/** Messages of together about so many MiB, of several sessions in turn. */
async function fill(server, sids, mib) {
  const content = 'z'.repeat(60_000);
  for (let n = 0; n < mib * 17; n++)
    await server.say(sids[n % sids.length], 'ann', `${n} ${content}`);
}

/** Whether the bytes of `text` stand in any file of the directory. */
function onDisk(directory, text) {
  return readdirSync(directory, { recursive: true }).some((name) => {
    const path = join(directory, name);
    try {
      return statSync(path).isFile() && readFileSync(path).includes(text);
    } catch (error) {
      if (error.code === 'ENOENT') return false; // it has just gone
      throw error;
    }
  });
}

describe('retention by bytes', () => {
  it('drops the oldest history, and says from where on there is some', async (t) => {
    const server = await serve(t, { args: [...SMALL, '--retain-bytes', '6MiB'] });
    const sid = await server.session();
    const quiet = await server.session(['ann', 'zoe']);
    const known = await server.view(quiet);
    const path = `/v1/sessions/${sid}`;
    await until(async () => {
      await fill(server, [sid], 4);
      return (await server.get(`${path}?at=5`)).status === 410;
    }, 'the state at seq 5 to go');
    const view = await server.view(sid);
    const { oldest } = refused(await server.get(`${path}?at=5`), 410, 'gone');
    assert.ok(oldest > 5 && oldest <= view.seq, `${oldest} of ${view.seq}`);
    for (const query of ['/proof?at=5', '/diff?from=5', '/events?after=0', '/export'])
      assert.ok(refused(await server.get(path + query), 410, 'gone').oldest >= oldest, query);
    refused(await server.post(`${path}/fork`, { at: 5 }), 410, 'gone');
    const peer = await Peer.connect(server, agentPath(sid, 'ann'));
    const read = (uri) => peer.request('resources/read', { uri });
    let { message } = await refusedRpc(read(`atoll://sessions/${sid}/events`), -32602, /kept/);
    const page = await until(() => read(message.match(/atoll:\S+$/)[0])
      .catch((error) => ({ message } = error) && undefined), 'events that are still there');
    assert.ok(JSON.parse(page.contents[0].text).events.length > 0);
    const past = await server.view(sid, `?at=${view.seq - 1}`);
    assert.equal(past.seq, view.seq - 1);
    assert.deepEqual(await server.view(quiet), known, 'the state of all sessions stays');
    assert.equal((await server.say(quiet, 'zoe', 'still here')).seq, known.seq + 1);
    await server.kill();
    await server.start();
    assert.deepEqual(await server.view(sid), view);
    assert.equal((await server.view(quiet)).seq, known.seq + 1);
    refused(await server.get(`${path}?at=5`), 410, 'gone');
  });
});

describe('ttl_s', () => {
  it('deletes a session that nothing has happened in for so long', async (t) => {
    const server = await serve(t);
    const [short, long] = [newId('short'), newId('long')];
    expect(await server.put(`/v1/sessions/${short}`, { ttl_s: 1 }), 201);
    expect(await server.put(`/v1/sessions/${long}`, { ttl_s: 86400 }), 201);
    const stream = server.stream(short);
    await stream.until((s) => s.seq === 1);
    await stream.until((s) => s.ended, 'the end');
    stream.close();
    refused(await server.get(`/v1/sessions/${short}`), 404, 'unknown-session');
    assert.equal((await server.view(long)).state.status, 'open');
    expect(await server.put(`/v1/sessions/${short}`), 201); // the id is free again
  });

  it('holds over a restart', async (t) => {
    const server = await serve(t);
    const sid = newId('short');
    expect(await server.put(`/v1/sessions/${sid}`, { ttl_s: 1 }), 201);
    await server.restart();
    await until(async () => (await server.get(`/v1/sessions/${sid}`)).status === 404, 'its end');
  });
});

describe('deletion', () => {
  it('takes the data off the disk, but for what forks need', async (t) => {
    const server = await serve(t, { args: SMALL });
    const secret = `secret-${newId()}-of-this-test`;
    const shared = `shared-${newId()}-of-this-test`;
    const [parent, other] = [await server.session(), await server.session()];
    const { seq } = await server.say(parent, 'ann', shared);
    const { session } = await server.fork(parent, { at: seq });
    await server.say(parent, 'ann', secret);
    assert.ok(onDisk(server.data, secret) && onDisk(server.data, shared));
    expect(await server.delete(`/v1/sessions/${parent}`), 204);
    await until(async () => {
      await fill(server, [other], 3); // so that the log goes on to another file
      return !onDisk(server.data, secret);
    }, 'the secret to leave the disk', 60_000);
    const page = expect(await server.get(
      `/v1/sessions/${session}/threads/general/messages`), 200).json;
    assert.equal(page.messages.at(-1).content, shared);
    expect(await server.delete(`/v1/sessions/${session}`), 204);
    await until(async () => {
      await fill(server, [other], 3);
      return !onDisk(server.data, shared);
    }, 'what the fork shared to leave the disk', 60_000);
    assert.equal((await server.view(other)).state.status, 'open');
  });
});
