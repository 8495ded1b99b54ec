// loadtest/compare.mjs decides whether a goal is met: it must not say so where it is not, where a run
// found something wrong, or where nothing was measured.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const program = fileURLToPath(new URL('../../loadtest/compare.mjs', import.meta.url));

function compare(...args) {
  const { status, stdout, stderr } = spawnSync('node', [program, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** A folder with runs: { 'post.atoll': [what each round found] }. */
function runsIn(t, sides) {
  const dir = mkdtempSync(path.join(tmpdir(), 'compare-'));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(path.join(dir, 'machine'), 'a machine\n');
  writeFileSync(path.join(dir, 'configuration'), 'a configuration\n');
  for (const [side, rounds] of Object.entries(sides)) {
    rounds.forEach((found, i) =>
      writeFileSync(path.join(dir, `${side}.${i + 1}.json`), JSON.stringify(found)));
  }
  return dir;
}

const perSecond = (...values) => values.map((per_s) => ({ figures: { per_s }, problems: [] }));
const cpu = (...values) => values.map((server_cpu_us) => ({ figures: { server_cpu_us } }));

/** The cells of the table's only row. */
function cells(stdout) {
  const lines = stdout.split('\n').filter((line) => line.startsWith('|'));
  assert.equal(lines.length, 3, stdout);
  return lines[2].split('|').slice(1, -1).map((cell) => cell.trim());
}

test('a ratio of medians is held against its goals', (t) => {
  const dir = runsIn(t, {
    'post.atoll': perSecond(70, 10, 60, 9000, 58), 'post.h2o': perSecond(100, 90, 110, 100),
  });
  const { status, stdout } = compare('report', dir, 'post');
  const [, atoll, rival, ratio, must, , met] = cells(stdout);
  assert.deepEqual([atoll, rival, ratio, must, met],
    ['60.0', '100 (h2o alone, 4 of 5 rounds)', '0.600', '≥ 0.58', 'yes']);
  assert.equal(status, 0);
});

test('a goal that is missed by a little is missed, and the status is 3', (t) => {
  const dir = runsIn(t, { 'post.atoll': perSecond(579), 'post.h2o': perSecond(1000) });
  const { status, stdout } = compare('report', dir, 'post');
  assert.equal(cells(stdout)[6], 'NO');
  assert.equal(status, 3);
});

test('where less is better, more is missed', (t) => {
  const good = runsIn(t, { 'post.atoll': cpu(13.4), 'post.h2o': cpu(10) });
  const bad = runsIn(t, { 'post.atoll': cpu(17.1), 'post.h2o': cpu(10) });
  assert.equal(cells(compare('report', good, 'cpu').stdout)[6], 'yes, and try');
  assert.equal(compare('report', good, 'cpu').status, 0);
  assert.equal(cells(compare('report', bad, 'cpu').stdout)[6], 'NO');
  assert.equal(compare('report', bad, 'cpu').status, 3);
});

test('a goal without a rival is one of the figure itself', (t) => {
  const dir = runsIn(t, { 'batch.atoll': perSecond(999999) });
  const { status, stdout } = compare('report', dir, 'batch');
  assert.deepEqual(cells(stdout).slice(1, 7), ['999 999', '', '', '≥ 1 000 000', '≥ 2 000 000', 'NO']);
  assert.equal(status, 3);
});

test('what Atoll lost is told, no goal is judged by it and the status is 1', (t) => {
  const dir = runsIn(t, {
    'post.atoll': [{ figures: { per_s: 900 }, problems: ['one message is lost'] }],
    'post.h2o': perSecond(1000),
  });
  const { status, stdout, stderr } = compare('report', dir, 'post');
  assert.equal(status, 1);
  assert.equal(cells(stdout)[6], 'not judged');
  assert.match(cells(stdout)[7], /found of Atoll: one message is lost/);
  assert.match(stderr, /post, atoll, round 1: one message is lost/);
});

test('what a rival lost is told in its row', (t) => {
  const dir = runsIn(t, {
    'post.atoll': perSecond(900),
    'post.redis': [{ figures: { per_s: 1000 }, problems: ['two messages are lost'] }],
  });
  const { status, stdout } = compare('report', dir, 'redis');
  assert.match(cells(stdout)[7], /found: two messages are lost/);
  assert.equal(status, 0);
});

test('a cell stays short and whole, whatever a rival has said', (t) => {
  const dir = runsIn(t, {
    'post.atoll': perSecond(900),
    'post.redis': [{ figures: { per_s: 1000 }, problems: [`a | b\n${'long '.repeat(99)}`] }],
  });
  const lacks = cells(compare('report', dir, 'redis').stdout)[7];
  assert.match(lacks, /found: a b long .*…$/);
  assert.ok(lacks.length < 250, lacks);
});

/** Runs of fan-out of Atoll and of another side, each a round. */
function fanoutIn(t, side, atoll, other) {
  const each = (patches_per_s, figures) =>
    ({ figures: { patches_per_s, merged: 0, resets: 0, bytes_each: 220, a_read: 1, ...figures } });
  return runsIn(t, {
    'fanout.atoll': [each(4000, {}), each(4000, atoll)],
    [`fanout.${side}`]: [each(1000, {}), each(1000, other)],
  });
}

test('the rows of fan-out say how many frames came in a read', (t) => {
  const dir = fanoutIn(t, 'sendloop', { a_read: 41 }, { a_read: 1.2 });
  const { status, stdout } = compare('report', dir, 'fanout');
  assert.deepEqual(cells(stdout).slice(1, 7), ['4 000 (21.0 frames a read)',
    '1 000 (bare send() loop, 1.1 frames a read)', '4.000', '≥ 0.85', '≥ 1', 'yes, and try']);
  assert.equal(status, 0);
});

for (const [what, atoll, other, told] of [
  ['merged patches', { merged: 1000 }, {}, /of Atoll: not unmerged: 1000 merged patches, 0 resets/],
  ['a snapshot in between', { resets: 1 }, {}, /not unmerged: 0 merged patches, 1 resets/],
  ['shorter frames', {}, { bytes_each: 209 }, /found: frames of 209 bytes, Atoll's have 220/],
  ['longer frames', {}, { bytes_each: 232 }, /found: frames of 232 bytes, Atoll's have 220/],
]) {
  test(`one run of fan-out with ${what} is enough for no goal to be judged`, (t) => {
    const dir = fanoutIn(t, 'nchan', atoll, other);
    const { status, stdout } = compare('report', dir, 'fanout-nchan');
    assert.equal(cells(stdout)[6], 'not judged');
    assert.match(cells(stdout)[7], told);
    assert.equal(status, 1);
  });
}

test('frames that differ by less than 5 % are the same', (t) => {
  const dir = fanoutIn(t, 'nchan', { bytes_each: 218 }, { bytes_each: 228 });
  const { status, stdout } = compare('report', dir, 'fanout-nchan');
  assert.equal(cells(stdout)[6], 'yes, and try');
  assert.equal(status, 0);
});

test('a side that was not measured is no figure', (t) => {
  const dir = runsIn(t, {
    'post.atoll': perSecond(900), 'post.h2o': [{ problems: ['atoll-load has failed'] }],
  });
  const { status, stderr } = compare('report', dir, 'post');
  assert.equal(status, 1);
  assert.match(stderr, /row post could not be measured/);
});

test('where the load was the limit, the row says so', (t) => {
  const busy = { per_s: 900, server_cpu_percent: 60, load_cpu_percent: 99 };
  const dir = runsIn(t, { 'post.atoll': perSecond(800), 'post.h2o': [{ figures: busy }] });
  assert.match(cells(compare('report', dir, 'post').stdout)[7], /the load was the limit of h2o alone/);
});

test('the goal for real messages is for a transcript of long ones', (t) => {
  const found = (size) => [{ figures: { per_s: 1, content_mean_bytes: size } }];
  const short = runsIn(t, { 'real.atoll': found(122), 'real.redis': found(122) });
  const long = runsIn(t, { 'real.atoll': found(2000), 'real.redis': found(2000) });
  assert.equal(cells(compare('report', short, 'real').stdout)[4], '');
  assert.deepEqual(cells(compare('report', long, 'real').stdout).slice(4, 7),
    ['≥ 1', '≥ 1.3', 'yes']);
});

test('raw rounds and a page are written, and the page asks nothing of others', (t) => {
  const dir = runsIn(t, { 'post.atoll': perSecond(580, 600), 'post.h2o': perSecond(1000, 1001) });
  const json = path.join(dir, 'all.json'), html = path.join(dir, 'all.html');
  compare('report', dir, 'post', '--json', json, '--html', html);
  const { runs, table } = JSON.parse(readFileSync(json, 'utf8'));
  assert.deepEqual(runs.map(({ side, round }) => `${side} ${round}`),
    ['atoll 1', 'h2o 1', 'atoll 2', 'h2o 2']);
  assert.deepEqual(table[0].atoll.values, [580, 600]);
  const page = readFileSync(html, 'utf8');
  assert.match(page, /durable POST, 256 connections/);
  assert.doesNotMatch(page, /<script|https?:|src=/);
});

test('a plan measures what several rows share once, and what others need first', () => {
  const { stdout } = compare('plan', 'p99', 'cpu', 'redis');
  assert.deepEqual(stdout.trim().split('\n'), ['post atoll h2o redis', 'half atoll']);
});

test('the disk and the loop of send() come after what they take from Atoll', () => {
  const { stdout } = compare('plan', 'latency-direct', 'fanout-frames', 'fanout');
  assert.deepEqual(stdout.trim().split('\n'),
    ['latency atoll disk-direct', 'fanout atoll sendloop-frames sendloop']);
});

test('an unknown row is refused with the names of all', () => {
  const { status, stderr } = compare('plan', 'speed');
  assert.equal(status, 2);
  assert.match(stderr, /there is no row "speed"; rows are: post /);
});
