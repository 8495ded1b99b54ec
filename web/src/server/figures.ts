// What the charts show: what grows in /v1/status as rates between two answers, all else as it is.

import type { ReactorFigures, ServerStatus, ShardFigures } from '../data/types';

/** Figures of one second; the lists hold one for each shard or reactor. */
export interface Sample {
  readonly at: number; // seconds
  readonly commands: number;
  readonly events: number;
  readonly requests: number;
  readonly refused: number;
  readonly commits: number;
  readonly commitUs: readonly number[];
  readonly batch: readonly (number | null)[];
  readonly queued: readonly number[];
  readonly turnUs: readonly (number | null)[];
  readonly memory: number;
  readonly sessionsMemory: number;
  readonly logBytes: number;
  readonly connections: number;
  readonly streams: number;
  readonly sockets: number;
  readonly waiting: number;
  readonly mcpStreams: number;
}

type Figures = Readonly<Record<string, unknown>>;

export function figure(of: Figures, name: string): number {
  const value = of[name];
  return typeof value === 'number' ? value : 0;
}

export function total(of: readonly Figures[], name: string): number {
  return of.reduce((sum, one) => sum + figure(one, name), 0);
}

const logs = (shards: readonly ShardFigures[]) => shards.map(({ log }) => log);

/** Records per commit between two answers; null where nothing was committed. */
function batchSize(before: ShardFigures, after: ShardFigures): number | null {
  const commits = figure(after.log, 'commits') - figure(before.log, 'commits');
  return commits > 0
    ? (figure(after.log, 'records') - figure(before.log, 'records')) / commits : null;
}

/** The bound under which 99 of 100 turns of the loop stayed between two answers. */
function turn99(before: ReactorFigures, after: ReactorFigures): number | null {
  const counts = Object.entries(after.turn_us).map(([name, n]) => ({
    bound: Number(name.replace(/^\D+/, '')) * (name.startsWith('over') ? 2 : 1),
    n: n - (before.turn_us[name] ?? 0),
  })).sort((a, b) => a.bound - b.bound);
  const all = counts.reduce((sum, { n }) => sum + n, 0);
  if (all === 0) return null;
  let seen = 0;
  for (const { bound, n } of counts) {
    seen += n;
    if (seen >= all * 0.99) return bound;
  }
  return null;
}

/** What happened between two answers; undefined where the server was another one in between. */
export function compare(before: ServerStatus, after: ServerStatus, at: number): Sample | undefined {
  const seconds = after.uptime_s - before.uptime_s;
  if (seconds <= 0 || before.shards.length !== after.shards.length) return undefined;
  const rate = (a: readonly Figures[], b: readonly Figures[], name: string) =>
    Math.max(0, total(b, name) - total(a, name)) / seconds;
  const { shards, reactors } = after;
  return {
    at: at / 1000,
    commands: rate(before.shards, shards, 'commands'),
    events: rate(before.shards, shards, 'events'),
    refused: rate(before.shards, shards, 'refused'),
    requests: rate(before.reactors, reactors, 'requests'),
    commits: rate(logs(before.shards), logs(shards), 'commits'),
    logBytes: rate(logs(before.shards), logs(shards), 'bytes'),
    commitUs: shards.map(({ log }) => figure(log, 'commit_last_us')),
    batch: shards.map((shard, i) => batchSize(before.shards[i]!, shard)),
    queued: shards.map((shard) => figure(shard, 'queued')),
    turnUs: reactors.map((reactor, i) => turn99(before.reactors[i]!, reactor)),
    memory: total(shards, 'memory_bytes'),
    sessionsMemory: total(shards, 'sessions_bytes'),
    connections: total(reactors, 'connections'),
    streams: total(reactors, 'streams'),
    sockets: total(reactors, 'sockets'),
    waiting: total(reactors, 'waiting'),
    mcpStreams: total(reactors, 'mcp_streams'),
  };
}

// ---- how they are written

export function count(n: number): string {
  if (n >= 1e6) return `${(n / 1e6).toFixed(n >= 1e7 ? 0 : 1)} M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(n >= 1e5 ? 0 : 1)} k`;
  return Number.isInteger(n) || n >= 100 ? Math.round(n).toLocaleString() : n.toFixed(1);
}

export function microseconds(us: number): string {
  if (us < 1000) return `${Math.round(us)} µs`;
  return us < 1e6 ? `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

export const bytesPerSecond = (n: number): string => `${bytes(n)}/s`;
export const perSecond = (n: number): string => `${count(n)}/s`;

/** Any figure of /v1/status, by its name's unit. */
export function byName(name: string, value: unknown): string {
  if (typeof value !== 'number') return String(value ?? '–');
  if (name.endsWith('_us')) return microseconds(value);
  if (name === 'bytes' || name.endsWith('_bytes')) return bytes(value);
  return value.toLocaleString();
}
