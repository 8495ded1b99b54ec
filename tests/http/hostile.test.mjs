/*
 * Clients that mean harm: what they send is too slow, too much, too deep, or no protocol at all.
 * Each gets a refusal or a closed connection; nobody else notices, and nothing of them stays behind
 * (hostile.mjs sees to that after each test).
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bytes, expect, newId, randomFrom, refused, until } from './harness.mjs';
import { Wire, figure, frame, head, many, openSocket, witnessed } from './hostile.mjs';

const KIB = 1024;
const MIB = 1024 * KIB;
const JSON_TYPE = 'content-type: application/json';
const HASTE = ['--header-timeout', '1s', '--body-timeout', '1s', '--idle-timeout', '2s',
  '--write-timeout', '2s', '--heartbeat', '500ms'];

/** Says a byte every few milliseconds, until nobody listens. */
async function drip(wire, text) {
  for (let i = 0; i < text.length && !wire.ended; i++) {
    await wire.say(text[i]);
    await Promise.race([wire.closed, new Promise((done) => setTimeout(done, 20))]);
  }
}

/** No answer of the wire is a good one. */
function onlyRefusals(wire, what) {
  for (const status of wire.statuses)
    assert.ok(status >= 400 && status < 600, `${what}: ${status}\n${wire.text.slice(0, 500)}`);
}

describe('a client that takes its time', () => {
  const server = witnessed(HASTE);

  it('is closed where it says nothing, or no more', async () => {
    const sid = await server.session();
    const good = head(server, `GET /v1/sessions/${sid}`);
    const post = head(server, `POST /v1/sessions/${sid}/commands`, JSON_TYPE,
      'content-length: 100');
    const starts = ['', 'G', 'GET / HTTP/1.1\r\n', good.slice(0, -2), post, `${post}{"type":`,
      head(server, `POST /v1/sessions/${sid}/commands`, JSON_TYPE, 'transfer-encoding: chunked') +
        '5\r\n{"ty', good];
    const wires = await many(starts.length * 25, 50, async (i) => {
      const wire = new Wire(server);
      await wire.say(starts[i % starts.length]);
      return wire;
    });
    await server.serves();
    await Promise.all(wires.map((wire) => wire.end('says no more')));
    for (const [i, wire] of wires.entries()) {
      if (i % starts.length === starts.length - 1) assert.deepEqual(wire.statuses, [200]);
      else onlyRefusals(wire, starts[i % starts.length]);
    }
  });

  it('is closed where it drips head or body', async () => {
    const sid = await server.session();
    const long = head(server, `GET /v1/sessions/${sid}`, `x-long: ${'x'.repeat(2000)}`);
    const post = head(server, `POST /v1/sessions/${sid}/commands`, JSON_TYPE,
      `content-length: ${MIB}`);
    const dripped = async (start, text) => {
      const wire = new Wire(server);
      await wire.say(start);
      await drip(wire, text);
      return wire.end('drips');
    };
    const wires = await Promise.all([
      ...Array.from({ length: 20 }, () => dripped('', long)),
      ...Array.from({ length: 20 }, () => dripped(post, ' '.repeat(5000)))]);
    for (const wire of wires) onlyRefusals(wire, 'dripping');
  });

  it('is closed where it asks for much and reads nothing', async () => {
    const sid = await server.session();
    const content = 'x'.repeat(200 * KIB);
    for (let n = 0; n < 5; n++) await server.say(sid, 'ann', content);
    const get = head(server, `GET /v1/sessions/${sid}`).repeat(50); // of 1 MB each
    const wires = Array.from({ length: 10 }, () => new Wire(server, { paused: true }));
    await Promise.all(wires.map((wire) => Promise.race([wire.say(get), wire.closed])));
    const streams = Array.from({ length: 10 }, () => new Wire(server, { paused: true }));
    await Promise.all(streams.map((wire) =>
      wire.say(head(server, `GET /v1/sessions/${sid}/stream`))));
    await until(async () => (await figure(server, 'streams')) >= 11, 'the streams');
    for (let n = 0; n < 100 && (await figure(server, 'streams')) > 1; n++)
      await server.say(sid, 'ann', content);
    await until(async () => (await figure(server, 'streams')) === 1, 'the streams to be cut');
    // Who does not read is not told of the end either: the server says what it has left.
    await until(async () => (await figure(server, 'connections')) < 10, 'all of them to be closed');
    for (const wire of [...wires, ...streams]) wire.close();
  });
});

