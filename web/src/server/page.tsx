// What the server does: figures and charts from /v1/status, once a second while this is seen.

import type uPlot from 'uplot';
import { effect } from '@preact/signals';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { connection, logLevel, ProblemError, rebuildSession, watchStatus } from '../data/client';
import {
  logLevels, type Component, type ConnectedAgent, type LogLevel, type Problem, type Quarantined,
  type ServerStatus,
} from '../data/types';
import { announce } from '../ui/announce';
import { Chart } from '../ui/chart';
import { ProblemCard } from '../ui/problem';
import { sessionHref } from '../ui/router';
import { duration } from '../ui/time';
import { several } from '../ui/words';
import {
  byName, bytes, bytesPerSecond, compare, count, figure, microseconds, perSecond, total,
  type Sample,
} from './figures';

const KEPT_S = 180;
const GAP_MS = 3_500;
const LINES_MOST = 6;
const CONNECTED_MOST = 200; // rows of the table
const TOLD_MOST = 1000; // connections that one reactor tells of; there may be more

/** The answers of the last minutes, kept over visits to other pages. */
let samples: (Sample | { at: number })[] = [];
let last: { status: ServerStatus; at: number } | undefined;

effect(() => {
  if (connection.value.state !== 'signed-out') return;
  samples = [];
  last = undefined;
});

function take(status: ServerStatus, at: number): void {
  const sample = last && at - last.at < GAP_MS ? compare(last.status, status, at) : undefined;
  // A gap in the lines, where the server did not answer or was another one.
  samples.push(sample ?? { at: at / 1000 });
  const oldest = at / 1000 - KEPT_S;
  if (samples[0]!.at < oldest) samples = samples.filter((kept) => kept.at >= oldest);
  last = { status, at };
}

function useStatus() {
  const [, seen] = useState(last?.at);
  const [problem, setProblem] = useState<Problem>();
  useEffect(() => watchStatus({
    told(status, at) {
      take(status, at);
      seen(at);
      setProblem(undefined);
    },
    refused: setProblem,
  }), []);
  return { status: last?.status, problem };
}

// ---- charts

type Value = number | null | undefined;

interface Lines {
  readonly title: string;
  readonly what: string;
  readonly format: (value: number) => string;
  readonly isBytes?: boolean;
  readonly names: (status: ServerStatus) => readonly string[];
  readonly values: (sample: Sample) => readonly Value[];
}

/** One line each, or, where they are too many, the highest and the mean. */
function each(of: 'shards' | 'reactors', values: (sample: Sample) => readonly (number | null)[]) {
  const word = of === 'shards' ? 'shard' : 'reactor';
  return {
    names: (status: ServerStatus) => (status[of].length > LINES_MOST ? ['highest', 'mean']
      : status[of].map((_, i) => `${word} ${i}`)),
    values: (sample: Sample) => {
      const all = values(sample);
      if (all.length <= LINES_MOST) return all;
      const known = all.filter((value) => value !== null);
      if (known.length === 0) return [null, null];
      return [Math.max(...known), known.reduce((sum, value) => sum + value, 0) / known.length];
    },
  };
}

const charts: readonly Lines[] = [
  { title: 'Throughput', what: 'per second', format: perSecond,
    names: () => ['commands', 'events', 'requests'],
    values: (s) => [s.commands, s.events, s.requests] },
  { title: 'Commit latency', what: 'of the last commit in each second', format: microseconds,
    ...each('shards', (s) => s.commitUs) },
  { title: 'Batch size', what: 'records per commit', format: count,
    ...each('shards', (s) => s.batch) },
  { title: 'Queues', what: 'requests on their way to a shard', format: count,
    ...each('shards', (s) => s.queued) },
  { title: 'Watchers', what: 'open now', format: count,
    names: () => ['connections', 'streams', 'WebSockets', 'held by an inbox', 'MCP streams'],
    values: (s) => [s.connections, s.streams, s.sockets, s.waiting, s.mcpStreams] },
  { title: 'Memory', what: 'of the shards', format: bytes, isBytes: true,
    names: () => ['all', 'sessions'], values: (s) => [s.memory, s.sessionsMemory] },
  { title: 'Turns of the loop', what: '99 of 100 took at most', format: microseconds,
    ...each('reactors', (s) => s.turnUs) },
  { title: 'Log', what: 'bytes written per second', format: bytesPerSecond, isBytes: true,
    names: () => ['written'], values: (s) => [s.logBytes] },
];

