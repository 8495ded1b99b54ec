// What compare.sh measures, and what becomes of it: the rows of its table, and the table itself.
//
//   node compare.mjs rows                  the names of all rows, one a line
//   node compare.mjs plan NAME…            what these rows need: lines of "GROUP SIDE…"
//   node compare.mjs median DIR GROUP SIDE FIGURE    over rounds; nothing if there is none
//   node compare.mjs report DIR NAME…      the table on standard output; --json FILE, --html FILE
//
// DIR holds what each run has written, GROUP.SIDE.ROUND.json in the form of `atoll-load --json`, and
// the texts `machine` and `configuration`. A row compares a figure of two sides of one group; both
// were measured in the same rounds, one after the other. Where fewer rounds of a side gave a
// figure, its cell says how many.
//
// A goal is not judged by a run of Atoll that found a problem, nor by runs of fan-out of which an
// event was merged into another one's patch, or whose frames are not as long as Atoll's.
//
// Exit status of `report`: 0, 1 when a run of Atoll found a problem, a run was not what its row
// says, or a figure is missing, 3 when only a goal is missed; 2 for wrong arguments.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { goal, missed, notJudged, page, sideText } from './compare-page.mjs';

const memoryOnly = 'nothing on disk';
const noSession = 'no state, refusals, idempotency keys, snapshot or patches';
const redisLacks = `${noSession}; appends unread`;
const natsLacks = `${noSession}; all 256 on one connection`;
const limit = 'the limit: parses, orders, checks, stores nothing';
const noWork = 'one thread, the same bytes to each; parses and stores nothing';
const byDefault = 'each by its defaults, not pinned';

/*
 * `atoll`, `rival`: [side, figure, words]. `less`: less is better. `must`, `attempt`: goals of the
 * ratio, or, without a rival, of the figure itself. A row without a goal is there to be seen.
 */