describe('a client that is gone at once', () => {
  const server = witnessed();

  it('leaves nothing, wherever it was', async () => {
    const sid = await server.session();
    const post = bytes(server, 'POST', `/v1/sessions/${sid}/commands`,
      JSON.stringify({ type: 'agent.update', agent: 'ann', note: 'n' }), { connection: undefined });
    const asked = [
      Buffer.alloc(0), post.subarray(0, 40), post.subarray(0, post.length - 5), post,
      Buffer.concat(Array(20).fill(post)),
      head(server, `GET /v1/sessions/${sid}`),
      head(server, `GET /v1/sessions/${sid}/stream`),
      head(server, `GET /v1/sessions/${sid}/events`, 'accept: text/event-stream'),
      head(server, `GET /v1/sessions/${sid}/agents/bob/inbox?wait=50`),
      head(server, 'GET /v1/stream'), head(server, `GET /v1/sessions/${sid}/export`),
      head(server, `GET /v1/sessions/${sid}/ws`, 'connection: upgrade', 'upgrade: websocket',
        'sec-websocket-version: 13', 'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==') +
        frame('{"type":"agent.update","agent":"ann","note":"m"}').toString('latin1'),
      `POST /v1/sessions/${sid}/agents/bob/mcp HTTP/1.1\r\nhost: localhost\r\n${JSON_TYPE}\r\n` +
        'accept: application/json, text/event-stream\r\ncontent-length: 9999\r\n\r\n{"jsonrpc"',
    ];
    await many(asked.length * 50, 40, async (i) => {
      const wire = new Wire(server);
      await wire.connected;
      await wire.say(Buffer.from(asked[i % asked.length], 'latin1'));
      if (i % 3 === 0) await Promise.race([wire.closed, new Promise(setImmediate)]);
      wire.reset();
    });
    const stream = server.stream(sid);
    await stream.equalsView();
    stream.close();
  });
});

