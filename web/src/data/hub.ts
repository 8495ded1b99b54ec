// The hub: one WebSocket to the server for all tabs. It runs in a SharedWorker (worker.ts), or in
// the page where the browser has none.
//
// Normal path: pages say over their ports what they want to watch. The hub watches the union of
// that, passes the server's messages on to the pages that want them, as they are, and answers what
// it can by itself: a page that joins is told the summaries that others have been told already.
// Folding is the pages' work.
// Failure: where the connection ends the hub connects again, with growing pauses, and resumes
// each watch by the last id it was told; commands without an answer are sent again with the key
// they were sent with. A page that does not take what it is told is told no more, and asks for
// everything anew once it has woken up. A page that is gone lets go of its lock.

import type { Command, CommandAnswer, Problem } from './types';
import { unreachable, type Connection, type FromHub, type ToHub } from './wire';

const FLUSH_MS = 4;
const PAUSE_LEAST_MS = 250;
const PAUSE_MOST_MS = 10_000;
const RETRY_WATCH_MS = 2_000;
const COMMAND_PATIENCE_MS = 30_000;
const COMMANDS_MOST = 1_000;
const SILENCE_MS = 20_000;
const PROBE_MS = 5_000;
const STATUS_MS = 1_000;
const STATUS_REFUSED_MS = 30_000;
/** What a server closes with when the token is no longer good (RFC 6455: policy violation). */
const NO_LONGER_GOOD = 1008;

interface Page {
  readonly port: MessagePort;
  readonly sessions: Set<string>;
  labels: readonly string[] | null;
  status: boolean;
  queue: string[];
  flushing: boolean;
  /** Characters of each 'told' that the page has not taken yet. */
  readonly under_way: number[];
  behind: boolean;
}

interface Sent {
  readonly page: Page;
  readonly ref: number;
  readonly text: string;
  readonly since: number;
}

interface ServerMessage {
  readonly event?: string;
  readonly session?: string;
  readonly id?: string;
  readonly reason?: string;
  readonly ref?: number;
  readonly status?: number;
  readonly seq?: number;
  readonly error?: Problem;
}

export class Hub {
  private readonly pages = new Set<Page>();
  private socket: WebSocket | undefined;
  private connection: Connection = { state: 'connecting' };
  private failures = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private heardAt = 0;
  private lostAt = Date.now();

  private nextRef = 1;
  private readonly commands = new Map<number, Sent>();
  private readonly watches = new Map<number, string>(); // ref of a watch: its session
  private readonly lastIds = new Map<string, string | undefined>(); // the sessions watched

  private summaryLabels: string | undefined; // JSON of what is watched
  private summaryRef = 0;
  private summaryId: string | undefined;
  private readonly summaries = new Map<string, string>();
  private summariesReady: string | undefined;

  private statusTimer: ReturnType<typeof setTimeout> | undefined;

  /** `behind_chars`: how much a page may owe an answer for before it is told no more. */
  constructor(private readonly origin: string, private readonly behind_chars = 16 * 1024 * 1024) {
    setInterval(() => this.tick(), 1000);
    globalThis.addEventListener?.('online', () => this.retry());
    this.connect();
  }

  // ---- pages

  attach(port: MessagePort): void {
    const page: Page = { port, sessions: new Set(), labels: null, status: false, queue: [],
      flushing: false, under_way: [], behind: false };
    port.onmessage = ({ data }: MessageEvent<ToHub>) => {
      if (!this.pages.has(page)) this.welcome(page); // back from the browser's cache of pages
      this.hear(page, data);
    };
    this.welcome(page);
  }

  private welcome(page: Page): void {
    this.pages.add(page);
    this.post(page, { kind: 'connection', connection: this.connection });
  }

  private post(page: Page, message: FromHub): void {
    page.port.postMessage(message);
  }

