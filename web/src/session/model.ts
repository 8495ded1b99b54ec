// What the parts of a session's page share: the session as it is shown, now or in the past, and
// what is open. What is open stands in the address, so every view can be sent to somebody else:
//
//   ?thread=TID&message=mSEQ   the open thread, and the message that is looked for
//   ?at=SEQ                    the session as it stood then
//   ?event=SEQ                 the inspector; &type= &agent= &from= &since= &until= the filters
//   ?panel=NAME                which panel is seen where there is no room for all

import { computed, effect, signal, type ReadonlySignal } from '@preact/signals';
import { readEvents, send, type Fold, type SessionFeed } from '../data/client';
import { me as account, onlyAgent } from '../data/me';
import type { Command, CommandAnswer, Message, View } from '../data/types';
import { announce } from '../ui/announce';
import { place, sessionHref, setQuery } from '../ui/router';
import { MessageLog } from './log';
import { Mentions, messagesOf, StatusTimes } from './marks';
import { Past } from './past';
import { Player } from './player';
import { gist } from './text';
import { Timeline } from './timeline-model';

const CALM_MS = 250; // for panels that need not move with each message
const SMOOTH_MS = 30; // for what is read: of a busy session every second frame is enough
const ADDRESS_MS = 400; // browsers do not like addresses that change all the time

/** The value of `source`, changing at most every `ms`, and at once where it did not for long. */
function paced<T>(source: ReadonlySignal<T>, ms: number): [ReadonlySignal<T>, () => void] {
  const value = signal(source.peek());
  let last = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const take = () => {
    timer = undefined;
    last = performance.now();
    value.value = source.peek();
  };
  const end = effect(() => {
    void source.value;
    if (timer !== undefined) return;
    const wait = last + ms - performance.now();
    if (wait <= 0 || value.peek() === null) take(); // the first one at once
    else timer = setTimeout(take, wait);
  });
  return [value, () => {
    end();
    clearTimeout(timer);
  }];
}

export function numberIn(query: URLSearchParams, name: string): number | null {
  const text = query.get(name) ?? '';
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}

export class Model {
  readonly sid: string;
  /** The place in time; null is now. */
  readonly at = signal<number | null>(numberIn(place.peek().query, 'at'));
  /** The session as it is to be shown. */
  readonly view: ReadonlySignal<View | null>;
  /** The same, less often, and seldom. */
  readonly smooth: ReadonlySignal<View | null>;
  readonly calm: ReadonlySignal<View | null>;
  /** The last seq of the session, now; and the same, seldom. */
  readonly length: ReadonlySignal<number>;
  readonly calmLength: ReadonlySignal<number>;
  readonly past: Past;
  readonly player: Player;
  readonly mentions = new Mentions();
  readonly statusTimes = new StatusTimes();
  /** Goes up when the two above learnt something that no view told. */
  readonly learnt = signal(0);
  readonly timeline: Timeline;
  /** Messages that are shown as a whole though they are long, by seq. */
  readonly unfolded = signal<ReadonlySet<number>>(new Set());
  /** The message that the address asks for. */
  readonly lookedFor = computed(() => {
    const seq = /^m(\d{1,15})$/.exec(place.value.query.get('message') ?? '')?.[1];
    return seq === undefined ? null : Number(seq);
  });
  /** What is being answered, and where. */
  readonly answering = signal<{ readonly tid: string; readonly message: Message } | null>(null);
  /** What was typed and not sent, by thread. */
  readonly drafts = new Map<string, string>();
  /** The agent that somebody here speaks as: who the token speaks for, or who was chosen, which is
   * kept per session. */
  readonly me: ReadonlySignal<string | null>;
  private readonly chosen = signal<string | null>(null);

