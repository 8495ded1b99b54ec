/*
 * curves.mjs: from runs of atoll-load to points, bends and drawings. No server is needed.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { remove, temporaryDirectory } from '../http/harness.mjs';

const program = join(dirname(fileURLToPath(import.meta.url)), '../../loadtest/curves.mjs');

/** A report as atoll-load writes it, as far as it is read. */
const run = (options, cpu, more = {}) => ({
  mode: 'post', options, latency: { answer_us: { p50: 300, p99: 900 } },
  figures: { per_s: 60000, server_cpu_us: cpu, load_cpu_percent: 40, server_rss_mb: 20 }, ...more,
});

/** A directory with runs of `points`: {file: report}; what is given to curves.mjs comes back. */
function drawing(t, points, bends) {
  const directory = temporaryDirectory(), [runs, out] = ['runs', 'out'].map((n) => join(directory, n));
  t.after(() => remove(directory));
  [runs, out].forEach((path) => mkdirSync(path));
  for (const [file, text] of Object.entries(points))
    writeFileSync(join(runs, file), typeof text === 'string' ? text : JSON.stringify(text));
  if (bends) writeFileSync(join(out, 'bends.txt'), bends);
  const draw = (...more) => spawnSync(process.execPath, [program, '--out', out, ...more],
    { encoding: 'utf8' });
  return { out, draw, take: () => draw('--runs', runs, '--about', 'a test'),
    read: (name) => readFileSync(join(out, name), 'utf8') };
}

/** Runs of a curve over payloads: the CPU time of each round at each. */
const payloads = (costs) => Object.fromEntries(Object.entries(costs).flatMap(([bytes, rounds]) =>
  rounds.map((cpu, i) => [`payload.${bytes}.${i + 1}.json`, run({ payload: bytes }, cpu)])));
const lawful = { 100: [10.1, 11, 10], 1000: [11.4, 10.9, 11], 10000: [20.8, 19, 20] };
const bent = { ...lawful, 3000: [13, 12.8, 13.2], 30000: [70, 72, 71], 100000: [110, 109, 111] };

describe('curves.mjs', () => {
  it('takes medians and extremes of all rounds', (t) => {
    const { take, read } = drawing(t, payloads(bent));
    assert.equal(take().status, 0);
    const { about, points } = JSON.parse(read('curves.json')).payload;
    assert.equal(about, 'a test');
    assert.deepEqual(points.map((point) => point.x.median), [100, 1000, 3000, 10000, 30000, 100000]);
    assert.deepEqual(points[5].cpu_us, { median: 110, least: 109, most: 111 });
    assert.equal(points[5].mb_per_s.median, 6000);
    assert.match(read('table.md'), /\| 100k \| 60k \| 110 \(109 to 111\) \|/);
  });

  it('what follows the law is no bend, and one that nothing explains is named', (t) => {
    const { take, read } = drawing(t, payloads(lawful));
    assert.equal(take().stdout, '');
    assert.match(read('payload.svg'), /- - 10 \+ 0\.001 x µs/);
    assert.match(drawing(t, payloads(bent)).take().stdout,
      /^payload: a bend at 30k is not explained: 1\.\d+ times what its law says, [\d.]+ \+ [\d.]+ x µs$/m);
  });

  it('one with rounds on the law is no bend', (t) => {
    assert.equal(drawing(t, payloads({ ...lawful, 3000: [9, 16, 17] })).take().stdout, '');
  });

  it('marks what is explained, and says it below', (t) => {
    const { take, read } = drawing(t, payloads(bent),
      '# a note\npayload: each byte is <copied>.\npayload @30000: it leaves the cache\n');
    assert.doesNotMatch(take().stdout, /at 30k/);
    assert.equal(read('payload.svg').match(/class="mark"/g).length, 2, 'in both panels');
    assert.match(read('index.html'), /<li>At 30k: it leaves the cache<\/li>/);
    assert.match(read('index.html'), /<p>each byte is &#60;copied&#62;\.<\/p>/);
    assert.match(read('table.md'), /1\. At 30k: it leaves the cache/);
  });

  it('draws again from what it keeps, and keeps curves that were not measured this time', (t) => {
    const { draw, take, read, out } = drawing(t, payloads(lawful));
    take();
    writeFileSync(join(out, 'bends.txt'), 'payload @1000: told later\n');
    assert.equal(draw().status, 0);
    assert.match(read('index.html'), /told later/);
    const runs = join(out, '../more');
    mkdirSync(runs);
    writeFileSync(join(runs, 'batch.10.1.json'), JSON.stringify(run({ batch: 10 }, 2)));
    draw('--runs', runs, '--about', 'another');
    assert.deepEqual(Object.keys(JSON.parse(read('curves.json'))), ['payload', 'batch']);
  });

  it('a watched command is dearer than its deliveries, and none is watched by nobody', (t) => {
    const watch = run({ watchers: 100 }, 0.5, { mode: 'watch' });
    watch.figures.server_cpu_us_event = 50;
    watch.figures.events_per_s = 400;
    const { take, read } = drawing(t,
      { 'watchers.0.1.json': run({}, 12), 'watchers.100.1.json': watch });
    take();
    const [nobody, hundred] = JSON.parse(read('curves.json')).watchers.points;
    assert.equal(nobody.x.median, 0);
    assert.equal(nobody.delivery_us, undefined);
    assert.deepEqual([hundred.cpu_us.median, hundred.delivery_us.median, hundred.per_s.median],
      [50, 0.5, 400]);
    assert.match(read('watchers.svg'), />0<\/text>/);
  });

  it('a history is drawn where it was halfway', (t) => {
    const { take, read } = drawing(t,
      { 'history.10.1.json': run({}, 12), 'history.10.1.at': '35.5' });
    take();
    assert.equal(JSON.parse(read('curves.json')).history.points[0].x.median, 35.5);
  });

  it('drawings are readable by themselves, in light and in dark', (t) => {
    const { take, read } = drawing(t, payloads(bent));
    take();
    const svg = read('payload.svg');
    assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    assert.match(svg, /prefers-color-scheme: dark/);
    assert.doesNotMatch(svg, /NaN|undefined|Infinity|<script|href/);
    assert.doesNotMatch(read('index.html'), /NaN|undefined|Infinity|<script|src=|https?:\/\/(?!www\.w3)/);
  });

  it('refuses what it does not understand', (t) => {
    const { take, draw } = drawing(t, payloads(lawful), 'payload 100: no colon in the right place\n');
    const { status, stderr } = take();
    assert.equal(status, 1);
    assert.match(stderr, /bends\.txt:1: neither "CURVE: text" nor "CURVE @X: text"/);
    assert.equal(draw('--nothing', 'x').status, 2);
  });
});