  private hear(page: Page, message: ToHub): void {
    switch (message.kind) {
      case 'watch':
        page.sessions.add(message.sid);
        this.watch(message.sid); // even if it is watched: this page needs a snapshot
        break;
      case 'unwatch':
        page.sessions.delete(message.sid);
        this.unwatchUnused(message.sid);
        break;
      case 'summaries': {
        page.labels = message.labels;
        const watching = this.summaryLabels;
        this.watchSummaries();
        if (message.labels && watching !== undefined && watching === this.summaryLabels) {
          this.tellSummaries(page);
        }
        break;
      }
      case 'status':
        page.status = message.on;
        this.pollStatus();
        break;
      case 'command':
        this.command(page, message.ref, message.sid, message.command);
        break;
      case 'retry':
        this.retry();
        break;
      case 'signed-out':
        this.signOut();
        // Who comes next does not say what this one wished.
        for (const sent of this.commands.values()) this.answer(sent,
          { problem: unreachable('You signed out before the server answered.') });
        this.commands.clear();
        break;
      case 'ack':
        page.under_way.shift();
        if (page.behind && page.under_way.length === 0) {
          page.behind = false;
          this.post(page, { kind: 'again' });
        }
        break;
      case 'lock':
        navigator.locks?.request(message.name, () => this.leave(page)).catch(() => {});
        break;
      case 'bye':
        this.leave(page);
        break;
    }
  }

  private leave(page: Page): void {
    this.pages.delete(page);
    page.labels = null;
    page.status = false;
    page.queue = [];
    page.under_way.length = 0;
    page.behind = false;
    for (const sid of page.sessions) {
      page.sessions.delete(sid);
      this.unwatchUnused(sid);
    }
    this.watchSummaries();
    this.pollStatus();
  }

  /** Queues a message of the server for a page; what comes within a few ms goes as one. */
  private tell(page: Page, text: string): void {
    if (page.behind) return;
    page.queue.push(text);
    if (page.flushing) return;
    page.flushing = true;
    setTimeout(() => this.flush(page), FLUSH_MS);
  }

  private flush(page: Page): void {
    const messages = page.queue;
    page.queue = [];
    page.flushing = false;
    if (messages.length === 0) return;
    const chars = messages.reduce((sum, text) => sum + text.length, 0);
    // One of any size always may go, else a large snapshot would never arrive.
    const waiting = page.under_way.reduce((sum, n) => sum + n, 0);
    if (waiting > 0 && waiting + chars > this.behind_chars) {
      page.behind = true;
      return;
    }
    page.under_way.push(chars);
    this.post(page, { kind: 'told', messages });
  }

  // ---- the connection

  private get open(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  private setConnection(connection: Connection): void {
    this.connection = connection;
    for (const page of this.pages) this.post(page, { kind: 'connection', connection });
  }

  private connect(): void {
    clearTimeout(this.retryTimer);
    this.setConnection({ state: 'connecting' });
    const socket = new WebSocket(`${this.origin.replace(/^http/, 'ws')}/v1/ws`, 'atoll.v1');
    this.socket = socket;
    socket.onopen = () => this.connected();
    socket.onmessage = ({ data }) => {
      if (socket === this.socket) this.receive(data as string);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.socket) void this.lost(code, reason);
    };
  }

  private connected(): void {
    this.heardAt = Date.now();
    this.setConnection({ state: 'connected' });
    for (const sid of this.lastIds.keys()) this.sendWatch(sid);
    this.sendSummaryWatch();
    for (const { text } of this.commands.values()) this.socket!.send(text);
  }

  private async lost(code: number, reason: string): Promise<void> {
    if (this.connection.state === 'connected') this.lostAt = Date.now();
    this.socket = undefined;
    this.watches.clear();
    const why = reason && code !== NO_LONGER_GOOD ? reason : await this.whyNot();
    if (this.socket !== undefined) return; // somebody asked to try at once
    if (why === undefined) {
      this.signOut();
      return;
    }
    // A server that restarts, or a connection that worked, is tried again soon.
    this.failures = code === 1012 || this.connection.state === 'connected' ? 0 : this.failures + 1;
    const most = Math.min(PAUSE_MOST_MS, PAUSE_LEAST_MS * 2 ** this.failures);
    const pause = most * (0.5 + Math.random() / 2);
    this.setConnection({ state: 'waiting', retryAt: Date.now() + pause, reason: why });
    this.retryTimer = setTimeout(() => this.connect(), pause);
  }

  /** Nothing is tried again until somebody has signed in. */
  private signOut(): void {
    const { socket } = this;
    this.socket = undefined;
    socket?.close();
    clearTimeout(this.retryTimer);
    this.watches.clear();
    this.summaries.clear();
    this.summariesReady = undefined;
    this.summaryId = undefined;
    this.setConnection({ state: 'signed-out' });
  }

  /** A refused WebSocket says nothing to a page; the server's readiness does, and whether it knows
   * us. undefined: it does not. */
  private async whyNot(): Promise<string | undefined> {
    const ask = (path: string) =>
      fetch(`${this.origin}${path}`, { signal: AbortSignal.timeout(PROBE_MS) });
    try {
      const answer = await ask('/readyz');
      if (answer.ok) {
        return (await ask('/v1/me')).status === 401 ? undefined : 'The connection was interrupted.';
      }
      const problem = await answer.json() as Problem;
      return problem.detail;
    } catch {
      return 'The server cannot be reached.';
    }
  }

