// What the server says, in TypeScript. The reference is web/openapi.yaml; names are the same.

export type SessionStatus = 'open' | 'closed';
export const agentStatuses =
  ['idle', 'working', 'waiting', 'attention', 'question', 'offline'] as const;
export type AgentStatus = (typeof agentStatuses)[number];
export type Labels = Readonly<Record<string, string>>;

// ---- the state of a session. Nothing in it is ever changed in place: what a patch does not touch
// keeps its identity, so `===` says whether a thread, an agent or a message is still the same.

/** How an agent is woken that has unread messages and does not wait for them. */
export interface WakeTarget {
  readonly url: string;
  /** Only messages that mention it wake it. */
  readonly mentions: boolean;
  readonly signed: boolean;
  /** Open after calls have failed, until one succeeds. */
  readonly breaker: 'closed' | 'open';
  /** Why the breaker is open. */
  readonly why: string | null;
}

export interface Agent {
  readonly description: string | null;
  readonly status: AgentStatus;
  readonly note: string | null;
  readonly priority: number;
  readonly labels: Labels;
  /** Offline when it was not heard of for so many seconds; null: never. */
  readonly lease_s: number | null;
  readonly wake: WakeTarget | null;
}

export interface Message {
  readonly id: string;
  readonly seq: number;
  readonly ts: string;
  readonly sender: string;
  readonly content: string;
  readonly mentions: readonly string[];
  readonly reply_to: string | null;
  readonly data: unknown;
}

export interface Participant {
  /** All up to this seq is read. */
  readonly read: number;
  /** Seqs above it that are read too. */
  readonly taken: readonly number[];
}

export interface Thread {
  readonly name: string;
  readonly creator: string;
  readonly status: SessionStatus;
  readonly summary: string | null;
  readonly participants: Readonly<Record<string, Participant>>;
  /** How many messages there are before `messages`: see readMessages. */
  readonly older: number;
  /** The newest, oldest first; none once the thread is closed. */
  readonly messages: readonly Message[];
}

export interface Parent {
  readonly session: string;
  readonly epoch: string;
  readonly seq: number;
}

export interface State {
  readonly id: string;
  readonly parent: Parent | null;
  readonly status: SessionStatus;
  readonly summary: string | null;
  readonly labels: Labels;
  readonly created_at: string;
  readonly agents: Readonly<Record<string, Agent>>;
  readonly threads: Readonly<Record<string, Thread>>;
}

/** A state and where it stands: what a snapshot and GET /v1/sessions/{sid}[?at=] hold. */
export interface View {
  readonly epoch: string;
  readonly seq: number;
  /** The time of event `seq`. */
  readonly ts: string;
  readonly state: State;
}

// ---- what changes it

/** RFC 6902; the server uses these three only. */
export type Operation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string };

export interface Patch {
  readonly seq: number;
  /** The first seq it covers, where that is not `seq`. */
  readonly from?: number;
  readonly ts: string;
  /** An event's type, or 'merged' where the watcher was slow and several are one. */
  readonly type: string;
  readonly actor: string | null;
  readonly ops: readonly Operation[];
}

export interface EventBase {
  readonly seq: number;
  readonly ts: string;
  readonly actor: string | null;
  readonly trace?: string;
  readonly cause?: string;
}

/** Facts that changed a session, as GET …/events tells them. */
export type SessionEvent = EventBase & (
  | { readonly type: 'session.created'; readonly session: string; readonly labels: Labels;
      readonly ttl_s?: number }
  | { readonly type: 'session.updated';
      readonly labels: Readonly<Record<string, string | null>> }
  | { readonly type: 'session.closed'; readonly summary: string | null }
  | { readonly type: 'session.forked'; readonly session: string; readonly parent: string;
      readonly parent_epoch: string; readonly parent_seq: number }
  | { readonly type: 'agent.registered'; readonly agent: string;
      readonly description?: string | null;
      readonly labels?: Readonly<Record<string, string | null>>; readonly lease_s?: number | null }
  | { readonly type: 'agent.updated'; readonly agent: string; readonly status?: AgentStatus;
      readonly note?: string | null; readonly description?: string | null;
      readonly priority?: number; readonly labels?: Readonly<Record<string, string | null>>;
      readonly lease_s?: number | null }
  | { readonly type: 'agent.wake_set'; readonly agent: string; readonly url: string | null;
      readonly mentions: boolean }
  | { readonly type: 'agent.wake_reported'; readonly agent: string } &
      Pick<WakeTarget, 'breaker' | 'why'>
  | { readonly type: 'agent.left'; readonly agent: string; readonly threads: readonly string[] }
  | { readonly type: 'thread.created'; readonly thread: string; readonly name: string;
      readonly creator: string; readonly participants: readonly string[] }
  | { readonly type: 'thread.participant_added'; readonly thread: string; readonly agent: string;
      readonly by: string; readonly history?: boolean; readonly read: number }
  | { readonly type: 'thread.participant_removed'; readonly thread: string;
      readonly agent: string; readonly by: string }
  | { readonly type: 'thread.closed'; readonly thread: string; readonly by: string;
      readonly summary: string | null }
  | ({ readonly type: 'message.sent'; readonly thread: string } & Omit<Message, 'seq' | 'ts'>)
  | { readonly type: 'thread.read'; readonly thread: string; readonly agent: string;
      readonly upto: number; readonly read: number; readonly taken: readonly number[] }
  | { readonly type: 'inbox.acked'; readonly agent: string; readonly threads:
      readonly { readonly thread: string; readonly read: number;
        readonly taken: readonly number[] }[] });