export const rows = [
  { name: 'post', group: 'post', what: 'durable POST, 256 connections, 130 B: requests/s',
    atoll: ['atoll', 'per_s'], rival: ['h2o', 'per_s', 'h2o alone'], must: 0.58, attempt: 0.75,
    lacks: limit },
  { name: 'post-default', group: 'post', what: 'durable POST, one reactor per core: requests/s',
    atoll: ['atoll-default', 'per_s'], rival: ['h2o-default', 'per_s', 'h2o alone'],
    lacks: `${limit}; a thread per core` },
  { name: 'cpu', group: 'post', what: 'server CPU per durable POST, µs', less: true,
    atoll: ['atoll', 'server_cpu_us'], rival: ['h2o', 'server_cpu_us', 'h2o alone'],
    must: 1.7, attempt: 1.35, lacks: limit },
  { name: 'cpu-default', group: 'post', what: 'server CPU per durable POST, one reactor per core, µs', less: true,
    atoll: ['atoll-default', 'server_cpu_us'], rival: ['h2o-default', 'server_cpu_us', 'h2o alone'],
    lacks: `${limit}; a thread per core` },
  { name: 'redis', group: 'post', what: 'durable POST against Redis XADD, synced always, unpipelined',
    atoll: ['atoll', 'per_s'], rival: ['redis', 'per_s', 'Redis'], must: 0.9, attempt: 1.2,
    lacks: redisLacks },
  { name: 'redis-default', group: 'post', what: `POST against Redis XADD, ${byDefault}`,
    atoll: ['atoll-default', 'per_s'], rival: ['redis-default', 'per_s', 'Redis'],
    lacks: `not durable: a snapshot now and then; ${noSession}` },
  { name: 'nats', group: 'post', what: 'durable POST against NATS JetStream, 256 under way',
    atoll: ['atoll', 'per_s'], rival: ['nats', 'per_s', 'NATS'],
    lacks: `${natsLacks}; syncs each message by itself` },
  { name: 'nats-default', group: 'post', what: `POST against NATS JetStream, ${byDefault}`,
    atoll: ['atoll-default', 'per_s'], rival: ['nats-default', 'per_s', 'NATS'],
    lacks: `not durable: synced every 2 minutes; ${natsLacks}` },
  { name: 'nchan', group: 'post', what: 'durable POST against publishing to nchan',
    atoll: ['atoll', 'per_s'], rival: ['nchan', 'per_s', 'nchan'],
    lacks: `${memoryOnly}, 100 messages for a minute; ${noSession}` },
  { name: 'nchan-default', group: 'post', what: 'durable POST against nchan, a reactor and a worker per core',
    atoll: ['atoll-default', 'per_s'], rival: ['nchan-default', 'per_s', 'nchan'],
    lacks: `${memoryOnly}; ${noSession}` },
  { name: 'sse', group: 'post', what: 'durable POST against publishing to Node with better-sse',
    atoll: ['atoll', 'per_s'], rival: ['sse', 'per_s', 'Node'],
    lacks: `keeps nothing at all; ${noSession}` },
  { name: 'wrk', group: 'post', what: 'the instrument: atoll-load against wrk, on Atoll',
    atoll: ['atoll', 'per_s', 'atoll-load'], rival: ['wrk', 'per_s', 'wrk'],
    lacks: 'verifies nothing but the status' },
  { name: 'wrk-h2o', group: 'post', what: 'the instrument: atoll-load against wrk, on h2o alone',
    atoll: ['h2o', 'per_s', 'atoll-load'], rival: ['wrk-h2o', 'per_s', 'wrk'],
    lacks: 'verifies nothing but the status' },
  { name: 'second-reactor', group: 'post', less: true,
    what: 'CPU per durable POST, 2 reactors on 2 cores against 1 on 1, µs',
    atoll: ['atoll-two', 'server_cpu_us', '2 reactors'], rival: ['atoll', 'server_cpu_us', '1 reactor'],
    must: 1.5, attempt: 1.2, lacks: 'the load has the other core to itself' },
  { name: 'p99', group: 'half', needs: [['post', 'atoll']], less: true,
    what: 'p99 of a durable POST at half of peak rate, ms',
    atoll: ['atoll', 'answer_us.p99', '', 1e-3], must: 2, attempt: 1,
    lacks: 'times count from when a request was due' },
  { name: 'p99-redis', group: 'half', needs: [['post', 'atoll'], ['post', 'redis']], less: true,
    what: 'p99 at half of peak rate, ms, against Redis at half of its own',
    atoll: ['atoll', 'answer_us.p99', '', 1e-3], rival: ['redis', 'answer_us.p99', 'Redis', 1e-3],
    lacks: redisLacks },
  { name: 'batch', group: 'batch', what: 'commands/s into one session, batches of 100, one core',
    atoll: ['atoll', 'per_s'], must: 1e6, attempt: 2e6, lacks: '' },
  { name: 'batch-redis', group: 'batch', what: 'batches of 100 against Redis XADD, synced always, pipeline 100',
    atoll: ['atoll', 'per_s'], rival: ['redis', 'per_s', 'Redis'], must: 2, attempt: 4,
    lacks: `${redisLacks}; a pipeline is not atomic` },
  { name: 'batch-default', group: 'batch', what: `batches of 100 against Redis, ${byDefault}`,
    atoll: ['atoll-default', 'per_s'], rival: ['redis-default', 'per_s', 'Redis'],
    lacks: `not durable; ${noSession}` },
  { name: 'batch-nats', group: 'batch', what: 'batches of 100 against one NATS stream, 1600 under way',
    atoll: ['atoll', 'per_s'], rival: ['nats', 'per_s', 'NATS'],
    lacks: `${noSession}; syncs each message by itself` },
  { name: 'latency', group: 'latency', less: true,
    what: 'durable command, one client: p50, µs, against write + fdatasync of the same form',
    atoll: ['atoll', 'answer_us.p50'], rival: ['disk', 'answer_us.p50', 'the disk'],
    must: 2.5, attempt: 1.8, lacks: 'through the page cache; no network, request or answer' },
  { name: 'latency-direct', group: 'latency', less: true,
    what: 'durable command, one client: p50, µs, against direct writes of 4 KiB blocks',
    atoll: ['atoll', 'answer_us.p50'], rival: ['disk-direct', 'answer_us.p50', 'the disk, direct'],
    lacks: 'no network, request or answer' },
  { name: 'latency-redis', group: 'latency', what: 'durable command, one client: p50, µs, against Redis XADD', less: true,
    atoll: ['atoll', 'answer_us.p50'], rival: ['redis', 'answer_us.p50', 'Redis'],
    lacks: redisLacks },
  { name: 'latency-nats', group: 'latency', what: 'durable command, one client: p50, µs, against NATS', less: true,
    atoll: ['atoll', 'answer_us.p50'], rival: ['nats', 'answer_us.p50', 'NATS'], lacks: noSession },
  { name: 'fanout', group: 'fanout', what: 'fan-out to 1 000, unmerged: deliveries/s',
    atoll: ['atoll', 'patches_per_s'], rival: ['sendloop', 'patches_per_s', 'bare send() loop'],
    must: 0.85, attempt: 1.0, lacks: `one frame a send(): ${noWork}` },
  { name: 'fanout-frames', group: 'fanout',
    what: 'fan-out to 1 000 against as many frames in each send(): deliveries/s',
    atoll: ['atoll', 'patches_per_s'],
    rival: ['sendloop-frames', 'patches_per_s', 'bare send() loop'], lacks: noWork },
  { name: 'fanout-default', group: 'fanout', what: 'fan-out to 1 000, one reactor per core: deliveries/s',
    atoll: ['atoll-default', 'patches_per_s'],
    rival: ['sendloop', 'patches_per_s', 'bare send() loop'],
    lacks: `one frame a send(): ${noWork}` },
  { name: 'fanout-nchan', group: 'fanout', what: 'fan-out to 1 000 against nchan, same frame and bound',
    atoll: ['atoll', 'patches_per_s'], rival: ['nchan', 'patches_per_s', 'nchan'],
    must: 1.5, attempt: 3, lacks: `${memoryOnly}; a text as it came: no state, no snapshot` },
  { name: 'fanout-nchan-default', group: 'fanout',
    what: 'fan-out to 1 000 against nchan, a reactor and a worker per core',
    atoll: ['atoll-default', 'patches_per_s'], rival: ['nchan-default', 'patches_per_s', 'nchan'],
    lacks: `${memoryOnly}; tells a text as it came` },
  { name: 'fanout-sse', group: 'fanout', what: 'fan-out to 1 000 against Node with better-sse',
    atoll: ['atoll', 'patches_per_s'], rival: ['sse', 'patches_per_s', 'Node'],
    lacks: 'keeps nothing at all; who is away misses what is told' },
  { name: 'fanout-cpu', group: 'fanout-rate', less: true,
    what: 'server CPU per delivery, 100 events/s to 1 000, µs, against nchan',
    atoll: ['atoll', 'server_cpu_us'], rival: ['nchan', 'server_cpu_us', 'nchan'],
    lacks: `${memoryOnly}; tells a text as it came` },
  { name: 'fanout-cpu-sse', group: 'fanout-rate', less: true,
    what: 'server CPU per delivery, µs, against Node with better-sse',
    atoll: ['atoll', 'server_cpu_us'], rival: ['sse', 'server_cpu_us', 'Node'],
    lacks: 'keeps nothing at all' },
  { name: 'real', group: 'real', what: 'messages of the transcript, 64 connections, against Redis XADD',
    atoll: ['atoll', 'per_s'], rival: ['redis', 'per_s', 'Redis'], must: 1.0, attempt: 1.3,
    only: { figure: 'content_mean_bytes', least: 1000, why: 'the goal is for a transcript of 2 KB a message' },
    lacks: redisLacks },
  { name: 'large', group: 'large', what: 'messages of 2 KB, 64 connections, against Redis XADD',
    atoll: ['atoll', 'per_s'], rival: ['redis', 'per_s', 'Redis'], lacks: redisLacks },
  { name: 'instructions', group: 'instructions', less: true,
    what: 'core work per message.send of 130 bytes, instructions',
    atoll: ['atoll', 'core_instructions'], must: 6000, attempt: 3000, lacks: '' },
  { name: 'idle', group: 'idle', less: true, what: 'at rest, one reactor per core: % of a core',
    atoll: ['atoll-default', 'idle_percent'], must: 0.2, attempt: 0.2, lacks: '' },
  { name: 'rss', group: 'idle', less: true, what: 'at the start, one reactor per core: MB of memory',
    atoll: ['atoll-default', 'start_rss_mb'], must: 25, attempt: 25, lacks: '' },
];

