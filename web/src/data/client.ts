// What the pages know of the server. Everything live comes through the hub (hub.ts), which holds
// one WebSocket for all tabs; reads that answer once are plain requests.
//
// Normal path: a page watches a session while it is shown and reads `view` in its render; patches
// are folded once per animation frame, so a session with 500 messages/s is one render per frame.
// Failure: the hub reconnects and resumes by itself, `connection` says how that is going, and
// views keep the last state they had. Where resuming is not possible a view is replaced as a whole.

import { batch, signal, type ReadonlySignal, type Signal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { forgetMe, isRedacted, lookUpMe } from './me';
import { applyPatch } from './patch';
import type {
  Command, CommandAnswer, EventPage, LogLevel, MessagePage, Operation, Patch, Problem, ServerStatus,
  Summary, View,
} from './types';
import { wholeEvent, wholeMessages, wholePatch, wholeSummary, wholeView } from './whole';
import { unreachable, type Connection, type FromHub, type ToHub } from './wire';

export type { Connection } from './wire';
export { applyPatch } from './patch';

// ---- the connection

const connectionNow = signal<Connection>({ state: 'connecting' });

/** The state of the one connection. Shown in the header at all times. */
export const connection: ReadonlySignal<Connection> = connectionNow;

/** Tries to connect now instead of at `retryAt`. */
export function reconnectNow(): void {
  post({ kind: 'retry' });
}

/** The cookie is gone: what was opened with it ends, in all tabs. */
export function disconnect(): void {
  post({ kind: 'signed-out' });
}

let port: MessagePort | undefined;

function post(message: ToHub): void {
  port ??= openPort();
  port.postMessage(message);
}

function openPort(): MessagePort {
  const opened = typeof SharedWorker === 'undefined' ? localHub()
    : new SharedWorker(WORKER_URL, { name: 'atoll' }).port;
  opened.onmessage = ({ data }: MessageEvent<FromHub>) => hear(data);
  if (navigator.locks) {
    // Whoever gets this lock knows that the page is gone, however it ended.
    const name = `atoll-page-${Math.random().toString(36).slice(2)}`;
    void navigator.locks.request(name, () => {
      opened.postMessage({ kind: 'lock', name } satisfies ToHub);
      return new Promise(() => {});
    });
  }
  addEventListener('pagehide', () => post({ kind: 'bye' }));
  addEventListener('pageshow', ({ persisted }) => { if (persisted) askAgain(); });
  document.addEventListener('visibilitychange', tellStatusWish);
  return opened;
}

/** Without a SharedWorker the hub is loaded into the page. */
function localHub(): MessagePort {
  const { port1, port2 } = new MessageChannel();
  void import('./hub').then(({ Hub }) => new Hub(location.origin).attach(port2));
  return port1;
}

function hear(message: FromHub): void {
  switch (message.kind) {
    case 'connection':
      connectionNow.value = message.connection;
      if (message.connection.state === 'connected') void lookUpMe();
      if (message.connection.state === 'signed-out') forgetMe();
      break;
    case 'told':
      post({ kind: 'ack' });
      for (const text of message.messages) sort(JSON.parse(text) as Told);
      break;
    case 'again':
      askAgain();
      break;
    case 'summaries-refused':
      if (summaryFeed) summaryFeed.problem.value = message.problem;
      break;
    case 'refused':
      for (const feed of feeds.get(message.sid) ?? []) feed.refuse(message.problem);
      break;
    case 'answer': {
      const asked = commands.get(message.ref);
      commands.delete(message.ref);
      if ('problem' in message.result) asked?.fail(new ProblemError(message.result.problem));
      else asked?.done(message.result);
      break;
    }
    case 'status-refused':
      for (const { refused } of statusListeners) refused(message.problem);
      break;
    case 'status': {
      const status = JSON.parse(message.text) as ServerStatus;
      for (const { told } of statusListeners) told(status, message.at);
      break;
    }
  }
}

function askAgain(): void {
  for (const sid of feeds.keys()) post({ kind: 'watch', sid });
  if (summaryFeed) post({ kind: 'summaries', labels: summaryFeed.labels });
  tellStatusWish();
}

// ---- what the server told

type Told =
  | ({ readonly event: 'snapshot'; readonly session: string; readonly reset?: string } & View)
  | ({ readonly event: 'patch'; readonly session: string } & Patch)
  | { readonly event: 'end'; readonly session: string; readonly epoch: string;
      readonly reason: string }
  | ({ readonly event: 'summary' } & Summary)
  | { readonly event: 'reset'; readonly reset: string | null }
  | { readonly event: 'ready' };

function sort(told: Told): void {
  if (told.event === 'snapshot' || told.event === 'patch') {
    for (const feed of feeds.get(told.session) ?? []) feed.take(told);
  } else {
    if (told.event === 'end' && told.reason === 'deleted') {
      for (const feed of feeds.get(told.session) ?? []) feed.take(told);
    }
    summaryFeed?.take(told);
  }
}

const waitingForFrame = new Set<{ fold(): void }>();
let frameAsked = false;

/** Folds once per frame; also in a tab that is not shown and has none, if seldom. */
function foldInNextFrame(feed: { fold(): void }): void {
  waitingForFrame.add(feed);
  if (frameAsked) return;
  frameAsked = true;
  if (document.hidden) setTimeout(foldAll, 500);
  else {
    requestAnimationFrame(foldAll);
    setTimeout(foldAll, 1000); // in case it is hidden before the frame comes
  }
}

function foldAll(): void {
  if (!frameAsked) return;
  frameAsked = false;
  const all = [...waitingForFrame];
  waitingForFrame.clear();
  batch(() => { for (const feed of all) feed.fold(); });
}

// ---- one session, live

export type FeedStatus =
  | 'loading' /* no view yet */
  | 'live'    /* `view` follows the session, or did when the connection was last there */
  | 'ended'   /* the session was deleted; `view` is its last state */
  | 'refused' /* it cannot be watched: `problem` says why; status 404 where it does not exist */;

export interface Fold {
  readonly patches: readonly Patch[];
  readonly before: View | null;
  readonly after: View;
  readonly reset?: string | null;
  /** The same as the server told it: only that folds where parts are hidden from us. */
  readonly told: Pick<Fold, 'patches' | 'before' | 'after'>;
}

export interface SessionFeed {
  readonly sid: string;
  readonly status: ReadonlySignal<FeedStatus>;
  readonly problem: ReadonlySignal<Problem | null>;
  /** The state now. Changes at most once per animation frame; parts that no patch touched keep
   * their identity. */
  readonly view: ReadonlySignal<View | null>;
  /**
   * Calls `listener` after each fold, at most once per frame, with all patches of that frame in
   * order and the views before and after. Where the state was replaced as a whole (first snapshot,
   * reset, another life of the session) `reset` says why, null on the first, and `patches` are
   * those since then. Between the seqs of `before` and `after` there may then be events that were
   * never told. Returns what ends it.
   */
  onFold(listener: (fold: Fold) => void): () => void;
  /** Ends the watching; the feed is of no use afterwards. */
  close(): void;
}

const feeds = new Map<string, Set<Feed>>();

class Feed implements SessionFeed {
  readonly status: Signal<FeedStatus> = signal('loading');
  readonly problem: Signal<Problem | null> = signal(null);
  readonly view: Signal<View | null> = signal(null);
  private queue: (Told & { event: 'snapshot' | 'patch' | 'end' })[] = [];
  private readonly listeners = new Set<(fold: Fold) => void>();
  private lost = false; // until the next snapshot
  private told: View | null = null; // just as the server told it

  constructor(readonly sid: string) {}

  onFold(listener: (fold: Fold) => void): () => void {
    this.listeners.add(listener);
    return () => { this.listeners.delete(listener); };
  }

  close(): void {
    const all = feeds.get(this.sid);
    if (!all?.delete(this) || all.size > 0) return;
    feeds.delete(this.sid);
    post({ kind: 'unwatch', sid: this.sid });
  }

  refuse(problem: Problem): void {
    this.problem.value = problem;
    this.status.value = 'refused';
  }

  take(told: Told & { event: 'snapshot' | 'patch' | 'end' }): void {
    this.queue.push(told);
    foldInNextFrame(this);
  }

  /** What is in the queue becomes one new view. */
  fold(): void {
    const before = this.told;
    const queue = this.queue;
    this.queue = [];
    const own = new Set<object>();
    let after = before;
    let patches: Patch[] = [];
    let reset: string | null | undefined;
    let ended = false;
    for (const told of queue) {
      if (told.event === 'end') ended ||= told.epoch === after?.epoch;
      else if (told.event === 'snapshot') {
        // One for another tab, which joined: this one stands there already.
        if (!this.lost && after?.epoch === told.epoch && after.seq >= told.seq) continue;
        const { epoch, seq, ts, state } = told;
        reset = after ? told.reset ?? 'The state was told anew.' : null;
        after = { epoch, seq, ts, state };
        patches = [];
        this.lost = false;
        ended = false;
      } else if (after && !this.lost && told.seq > after.seq) {
        const next = this.apply(after, told, own);
        if (!next) continue;
        after = next;
        patches.push(told);
      }
    }
    if (after && after !== before) {
      this.told = after;
      const shown = shownView(after);
      const fold: Fold = { patches: isRedacted() ? patches.map(wholePatch) : patches,
        before: this.view.peek(), after: shown, told: { patches, before, after },
        ...(reset !== undefined && { reset }) };
      this.view.value = shown;
      this.status.value = 'live';
      this.problem.value = null;
      for (const listener of this.listeners) listener(fold);
    }
    if (ended) this.status.value = 'ended';
  }

  /** The view after a patch. Where it does not fit nothing is guessed: a snapshot is asked for. */
  private apply(view: View, patch: Patch, own: Set<object>): View | undefined {
    try {
      if ((patch.from ?? patch.seq) !== view.seq + 1) {
        throw new Error(`patch from ${patch.from ?? patch.seq} on, but the view is at ${view.seq}`);
      }
      return { epoch: view.epoch, seq: patch.seq, ts: patch.ts,
        state: applyPatch(view.state, patch.ops, own) };
    } catch (error) {
      console.error(`Session ${this.sid} is loaded again:`, error);
      this.lost = true;
      post({ kind: 'watch', sid: this.sid });
      return undefined;
    }
  }
}

/** Begins to watch a session. Several feeds of one, also in several tabs, cost one watch. */
export function watchSession(sid: string): SessionFeed {
  const feed = new Feed(sid);
  const all = feeds.get(sid);
  if (all) all.add(feed);
  else feeds.set(sid, new Set([feed]));
  post({ kind: 'watch', sid });
  return feed;
}

/** The same for the time that a component is shown. */
export function useSession(sid: string): SessionFeed {
  const feed = useMemo(() => watchSession(sid), [sid]);
  useEffect(() => () => feed.close(), [feed]);
  return feed;
}

// ---- commands

/** What `send` and the reads below throw. */
export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
    this.name = 'ProblemError';
  }
}