function columns(lines: Lines, names: readonly string[]): uPlot.AlignedData {
  const values = samples.map((sample) =>
    ('events' in sample ? lines.values(sample) : names.map(() => null)));
  return [samples.map(({ at }) => at),
    ...names.map((_, i) => values.map((row) => row[i] ?? null))];
}

function ChartCard({ lines, status }: { lines: Lines; status: ServerStatus }) {
  const names = lines.names(status);
  const newest = samples[samples.length - 1];
  const data = useMemo(() => columns(lines, names), [newest, names.length]);
  const values = newest && 'events' in newest ? lines.values(newest) : [];
  const said = names.map((name, i) => `${name} ${typeof values[i] === 'number'
    ? lines.format(values[i]) : 'none'}`).join(', ');
  return (
    <section class="card chart-card" aria-label={lines.title}>
      <header>
        <h2>{lines.title}</h2>
        <p class="muted small ellipsis">{lines.what}</p>
      </header>
      <Chart names={names} data={data} format={lines.format} seconds={KEPT_S}
        isBytes={lines.isBytes ?? false} label={`${lines.title} now: ${said}`} />
      <ul class="legend small">
        {names.map((name, i) => (
          <li key={name}>
            <span class={`line series-${i % 6 + 1}`} /> {name}{' '}
            <b>{typeof values[i] === 'number' ? lines.format(values[i]) : '–'}</b>
          </li>
        ))}
      </ul>
    </section>
  );
}

// ---- figures

function Tiles({ status }: { status: ServerStatus }) {
  const companions = total(status.shards, 'companions');
  const newest = samples[samples.length - 1];
  const sample = newest && 'events' in newest ? newest : undefined;
  const tiles: readonly [string, string, string?][] = [
    ['Running for', duration(status.uptime_s * 1000), `version ${status.version}`],
    ['Sessions', count(total(status.shards, 'sessions')),
      `${count(total(status.shards, 'active'))} in memory`
        + (companions > 0 ? `, ${several(companions, 'companion')}` : '')],
    ['Events', sample ? perSecond(sample.events) : '–',
      `${count(total(status.shards, 'events'))} in all`],
    ['Commits', sample ? perSecond(sample.commits) : '–',
      `${status.durability}, by ${status.io}`],
    ['Connections', count(total(status.reactors, 'connections')),
      `${several(total(status.reactors, 'streams'), 'stream')}, `
        + several(total(status.reactors, 'sockets'), 'WebSocket')],
    ['Memory', bytes(total(status.shards, 'memory_bytes')), 'of the shards'],
  ];
  return (
    <dl class="tiles">
      {tiles.map(([name, value, more]) => (
        <div class="card" key={name}>
          <dt class="muted small">{name}</dt>
          <dd class="value">{value}</dd>
          <dd class="muted small ellipsis">{more}</dd>
        </div>
      ))}
    </dl>
  );
}

// ---- health

const badges = { healthy: 'ok', degraded: 'warn', failing: 'bad', failed: 'bad' } as const;

function since(time: string): string {
  return `for ${duration(Date.now() - Date.parse(time))}`;
}

const worst = (ill: readonly Component[]) => (ill.length === 0 ? 'ok'
  : ill.every(({ state }) => state === 'degraded') ? 'warn' : 'bad');

