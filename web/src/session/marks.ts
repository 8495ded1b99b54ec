// What the page derives from a state: unread messages, who mentions whom, since when an agent has
// its status. Threads that did not change are not looked at again.

import type { Fold } from '../data/client';
import type { AgentStatus, Message, SessionEvent, State, Thread } from '../data/types';

// ---- unread

export interface Unread {
  readonly count: number;
  /** There may be more before the thread's window. */
  readonly more: boolean;
}

const none: Unread = { count: 0, more: false };
const unreadOf = new WeakMap<Thread, Map<string, Unread>>();

/** What an agent has not read of a thread, as far as its window tells. */
export function unreadIn(thread: Thread, agent: string): Unread {
  let known = unreadOf.get(thread);
  if (!known) unreadOf.set(thread, known = new Map());
  let unread = known.get(agent);
  if (!unread) known.set(agent, unread = countUnread(thread, agent));
  return unread;
}

function countUnread({ participants, messages, older }: Thread, agent: string): Unread {
  const mine = Object.hasOwn(participants, agent) ? participants[agent]! : undefined;
  if (!mine) return none;
  let count = 0;
  let n = messages.length - 1;
  for (; n >= 0 && messages[n]!.seq > mine.read; n--) {
    if (messages[n]!.sender !== agent && !mine.taken.includes(messages[n]!.seq)) count++;
  }
  return { count, more: n < 0 && older > 0 && count > 0 };
}

/** What each agent has not read in all threads together. */
export function unreadByAgent(state: State): Map<string, Unread> {
  const sums = new Map<string, Unread>();
  for (const thread of Object.values(state.threads)) {
    if (thread.messages.length === 0) continue;
    for (const agent in thread.participants) {
      const here = unreadIn(thread, agent);
      if (here.count === 0) continue;
      const sum = sums.get(agent) ?? none;
      sums.set(agent, { count: sum.count + here.count, more: sum.more || here.more });
    }
  }
  return sums;
}

export const unreadText = ({ count, more }: Unread) => `${count}${more ? '+' : ''}`;

// ---- who mentions whom

export interface Edge { readonly from: string; readonly to: string; readonly weight: number }

const KEPT = 20_000; // messages with mentions

/** All mentions that were seen, in the state, in what came, in what was read. */
export class Mentions {
  private seen = new Map<number, { from: string; to: readonly string[] }>();
  private looked = new Map<string, { thread: Thread; low: number; high: number }>();

  clear(): void {
    this.seen.clear();
    this.looked.clear();
  }

  note({ seq, sender, mentions }: Pick<Message, 'seq' | 'sender' | 'mentions'>): void {
    if (mentions.length === 0 || this.seen.has(seq)) return;
    this.seen.set(seq, { from: sender, to: mentions });
    if (this.seen.size > KEPT) this.seen.delete(this.seen.keys().next().value!);
  }

  noteState(state: State): void {
    for (const tid in state.threads) this.noteThread(tid, state.threads[tid]!);
  }

  /** Looks at those messages of a window that were not looked at before: mostly its end. */
  private noteThread(tid: string, thread: Thread): void {
    const known = this.looked.get(tid);
    if (known?.thread === thread || thread.messages.length === 0) return;
    const { messages } = thread;
    const { low, high } = known ?? { low: Infinity, high: -Infinity };
    for (let n = messages.length - 1; n >= 0 && messages[n]!.seq > high; n--)
      this.note(messages[n]!);
    for (let n = 0; n < messages.length && messages[n]!.seq < low; n++) this.note(messages[n]!);
    this.looked.set(tid, { thread, low: Math.min(low, messages[0]!.seq),
      high: Math.max(high, messages.at(-1)!.seq) });
  }

  /** The edges up to an event. */
  edges(seq: number): Edge[] {
    const weights = new Map<string, Map<string, number>>();
    for (const [at, { from, to }] of this.seen) {
      if (at > seq) continue;
      let row = weights.get(from);
      if (!row) weights.set(from, row = new Map());
      for (const id of to) row.set(id, (row.get(id) ?? 0) + 1);
    }
    return [...weights].flatMap(([from, row]) =>
      [...row].map(([to, weight]) => ({ from, to, weight })));
  }
}

/** The messages that a fold brought. */
export function messagesOf(fold: Fold): Message[] {
  return fold.patches.flatMap(({ ops }) => ops.flatMap((op) =>
    op.op === 'add' && op.path.endsWith('/messages/-') ? [op.value as Message] : []));
}

// ---- since when

/** 'here' is a registration, the first one or again; 'gone' that the agent left. */
type Step = AgentStatus | 'here' | 'gone';
interface Change { readonly seq: number; readonly at: number; readonly step: Step }

/** When agents took their status, as far as events told. */
export class StatusTimes {
  private changes = new Map<string, Change[]>(); // by seq

  clear(): void {
    this.changes.clear();
  }

  note(seq: number, ts: string, agent: string, step: Step): void {
    const list = this.changes.get(agent) ?? [];
    this.changes.set(agent, list);
    let n = list.length;
    while (n > 0 && list[n - 1]!.seq > seq) n--;
    if (list[n - 1]?.seq !== seq) list.splice(n, 0, { seq, at: Date.parse(ts), step });
    if (list.length > 1000) list.shift();
  }

  noteEvent(event: SessionEvent): void {
    if (event.type === 'agent.registered') this.note(event.seq, event.ts, event.agent, 'here');
    if (event.type === 'agent.left') this.note(event.seq, event.ts, event.agent, 'gone');
    if (event.type === 'agent.updated' && event.status)
      this.note(event.seq, event.ts, event.agent, event.status);
  }

  noteFold(fold: Fold): void {
    for (const { seq, ts, ops } of fold.patches) {
      for (const op of ops) {
        const [, root, agent, member] = op.path.split('/');
        if (root !== 'agents' || !agent) continue;
        if (op.op === 'remove' && member === undefined) this.note(seq, ts, agent, 'gone');
        if (op.op !== 'remove' && member === undefined) this.note(seq, ts, agent, 'here');
        if (op.op !== 'remove' && member === 'status')
          this.note(seq, ts, agent, op.value as AgentStatus);
      }
    }
  }

  /** When the agent took the status that it has after event `seq`; null where nobody told. */
  since(agent: string, seq: number, status: AgentStatus): number | null {
    let since: number | null = null;
    let now: AgentStatus | null = null;
    for (const { seq: at, at: time, step } of this.changes.get(agent) ?? []) {
      if (at > seq) break;
      if (step === 'gone') {
        since = now = null;
      } else if (step === 'here') {
        since ??= time;
      } else if (step !== now) {
        since = time;
        now = step;
      }
    }
    return now === null || now === status ? since : null;
  }
}