  private retry(): void {
    const { state } = this.connection;
    if (state === 'waiting' || state === 'signed-out') this.connect();
  }

  private tick(): void {
    const now = Date.now();
    if (this.open && now - this.heardAt > SILENCE_MS) void this.probe();
    if (this.open || now - this.lostAt < COMMAND_PATIENCE_MS) return;
    for (const [ref, sent] of this.commands) {
      if (now - sent.since < COMMAND_PATIENCE_MS) continue;
      this.commands.delete(ref);
      this.answer(sent, { problem: unreachable('There is no connection to the server. '
        + 'Whether the command still arrived will show once there is one again.') });
    }
  }

  /** Nothing has come for a while. Where the server does not answer either, the network is gone. */
  private async probe(): Promise<void> {
    const { socket } = this;
    this.heardAt = Date.now();
    try {
      await fetch(`${this.origin}/healthz`, { signal: AbortSignal.timeout(PROBE_MS) });
    } catch {
      if (socket !== this.socket || !socket) return;
      socket.onclose = null;
      socket.close();
      void this.lost(1006, 'The server cannot be reached.');
    }
  }

  private sendObject(object: object): number {
    const ref = this.nextRef++;
    this.socket!.send(JSON.stringify({ ref, ...object }));
    return ref;
  }

  private receive(text: string): void {
    this.heardAt = Date.now();
    this.failures = 0;
    const message = JSON.parse(text) as ServerMessage;
    if (message.event === undefined) this.receiveAnswer(message);
    else if (message.event === 'snapshot' || message.event === 'patch') {
      this.receiveOfSession(message, text);
    } else if (message.event === 'end') this.receiveEnd(message, text);
    else this.receiveSummary(message, text);
  }

  // ---- watching sessions

  private watch(sid: string): void {
    this.lastIds.set(sid, undefined);
    if (this.open) this.sendWatch(sid);
  }

  private sendWatch(sid: string): void {
    const last_event_id = this.lastIds.get(sid);
    const ref = this.sendObject({ watch: { session: sid, view: 'full', last_event_id } });
    this.watches.set(ref, sid);
  }

  private isWanted(sid: string): boolean {
    for (const page of this.pages) if (page.sessions.has(sid)) return true;
    return false;
  }

  private unwatchUnused(sid: string): void {
    if (!this.lastIds.has(sid) || this.isWanted(sid)) return;
    this.lastIds.delete(sid);
    if (this.open) this.sendObject({ unwatch: { session: sid } });
  }

  private receiveOfSession({ event, session, id }: ServerMessage, text: string): void {
    const sid = session!;
    if (!this.lastIds.has(sid)) return;
    // What still comes of an earlier watch is no place to resume from.
    if (event === 'snapshot' || this.lastIds.get(sid) !== undefined) this.lastIds.set(sid, id);
    for (const page of this.pages) if (page.sessions.has(sid)) this.tell(page, text);
  }

  private receiveEnd(message: ServerMessage, text: string): void {
    const sid = message.session!;
    if (message.reason === 'deleted') {
      this.receiveOfSession(message, text);
      this.forget(sid);
    }
    if (this.summaryLabels === undefined) return;
    this.summaries.delete(sid);
    for (const page of this.pages) {
      // Those that watched the session have been told above.
      if (page.labels) this.tell(page, text);
    }
  }

  private forget(sid: string): void {
    this.lastIds.delete(sid);
    for (const page of this.pages) page.sessions.delete(sid);
  }

  private refuseWatch(sid: string, problem: Problem): void {
    if (!this.lastIds.has(sid)) return;
    if (problem.status === 429 || problem.status === 503) {
      setTimeout(() => { if (this.open && this.lastIds.has(sid)) this.sendWatch(sid); },
        (problem.retry_after ?? 0) * 1000 || RETRY_WATCH_MS);
      return;
    }
    for (const page of this.pages) {
      if (page.sessions.has(sid)) this.post(page, { kind: 'refused', sid, problem });
    }
    this.forget(sid);
  }

  // ---- the list

