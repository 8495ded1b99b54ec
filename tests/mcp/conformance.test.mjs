/*
 * The protocol's own conformance suite, in both its generations, against the MCP face with the
 * suite's fixtures (atoll_conformance): every scenario that 0.1.16 has, and every one that 0.2.0
 * requires for 2025-11-25 and for 2026-07-28; of a server with two shards, where one client's
 * requests come to either reactor; at /mcp, and as an agent of a session. There is no list of
 * failures that would be fine.
 *
 * The suite runs in a process of its own, on a Node of its own (22; package.json), and leaves a
 * folder for each scenario with the checks it has made. A scenario passes where some of its checks
 * succeed and none fails.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const SUITE_MS = 240_000;

// The harness takes the program to be run from there.
const atoll = process.env.ATOLL_BIN ?? join(HERE, '../../build/atoll');
process.env.ATOLL_BIN = join(dirname(atoll), 'tests/atoll_conformance');
const { Server, newId, remove, temporaryDirectory, within } = await import('../http/harness.mjs');

const packageOf = (name) => join(HERE, 'node_modules', name);
const requirements = (revision) =>
  parse(readFileSync(join(packageOf('conformance-0.2'), `requirements/${revision}.yaml`), 'utf8'))
    .server;
const SUITES = [
  { name: '0.1.16', from: 'conformance-0.1', args: ['--suite', 'all'], scenarios: 32 },
  ...[['2025-11-25', 30], ['2026-07-28', 37]].map(([revision, scenarios]) => ({
    name: revision,
    from: 'conformance-0.2',
    args: ['--requirements', revision],
    scenarios,
    required: requirements(revision),
  })),
];

function node22() {
  if (Number(process.versions.node.split('.')[0]) >= 22) return process.execPath;
  const path = join(packageOf(`node-linux-${process.arch}`), 'bin/node');
  assert.ok(existsSync(path),
    `the suite needs Node 22; this is ${process.version}, and there is no ${path}`);
  return path;
}

/** Runs a suite to its end: a map from scenario to its checks, and what was printed. */
async function runSuite({ from, args }, url, fresh) {
  const results = temporaryDirectory();
  const options = fresh ? ['--import', join(HERE, 'fresh.mjs')] : [];
  const child = spawn(node22(),
    [...options, join(packageOf(from), 'dist/index.js'), 'server', '--url', url, '-o', results,
      ...args],
    { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  const ended = new Promise((done, fail) => child.on('close', done).on('error', fail));
  try {
    await within(ended, `the end of the suite\n${output}`, SUITE_MS);
    const checks = readdirSync(results).map((folder) => {
      const [, scenario] = folder.match(/^server-(.*)-\d{4}-\d\d-\d\dT[\d-]+Z$/);
      return [scenario, JSON.parse(readFileSync(join(results, folder, 'checks.json'), 'utf8'))];
    });
    return { checks: new Map(checks), output };
  } finally {
    child.kill('SIGKILL');
    remove(results);
  }
}

const having = (checks, status) => checks.filter((check) => check.status === status);
const passes = (checks = []) =>
  having(checks, 'SUCCESS').length > 0 && having(checks, 'FAILURE').length === 0;

function explain(scenario, checks) {
  if (!checks) return `${scenario}: it did not come to an end`;
  const failures = having(checks, 'FAILURE').map((c) => `\n  ${c.id}: ${c.errorMessage}`);
  return `${scenario}:${failures.join('') || ' nothing was checked'}`;
}

const server = new Server({ args: ['--shards', '2'] });
const table = new Map(); // scenario → run → mark

function note(run, { checks }, required) {
  const others = [...checks.keys()].filter((scenario) => !required.includes(scenario));
  for (const scenario of [...required, ...others]) {
    const mark = passes(checks.get(scenario)) ? 'pass' : 'FAIL';
    const row = table.get(scenario) ?? table.set(scenario, new Map()).get(scenario);
    row.set(run, required.includes(scenario) ? mark : `(${mark})`);
  }
}

function show() {
  const runs = [...new Set([...table.values()].flatMap((row) => [...row.keys()]))];
  const line = (first, rest) =>
    console.log(first.padEnd(46) + rest.map((cell) => cell.padEnd(24)).join('').trimEnd());
  line('', runs);
  for (const [scenario, row] of table) line(scenario, runs.map((run) => row.get(run) ?? ''));
  console.log('(in brackets: not required of that revision)');
}

before(() => server.start());
after(async () => {
  show();
  await server.stop();
});

test('the fixtures are in a program of their own', () => {
  const name = Buffer.from('test_simple_text');
  assert.ok(readFileSync(process.env.ATOLL_BIN).includes(name));
  assert.ok(!readFileSync(atoll).includes(name));
});

const requestsOf = async () => (await server.status()).reactors.map((r) => r.requests);

for (const suite of SUITES) {
  for (const fresh of [false, true]) {
    const where = fresh ? 'as an agent' : 'at /mcp';
    const connections = fresh ? 'each request on a connection of its own' : 'connections kept';
    test(`${suite.name}, ${where}, ${connections}`, async (t) => {
      let path = '/mcp';
      if (fresh) path = `/v1/sessions/${await server.session(['ann'])}/agents/${newId()}/mcp`;
      const served = await requestsOf();
      const run = await runSuite(suite, `${server.url}${path}`, fresh);
      const required = suite.required ?? [...run.checks.keys()];
      note(`${suite.name} ${where}`, run, required);
      const all = required.flatMap((scenario) => run.checks.get(scenario) ?? []);
      const passed = required.filter((scenario) => passes(run.checks.get(scenario)));
      t.diagnostic(`conformance ${suite.name}, ${where}: ${passed.length} of ${suite.scenarios} ` +
        `scenarios pass, ${having(all, 'SUCCESS').length} checks, ` +
        `${having(all, 'WARNING').length} warnings`);
      const failed = required.filter((scenario) => !passed.includes(scenario));
      assert.deepEqual(failed.map((s) => explain(s, run.checks.get(s))), [],
        run.checks.size === 0 ? run.output : undefined);
      assert.equal(passed.length, suite.scenarios);
      for (const warning of having(all, 'WARNING'))
        t.diagnostic(`warning: ${warning.id}: ${warning.errorMessage}`);
      if (!fresh) return;
      (await requestsOf()).forEach((n, reactor) =>
        assert.ok(n > served[reactor], `reactor ${reactor} had no request`));
    });
  }
}