function fail(status, text) {
  console.error(`compare.mjs: ${text}`);
  process.exit(status);
}

function rowNamed(name) {
  return rows.find((row) => row.name === name) ??
    fail(2, `there is no row "${name}"; rows are: ${rows.map((row) => row.name).join(' ')}`);
}

function sidesOf(row) {
  return [row.atoll, row.rival].filter(Boolean).map(([side]) => side);
}

function needsOf(row) {
  return [...(row.needs ?? []), ...sidesOf(row).map((side) => [row.group, side])];
}

function plan(names) {
  const groups = new Map();
  for (const [group, side] of names.map(rowNamed).flatMap(needsOf)) {
    if (!groups.has(group)) groups.set(group, new Set());
    groups.get(group).add(side);
  }
  // In the order of the table: what a group needs of another one stands before it.
  return [...new Set(rows.map((row) => row.group))]
    .filter((group) => groups.has(group))
    .map((group) => [group, ...groups.get(group)].join(' '));
}

function readRuns(dir) {
  return readdirSync(dir)
    .map((file) => [file, /^(.+)\.(.+)\.(\d+)\.json$/.exec(file)])
    .filter(([, parts]) => parts)
    .map(([file, [, group, side, round]]) => ({
      group, side, round: Number(round), found: JSON.parse(readFileSync(path.join(dir, file), 'utf8')),
    }))
    .sort((a, b) => a.round - b.round);
}