describe('a client that speaks no good HTTP', () => {
  const server = witnessed(['--idle-timeout', '2s', '--header-timeout', '2s']);

  it('is refused for its headers', async () => {
    const headersOf = (n, size) =>
      Array.from({ length: n }, (_, i) => `x-${i}: ${'v'.repeat(size)}`);
    const bombs = [headersOf(101, 1), headersOf(5000, 1), headersOf(10, 4 * KIB),
      [`x: ${'v'.repeat(MIB)}`],
      [`${'n'.repeat(64 * KIB)}: v`], [`cookie: ${'a=b; '.repeat(20_000)}`],
      [`authorization: Bearer ${'x'.repeat(100 * KIB)}`],
      [`if-none-match: ${'"a",'.repeat(9000)}`]];
    for (const headers of bombs) {
      const wire = new Wire(server);
      await wire.say(head(server, 'GET /v1/status', ...headers));
      const status = await wire.answer();
      // A server that reads no further may close before it is heard.
      assert.ok([400, 431, undefined].includes(status), `${status} for ${headers[0].slice(0, 30)}`);
      await wire.end('sent too many headers');
    }
    const target = new Wire(server);
    await target.say(head(server, `GET /v1/sessions?cursor=${'x'.repeat(200 * KIB)}`));
    assert.ok([400, 414, 431, undefined].includes(await target.answer()));
    target.close();
  });

  it('is refused where two readers could find two ends', async () => {
    const sid = await server.session();
    const path = `POST /v1/sessions/${sid}/commands`;
    const hidden = head(server, `DELETE /v1/sessions/${sid}`);
    const chunks = '0\r\n\r\n';
    const rows = [
      [['content-length: 5', 'transfer-encoding: chunked'], chunks],
      [['content-length: 5', `content-length: ${hidden.length}`], ''],
      [['content-length: 5', 'content-length: 5'], '     '],
      [['content-length: +5'], '     '], [['content-length: 5, 5'], '     '],
      [['content-length: 0x5'], '     '], [['content-length: -1'], ''],
      [['content-length: 99999999999999999999999'], ''],
      [['transfer-encoding: chunked, chunked'], chunks], [['transfer-encoding: xchunked'], chunks],
      [['transfer-encoding: identity'], ''], [['transfer-encoding : chunked'], chunks],
      [['transfer-encoding: chunked', 'transfer-encoding: chunked'], chunks],
      [['x: 1', ' content-length: 5'], '     '], [['host: other.example'], ''],
      [['x: a\rb'], ''], [['x: a\nb: c'], ''], [['x: a\0b'], ''], [[': empty'], ''],
      [['transfer-encoding: chunked'], '0x5\r\nhello\r\n0\r\n\r\n'],
      [['transfer-encoding: chunked'], '5 \r\nhello0\r\n\r\n'],
      [['transfer-encoding: chunked'], 'fffffffffffffffff\r\n'],
      [['transfer-encoding: chunked'], '-1\r\n\r\n'],
    ];
    for (const [headers, body] of rows) {
      const wire = new Wire(server);
      await wire.say(Buffer.from(head(server, path, JSON_TYPE, ...headers) + body + hidden,
        'latin1'));
      await wire.end(`sent ${headers}`);
      onlyRefusals(wire, headers.join());
      assert.ok(wire.statuses.length <= 1, `${headers}: answered twice\n${wire.text}`);
    }
    expect(await server.get(`/v1/sessions/${sid}`), 200);
  });

  it('is refused for garbage, also behind a good request', async () => {
    const random = randomFrom(Number(process.env.ATOLL_SEED ?? 7));
    const noise = (n) => Buffer.from(Array.from({ length: n }, () => Math.floor(random() * 256)));
    const good = Buffer.from(head(server, 'GET /healthz'));
    const hello = Buffer.from('16030100c8010000c40303', 'hex');
    const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    const garbage = [noise(100), noise(64 * KIB), hello, Buffer.concat([hello, noise(500)]),
      preface, Buffer.alloc(32 * KIB), Buffer.from('\r\n'.repeat(20 * KIB)),
      Buffer.from('GET '.repeat(9000)),
      Buffer.from('GET / HTTP/9.9\r\nhost: localhost\r\n\r\n'), Buffer.from('GET /\r\n\r\n'),
      Buffer.from('\x00GET / HTTP/1.1\r\n\r\n'), Buffer.from('get\t/\tHTTP/1.1\r\n\r\n'),
      Buffer.from('OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n'),
      Buffer.from('CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n'),
      Buffer.from('TRACE / HTTP/1.1\r\nhost: localhost\r\ncookie: a=b\r\n\r\n')];
    await Promise.all(garbage.map(async (bad) => {
      const alone = new Wire(server);
      await alone.say(bad);
      await alone.end('sent garbage');
      onlyRefusals(alone, bad.subarray(0, 20).toString('latin1'));
      assert.doesNotMatch(alone.text, /cookie: a=b/);
      const behind = new Wire(server);
      await behind.say(Buffer.concat([good, good, bad]));
      await behind.end('sent garbage behind requests');
      assert.ok(behind.statuses.slice(0, 2).every((status) => status === 200), behind.text);
      assert.ok(behind.statuses.slice(2).every((status) => status >= 400), behind.text);
    }));
  });

  it('finds nothing behind the routes', async () => {
    const names = ['../../../etc/passwd', '..%2f..%2fetc%2fpasswd', '%2e%2e/%2e%2e/etc/passwd',
      '....//....//etc/passwd', '..%5c..%5cetc%5cpasswd', '%00', 'app.js%00.html', '..;/etc/passwd',
      '%252e%252e%252fetc/passwd', '\u00a0/../etc/passwd', '/etc/passwd', '.git/config',
      'C:%5Cwindows%5Cwin.ini', '%c0%ae%c0%ae/etc/passwd', 'file:///etc/passwd'];
    for (const prefix of ['/', '/assets/', '/v1/', '/v1/sessions/', '/v1/sessions/x/threads/',
      '/openapi.yaml/', '//']) {
      for (const name of names) {
        const wire = new Wire(server);
        await wire.say(Buffer.from(head(server, `GET ${prefix}${name}`, 'connection: close'),
          'utf8'));
        const status = await wire.answer();
        assert.ok(status >= 400 && status < 500, `${status} for ${prefix}${name}`);
        assert.doesNotMatch(wire.text, /root:|\[core\]/);
        wire.close();
      }
    }
  });
});

