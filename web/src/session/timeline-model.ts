// The events of a session, newest first: those that come live on top, older ones by page from
// below. What comes live is a patch, not an event; both say enough for a line.
//
// The list has no gaps: it reaches from the newest event down to the last page read. It is cut at
// its old end when it gets long, and then read again when somebody goes there.

import { signal } from '@preact/signals';
import { ProblemError, readEvents, type EventFilter, type Fold } from '../data/client';
import type { Message, Patch, Problem, SessionEvent, Thread, WakeTarget } from '../data/types';

const PAGE = 100;
const KEPT = 4000;
const TRIM = 1000;
const SHOW_MS = 250; // how often what comes live is shown
const SETTLE_MS = 200; // how long a filter or a place in time stays before it is asked for

export interface Entry {
  readonly seq: number;
  /** The first seq, where several events came as one patch. */
  readonly from: number;
  readonly ts: string;
  readonly type: string;
  readonly actor: string | null;
  readonly thread: string | null;
  /** Whom it is about besides the actor. */
  readonly agents: readonly string[];
  readonly text: string;
}

export interface Filter {
  readonly type: readonly string[];
  readonly agent: string;
  readonly thread: string;
  /** Times as RFC 3339 has them, or empty. */
  readonly since: string;
  readonly until: string;
}

export const noFilter: Filter = { type: [], agent: '', thread: '', since: '', until: '' };

// ---- a line for an event or a patch

const SHORT = 160;
const list = (names: readonly string[]) => names.slice(0, 6).join(', ') +
  (names.length > 6 ? ` and ${names.length - 6} more` : '');
const changes = (fields: Readonly<Record<string, unknown>>): string =>
  Object.entries(fields).filter(([, value]) => JSON.stringify(value) !== '{}')
    .map(([name, value]) => value === null ? `no ${name}` :
      typeof value === 'object' ? `${name} ${changes(value as Record<string, unknown>)}` :
      `${name}: ${String(value).slice(0, SHORT)}`).join(' · ');

// What is hidden from us is empty (data/whole.ts).
const nameText = (name: string, participants: readonly string[]) =>
  [name, list(participants)].filter((text) => text !== '').join(' · ');

/** What was set, and what was reported, of a target. */
const targetText = (target: Pick<WakeTarget, 'mentions'> & { url: string | null } | null) =>
  typeof target?.url === 'string' ? [`woken by ${target.mentions ? 'mentions' : 'messages'}`,
    target.url.slice(0, SHORT)].filter((text) => text !== '').join(': ') : 'woken no more';
const breakerText = (agent: string, { breaker, why }: Pick<WakeTarget, 'breaker' | 'why'>) =>
  breaker === 'open' ? `${agent} cannot be woken: ${why ?? 'calls fail'}` :
    `${agent} can be woken again`;

type Facts = Pick<Entry, 'thread' | 'agents' | 'text'>;

// What all events have, and what the line says elsewhere.
const common = new Set(['seq', 'ts', 'type', 'actor', 'trace', 'cause', 'session', 'agent']);

function factsOfEvent(event: SessionEvent): Facts {
  const thread = 'thread' in event ? event.thread : null;
  const about = 'agent' in event ? [event.agent] : [];
  switch (event.type) {
    case 'message.sent':
      return { thread, agents: event.mentions, text: event.content.slice(0, SHORT) };
    case 'thread.created':
      return { thread, agents: event.participants,
        text: nameText(event.name, event.participants) };
    case 'thread.participant_added': case 'thread.participant_removed':
      return { thread, agents: about, text: event.agent + (event.by && `, by ${event.by}`) };
    case 'thread.closed': case 'session.closed':
      return { thread, agents: about, text: event.summary ?? '' };
    case 'thread.read':
      return { thread, agents: about, text: event.read > 0 ? `up to ${event.read}` : '' };
    case 'inbox.acked':
      return { thread, agents: about, text: list(event.threads.map((one) => one.thread)) };
    case 'agent.wake_set': return { thread, agents: about, text: targetText(event) };
    case 'agent.wake_reported':
      return { thread, agents: about, text: breakerText(event.agent, event) };
    case 'agent.left': return { thread, agents: about, text: list(event.threads) };
    case 'session.forked':
      return { thread, agents: about, 
        text: event.parent && `of ${event.parent} at ${event.parent_seq}` };
    default:
      return { thread, agents: about, text: changes(Object.fromEntries(
        Object.entries(event).filter(([name]) => !common.has(name)))) };
  }
}

