// The messages of a thread as far as they are known here: the window of the state, those that fell
// out of it while it was watched, and those that were read by page. A message's place in its
// thread is `older` plus its index in the window, so it is known without asking whether what comes
// fits to what is there. Without gaps at all times.

import { signal } from '@preact/signals';
import { ProblemError, readMessages } from '../data/client';
import type { Message, Problem, Thread } from '../data/types';

const PAGE = 100;
const KEPT = 4000; // at the newest end; beyond it the oldest are forgotten and read again
const TRIM = 1000;
const KEPT_READING = 50_000; // the same while somebody reads further up

export class MessageLog {
  /** Of all messages of the thread, `items` are those from `start` on. */
  items: readonly Message[] = [];
  start = 0;
  /** Changes with what is read by page. */
  readonly version = signal(0);
  readonly loading = signal(false);
  readonly problem = signal<Problem | null>(null);
  private thread: Thread | null = null;

  constructor(private readonly sid: string, private readonly tid: string) {}

  /** Takes the thread as the state has it. `trim` where the oldest need not be kept. */
  sync(thread: Thread, trim: boolean): void {
    if (thread === this.thread) return;
    this.thread = thread;
    const { older, messages } = thread;
    if (older < this.start || older > this.start + this.items.length) {
      this.items = messages;
      this.start = older;
    } else {
      this.items = this.items.slice(0, older - this.start).concat(messages);
    }
    const kept = trim ? KEPT : KEPT_READING;
    if (this.items.length > kept + TRIM) {
      this.start += this.items.length - kept;
      this.items = this.items.slice(-kept);
    }
  }

  /** Reads older messages, if there are any. */
  async loadOlder(limit = PAGE): Promise<void> {
    if (this.start === 0 || this.loading.peek()) return;
    this.loading.value = true;
    try {
      const before = this.items[0]?.seq;
      const { messages } = await readMessages(this.sid, this.tid,
        { limit, ...(before !== undefined && { before }) });
      this.problem.value = null;
      this.prepend(messages, before);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      this.problem.value = error.problem;
    } finally {
      this.loading.value = false;
    }
  }

  /** A page fits only if it still ends where the log begins. */
  private prepend(messages: readonly Message[], before: number | undefined): void {
    if (this.items[0]?.seq !== before) return;
    const fitting = messages.slice(-this.start);
    this.items = fitting.concat(this.items);
    this.start -= fitting.length;
    if (messages.length === 0) this.start = 0;
    this.version.value++;
  }

  /** Reads until the message with this seq is there; false where the thread has none. */
  async find(seq: number): Promise<boolean> {
    const has = () => this.items.some((message) => message.seq === seq);
    while (!has() && this.start > 0 && (this.items[0]?.seq ?? Infinity) > seq) {
      const { start } = this;
      await this.loadOlder(1000);
      if (this.start === start) break;
    }
    return has();
  }
}