  /** Watches what the pages want: their labels where they agree, else all sessions. */
  private watchSummaries(): void {
    const wanted = new Set<string>();
    for (const { labels } of this.pages) {
      if (labels) wanted.add(JSON.stringify([...labels].sort()));
    }
    const labels = wanted.size === 0 ? undefined : wanted.size === 1 ? [...wanted][0] : '[]';
    if (labels === this.summaryLabels) return;
    this.summaryLabels = labels;
    this.summaryId = undefined;
    this.summaries.clear();
    this.summariesReady = undefined;
    if (!this.open) return;
    if (labels === undefined) this.sendObject({ unwatch: { view: 'summary' } });
    else this.sendSummaryWatch();
  }

  private sendSummaryWatch(): void {
    if (this.summaryLabels === undefined) return;
    const label = JSON.parse(this.summaryLabels) as string[];
    this.summaryRef = this.sendObject({ watch: { view: 'summary',
      label: label.length ? label : undefined, last_event_id: this.summaryId } });
  }

  private tellSummaries(page: Page): void {
    this.tell(page, '{"event":"reset","reset":null}');
    for (const text of this.summaries.values()) this.tell(page, text);
    if (this.summariesReady) this.tell(page, this.summariesReady);
  }

  private receiveSummary(message: ServerMessage, text: string): void {
    if (this.summaryLabels === undefined) return;
    if (message.id !== undefined) this.summaryId = message.id;
    if (message.event === 'position') return;
    if (message.event === 'reset') {
      this.summaries.clear();
      this.summariesReady = undefined;
    }
    if (message.event === 'summary') this.summaries.set(message.session!, text);
    if (message.event === 'ready') this.summariesReady = text;
    for (const page of this.pages) if (page.labels) this.tell(page, text);
  }

  // ---- commands, and answers to all that was asked

  private command(page: Page, ref: number, sid: string, command: Command): void {
    const key = [...crypto.getRandomValues(new Uint32Array(4))]
      .map((n) => n.toString(36).padStart(7, '0')).join('');
    const own = this.nextRef++;
    const sent: Sent = { page, ref, since: Date.now(),
      text: JSON.stringify({ ref: own, session: sid, key, ...command }) };
    if (this.commands.size >= COMMANDS_MOST) {
      this.answer(sent, { problem: unreachable(
        `${COMMANDS_MOST} commands are waiting for their answers already.`) });
      return;
    }
    this.commands.set(own, sent);
    if (this.open) this.socket!.send(sent.text);
  }

  private answer(sent: Sent, result: CommandAnswer | { problem: Problem }): void {
    if (this.pages.has(sent.page)) this.post(sent.page, { kind: 'answer', ref: sent.ref, result });
  }

  private receiveAnswer({ ref, status, seq, id, error }: ServerMessage): void {
    const sent = this.commands.get(ref!);
    if (sent) {
      this.commands.delete(ref!);
      this.answer(sent, error ? { problem: error } : { seq: seq!, id });
      return;
    }
    const sid = this.watches.get(ref!);
    this.watches.delete(ref!);
    if (status === 200 || !error) return;
    if (sid !== undefined) this.refuseWatch(sid, error);
    else if (ref === this.summaryRef) {
      if (status !== 429 && status !== 503) {
        for (const page of this.pages)
          if (page.labels) this.post(page, { kind: 'summaries-refused', problem: error });
        return;
      }
      setTimeout(() => { if (this.open && ref === this.summaryRef) this.sendSummaryWatch(); },
        RETRY_WATCH_MS);
    }
  }

  // ---- the server's figures

  private pollStatus(): void {
    const wanted = [...this.pages].some(({ status }) => status);
    if (!wanted) {
      clearTimeout(this.statusTimer);
      this.statusTimer = undefined;
    } else this.statusTimer ??= setTimeout(() => void this.readStatus(), 0);
  }

  private async readStatus(): Promise<void> {
    const at = Date.now();
    let pause = STATUS_MS;
    try {
      const answer = await fetch(`${this.origin}/v1/status`,
        { signal: AbortSignal.timeout(PROBE_MS) });
      const told: FromHub | undefined = answer.ok
        ? { kind: 'status', text: await answer.text(), at }
        : answer.status === 403
          ? { kind: 'status-refused', problem: await answer.json() as Problem } : undefined;
      if (told?.kind === 'status-refused') pause = STATUS_REFUSED_MS;
      for (const page of this.pages) if (told && page.status) this.post(page, told);
    } catch {
      // What is wrong, the connection says.
    }
    if (this.statusTimer === undefined) return;
    this.statusTimer = setTimeout(() => void this.readStatus(),
      Math.max(0, at + pause - Date.now()));
  }
}
