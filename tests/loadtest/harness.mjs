/*
 * Runs of atoll-load, for its tests.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { BIN, assertNoSanitizerReport, within } from '../http/harness.mjs';

const LOAD = process.env.ATOLL_LOAD ?? join(dirname(BIN), 'loadtest/atoll-load');
export const SHORT = ['--seconds', '0.4', '--warmup', '0.1', '--quiet'];

/** Starts atoll-load: what it says, as it comes, and `ended`: the status at its end. */
export function begin(...args) {
  const child = spawn(LOAD, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const run = { child, args, stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'])
    child[name].setEncoding('utf8').on('data', (d) => (run[name] += d));
  run.ended = new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code) => done(code));
  });
  return run;
}

/** Waits for its end: {code, stdout, stderr}, and `report` where it wrote JSON. */
export async function finish(run) {
  const code = await within(run.ended, `the end of atoll-load ${run.args.join(' ')}`);
  const { stdout, stderr } = run;
  assertNoSanitizerReport(stderr);
  return { code, stdout, stderr, report: stdout.startsWith('{') ? JSON.parse(stdout) : undefined };
}

export const load = (...args) => finish(begin(...args));

/** A run that found nothing wrong: its report. */
export async function good(...args) {
  const { code, report, stdout, stderr } = await load(...args, '--json', '-');
  assert.equal(code, 0, `${args.join(' ')}\n${stdout}\n${stderr}`);
  assert.deepEqual(report.problems, []);
  return report;
}

/** A run that found something wrong: its problems, as one text. */
export async function bad(...args) {
  const { code, report, stdout, stderr } = await load(...args, '--json', '-');
  assert.equal(code, 1, `${args.join(' ')}\n${stdout}\n${stderr}`);
  assert.ok(report.problems.length > 0);
  return report.problems.join('\n');
}

export const checked = (report, what) =>
  report.checked.find((check) => check.what.startsWith(what))?.times;
