/*
 * GET /metrics: what Prometheus is to read, by a parser that believes nothing (and by promtool
 * where there is one); that figures count what happens; and that the dashboard and the rules of
 * deploy/ speak of metrics that exist.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  expect, refused, remove, serve, serving, temporaryDirectory, until,
} from './harness.mjs';

const DEPLOY = fileURLToPath(new URL('../../deploy/', import.meta.url));
const OPENMETRICS = 'application/openmetrics-text';
const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y;

function parseLabels(text) {
  const labels = {};
  for (LABEL.lastIndex = 0; LABEL.lastIndex < text.length;) {
    const [, name, value] = LABEL.exec(text) ?? assert.fail(`labels: ${text}`);
    assert.ok(!(name in labels), `twice: ${name} in ${text}`);
    labels[name] = value;
  }
  return labels;
}

function parseNumber(text) {
  const value = { '+Inf': Infinity, '-Inf': -Infinity, NaN }[text] ?? Number(text);
  assert.ok(text === 'NaN' || !Number.isNaN(value), `no number: ${text}`);
  return value;
}

/** Which family a sample belongs to, by its name and the type that was said of it. */
function isOf(family, name, open) {
  const suffix = name.slice(family.name.length);
  if (!name.startsWith(family.name)) return false;
  if (family.type === 'histogram') return ['_bucket', '_sum', '_count'].includes(suffix);
  if (family.type === 'counter') return suffix === (open ? '_total' : '');
  return suffix === '';
}