const commands = new Map<number, {
  done(answer: CommandAnswer): void; fail(error: ProblemError): void;
}>();
let nextRef = 1;

/**
 * Sends a command to a session; resolves once the change is on disk, throws ProblemError where it
 * was refused. It carries an idempotency key of its own: where the connection is lost before the
 * answer has come it is sent again, and counts once. Gives up with '/problems/unreachable' when
 * there was no connection for 30 s.
 */
export function send(sid: string, command: Command): Promise<CommandAnswer> {
  return new Promise((done, fail) => {
    const ref = nextRef++;
    commands.set(ref, { done, fail });
    post({ kind: 'command', ref, sid, command });
  });
}

// ---- the list of sessions

export type SummaryListener = (after: Summary, before: Summary | undefined) => void;

export interface SummaryFeed {
  /** By session id. The map is changed in place: `version` says when. */
  readonly sessions: ReadonlyMap<string, Summary>;
  /** Goes up at most once per animation frame, whenever something in `sessions` changed. */
  readonly version: ReadonlySignal<number>;
  /** The initial set has been told. */
  readonly ready: ReadonlySignal<boolean>;
  /** Why nothing is told. */
  readonly problem: ReadonlySignal<Problem | null>;
  close(): void;
}

export function matchesLabels(
  labels: Readonly<Record<string, string>>, wanted: readonly string[]): boolean {
  return wanted.every((text) => {
    const colon = text.indexOf(':');
    return colon < 0 ? Object.hasOwn(labels, text)
      : labels[text.slice(0, colon)] === text.slice(colon + 1);
  });
}