export type EventType = SessionEvent['type'];
export const eventTypes: readonly EventType[] = [
  'session.created', 'session.updated', 'session.closed', 'session.forked', 'agent.registered',
  'agent.updated', 'agent.wake_set', 'agent.wake_reported', 'agent.left', 'thread.created',
  'thread.participant_added', 'thread.participant_removed', 'thread.closed', 'message.sent',
  'thread.read', 'inbox.acked'];

export interface EventPage {
  readonly events: readonly SessionEvent[];
  /** The `cursor` of the next page. */
  readonly next: number | string | null;
}

export interface MessagePage {
  /** Always oldest first. */
  readonly messages: readonly Message[];
  /** The `before` (or `after`) of the next page. */
  readonly next: number | null;
}

// ---- what one can wish

/** Every command may also carry trace, cause and expected_seq. */
export type Command = (
  | { type: 'session.create'; labels?: Labels; ttl_s?: number }
  | { type: 'session.update'; labels: Record<string, string | null> }
  | { type: 'session.close'; summary?: string | null }
  | { type: 'agent.register'; agent: string; description?: string | null;
      labels?: Record<string, string | null>; lease_s?: number | null }
  | { type: 'agent.update'; agent: string; status?: AgentStatus; note?: string | null;
      description?: string | null; priority?: number; labels?: Record<string, string | null>;
      lease_s?: number | null }
  | { type: 'agent.wake'; agent: string; url: string | null; secret?: string | null;
      mentions?: boolean }
  | { type: 'agent.leave'; agent: string }
  | { type: 'thread.create'; thread?: string; creator: string; name: string;
      participants: string[] }
  | { type: 'thread.add'; thread: string; agent: string; by: string; history?: boolean }
  | { type: 'thread.remove'; thread: string; agent: string; by: string }
  | { type: 'thread.close'; thread: string; by: string; summary?: string | null }
  | { type: 'message.send'; thread: string; sender: string; content: string;
      mentions?: string[]; reply_to?: string | null; data?: unknown }
  | { type: 'thread.read'; thread: string; agent: string; upto: number }
  | { type: 'inbox.ack'; agent: string; cursor: string }
) & { trace?: string; cause?: string; expected_seq?: number };

export interface CommandAnswer {
  /** Where the session stands after it. */
  readonly seq: number;
  /** Of what was made, if anything. */
  readonly id?: string;
}

/** An error, as RFC 9457 has it; `detail` is for people. */
export interface Problem {
  /** '/problems/…'; '/problems/unreachable' where no server answered at all. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly field?: string;
  readonly retry_after?: number;
  readonly seq?: number;
  readonly oldest?: number;
}

// ---- the list of sessions

export interface Summary {
  readonly session: string;
  readonly epoch: string;
  readonly status: SessionStatus;
  readonly labels: Labels;
  readonly seq: number;
  /** Of the last event. */
  readonly ts: string;
  readonly created_at: string;
  /** null where some of what they count may be hidden from us. */
  readonly agents: number | null;
  readonly threads: number | null;
  readonly messages: number | null;
}

// ---- the server

/** /v1/me. Without keys (`open`) everybody may do everything. */
export interface Me {
  readonly auth: 'open' | 'token';
  readonly sub: string | null;
  readonly scope: string;
  readonly sessions: readonly string[];
  readonly expires: string | null;
  readonly redacted: boolean;
  /** There are no keys, and the server may be reached from elsewhere. */
  readonly insecure: boolean;
}

export const logLevels = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof logLevels)[number];

export interface Component {
  readonly component: string;
  readonly state: 'healthy' | 'degraded' | 'failing' | 'failed';
  readonly since: string;
  /** The last one. */
  readonly error: string | null;
  readonly error_at: string | null;
}

/** A session that is not served until it is rebuilt. */
export interface Quarantined {
  readonly session: string;
  readonly reason: string;
  readonly since: string;
}

/** /v1/status. Figures that this page does not know are in it too. */
export interface ServerStatus {
  readonly version: string;
  readonly uptime_s: number;
  readonly durability: 'commit' | 'relaxed';
  readonly io: string;
  readonly reactors: readonly ReactorFigures[];
  readonly shards: readonly ShardFigures[];
  readonly connected: readonly ConnectedAgent[];
  readonly health: readonly Component[];
}
export interface ReactorFigures {
  readonly id: number;
  readonly cpu: number | null;
  readonly turn_us: Readonly<Record<string, number>>;
  readonly answers: Readonly<Record<string, number>>;
  readonly [figure: string]: unknown;
}
export interface ShardFigures {
  readonly shard: number;
  readonly log: Readonly<Record<string, number>>;
  readonly quarantined: number;
  /** The first of them. */
  readonly quarantine: readonly Quarantined[];
  readonly [figure: string]: unknown;
}
/** An agent with a connection; at most 1,000 of each reactor are told. */
export interface ConnectedAgent {
  readonly session: string;
  readonly agent: string;
  readonly face: 'inbox' | 'mcp' | 'mcp-sse';
  /** For a message, just now. */
  readonly waiting: boolean;
}