/** The families of a text: Map name -> {type, help, samples: [{name, labels, value}]}. */
function parse(text, { open = false } = {}) {
  const families = new Map();
  let family;
  let lines = text.split('\n');
  assert.equal(lines.pop(), '', 'the last line ends');
  if (open) assert.equal(lines.pop(), '# EOF');
  for (const line of lines) {
    const [, what, name, rest] = line.match(/^# (HELP|TYPE) (\S+) (.*)$/) ?? [];
    if (what === 'HELP') {
      assert.match(name, NAME);
      assert.ok(!families.has(name), `the family ${name} comes twice`);
      assert.ok(rest.length > 0 && !rest.includes('\\'), line);
      families.set(name, family = { name, help: rest, samples: [] });
    } else if (what === 'TYPE') {
      assert.equal(name, family?.name, `TYPE without HELP: ${line}`);
      assert.ok(['counter', 'gauge', 'histogram'].includes(rest), line);
      assert.equal(family.type, undefined, line);
      family.type = rest;
      assert.equal(rest === 'counter' && !open, name.endsWith('_total'), `a counter? ${name}`);
    } else {
      const [, sample, labels = '', value] = line.match(SAMPLE) ?? assert.fail(line);
      assert.ok(family?.type && isOf(family, sample, open), `not of ${family?.name}: ${line}`);
      family.samples.push({ name: sample, labels: parseLabels(labels), value: parseNumber(value) });
    }
  }
  for (const one of families.values()) checkFamily(one);
  return families;
}

function checkFamily({ name, type, samples }) {
  const seen = new Set();
  for (const sample of samples) {
    const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
    assert.ok(!seen.has(key), `twice: ${key}`);
    seen.add(key);
    if (type !== 'gauge') assert.ok(sample.value >= 0, key);
  }
  if (type === 'histogram') checkHistogram(name, samples);
}

function checkHistogram(name, samples) {
  const rows = new Map();
  for (const { name: sample, labels: { le, ...labels }, value } of samples) {
    const key = JSON.stringify(labels);
    if (!rows.has(key)) rows.set(key, { buckets: [] });
    const row = rows.get(key);
    if (sample === `${name}_bucket`) row.buckets.push([parseNumber(le), value]);
    else row[sample.slice(name.length + 1)] = value;
  }
  assert.ok(rows.size > 0, `${name} has no samples`);
  for (const [key, { buckets, sum, count }] of rows) {
    const last = buckets.at(-1);
    assert.ok(sum !== undefined && count !== undefined, `${name}${key}`);
    assert.equal(last[0], Infinity, `${name}${key}`);
    assert.equal(last[1], count, `${name}${key}`);
    buckets.reduce((a, b) => {
      assert.ok(a[0] < b[0] && a[1] <= b[1], `${name}${key}: ${a} before ${b}`);
      return b;
    });
  }
}

async function scrape(server, headers = {}) {
  const answer = expect(await server.get('/metrics', { headers }), 200);
  const open = headers.accept?.includes(OPENMETRICS) ?? false;
  assert.equal(answer.headers['content-type'], open
    ? 'application/openmetrics-text; version=1.0.0; charset=utf-8'
    : 'text/plain; version=0.0.4; charset=utf-8');
  return { text: answer.text, families: parse(answer.text, { open }) };
}

/** The sum of a metric's samples that have these labels. */
function value({ families }, name, labels = {}) {
  const family = families.get(name.replace(/_(bucket|sum|count)$/, '')) ?? families.get(name);
  assert.ok(family, `there is no metric ${name}`);
  return family.samples
    .filter((s) => s.name === name && Object.entries(labels).every(([k, v]) => s.labels[k] === v))
    .reduce((sum, s) => sum + s.value, 0);
}

const promtool = (...args) => {
  const { input } = args.at(-1)?.input !== undefined ? args.pop() : {};
  const { error, status, stdout, stderr } = spawnSync('promtool', args,
    { input, cwd: join(DEPLOY, 'prometheus'), encoding: 'utf8' });
  if (error?.code === 'ENOENT') return undefined;
  return { status, said: stdout + stderr };
};

describe('metrics', () => {
  const server = serving({ args: ['--shards', '2'] });

  it('are what Prometheus and OpenMetrics ask for', async () => {
    const { text } = await scrape(server);
    await scrape(server, { accept: `${OPENMETRICS}; version=1.0.0, text/plain;q=0.5` });
    await scrape(server, { accept: 'text/plain, */*' });
    const checked = promtool('check', 'metrics', { input: text });
    if (checked) assert.deepEqual(checked, { status: 0, said: '' });
  });

  it('count requests by route, and refusals by their type', async () => {
    const before = await scrape(server);
    const sid = await server.session();
    for (let i = 0; i < 5; i++) expect(await server.get(`/v1/sessions/${sid}`), 200);
    refused(await server.get('/v1/sessions/nobody'), 404, 'unknown-session');
    const after = await scrape(server);
    const grown = (name, labels) => value(after, name, labels) - value(before, name, labels);
    const route = '/v1/sessions/{sid}';
    assert.equal(grown('atoll_http_requests_total', { method: 'GET', route, status: '2xx' }), 5);
    assert.equal(grown('atoll_http_requests_total', { method: 'GET', route, status: '4xx' }), 1);
    assert.equal(grown('atoll_problems_total', { type: 'unknown-session' }), 1);
    assert.ok(grown('atoll_http_request_seconds_count') >= 6);
    assert.ok(grown('atoll_http_answer_bytes_total') > 0);
    assert.ok(value(after, 'atoll_sessions') >= 1);
  });

  it('count commands, commits and events, and how long the disk takes', async () => {
    const sid = await server.session();
    const before = await scrape(server);
    const note = (n) => ({ type: 'agent.update', agent: 'ann', note: `${n}` });
    for (let n = 0; n < 20; n++) expect(await server.command(sid, note(n)), 200);
    expect(await server.command(sid, Array.from({ length: 30 }, (_, n) => note(`b${n}`))), 200);
    const after = await scrape(server);
    const grown = (name) => value(after, name) - value(before, name);
    assert.equal(grown('atoll_commands_total'), 50);
    assert.equal(grown('atoll_events_total'), 50);
    assert.ok(grown('atoll_log_commits_total') >= 20);
    for (const name of ['commit_seconds', 'batch_records', 'batch_bytes'])
      assert.equal(grown(`atoll_log_${name}_count`), grown('atoll_log_commits_total'), name);
    assert.equal(grown('atoll_log_batch_records_sum'), grown('atoll_log_records_total'));
    assert.ok(grown('atoll_log_commit_seconds_sum') > 0);
    assert.ok(grown('atoll_reactor_turn_seconds_count') > 0);
  });

  it('measure how long requests wait for their shard', async () => {
    const before = await scrape(server);
    const sid = await server.session();
    for (let n = 0; n < 200; n++) expect(await server.get(`/v1/sessions/${sid}`), 200);
    const after = await scrape(server);
    const name = 'atoll_shard_queue_seconds_count';
    assert.ok(value(after, name) - value(before, name) >= 2, 'one in 64');
  });

  it('count who watches and how far behind', async () => {
    const sid = await server.session();
    const stream = server.stream(sid);
    await stream.reach(1);
    assert.equal(value(await scrape(server), 'atoll_streams'), 1);
    const at = (await server.view(sid)).seq;
    expect(await server.command(sid, { type: 'agent.update', agent: 'ann', note: 'x' }), 200);
    await stream.reach(at + 1);
    assert.ok(value(await scrape(server), 'atoll_watcher_lag_frames_count') >= 1);
    stream.close();
    await until(async () => value(await scrape(server), 'atoll_streams') === 0);
  });

  it('tell of the process as all exporters do', async () => {
    const now = await scrape(server);
    assert.ok(value(now, 'process_cpu_seconds_total') > 0);
    assert.ok(value(now, 'process_resident_memory_bytes') > 1e6);
    assert.ok(value(now, 'process_open_fds') > 5);
    assert.ok(value(now, 'process_max_fds') > value(now, 'process_open_fds'));
    const start = value(now, 'process_start_time_seconds');
    assert.ok(Math.abs(Date.now() / 1000 - start) < 3600, `${start}`);
    assert.ok(value(now, 'atoll_uptime_seconds') > 0);
    assert.ok(value(now, 'atoll_recovery_seconds') > 0);
    assert.equal(value(now, 'atoll_build_info'), 1);
  });

  it('have no label that clients could multiply', async () => {
    const known = ['shard', 'reactor', 'lane', 'le', 'method', 'route', 'status', 'type', 'reason',
      'by', 'component', 'version', 'io', 'durability'];
    for (let n = 0; n < 20; n++) await server.get(`/v1/nothing-${n}`);
    const { families } = await scrape(server);
    for (const { samples } of families.values())
      for (const { labels } of samples)
        for (const [name, text] of Object.entries(labels)) {
          assert.ok(known.includes(name), name);
          assert.doesNotMatch(text, /nothing-/);
        }
  });
});

describe('the components of a server', () => {
  it('are all healthy in status, metrics and readiness, each by its name', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const { json: { health } } = expect(await server.get('/v1/status'), 200);
    assert.deepEqual(health.map((c) => c.component).sort(), ['listener 127.0.0.1:0', 'log 0',
      'log 1', 'shard 0', 'shard 1', 'wakes 0', 'wakes 1']);
    for (const { component, state, error } of health)
      assert.deepEqual([state, error], ['healthy', null], component);
    const { families } = await scrape(server);
    const told = families.get('atoll_component_health').samples;
    assert.deepEqual(told.map((s) => s.labels.component).sort(),
      health.map((c) => c.component).sort());
    assert.ok(told.every((s) => s.value === 0));
    expect(await server.get('/readyz'), 200);
  });

  it('have names that may have quotes in them', async (t) => {
    const directory = temporaryDirectory();
    t.after(() => remove(directory));
    const name = `unix:${join(directory, 'a"b\\c')}`;
    const server = await serve(t, { listen: ['127.0.0.1:0', name] });
    const { json: { health } } = expect(await server.get('/v1/status'), 200);
    assert.ok(health.some((c) => c.component === `listener ${name}`));
    const { families } = await scrape(server);
    const told = families.get('atoll_component_health').samples.map((s) => s.labels.component);
    assert.ok(told.includes(`listener ${name.replace(/["\\]/g, '\\$&')}`), told.join());
  });
});