let summaryFeed: Summaries | undefined;

class Summaries implements SummaryFeed {
  readonly sessions = new Map<string, Summary>();
  readonly version = signal(0);
  readonly ready = signal(false);
  readonly problem: Signal<Problem | null> = signal(null);
  private queue: Told[] = [];
  private stale = new Set<string>(); // told before the last reset, and not since

  constructor(readonly labels: readonly string[], private readonly listener?: SummaryListener) {}

  take(told: Told): void {
    this.queue.push(told);
    foldInNextFrame(this);
  }

  fold(): void {
    const queue = this.queue;
    this.queue = [];
    for (const told of queue) {
      if (told.event === 'summary') this.takeSummary(wholeSummary(told));
      else if (told.event === 'reset') this.stale = new Set(this.sessions.keys());
      else if (told.event === 'ready') {
        for (const sid of this.stale) this.sessions.delete(sid);
        this.stale.clear();
        this.ready.value = true;
        this.problem.value = null;
      } else if (told.event === 'end') {
        if (this.sessions.get(told.session)?.epoch === told.epoch) {
          this.sessions.delete(told.session);
        }
      }
    }
    this.version.value++;
  }

  private takeSummary(summary: Summary): void {
    const before = this.sessions.get(summary.session);
    this.stale.delete(summary.session);
    // Another tab may want others, so that the hub watches more than this page asked for.
    if (!matchesLabels(summary.labels, this.labels)) {
      this.sessions.delete(summary.session);
      return;
    }
    this.sessions.set(summary.session, summary);
    this.listener?.(summary, before?.epoch === summary.epoch ? before : undefined);
  }