/** `answer_us.p50` is of a latency, a plain name one of the figures. */
function figureOf(run, name) {
  const [first, second] = name.split('.');
  return second ? run.found.latency?.[first]?.[second] : run.found.figures?.[first];
}

function samples(runs, group, side, figure) {
  return runs
    .filter((run) => run.group === group && run.side === side)
    .map((run) => figureOf(run, figure))
    .filter((value) => Number.isFinite(value));
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** `rounds`: how many runs the side should have given a figure of. */
function sideOf(runs, row, [side, figure, words = '', factor = 1], rounds) {
  const values = samples(runs, row.group, side, figure).map((value) => value * factor);
  const middle = (name) => median(samples(runs, row.group, side, name));
  const aRead = isFanout(row) ? middle('a_read') : NaN;
  const notes = [
    Number.isFinite(aRead) && `${aRead.toFixed(1)} frames a read`,
    values.length < rounds && `${values.length} of ${rounds} rounds`,
  ].filter(Boolean);
  return {
    side, words, notes, values, median: median(values),
    serverPercent: middle('server_cpu_percent'), loadPercent: middle('load_cpu_percent'),
  };
}

function isAtoll({ side }) {
  return side.startsWith('atoll');
}

function isFanout({ group }) {
  return group.startsWith('fanout');
}

/** Within 5 %. */
function alike(a, b) {
  return Math.max(a, b) <= 1.05 * Math.min(a, b);
}

/**
 * Marks the runs of fan-out that are not what their rows say: there each event is a frame of its
 * own, and all frames are as long as Atoll's.
 */
function checkFanout(runs) {
  const refuse = (run, text) => {
    run.unfit = true;
    run.found.problems = [...(run.found.problems ?? []), text];
  };
  for (const run of runs.filter(isFanout)) {
    const { merged = 0, resets = 0, bytes_each: bytes } = run.found.figures ?? {};
    const like = runs.filter((other) => other.group === run.group && isAtoll(other));
    const expected = median(like.map((other) => figureOf(other, 'bytes_each'))
      .filter((value) => Number.isFinite(value)));
    if (merged + resets) refuse(run, `not unmerged: ${merged} merged patches, ${resets} resets`);
    if (Number.isFinite(bytes) && Number.isFinite(expected) && !alike(bytes, expected)) {
      refuse(run, `frames of ${Math.round(bytes)} bytes, Atoll's have ${Math.round(expected)}`);
    }
  }
}

function meets(row, value, goal) {
  return row.less ? value <= goal : value >= goal;
}

function judge(row, runs, value) {
  if (row.must === undefined) return '';
  if (runs.some((run) => run.unfit || (isAtoll(run) && run.found.problems?.length))) {
    return notJudged;
  }
  if (meets(row, value, row.attempt)) return 'yes, and try';
  return meets(row, value, row.must) ? 'yes' : missed;
}

/** The row with its numbers; null where a side was not measured. */
function evaluate(runs, given) {
  const row = { ...given };
  const own = runs.filter((run) => run.group === row.group && sidesOf(row).includes(run.side));
  const rounds = new Set(own.map((run) => run.round)).size;
  const atoll = sideOf(runs, row, row.atoll, rounds);
  const rival = row.rival && sideOf(runs, row, row.rival, rounds);
  if (!atoll.values.length || (rival && !rival.values.length)) return null;
  if (row.only) {
    const size = median(samples(runs, row.group, row.atoll[0], row.only.figure));
    if (!(size >= row.only.least)) {
      delete row.must;
      delete row.attempt;
      row.lacks += `; ${row.only.why}`;
    }
    if (Number.isFinite(size)) row.what += ` (mean ${Math.round(size)} B)`;
  }
  const ratio = rival && atoll.median / rival.median;
  return { ...row, atoll, rival, ratio, met: judge(row, own, ratio ?? atoll.median) };
}

/** Where the load was the bottleneck, a figure says little about the server. */
function busyLoad(row) {
  return [row.atoll, row.rival]
    .filter((side) => side?.loadPercent > 97 && side.serverPercent < 95)
    .map((side) => `the load was the limit of ${side.words || 'Atoll'}`);
}

function markdown(table) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [
    line(['What', 'Atoll', 'Rival', 'Ratio', 'Must', 'Try', 'Met', 'What the rival does not do']),
    line(['---', '--:', '--:', '--:', '---', '---', '---', '---']),
    ...table.map((row) => line([
      row.what, sideText(row.atoll), row.rival ? sideText(row.rival) : '',
      row.ratio === undefined ? '' : row.ratio.toFixed(3), goal(row, row.must),
      goal(row, row.attempt), row.met, row.lacks,
    ])),
  ].join('\n');
}