describe('a component that does less than it should', () => {
  const degraded = async (server) =>
    expect(await server.get('/v1/status'), 200).json.health.filter((c) => c.state !== 'healthy');

  it('is told with the reason, and when it is over what it was stays known', async (t) => {
    const server = await serve(t, { args: ['--shards', '1'] });
    const sid = await server.session();
    const wake = `/v1/sessions/${sid}/agents/bob/wake`;
    const url = 'http://127.0.0.1:9/nobody'; // not public, and not allowed
    expect(await server.put(wake, { url }), 200);
    const say = { type: 'message.send', thread: 'general', sender: 'ann', content: 'Wake up' };
    expect(await server.command(sid, say), 200);
    const [component] = await until(async () => {
      const found = await degraded(server);
      return found.length > 0 && found;
    });
    assert.deepEqual([component.component, component.state], ['wakes 0', 'degraded']);
    assert.match(component.error, /^1 agent cannot be called: /);
    const now = await scrape(server);
    assert.equal(value(now, 'atoll_wake_breakers_open'), 1);
    assert.equal(value(now, 'atoll_component_health', { component: 'wakes 0' }), 1);
    assert.ok(value(now, 'atoll_wakes_failed_total') >= 1);
    expect(await server.get('/readyz'), 200);

    expect(await server.delete(wake), 200);
    await until(async () => (await degraded(server)).length === 0);
    const { json: { health } } = expect(await server.get('/v1/status'), 200);
    const after = health.find((c) => c.component === 'wakes 0');
    assert.equal(after.error, component.error);
    assert.ok(after.since >= component.since && after.error_at === component.error_at);
    assert.equal(value(await scrape(server), 'atoll_wake_breakers_open'), 0);
  });
});

