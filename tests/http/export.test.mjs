/*
 * A session as a file: out of one server and into another, by HTTP and by the program; the same
 * chain and state on the other side, or a refusal that names the line.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { NDJSON, expect, newId, ndjson, refused, remove, run, serving, temporaryDirectory }
  from './harness.mjs';

const parse = (text) => text.trimEnd().split('\n').map((line) => JSON.parse(line));

describe('an export', () => {
  const source = serving({ args: ['--shards', '2'] });
  const target = serving({ args: ['--shards', '1'] });
  const importing = (sid, text, query = '', options = {}) =>
    target.post(`/v1/sessions/${sid}/import${query}`, text, { type: NDJSON, ...options });
  const scene = async (rounds = 4) => source.live(await source.session(), rounds);

  it('has a line for every event behind its header', async () => {
    const sid = await scene();
    const [header, ...lines] = parse(await source.export(sid));
    const { epoch, seq } = await source.view(sid);
    const { chain, state_hash } = await source.proof(sid);
    const { exported_at, ...told } = header;
    assert.deepEqual(told, { atoll: 'session', version: 1, session: sid, epoch, seq, chain,
      state_hash });
    assert.deepEqual(lines.map((l) => l.event), await source.events(sid));
    assert.deepEqual(lines.map((l) => l.seq), lines.map((l) => l.event.seq));
    assert.equal(lines.at(-1).chain, chain);
    const rest = expect(await source.get(`/v1/sessions/${sid}/export?after=${seq - 3}`), 200);
    assert.deepEqual(parse(rest.text), lines.slice(-3));
  });

  it('becomes the same session on another server', async () => {
    const sid = await scene();
    const known = [await source.view(sid), await source.proof(sid), await source.events(sid)];
    const answer = expect(await importing(sid, await source.export(sid)), 201);
    assert.equal(answer.headers.location, `/v1/sessions/${sid}`);
    const view = await target.view(sid);
    assert.deepEqual(answer.json, { session: sid, epoch: view.epoch, seq: known[0].seq,
      chain: known[1].chain });
    assert.deepEqual(view, { ...known[0], epoch: view.epoch });
    assert.deepEqual(await target.proof(sid), { ...known[1], epoch: view.epoch });
    assert.deepEqual(await target.events(sid), known[2]);
    for (const at of [1, 20, 37]) {
      const past = await source.view(sid, `?at=${at}`);
      assert.deepEqual(await target.view(sid, `?at=${at}`), { ...past, epoch: view.epoch });
    }
    assert.equal((await target.say(sid, 'ann', 'goes on')).seq, known[0].seq + 1);
    await target.restart();
    assert.equal((await target.proof(sid, `?at=${known[0].seq}`)).chain, known[1].chain);
  });

  it('of a fork becomes the fork, without its parent', async () => {
    const parent = await scene(2);
    const { session } = await source.fork(parent, { at: 11 });
    await source.live(session, 1, 'fork');
    expect(await importing(session, await source.export(session)), 201);
    const { chain, state_hash } = await source.proof(session);
    const proof = await target.proof(session);
    assert.deepEqual([proof.chain, proof.state_hash], [chain, state_hash]);
    assert.deepEqual((await target.view(session)).state, (await source.view(session)).state);
    refused(await target.get(`/v1/sessions/${parent}`), 404, 'unknown-session');
  });

  it('comes in by pages, and is no session before the last', async () => {
    const sid = await scene();
    const lines = (await source.export(sid)).trimEnd().split('\n');
    const { seq } = await source.view(sid);
    const page = (from, to) => ndjson(lines.slice(from, to));
    expect(await importing(sid, page(0, 11), '?more=true'), 200);
    refused(await target.get(`/v1/sessions/${sid}`), 404, 'unknown-session');
    assert.equal(expect(await importing(sid, page(11, 21), '?after=10&more=true'), 200).json.seq,
      20);
    refused(await target.get(`/v1/sessions/${sid}`), 404, 'unknown-session');
    assert.equal(expect(await importing(sid, page(21), '?after=20'), 201).json.seq, seq);
    assert.equal((await target.proof(sid)).chain, (await source.proof(sid)).chain);
  });

  it('whose pages do not follow each other is refused', async () => {
    const sid = await scene(2);
    const lines = (await source.export(sid)).trimEnd().split('\n');
    const page = (from, to) => ndjson(lines.slice(from, to));
    const refusedPage = async (text, query) => {
      const answer = await importing(sid, text, query);
      assert.ok([400, 404, 409].includes(answer.status), answer.text);
    };
    await refusedPage(page(5, 8), '?after=4'); // nothing has begun
    expect(await importing(sid, page(0, 5), '?more=true'), 200);
    await refusedPage(page(7, 9), '?after=6&more=true');
    await target.request('DELETE', `/v1/sessions/${sid}`, { check: false });
    expect(await importing(sid, page(0)), 201); // from its beginning it goes
    refused(await importing(sid, page(0)), 409, 'refused', 'session');
  });

  it('that was changed is refused, and the line is named', async () => {
    const sid = await scene(2);
    const lines = (await source.export(sid)).trimEnd().split('\n');
    const text = (n, change) => ndjson(lines.map((l, i) => (i === n - 1 ? change(l) : l)));
    const edit = (change) => (line) => {
      const value = JSON.parse(line);
      change(value);
      return JSON.stringify(value);
    };
    const changes = {
      'a letter of the event': edit((v) => { v.event.ts = v.event.ts.replace('Z', '1Z'); }),
      'another seq': edit((v) => { v.event.seq += 1; }),
      'a byte': edit((v) => {
        const bytes = Buffer.from(v.bytes, 'base64');
        bytes[bytes.length - 1] ^= 1;
        v.bytes = bytes.toString('base64');
      }),
      'a byte less': edit((v) => {
        v.bytes = Buffer.from(v.bytes, 'base64').subarray(0, -1).toString('base64');
      }),
      'a byte more': edit((v) => {
        v.bytes = Buffer.concat([Buffer.from(v.bytes, 'base64'), Buffer.alloc(1)])
          .toString('base64');
      }),
      'the chain': edit((v) => { v.chain = v.chain.replace(/^./, (c) => (c === '0' ? '1' : '0')); }),
      'the end of the line': (line) => line.slice(0, -5),
      'no line': () => '',
      'a blank': edit((v) => { v.event = { ...v.event, extra: 1 }; }),
      'the base64': (line) => line.replace('"bytes":"', '"bytes":"*'),
    };
    for (const [what, change] of Object.entries(changes))
      for (const line of [2, 9, lines.length]) {
        const { detail } = refused(await importing(sid, text(line, change)), 400, 'malformed');
        assert.match(detail, new RegExp(`line ${line}\\b`), `${what} in line ${line}`);
        refused(await target.get(`/v1/sessions/${sid}`), 404, 'unknown-session');
      }
    expect(await importing(sid, ndjson(lines)), 201);
  });

  it('whose bytes and event agree on a lie is refused by the chain', async () => {
    const sid = await source.session(['ann']);
    await source.say(sid, 'ann', 'AAAAAAAA');
    await source.say(sid, 'ann', 'end');
    const lines = (await source.export(sid)).trimEnd().split('\n');
    const at = lines.findIndex((l) => l.includes('AAAAAAAA'));
    const value = JSON.parse(lines[at]);
    const bytes = Buffer.from(value.bytes, 'base64');
    bytes[bytes.indexOf('AAAAAAAA')] = 'B'.charCodeAt(0);
    lines[at] = lines[at].replace('AAAAAAAA', 'BAAAAAAA')
      .replace(value.bytes, bytes.toString('base64'));
    const { detail } = refused(await importing(sid, ndjson(lines)), 400, 'malformed');
    assert.match(detail, new RegExp(`line ${at + 1}\\b.*chain`));
  });

  it('with a header that cannot be is refused', async () => {
    const sid = await scene(1);
    const [header, ...lines] = (await source.export(sid)).trimEnd().split('\n');
    const with_ = (changes) => ndjson([{ ...JSON.parse(header), ...changes }, ...lines]);
    for (const [changes, words] of [[{ version: 2 }, /version 2.*version 1/],
      [{ atoll: 'x' }, /atoll/], [{ session: 'other' }, /other/], [{ seq: 3 }, /3 events/],
      [{ chain: '00'.repeat(32) }, /chain/], [{ more: 1 }, /more/]])
      assert.match(refused(await importing(sid, with_(changes)), 400, 'malformed').detail, words);
    refused(await importing(sid, ndjson(lines)), 400, 'malformed', 'body');
    refused(await importing(sid, ''), 400, 'malformed', 'body');
    refused(await importing(sid, with_({}), '', { type: 'application/json' }), 415,
      'unsupported-media-type', 'Content-Type');
    refused(await importing(newId(), with_({})), 400, 'malformed', 'session');
    refused(await importing(sid, ndjson(lines), '?after=x'), 400, 'malformed', 'after');
    refused(await importing(sid, ndjson(lines), '?more=yes'), 400, 'malformed', 'more');
  });

  it('of many megabytes comes in pages that a slow client takes when it likes', async () => {
    const sid = await source.session();
    const content = 'x'.repeat(200_000);
    for (let n = 0; n < 40; n++) await source.say(sid, 'ann', `${n} ${content}`);
    const text = await source.export(sid);
    assert.ok(text.length > 15_000_000);
    const { seq } = await source.view(sid);
    assert.equal(parse(text).length, seq + 1);
    const response = await new Promise((done, fail) => http.get({ host: source.hostname,
      port: source.port, path: `/v1/sessions/${sid}/export`, agent: false }, done)
      .on('error', fail));
    let slow = '';
    response.setEncoding('utf8');
    const said = await source.say(sid, 'ann', 'meanwhile'); // which is not in the export
    for await (const chunk of response) slow += chunk;
    assert.equal(slow.length, text.length);
    assert.equal(slow, text);
    assert.equal(said.seq, seq + 1);
  });

  it('is cut off where the session is deleted under it', async () => {
    const sid = await source.session();
    const content = 'x'.repeat(250_000);
    for (let n = 0; n < 60; n++) await source.say(sid, 'ann', `${n} ${content}`);
    const response = await new Promise((done, fail) => http.get({ host: source.hostname,
      port: source.port, path: `/v1/sessions/${sid}/export`, agent: false }, done)
      .on('error', fail));
    response.pause();
    expect(await source.delete(`/v1/sessions/${sid}`), 204);
    let text = '';
    const end = await (async () => {
      for await (const chunk of response) text += chunk;
    })().catch((error) => error);
    assert.ok(end instanceof Error, `it looks whole, with ${text.length} bytes`);
    assert.equal((await source.get('/healthz')).status, 200);
  });

  describe('by the program', () => {
    const directory = temporaryDirectory();
    after(() => remove(directory));
    const file = (name) => join(directory, name);
    let sid;
    before(async () => { sid = await scene(3); });

    it('is written to a file and read from it', async () => {
      const path = file('demo.ndjson');
      const out = await run(['export', sid, '--server', source.url, '--output', path]);
      assert.deepEqual([out.code, out.stdout], [0, ''], out.stderr);
      const text = await source.export(sid);
      const untimed = (t) => t.replace(/"exported_at":"[^"]*"/, '');
      assert.equal(untimed(readFileSync(path, 'utf8')), untimed(text));
      assert.ok(!existsSync(`${path}.part`));
      const plain = await run(['export', `--server=${source.url}`, sid]);
      assert.deepEqual([plain.code, untimed(plain.stdout)], [0, untimed(text)]);
      const back = await run(['import', path, '--server', target.url]);
      assert.equal(back.code, 0, back.stderr);
      assert.equal((await target.proof(sid)).chain, (await source.proof(sid)).chain);
      const again = await run(['import', path, '--server', target.url]);
      assert.equal(again.code, 1);
      assert.match(again.stderr, /409/);
      assert.equal(again.stderr.trimEnd().split('\n').length, 1, again.stderr);
    });

    it('goes by pages where it is large', async () => {
      const large = await source.session();
      for (let n = 0; n < 40; n++) await source.say(large, 'ann', 'y'.repeat(200_000));
      const path = file('large.ndjson');
      assert.equal((await run(['export', large, '--server', source.url, '--output', path])).code, 0);
      const back = await run(['import', path, '--server', target.url]);
      assert.equal(back.code, 0, back.stderr);
      assert.equal((await target.proof(large)).state_hash, (await source.proof(large)).state_hash);
    });

    it('leaves nothing where it fails', async () => {
      const path = file('none.ndjson');
      const unknown = await run(['export', newId('no'), '--server', source.url, '--output', path]);
      assert.equal(unknown.code, 1);
      assert.match(unknown.stderr, /^atoll: export: .*\(404\)\n$/);
      const nobody = await run(['export', sid, '--server', 'http://127.0.0.1:1', '--output', path]);
      assert.equal(nobody.code, 1);
      assert.match(nobody.stderr, /127\.0\.0\.1:1/);
      assert.ok(!readdirSync(directory).some((name) => name.startsWith('none')));
      const nowhere = await run(['export', sid, '--server', source.url, '--output',
        join(directory, 'absent', 'x')]);
      assert.match(nowhere.stderr, /absent/);
      for (const args of [['export'], ['export', 'a', 'b'], ['export', 'a/b'], ['import'],
        ['export', 'a', '--server'], ['export', 'a', '--server', 'ftp://x'],
        ['import', 'f', '--output', 'x']]) {
        const out = await run(args);
        assert.equal(out.code, 2, args.join(' '));
        assert.match(out.stderr, /^atoll: /);
      }
    });

    it('sends no file that is cut short or changed', async () => {
      const other = await scene(1);
      const lines = (await source.export(other)).trimEnd().split('\n');
      const path = file('short.ndjson');
      const importFile = async (text) => {
        writeFileSync(path, text);
        return run(['import', path, '--server', target.url]);
      };
      for (const [text, words] of [[ndjson(lines.slice(0, -1)), /line \d+: the file ends here/],
        ['', /line 1: the file is empty/], [ndjson(lines).slice(0, -20), /line \d+/],
        [ndjson(lines.slice(1)), /line 1/],
        [ndjson([lines[0], ...lines.slice(2)]), /line 2: its seq must be 1/]]) {
        const out = await importFile(text);
        assert.equal(out.code, 1);
        assert.match(out.stderr, words);
      }
      const changed = await importFile(ndjson(lines.map((l, n) => (n === 5
        ? l.replace('"ts":"2', '"ts":"1') : l))));
      assert.equal(changed.code, 1);
      assert.match(changed.stderr, /line 6\b.*\(400\)/);
      refused(await target.get(`/v1/sessions/${other}`), 404, 'unknown-session');
    });
  });
});

describe('an export over a unix socket', () => {
  const directory = temporaryDirectory();
  const path = join(directory, 'atoll.sock');
  const server = serving({ listen: ['127.0.0.1:0', `unix:${path}`] });
  after(() => remove(directory));

  it('is the same', async () => {
    const sid = await server.session();
    const out = await run(['export', sid, '--server', `unix:${path}`]);
    assert.equal(out.code, 0, out.stderr);
    assert.equal(parse(out.stdout)[0].session, sid);
  });
});