describe('a client that sends much JSON', () => {
  const server = witnessed();
  const commands = (sid) => `/v1/sessions/${sid}/commands`;
  const send = (sid, data) =>
    `{"type":"message.send","thread":"general","sender":"ann","content":"x","data":${data}}`;

  it('is refused for depth and breadth', async () => {
    const sid = await server.session();
    const before = await server.view(sid);
    const nested = (n, open, close) => open.repeat(n) + close.repeat(n);
    const members = (n) =>
      `{${Array.from({ length: n }, (_, i) => `"${i}":${i}`).join()}}`;
    // The first is longer than all that its parser has read: an array without end, of faults.
    const rows = [`[${'1e999,'.repeat(9000)}1e999`, '['.repeat(MIB - 200),
      '{"a":'.repeat(150_000), nested(400_000, '[', ']'),
      nested(100_000, '{"a":', '}'), `[${'[],'.repeat(300_000)}[]]`, members(60_000),
      `[${'0,'.repeat(500_000)}0]`, `"${'x'.repeat(MIB - 200)}"`, '9'.repeat(900_000),
      `1e${'9'.repeat(900_000)}`, `0.${'0'.repeat(900_000)}1`, `"${'\\u0041'.repeat(150_000)}"`,
      `{"${'k'.repeat(900_000)}":1}`, `${' '.repeat(900_000)}[`, '\u0000',
      `[${'"\\ud83d\\ude00",'.repeat(60_000)}1]`];
    for (const data of rows) {
      const answer = await server.post(commands(sid), send(sid, data));
      assert.ok([400, 413].includes(answer.status), `${answer.status} for ${data.slice(0, 40)}`);
      assert.ok(answer.text.length < 2000, 'a refusal is short, whatever it is about');
      const whole = await server.post(commands(sid), data);
      assert.ok([400, 413].includes(whole.status), `${whole.status} for ${data.slice(0, 40)}`);
    }
    const lines = `${'{"type":"agent.leave","agent":"nobody"}\n'.repeat(10_001)}`;
    refused(await server.request('POST', commands(sid), { body: lines,
      type: 'application/x-ndjson' }), 413, 'too-large');
    const { json } = expect(await server.post(commands(sid), `[${'0,'.repeat(9999)}0]`), 200);
    assert.ok(json.results.every(({ status }) => status === 400));
    assert.deepEqual(await server.view(sid), before);
  });

  it('may not hide it by an encoding', async () => {
    const sid = await server.session();
    for (const encoding of ['gzip', 'deflate', 'br', 'identity, gzip', 'x']) {
      const answer = await server.post(commands(sid), Buffer.alloc(10 * KIB, 0x1f),
        { type: 'application/json', headers: { 'content-encoding': encoding } });
      assert.ok([400, 415].includes(answer.status), `${answer.status} for ${encoding}`);
    }
  });

  it('cannot aim at a shard, nor slow down a session by its names', async () => {
    const sids = Array.from({ length: 600 }, (_, i) => `aim-${'0'.repeat(40)}${i}`);
    await many(sids.length, 20, async (i) => expect(await server.put(`/v1/sessions/${sids[i]}`),
      201));
    const { shards } = (await server.get('/v1/status', { check: false })).json;
    if (shards.length > 1) {
      const fair = sids.length / shards.length;
      for (const shard of shards)
        assert.ok(shard.sessions > fair / 2, `${shard.sessions} of ${sids.length} sessions`);
    }
    // Names that a plain hash (by 31, or FNV of the first bytes) would put into one bucket.
    const pairs = ['Aa', 'BB'];
    const names = Array.from({ length: 900 }, (_, i) => Array.from({ length: 10 }, (_x, bit) =>
      pairs[i >> bit & 1]).join(''));
    const sid = await server.session([names[0]], { thread: null });
    const { json } = expect(await server.lines(sid, names.map((agent) =>
      ({ type: 'agent.register', agent }))), 200);
    assert.ok(json.results.every(({ status }) => status === 200));
    const labels = Object.fromEntries(names.slice(0, 64).map((name) => [name, 'v']));
    expect(await server.patch(`/v1/sessions/${sid}`, { labels }), 200);
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
    await many(sids.length, 20, async (i) =>
      expect(await server.delete(`/v1/sessions/${sids[i]}`), 204));
  });
});