function problemsOf(runs) {
  return runs.flatMap(({ group, side, round, found }) =>
    (found.problems ?? []).map((text) => ({ group, side, round, text })));
}

/** Short enough for a cell; all of it is with the rounds. */
function clip(text) {
  const line = text.replace(/[\s|]+/g, ' ');
  return line.length > 90 ? `${line.slice(0, 89)}…` : line;
}

/** What each side lost. A rival's is no failure of the comparison. */
function faultsOf(row, problems) {
  return [row.atoll, row.rival].filter(Boolean)
    .map((own) => problems.find(({ group, side }) => group === row.group && side === own.side))
    .filter(Boolean)
    .map((first) => `found${isAtoll(first) ? ' of Atoll' : ''}: ${clip(first.text)}`);
}

function report(dir, names, files) {
  const runs = readRuns(dir);
  const text = (name) => readFileSync(path.join(dir, name), 'utf8').trim();
  const wanted = names.map(rowNamed);
  checkFanout(runs);
  const found = problemsOf(runs);
  const table = wanted.map((row) => evaluate(runs, row));
  const missing = wanted.filter((row, i) => !table[i]).map((row) => row.name);
  const problems = found.map(({ group, side, round, text: what }) =>
    `${group}, ${side}, round ${round}: ${what}`);
  for (const row of table.filter(Boolean)) {
    row.lacks = [row.lacks, ...busyLoad(row), ...faultsOf(row, found)].filter(Boolean).join('; ');
  }
  const all = {
    machine: text('machine'), configuration: text('configuration'), table: table.filter(Boolean),
    missing, problems, runs,
  };
  console.log(`${all.machine}\n\n${markdown(all.table)}\n\n${all.configuration}`);
  if (files.json) writeFileSync(files.json, `${JSON.stringify(all, null, 1)}\n`);
  if (files.html) writeFileSync(files.html, page(all));
  for (const problem of problems) console.error(`compare: ${problem}`);
  for (const name of missing) console.error(`compare: row ${name} could not be measured`);
  if (missing.length || found.some(isAtoll) || runs.some((run) => run.unfit)) return 1;
  return all.table.some((row) => row.met === missed) ? 3 : 0;
}

function takeFile(args, name) {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args.splice(at, 2)[1];
}

const [verb, ...args] = process.argv.slice(2);
if (verb === 'rows') {
  console.log(rows.map((row) => row.name).join('\n'));
} else if (verb === 'plan') {
  console.log(plan(args).join('\n'));
} else if (verb === 'median' && args.length === 4) {
  const values = samples(readRuns(args[0]), ...args.slice(1));
  if (values.length) console.log(median(values));
} else if (verb === 'report') {
  const files = { json: takeFile(args, '--json'), html: takeFile(args, '--html') };
  process.exitCode = report(args[0], args.slice(1), files);
} else {
  fail(2, 'usage: compare.mjs rows | plan NAME… | median DIR GROUP SIDE FIGURE | report DIR NAME…');
}