describe('what is deployed with it', () => {
  /** Every name in the expressions that could be a metric. */
  const names = (expression) => new Set((expression
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, '')
    .match(/\b(?:atoll|process|jemalloc)_[a-z0-9_]+\b/g) ?? []));

  const exists = (families, name, said) => {
    const base = name.replace(/_(bucket|sum|count)$/, '');
    assert.ok(families.has(name) || families.get(base)?.type === 'histogram',
      `${said} speaks of ${name}, which there is not`);
  };

  it('has rules and a dashboard of metrics that there are', async (t) => {
    const { families } = await scrape(await serve(t));
    const rules = readFileSync(join(DEPLOY, 'prometheus/rules.yml'), 'utf8');
    const dashboard = JSON.parse(readFileSync(join(DEPLOY, 'grafana/atoll.json'), 'utf8'));
    const panels = dashboard.panels.flatMap((p) => p.targets ?? []);
    assert.ok(panels.length > 50);
    const inSanitizers = !families.has('jemalloc_allocated_bytes'); // with a malloc of their own
    for (const [said, text] of [['rules.yml', rules], ...panels.map((p) => ['atoll.json', p.expr])])
      for (const name of names(text))
        if (!(inSanitizers && /^jemalloc_|^atoll_reactor_memory_bytes$/.test(name)))
          exists(families, name, said);
  });

  it('passes promtool', (t) => {
    if (!promtool('--version')) return t.skip('there is no promtool');
    for (const args of [['check', 'rules', 'rules.yml'], ['test', 'rules', 'rules.test.yml'],
      ['check', 'config', '--syntax-only', 'prometheus.yml']]) {
      const { status, said } = promtool(...args);
      assert.equal(status, 0, said);
    }
    return undefined;
  });
});