describe('a client of a WebSocket', () => {
  const server = witnessed(['--write-timeout', '2s']);
  const path = (sid) => `/v1/sessions/${sid}/ws`;

  /** The code that the server closes with, from its last frame. */
  function closeCode(wire) {
    const all = Buffer.concat(wire.bytes);
    for (let at = all.length - 4; at >= 0; at--)
      if (all[at] === 0x88 && all[at + 1] === all.length - at - 2) return all.readUInt16BE(at + 2);
    return undefined;
  }

  it('is closed for frames that may not be, with the code that says why', async () => {
    const sid = await server.session();
    const name = (sent) => sent.subarray(0, 14).toString('hex');
    const rows = [
      [frame('{}', { masked: false }), 1002], [frame('x', { reserved: 4 }), 1002],
      [frame('x', { opcode: 3 }), 1002], [frame('x', { opcode: 11 }), 1002],
      [frame('x', { opcode: 0 }), 1002], [frame('x'.repeat(126), { opcode: 9 }), 1002],
      [frame('x', { opcode: 9, final: false }), 1002], [frame('x', { opcode: 8 }), 1002],
      [Buffer.concat([frame('a', { final: false }), frame('b')]), 1002],
      [frame(Buffer.from([0x03, 0xed]), { opcode: 8 }), 1002],
      [frame(Buffer.from([0xff, 0xfe])), 1007], [frame('x', { opcode: 2 }), 1003],
      [frame('', { length: 2 ** 40 }), 1009], [frame('', { length: 17 * MIB }), 1009],
      [Buffer.from([0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]),
        undefined],
      [Buffer.concat([frame(Buffer.from([0xc3]), { final: false }), frame('x', { opcode: 0 })]),
        1007],
    ];
    for (const [sent, code] of rows) {
      const wire = await openSocket(server, path(sid));
      await wire.say(sent);
      await wire.end(`sent ${name(sent)}`);
      assert.ok([code, ...(code ? [] : [1002, 1009])].includes(closeCode(wire)),
        `${closeCode(wire)} for ${name(sent)}`);
    }
  });

  it('is bounded in what it may say, however it is cut', async () => {
    const sid = await server.session();
    const crumbs = Buffer.concat(Array(20_000).fill(frame('x', { opcode: 0, final: false })));
    const endless = await openSocket(server, path(sid));
    await endless.say(frame('x', { final: false }));
    for (let n = 0; n < 200 && !endless.ended; n++) await endless.say(crumbs);
    await endless.end('never ends its message');
    assert.equal(closeCode(endless), 1009);

    const empty = await openSocket(server, path(sid));
    await empty.say(frame('', { final: false }));
    for (let n = 0; n < 20; n++)
      await empty.say(Buffer.concat(Array(5000).fill(frame('', { opcode: 0, final: false }))));
    await server.serves();
    empty.close();

    const pings = await openSocket(server, path(sid), { paused: true });
    const flood = Buffer.concat(Array(10_000).fill(frame('p'.repeat(125), { opcode: 9 })));
    for (let n = 0; n < 20 && !pings.ended; n++) await Promise.race([pings.say(flood),
      new Promise((done) => setTimeout(done, 100))]); // nobody reads: it may stop to take them
    await server.serves();
    pings.close();
  });

  it('is bounded in commands that it does not read the answers to', async () => {
    const sid = await server.session();
    const wire = await openSocket(server, path(sid), { paused: true });
    const command = frame(JSON.stringify({ ref: 'r'.repeat(100), type: 'agent.update',
      agent: 'ann', note: 'n'.repeat(500) }));
    const flood = Buffer.concat(Array(1000).fill(command));
    // The server stops to take them, so at last they pile up here, and the write-timeout has it go.
    for (let n = 0; n < 400 && !wire.ended && wire.socket.writableLength < 4 * MIB; n++)
      await Promise.race([wire.say(flood), new Promise((done) => setTimeout(done, 20))]);
    assert.ok(wire.ended || wire.socket.writableLength >= 4 * MIB, 'it takes no end of commands');
    await server.serves();
    wire.close();
    const junk = await openSocket(server, path(sid));
    for (const text of ['', 'x', '[]', '7', '{}', '{"ref":{}}', '{"type":7}', '{"ref":"r"}',
      `{"ref":"${'x'.repeat(200)}"}`, '['.repeat(50_000)]) await junk.say(frame(text));
    const count = () => Buffer.concat(junk.bytes).toString('latin1').split('"status":4').length - 1;
    await until(() => junk.ended || count() >= 10, 'ten refusals');
    assert.ok(!junk.ended, 'what is refused keeps the connection');
    junk.close();
  });
});