/** All components in a line each; those that are well only where one has been ill. */
function Health({ components }: { components: readonly Component[] }) {
  const ill = components.filter(({ state }) => state !== 'healthy');
  const shown = components.filter(({ state, error }) => state !== 'healthy' || error !== null);
  return (
    <section class="card figures health">
      <header>
        <h2 id="health">Health</h2>
        <span class={`badge ${worst(ill)}`}>
          {ill.length > 0 ? `${ill.length} of ${components.length} components not healthy`
            : `${several(components.length, 'component')} healthy`}
        </span>
        <span class="grow" />
        <LogLevelChoice />
      </header>
      {shown.length > 0 && <div class="scroll" tabIndex={0} role="region" aria-labelledby="health">
        <table class="table">
          <thead>
            <tr>{['Component', 'State', 'Since', 'Last error'].map((name) =>
              <th scope="col" key={name}>{name}</th>)}</tr>
          </thead>
          <tbody>
            {shown.map(({ component, state, since: from, error, error_at }) => (
              <tr key={component}>
                <th scope="row">{component}</th>
                <td><span class={`badge ${badges[state]}`}>{state}</span></td>
                <td>{since(from)}</td>
                <td>{error ?? '–'}{error_at && <span class="muted">, {since(error_at)
                  .replace('for ', '')} ago</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>}
    </section>
  );
}

const detailOf = (error: unknown) =>
  (error instanceof ProblemError ? error.problem.detail : String(error));

/** How much the server writes into its log, until it starts again. */
function LogLevelChoice() {
  const [level, setLevel] = useState<LogLevel>();
  const [problem, setProblem] = useState('');
  const choose = (wanted?: LogLevel) => logLevel(wanted).then((is) => {
    setLevel(is);
    setProblem('');
    if (wanted) announce(`The log level is ${is}.`);
  }, (error: unknown) => setProblem(detailOf(error)));
  useEffect(() => void choose(), []);
  return (
    <label class="row small">
      <span class="muted">Log level</span>
      <select class="input" name="log-level" value={level} disabled={!level}
        onChange={({ currentTarget }) => void choose(currentTarget.value as LogLevel)}>
        {logLevels.map((name) => <option key={name}>{name}</option>)}
      </select>
      {problem !== '' && <span class="bad-text" role="alert">{problem}</span>}
    </label>
  );
}

function Rebuild({ sid }: { sid: string }) {
  const [state, setState] = useState<'' | 'busy' | string>('');
  async function rebuild() {
    setState('busy');
    try {
      const { seq } = await rebuildSession(sid);
      announce(`${sid} is rebuilt and stands at ${seq}.`);
      setState('');
    } catch (error) {
      setState(detailOf(error));
    }
  }
  return (
    <span class="row wrap">
      <button class="button" disabled={state === 'busy'} onClick={() => void rebuild()}>
        Rebuild</button>
      {state !== 'busy' && state !== '' && <span class="bad-text" role="alert">{state}</span>}
    </span>
  );
}

/** Sessions that are not served; nothing is shown where there are none. */
function Quarantine({ status }: { status: ServerStatus }) {
  const all = total(status.shards, 'quarantined');
  const told = status.shards.flatMap(({ quarantine }): readonly Quarantined[] => quarantine);
  if (all === 0) return null;
  return (
    <section class="card figures quarantine">
      <header>
        <h2 id="quarantine">In quarantine</h2>
        <span class="badge bad">{several(all, 'session')} not served</span>
      </header>
      <div class="scroll" tabIndex={0} role="region" aria-labelledby="quarantine">
        <table class="table">
          <thead>
            <tr>{['Session', 'Since', 'Why', ''].map((name) =>
              <th scope="col" key={name}>{name}</th>)}</tr>
          </thead>
          <tbody>
            {told.map(({ session, since: from, reason }) => (
              <tr key={session}>
                <th scope="row">{session}</th>
                <td>{since(from)}</td>
                <td>{reason}</td>
                <td><Rebuild sid={session} /></td>
              </tr>
            ))}
          </tbody>
        </table>
        {all > told.length && <p class="none muted small">
          and {(all - told.length).toLocaleString()} more</p>}
      </div>
    </section>
  );
}

const faces = { inbox: 'HTTP inbox', mcp: 'MCP', 'mcp-sse': 'MCP, HTTP+SSE' };

/** Who is connected, each once with how often, by session; ids have no blanks. */
function byConnection(connected: readonly ConnectedAgent[]) {
  const counts = new Map<string, { one: ConnectedAgent; times: number }>();
  for (const one of connected) {
    const key = `${one.session} ${one.agent} ${one.face} ${one.waiting}`;
    const known = counts.get(key);
    if (known) known.times++;
    else counts.set(key, { one, times: 1 });
  }
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
}

function Connected({ connected }: { connected: readonly ConnectedAgent[] }) {
  const rows = byConnection(connected);
  const agents = new Set(connected.map(({ session, agent }) => `${session} ${agent}`)).size;
  return (
    <section class="card figures connected">
      <header>
        <h2 id="connected">Who is connected</h2>
        <span class="muted small">{connected.length >= TOLD_MOST && 'at least '}
          {several(agents, 'agent')}</span>
      </header>
      {rows.length === 0 && <p class="none muted small">
        No agent waits for messages or listens by MCP.</p>}
      {rows.length > 0 && <div class="scroll" tabIndex={0} role="region"
        aria-labelledby="connected">
        <table class="table">
          <thead>
            <tr>{['Session', 'Agent', 'By', 'Just now'].map((name) =>
              <th scope="col" key={name}>{name}</th>)}</tr>
          </thead>
          <tbody>
            {rows.slice(0, CONNECTED_MOST).map(([key, { one, times }]) => (
              <tr key={key}>
                <th scope="row"><a href={sessionHref(one.session)}>{one.session}</a></th>
                <td>{one.agent}</td>
                <td>{faces[one.face] ?? one.face}</td>
                <td>{one.waiting ? 'waits' : 'listens'}{times > 1 && ` × ${times}`}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {rows.length > CONNECTED_MOST && <p class="none muted small">
          and {(rows.length - CONNECTED_MOST).toLocaleString()} more</p>}
      </div>}
    </section>
  );
}

type Row = Readonly<Record<string, unknown>>;

/** Figures in the order in which the server tells them; those of objects one by one. */
function flat(row: Row, prefix = ''): [string, unknown][] {
  return Object.entries(row).flatMap(([name, value]): [string, unknown][] =>
    (typeof value === 'object' && value !== null && !Array.isArray(value)
      ? flat(value as Row, `${prefix}${name}.`) : [[prefix + name, value]]));
}

function FigureTable({ title, word, rows }: { title: string; word: string; rows: readonly Row[] }) {
  const figures = rows.map((row) => new Map(flat(row)));
  const names = [...figures[0]?.keys() ?? []]
    .filter((name) => name !== 'id' && name !== word && !Array.isArray(figures[0]!.get(name)));
  return (
    <section class="card figures">
      <header><h2 id={`figures-${word}`}>{title}</h2></header>
      <div class="scroll" tabIndex={0} role="region" aria-labelledby={`figures-${word}`}>
        <table class="table">
          <thead>
            <tr>
              <th scope="col">Figure</th>
              {rows.map((row, i) => (
                <th scope="col" class="number" key={i}>{word} {figure(row, word) || i}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <tr key={name}>
                <th scope="row" class="mono">{name}</th>
                {figures.map((row, i) => (
                  <td class="number" key={i}>{byName(name, row.get(name))}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

export default function ServerPage() {
  const { status, problem } = useStatus();
  if (problem) {
    return (
      <ProblemCard problem={{ title: 'The server\'s figures are for those who run it',
        detail: problem.detail }} />
    );
  }
  if (!status) return <p class="muted notice" role="status">Waiting for the server…</p>;
  return (
    <div class="server">
      <h1 class="visually-hidden">Server</h1>
      <Tiles status={status} />
      <Quarantine status={status} />
      <Health components={status.health} />
      <div class="charts">
        {charts.map((lines) => <ChartCard key={lines.title} lines={lines} status={status} />)}
      </div>
      <Connected connected={status.connected} />
      <FigureTable title="Shards" word="shard" rows={status.shards} />
      <FigureTable title="Reactors" word="reactor" rows={status.reactors} />
    </div>
  );
}
