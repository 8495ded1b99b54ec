/*
 * atoll-load itself: each mode does its work against a real server and finds nothing wrong, and what
 * is wrong with a server that does not keep its word it does find.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { remove, start, temporaryDirectory } from '../http/harness.mjs';
import { Fake, faults } from './fake.mjs';
import { SHORT, bad, checked, good, load } from './harness.mjs';

describe('against Atoll', { concurrency: false }, () => {
  let server, url, directory;
  before(async () => {
    server = await start({ args: ['--shards', '1'] });
    url = server.url;
    directory = temporaryDirectory();
  });
  after(async () => {
    await server.stop();
    remove(directory);
  });

  it('post sends, measures and reads all back', async () => {
    const report = await good('post', '--url', url, '--pid', String(server.child.pid), ...SHORT,
      '--connections', '8', '--sessions', '5');
    const { figures, latency, options } = report;
    assert.equal(report.mode, 'post');
    assert.equal(options.connections, 8);
    assert.ok(figures.operations > 0 && figures.server_rss_mb > 1);
    assert.ok(figures.server_cpu_us > 0 && figures.load_cpu_percent >= 0);
    assert.ok(Math.abs(figures.per_s * figures.seconds - figures.operations) < 2);
    assert.equal(latency.answer_us.n, figures.operations);
    const { p50, p90, p99, p99_9: p999, max } = latency.answer_us;
    assert.ok(0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= p999 && p999 <= max);
    assert.equal(checked(report, 'messages read back'), figures.acknowledged);
    assert.ok(figures.acknowledged >= figures.operations);
    assert.equal(checked(report, 'sessions read back'), 5);
  });

  it('post at a fixed rate sends what was planned', async () => {
    const { figures, latency } = await good('post', '--url', url, '--seconds', '1', '--warmup', '0',
      '--quiet', '--rate', '50', '--connections', '4', '--sessions', '3');
    assert.ok(Math.abs(latency.answer_us.n - 50) <= 2, `${latency.answer_us.n}`);
    assert.ok(figures.acknowledged >= latency.answer_us.n); // more, if it ends late
  });

  it('post --count sends just so many', async () => {
    const { figures, latency } = await good('post', '--url', url, '--count', '123', '--quiet',
      '--connections', '4', '--sessions', '3', '--prefix', 'count');
    assert.deepEqual([figures.operations, figures.acknowledged, latency.answer_us.n],
      [123, 123, 123]);
  });

  it('batch counts commands', async () => {
    const report = await good('batch', '--url', url, ...SHORT, '--connections', '3', '--batch', '7',
      '--prefix', 'batch');
    assert.equal(report.figures.operations, report.latency.answer_us.n * 7);
    assert.equal(checked(report, 'messages read back'), report.figures.acknowledged);
  });

  it('what is too much to read is read in part, and said so', async () => {
    const report = await good('batch', '--url', url, '--quiet', '--count', '8', '--batch', '1000',
      '--read-max', '3000', '--prefix', 'part');
    const read = checked(report, 'messages read back, a part spread over all');
    assert.ok(read >= 1000 && read < 8000, `${read}`);
    assert.equal(checked(report, 'sessions whose seq is what was acknowledged'), 1);
  });

  it('a second run in the same sessions checks its own messages alone', async () => {
    const args = ['post', '--url', url, ...SHORT, '--prefix', 'again', '--sessions', '2'];
    await good(...args);
    const report = await good(...args);
    assert.equal(checked(report, 'messages read back'), report.figures.acknowledged);
  });

  it('fill makes just the events that it was asked for, and request reads them', async () => {
    const { figures } = await good('fill', '--url', url, '--sessions', '3', '--events', '250',
      '--agents', '2', '--quiet');
    assert.equal(figures.operations, 750);
    const view = await server.get('/v1/sessions/fill2');
    assert.equal(view.json.seq, 250);
    const report = await good('request', '--url', url, '--count', '12', '--range', '0-2',
      '--quiet', '/v1/sessions/fill{}/events?limit=100', '--page', 'next');
    assert.equal(report.figures.operations, 12);
    assert.match(await bad('request', '--url', url, '--count', '3', '--quiet', '/v1/sessions/none'),
      /3 requests were not answered by 2xx: the first was 404 .*unknown-session/);
  });

  it('the text, the page and the file of JSON tell the same', async () => {
    const [json, html] = ['report.json', 'report.html'].map((name) => join(directory, name));
    const { code, stdout } = await load('post', '--url', url, '--seconds', '2.2', '--warmup', '0',
      '--sessions', '2', '--json', json, '--html', html);
    assert.equal(code, 0);
    const report = JSON.parse(readFileSync(json, 'utf8'));
    const page = readFileSync(html, 'utf8');
    assert.ok(report.seconds.length >= 1); // a second in which it did not run is not there
    const digits = String(report.figures.operations);
    assert.match(stdout, new RegExp(`operations +${digits} `));
    assert.ok(page.replaceAll('&#8239;', '').includes(`<td>${digits}</td>`));
    assert.equal(page.match(/<svg/g).length, report.seconds.length < 2 ? 1 : 3);
    assert.doesNotMatch(page, /<script|src=|href=|url\(/);
  });
});

describe('against a server that does not keep its word', { concurrency: true }, () => {
  const few = ['--count', '200', '--quiet', '--connections', '4', '--sessions', '2'];
  const found = {
    lose: /\d+ messages are acknowledged and not there: the first is number \d+ of connection \d/,
    repeat: /\d+ messages are there more than once: the first is /,
    reorder: /\d+ messages are behind later ones of the same connection/,
    alter: /\d+ messages are there with another content/,
    shorten: /\d+ messages are there with another content/,
    misplace: /\d+ messages are in a session that they were not sent to/,
    invent: /\d+ messages are there, and nobody has sent them/,
    refuse: /\d+ requests were not answered by 2xx: the first was 503/,
  };

  it('an honest one is found to be so', async (t) => {
    const fake = await new Fake(faults.none).start(t);
    const report = await good('post', '--url', fake.url, ...few);
    assert.equal(checked(report, 'messages read back'), report.figures.acknowledged);
    assert.ok(report.figures.acknowledged > 0);
  });

  for (const [name, problem] of Object.entries(found)) {
    it(`post finds it out: ${name}`, async (t) => {
      const fake = await new Fake(faults[name]).start(t);
      const problems = await bad('post', '--url', fake.url, ...few);
      assert.match(problems, problem);
      for (const [other, text] of Object.entries(found)) {
        // Who moves a message has lost it where it should be, and only a refusal is no fault of all.
        if (String(text) !== String(problem) && !(name === 'misplace' && other === 'lose'))
          assert.doesNotMatch(problems, text, `${name} is told as ${other}, too`);
      }
    });
  }

  for (const name of ['lose', 'repeat', 'reorder']) {
    it(`batch finds it out: ${name}`, async (t) => {
      const fake = await new Fake(faults[name]).start(t);
      assert.match(await bad('batch', '--url', fake.url, ...few, '--batch', '20'), found[name]);
    });
  }

  it('also where only a part is read', async (t) => {
    const fake = await new Fake(faults.lose).start(t);
    assert.match(await bad('batch', '--url', fake.url, '--count', '8', '--quiet',
      '--connections', '4', '--batch', '1000', '--read-max', '1'),
    /session bench0 has seq \d+, was at \d+ before, and \d+ to \d+ were sent/);
  });

  it('a connection that ends is told', async (t) => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab'));
    });
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    t.after(() => server.close());
    const url = `http://127.0.0.1:${server.address().port}`;
    assert.match(await bad('request', '--url', url, '--count', '2', '--quiet', '/x'),
      /connection 0: the server has closed the connection/);
  });

  it('what is no HTTP is told', async (t) => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.write('SSH-2.0-x\r\n\r\n'));
    });
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    t.after(() => server.close());
    const url = `http://127.0.0.1:${server.address().port}`;
    assert.match(await bad('request', '--url', url, '--count', '1', '--quiet', '/x'),
      /connection 0: the answer is not HTTP\/1.1/);
  });
});

describe('options', () => {
  const refused = [
    [[], /usage: atoll-load MODE/],
    [['nothing'], /there is no mode "nothing"/],
    [['post'], /post needs --url http:\/\/ADDRESS:PORT/],
    [['post', '--url', 'localhost:80'], /--url is "localhost:80", and has to be http:\/\/ADDRESS:PORT/],
    [['post', '--url', 'http://127.0.0.1:1', '--seconds', '0'],
      /--seconds is "0", and has to be a number from 0.01 to 86400/],
    [['post', '--url', 'http://127.0.0.1:1', '--connections', '1e3'],
      /--connections is "1e3", and has to be a whole number from 1 to 65536/],
    [['post', '--url', 'http://127.0.0.1:1', '--payload', '8'],
      /--payload is 8, and has to be at least 26/],
    [['post', '--url', 'http://127.0.0.1:1', '--prefix', 'a/b'],
      /--prefix is "a\/b", and has to be 1 to 40 letters, digits/],
    [['post', '--url', 'http://127.0.0.1:1', '--target', 'kafka'],
      /--target is "kafka", and has to be one of: atoll http redis/],
    [['post', '--url', 'http://127.0.0.1:1', '--colour', 'blue'], /post has no option --colour/],
    [['post', '--url', 'http://127.0.0.1:1', '--seed'], /--seed needs a value/],
    [['post', '--url', 'http://127.0.0.1:1', 'more'], /"more" is an argument too many for post/],
    [['request', '--url', 'http://127.0.0.1:1'], /request needs a PATH/],
    [['request', '--url', 'http://127.0.0.1:1', '--range', '9-3', '/'],
      /--range is "9-3", and has to be A-B/],
    [['fill', '--url', 'http://127.0.0.1:1'], /http:\/\/127.0.0.1:1: Connection refused/],
  ];
  for (const [args, text] of refused) {
    it(`refused: ${args.join(' ')}`, async () => {
      const { code, stdout, stderr } = await load(...args);
      assert.equal(code, 2, stderr);
      assert.match(stderr, text);
      assert.equal(stdout, '');
    });
  }

  it('--help tells of each mode and its options', async () => {
    const { code, stdout } = await load('--help');
    assert.equal(code, 0);
    const modes = [...stdout.matchAll(/^ {2}([a-z]+) {2}/gm)].map(([, name]) => name);
    assert.ok(modes.includes('post') && modes.includes('fill'));
    for (const mode of modes) {
      const help = await load(mode, '--help');
      assert.equal(help.code, 0);
      assert.match(help.stdout, new RegExp(`^atoll-load ${mode}: .*\n`));
      assert.match(help.stdout, /--connections N/);
    }
  });
});
