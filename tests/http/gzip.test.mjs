/* Streams as gzip, for those who accept it and where there is much to say. */
import assert from 'node:assert/strict';
import http from 'node:http';
import { describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { Reader, expect, openEvents, parseBlock, serving, until } from './harness.mjs';
import { say } from './scenes.mjs';

const GZIP = { 'accept-encoding': 'gzip' };
const ENCODING = 'content-encoding';

describe('a compressed stream', () => {
  const server = serving({ args: ['--heartbeat', '200ms'] });

  /** A session whose snapshot is large. */
  async function large() {
    const sid = await server.session();
    expect(await server.lines(sid, Array.from({ length: 60 }, (_, n) =>
      say(`${n} words and words`.repeat(50)))), 200);
    return sid;
  }

  it('tells what happens as it happens, and folds', async () => {
    const sid = await large();
    const reader = await Reader.open(server, sid, { headers: GZIP, track: true });
    assert.equal(reader.wire.headers[ENCODING], 'gzip');
    await reader.read();
    for (const size of [1, 100, 20_000, 250_000, 2]) {
      await server.say(sid, 'bob', 'x'.repeat(size)); // nothing else would push it out
      await reader.read();
      assert.equal(reader.state.threads.general.messages.at(-1).content.length, size);
    }
    assert.ok(await reader.wire.find((b) => b.comment !== undefined), 'a heartbeat');
    await server.live(sid, 5);
    await reader.equalsView();
    await reader.wasRight();
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    await reader.read();
    assert.ok(reader.ended);
    assert.equal(await reader.read(), false);
  });

  it('is one whole member, and smaller', async () => {
    const sid = await large();
    const plain = JSON.stringify(await server.view(sid)).length;
    const chunks = [];
    let closed = false;
    const path = `/v1/sessions/${sid}/stream`;
    http.get({ host: server.hostname, port: server.port, path, headers: GZIP, agent: false },
      (response) => response.on('data', (d) => chunks.push(d)).on('end', () => { closed = true; }));
    await until(() => chunks.length > 0, 'the snapshot');
    const first = Buffer.concat(chunks).length;
    assert.ok(first < plain / 4, `${first} of ${plain} bytes`);
    for (let n = 0; n < 10; n++) await server.say(sid, 'ann', `${n} `.repeat(n * 4000));
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    await until(() => closed, 'the end of the connection');
    const blocks = gunzipSync(Buffer.concat(chunks)).toString().split('\n\n').slice(0, -1)
      .map(parseBlock).filter((b) => b.event).map((b) => b.event);
    assert.deepEqual(blocks, ['snapshot', ...Array(10).fill('patch'), 'end']);
  });

  it('is for those alone who accept it, and not for a few bytes', async () => {
    const [much, little] = [await large(), await server.session()];
    const encoding = async (sid, accepted, query = '') => {
      const headers = accepted === undefined ? {} : { 'accept-encoding': accepted };
      const wire = await openEvents(server, `/v1/sessions/${sid}/stream${query}`, headers);
      assert.equal((await wire.find((b) => b.event)).event, 'snapshot');
      wire.close();
      return wire.headers[ENCODING];
    };
    for (const accepted of ['gzip', 'gzip, deflate, br', 'br;q=1.0, gzip;q=0.8'])
      assert.equal(await encoding(much, accepted), 'gzip', accepted);
    for (const accepted of [undefined, '', 'identity', 'br', 'deflate'])
      assert.equal(await encoding(much, accepted), undefined, accepted);
    assert.equal(await encoding(little, 'gzip'), undefined);
    assert.equal(await encoding(much, 'gzip', '?path=/agents'), undefined);
  });

  it('is what an EventSource gets, which asks for it by itself', async () => {
    const sid = await large();
    const stream = server.stream(sid);
    await stream.equalsView();
    assert.equal(stream.answered.headers[ENCODING], 'gzip');
    await server.live(sid, 3);
    await stream.equalsView();
    stream.close();
  });
});