const decoded = (name: string | undefined) =>
  name === undefined ? '' : name.replaceAll('~1', '/').replaceAll('~0', '~');

function factsOfPatch({ ops, type, actor }: Patch): Facts {
  let thread: string | null = null;
  const agents = new Set<string>();
  const said: Record<string, unknown> = {};
  let text = '';
  for (const op of ops) {
    const [, root, id, member, which] = op.path.split('/');
    const value = op.op === 'remove' ? null : op.value;
    if (root === 'threads' && id) thread ??= id;
    if (root === 'agents' && id) agents.add(id);
    if (member === 'participants' && which) agents.add(which);
    if (member === 'messages' && op.op === 'add') {
      const message = value as Message;
      for (const agent of message.mentions) agents.add(agent);
      text = message.content.slice(0, SHORT);
    } else if (root === 'threads' && member === undefined && value !== null) {
      const { name, participants } = value as Thread;
      for (const agent in participants) agents.add(agent);
      text = nameText(name, Object.keys(participants));
    } else if (root === 'agents' && member === 'wake') {
      const target = value as WakeTarget | null;
      text = type === 'agent.wake_reported' && target ? breakerText(id!, target) :
        targetText(target);
    } else if (root === 'agents' && member) {
      said[which === undefined ? member : `${member}.${decoded(which)}`] = value;
    } else if (type === 'thread.closed' && member === 'summary') {
      text = String(value ?? '');
    } else if (root === 'labels' && id) {
      said[decoded(id)] = value;
    }
  }
  if (type.startsWith('thread.participant_')) text = list([...agents]);
  if (type === 'inbox.acked') thread = null;
  if (type === 'thread.read' && actor) text = '';
  return { thread, agents: [...agents], text: text || changes(said) };
}

export function entryOfEvent(event: SessionEvent): Entry {
  const { seq, ts, type, actor } = event;
  return { seq, from: seq, ts, type, actor, ...factsOfEvent(event) };
}

function entryOfPatch(patch: Patch): Entry {
  const { seq, from = seq, ts, type, actor } = patch;
  if (type === 'merged') return { seq, from, ts, type, actor: null, thread: null, agents: [],
    text: `${seq - from + 1} events that came at once` };
  return { seq, from: seq, ts, type, actor, ...factsOfPatch(patch) };
}

function matches(entry: Entry, filter: Filter): boolean {
  if (entry.type === 'merged') return true;
  const at = Date.parse(entry.ts);
  return (filter.type.length === 0 || filter.type.includes(entry.type)) &&
    (!filter.agent || entry.actor === filter.agent || entry.agents.includes(filter.agent)) &&
    (!filter.thread || entry.thread === filter.thread) &&
    (!filter.since || at >= Date.parse(filter.since)) &&
    (!filter.until || at < Date.parse(filter.until));
}

// ---- the list

export class Timeline {
  /** Newest first. */
  readonly entries = signal<readonly Entry[]>([]);
  readonly loading = signal(false);
  readonly problem = signal<Problem | null>(null);
  /** The oldest event that matches is in the list. */
  readonly complete = signal(false);