describe('a client of MCP', () => {
  const server = witnessed();

  it('is refused for what is no message', async () => {
    const sid = await server.session();
    const path = `/v1/sessions/${sid}/agents/bob/mcp`;
    const headers = { accept: 'application/json, text/event-stream' };
    const rows = ['', '{', '[]', '7', 'null', '"x"', '{}',
      '{"jsonrpc":"1.0","id":1,"method":"ping"}',
      '{"jsonrpc":"2.0","id":null,"method":"ping"}', '{"jsonrpc":"2.0","id":{},"method":"ping"}',
      `{"jsonrpc":"2.0","id":"${'x'.repeat(5000)}","method":"ping"}`,
      `{"jsonrpc":"2.0","id":1,"method":"${'m'.repeat(500_000)}"}`,
      `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${'['.repeat(100_000)}`,
      `[${'{"jsonrpc":"2.0","id":1,"method":"ping"},'.repeat(20_000)}7]`, '\u0000', '\ufeff{}'];
    for (const body of rows) {
      const answer = await server.post(path, body, { headers, check: false });
      assert.ok(answer.status >= 400 && answer.status < 500 || answer.json?.error,
        `${answer.status} for ${body.slice(0, 50)}: ${answer.text.slice(0, 300)}`);
      assert.ok(answer.text.length < 70_000);
    }
    const hello = { jsonrpc: '2.0', id: 1, method: 'initialize', params: {
      protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'x', version: '1' } } };
    await many(2000, 20, async () => {
      const { status } = await server.post(path, hello, { headers, check: false });
      assert.ok([200, 429, 503].includes(status), `${status}`);
    });
  });
});

describe('a client of many sessions', () => {
  const server = witnessed();

  it('is bounded in what it may watch at once', async () => {
    const sid = await server.session();
    const wire = await openSocket(server, '/v1/ws');
    for (let n = 0; n < 30; n++)
      await wire.say(Buffer.concat(Array.from({ length: 400 }, (_, i) => frame(JSON.stringify(
        { watch: { session: i % 2 ? sid : `none-${n}-${i}` } })))));
    await server.serves();
    wire.close();
    const ids = Array.from({ length: 1001 }, (_, i) => `session=${newId('x')}${i}`).join('&');
    const long = new Wire(server);
    await long.say(head(server, `GET /v1/stream?${ids}`));
    assert.ok([400, 414, 431].includes(await long.answer()));
    long.close();
  });
});