  close(): void {
    if (summaryFeed !== this) return;
    summaryFeed = undefined;
    post({ kind: 'summaries', labels: null });
  }
}

/**
 * Watches all sessions with all of these labels (`key` or `key:value`); `listener` hears of each
 * change. A page has one such feed: a second one ends the first.
 */
export function watchSummaries(
  labels: readonly string[], listener?: SummaryListener): SummaryFeed {
  summaryFeed = new Summaries(labels, listener);
  post({ kind: 'summaries', labels });
  return summaryFeed;
}

// ---- the server's figures

interface StatusListener {
  told(status: ServerStatus, at: number): void;
  /** It is not for us. */
  refused(problem: Problem): void;
}
const statusListeners = new Set<StatusListener>();
let statusWished = false;

function tellStatusWish(): void {
  const wish = statusListeners.size > 0 && !document.hidden;
  if (wish === statusWished && !wish) return;
  statusWished = wish;
  post({ kind: 'status', on: wish });
}

/** The server's figures, once a second while the page is seen. `at`: when they were asked for. */
export function watchStatus(listener: StatusListener): () => void {
  statusListeners.add(listener);
  tellStatusWish();
  return () => {
    statusListeners.delete(listener);
    tellStatusWish();
  };
}

// ---- reads that answer once. They throw ProblemError; AbortError where `signal` was raised.

type Parameter = string | number | readonly string[] | undefined;

async function read<T>(
  path: string, query: Readonly<Record<string, Parameter>>, signal?: AbortSignal): Promise<T> {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    for (const one of typeof value === 'object' ? value : [value]) {
      parameters.append(name, String(one));
    }
  }
  const text = parameters.toString();
  return request(`${path}${text && `?${text}`}`, { signal: signal ?? null });
}

const request = <T>(path: string, init: RequestInit): Promise<T> =>
  ask(`/v1/sessions/${path}`, init);

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ProblemError(unreachable('The server cannot be reached.'));
  }
  const body: unknown = await answer.json();
  if (!answer.ok) throw new ProblemError(body as Problem);
  return body as T;
}

/** The session as it stood after event `at`, as the server tells it: see `shownView`. */
export function readView(sid: string, at: number, signal?: AbortSignal): Promise<View> {
  return read(encodeURIComponent(sid), { at }, signal);
}

/** A view as pages take it. */
export const shownView = (view: View): View => (isRedacted() ? wholeView(view) : view);

export interface EventFilter {
  after?: number;
  before?: number;
  limit?: number;
  type?: readonly string[];
  agent?: string;
  thread?: string;
  since?: string;
  until?: string;
  order?: 'asc' | 'desc';
  cursor?: number | string;
}

export async function readEvents(
  sid: string, filter: EventFilter = {}, signal?: AbortSignal): Promise<EventPage> {
  const page = await read<EventPage>(`${encodeURIComponent(sid)}/events`, { ...filter }, signal);
  return isRedacted() ? { ...page, events: page.events.map(wholeEvent) } : page;
}

/** A page of messages, always oldest first: the newest ones, or those around a seq. */
export async function readMessages(
  sid: string, thread: string, page: { before?: number; after?: number; limit?: number },
  signal?: AbortSignal): Promise<MessagePage> {
  const path = `${encodeURIComponent(sid)}/threads/${encodeURIComponent(thread)}/messages`;
  const told = await read<MessagePage>(path, page, signal);
  return isRedacted() ? { ...told, messages: wholeMessages(told.messages) } : told;
}

/** What leads from the state after event `from` to the one after `to`. */
export function readDiff(sid: string, from: number, to: number, signal?: AbortSignal):
Promise<{ epoch: string; from: number; to: number; ops: Operation[] }> {
  return read(`${encodeURIComponent(sid)}/diff`, { from, to }, signal);
}

/** Reads a session's records once more, which ends its quarantine where that succeeds. */
export function rebuildSession(sid: string): Promise<{ session: string; seq: number }> {
  return request(`${encodeURIComponent(sid)}/rebuild`, { method: 'POST' });
}

/** How much the server logs; with `level` it is changed. */
export async function logLevel(level?: LogLevel): Promise<LogLevel> {
  const init = level && { method: 'PUT', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ level }) };
  return (await ask<{ level: LogLevel }>('/v1/log-level', init ?? {})).level;
}

/** Makes a session that shares this one's history up to `at`. */
export async function forkSession(
  sid: string, at: number): Promise<{ session: string; epoch: string; seq: number }> {
  return request(`${encodeURIComponent(sid)}/fork`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ at }),
  });
}