  private filter = noFilter;
  private live: Entry[] = []; // what came and is not in `entries` yet; oldest first
  private last = 0; // the last seq that was told
  private bound: number | null = null; // show nothing after it
  private began = false;
  private asking: AbortController | null = null;
  private showTimer: ReturnType<typeof setTimeout> | undefined;
  private settleTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly sid: string) {}

  close(): void {
    clearTimeout(this.showTimer);
    clearTimeout(this.settleTimer);
    this.asking?.abort();
    this.asking = null;
  }

  /** Somebody looks at it: from now on it is filled. */
  begin(): void {
    if (this.began) return;
    this.began = true;
    if (this.last > 0) this.reload();
  }

  setFilter(filter: Filter): void {
    if (JSON.stringify(filter) === JSON.stringify(this.filter)) return;
    this.filter = filter;
    this.settle();
  }

  /** Shows events up to this one; null for all, also those that come. */
  upTo(seq: number | null): void {
    if (seq === this.bound) return;
    const back = seq !== null && (this.bound === null || seq < this.bound);
    this.bound = seq;
    const left = back && !this.asking ?
      this.entries.peek().filter((entry) => entry.seq <= seq) : [];
    if (left.length > 0) this.entries.value = left;
    else this.settle();
  }

  private settle(): void {
    if (!this.began) return;
    this.settleTimer ??= setTimeout(() => {
      this.settleTimer = undefined;
      this.reload();
    }, SETTLE_MS);
  }

  private reload(): void {
    this.asking?.abort();
    this.asking = null;
    this.live = [];
    this.complete.value = false;
    void this.more(true);
  }

  note(fold: Fold): void {
    const before = this.last;
    this.last = fold.after.seq;
    if (!this.began) return;
    if (fold.reset !== undefined) {
      if (before === 0 || this.bound === null) this.reload();
      return;
    }
    if (this.bound !== null) return;
    for (const patch of fold.patches) {
      const entry = entryOfPatch(patch);
      if (matches(entry, this.filter)) this.live.push(entry);
    }
    if (this.live.length > 2 * KEPT) this.live = this.live.slice(-KEPT);
    this.showTimer ??= setTimeout(() => this.showLive(), SHOW_MS);
  }

  private showLive(): void {
    this.showTimer = undefined;
    if (this.live.length === 0 || this.asking) return; // the page that is awaited comes first
    const all = this.live.reverse().concat(this.entries.peek());
    this.live = [];
    if (all.length > KEPT + TRIM) {
      all.length = KEPT;
      this.complete.value = false;
    }
    this.entries.value = all;
  }

  /** Reads the next older page; with `anew` the first one. */
  async more(anew = false): Promise<void> {
    if (this.asking || (!anew && this.complete.peek()) || this.last === 0) return;
    const asking = this.asking = new AbortController();
    this.loading.value = true;
    const lowest = anew ? undefined : this.entries.peek().at(-1)?.from;
    const before = lowest ?? Math.min(this.bound ?? Infinity, this.last) + 1;
    try {
      const { events } = await readEvents(this.sid, this.wish(before), asking.signal);
      if (this.asking !== asking) return;
      const older = events.map(entryOfEvent);
      this.entries.value = anew ? older : this.entries.peek().concat(older);
      this.complete.value = events.length < PAGE;
      this.problem.value = null;
    } catch (error) {
      if (this.asking !== asking) return;
      if (!(error instanceof ProblemError)) throw error;
      this.problem.value = error.problem;
      this.complete.value = true;
      if (anew) this.entries.value = [];
    }
    this.asking = null;
    this.loading.value = false;
    this.showLive();
  }

  /** Reads the events that came as one patch. */
  async open(merged: Entry): Promise<void> {
    let events: readonly SessionEvent[];
    try {
      ({ events } = await readEvents(this.sid,
        { ...this.wish(merged.seq + 1), after: merged.from - 1, limit: 1000 }));
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      this.problem.value = error.problem;
      return;
    }
    const at = this.entries.peek().indexOf(merged);
    if (at === -1) return;
    const entries = this.entries.peek().slice();
    entries.splice(at, 1, ...events.map(entryOfEvent));
    this.entries.value = entries;
  }

  private wish(before: number): EventFilter {
    const { type, agent, thread, since, until } = this.filter;
    return { before, limit: PAGE, order: 'desc', ...(type.length > 0 && { type }),
      ...(agent && { agent }), ...(thread && { thread }), ...(since && { since }),
      ...(until && { until }) };
  }
}