  private readonly logs = new Map<string, MessageLog>();
  private readonly ends: (() => void)[] = [];
  private addressTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly feed: SessionFeed) {
    this.sid = feed.sid;
    this.past = new Past(feed.sid);
    this.view = computed(() => this.at.value === null ? feed.view.value : this.past.view.value);
    this.length = computed(() => feed.view.value?.seq ?? 0);
    const [smooth, endSmooth] = paced(this.view, SMOOTH_MS);
    const [calm, endCalm] = paced(this.view, CALM_MS);
    const [calmLength, endLength] = paced(this.length, CALM_MS);
    this.smooth = smooth;
    this.calm = calm;
    this.calmLength = calmLength;
    this.timeline = new Timeline(feed.sid);
    this.chosen.value = localStorage.getItem(`atoll.agent.${feed.sid}`);
    this.me = computed(() => onlyAgent(account.value) ?? this.chosen.value);
    this.player = new Player({
      sid: feed.sid, past: this.past,
      position: () => this.at.peek() ?? this.length.peek(),
      length: () => this.length.peek(),
      go: (seq) => this.go(seq),
    });
    this.ends.push(endSmooth, endCalm, endLength, feed.onFold((fold) => this.folded(fold)),
      effect(() => this.followAddress(numberIn(place.value.query, 'at'))));
  }

  close(): void {
    for (const end of this.ends) end();
    clearTimeout(this.addressTimer);
    this.player.stop();
    this.past.leave();
    this.timeline.close();
  }

  private folded(fold: Fold): void {
    if (fold.before && fold.before.epoch !== fold.after.epoch) {
      this.logs.clear();
      this.mentions.clear();
      this.statusTimes.clear();
      this.go(null);
    }
    this.past.note(fold);
    this.statusTimes.noteFold(fold);
    if (fold.reset !== undefined) this.mentions.noteState(fold.after.state);
    for (const message of messagesOf(fold)) this.hear(message);
    this.timeline.note(fold);
    if (fold.reset !== undefined) void this.learn(fold.after.seq);
    if (!fold.before) this.followAddress(this.at.peek());
  }

  private hear(message: Message): void {
    this.mentions.note(message);
    if (this.me.peek() !== null && message.mentions.includes(this.me.peek()!))
      announce(`${message.sender} mentions you: ${gist(message.content)}`);
  }

  /** Reads what came before the first view: who mentioned whom, and when statuses changed. */
  private async learn(seq: number): Promise<void> {
    const newest = { before: seq + 1, order: 'desc' } as const;
    await Promise.all([
      readEvents(this.sid, { ...newest, type: ['message.sent'], limit: 200 }),
      readEvents(this.sid, { ...newest, limit: 1000,
        type: ['agent.updated', 'agent.registered', 'agent.left'] }),
    ]).then(([messages, changes]) => {
      for (const event of messages.events)
        if (event.type === 'message.sent') this.mentions.note(event);
      for (const event of changes.events) this.statusTimes.noteEvent(event);
      this.learnt.value++;
    }, () => undefined); // without it times in status and old mentions are unknown, no more
  }

  // ---- time

  /** Shows the session as it stood after an event; null, or beyond the last one, shows it live. */
  go(seq: number | null): void {
    if (seq !== null && seq >= this.length.peek()) seq = null;
    if (seq === null) {
      this.player.stop();
      this.past.leave();
    } else {
      seq = Math.max(seq, this.past.oldest.peek());
      this.past.show(seq);
    }
    this.at.value = seq;
    this.timeline.upTo(seq);
    this.addressTimer ??= setTimeout(() => {
      this.addressTimer = undefined;
      if (numberIn(place.peek().query, 'at') !== this.at.peek())
        setQuery({ at: this.at.peek() }, { replace: true });
    }, ADDRESS_MS);
  }

  /** Once it is known how long the session is; one may have been sent an address of another. */
  private followAddress(at: number | null): void {
    if (this.addressTimer !== undefined) return;
    if (at === null || !this.feed.view.peek()) {
      if (at === null && this.at.peek() !== null) this.go(null);
    } else if (at > this.length.peek()) {
      this.at.value = at;
      this.past.refuse(`There is no event ${at}: the session stands at ${this.length.peek()}.`);
    } else if (at !== this.at.peek() || this.past.view.peek() === null) {
      this.go(at);
    }
  }

  // ---- threads

  log(tid: string): MessageLog {
    let log = this.logs.get(tid);
    if (!log) this.logs.set(tid, log = new MessageLog(this.sid, tid));
    return log;
  }

  unfold(seq: number): void {
    this.unfolded.value = new Set(this.unfolded.peek()).add(seq);
  }

  /** The address of a message, or of what is open without one. */
  hrefOf(tid: string, message?: string): string {
    const href = `${sessionHref(this.sid)}?thread=${encodeURIComponent(tid)}`;
    return message ? `${href}&message=${message}` : href;
  }

  // ---- commands

  answer(tid: string, message: Message): void {
    this.answering.value = { tid, message };
    setQuery({ panel: 'messages' }, { replace: true });
  }

  send(command: Command): Promise<CommandAnswer> {
    return send(this.sid, command);
  }

  speakAs(agent: string | null): void {
    if (agent === null) localStorage.removeItem(`atoll.agent.${this.sid}`);
    else localStorage.setItem(`atoll.agent.${this.sid}`, agent);
    this.chosen.value = agent;
  }
}
