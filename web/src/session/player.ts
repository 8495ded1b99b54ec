// Plays a session's past: moves the place in time on, by so many events a second or by the time
// that passed between the events. It waits for what it asked to be shown, so it never runs ahead
// of the server; and it waits no longer than REST_MS where nothing happened.

import { signal } from '@preact/signals';
import { readEvents } from '../data/client';
import type { Past } from './past';

const TICK_MS = 100;
const REST_MS = 2000;
const AHEAD = 200; // events whose times are read at once

/** `events` a second, or `times` as fast as it was. */
export type Pace = { readonly events: number } | { readonly times: number };

export const paces: readonly { readonly name: string; readonly pace: Pace }[] = [
  ...[1, 5, 10, 50, 100].map((events) => ({ name: `${events} events/s`, pace: { events } })),
  ...[1, 2, 5, 10, 25, 100].map((times) => ({ name: `${times}× real time`, pace: { times } })),
];

/** What the player moves. */
export interface Tape {
  readonly sid: string;
  readonly past: Past;
  /** Where it stands, and the last seq there is. */
  position(): number;
  length(): number;
  /** Shows another place; at the end of the tape the present. */
  go(seq: number): void;
}

export class Player {
  readonly playing = signal(false);
  readonly pace = signal<Pace>(paces[2]!.pace);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private last = 0; // when the last tick was
  private place = 0; // in events, with fractions
  private clock = 0; // in milliseconds of the session's time; 0 where it is not known yet
  private times: { seq: number; at: number }[] = [];

  constructor(private readonly tape: Tape) {}

  toggle(): void {
    if (this.playing.peek()) return this.stop();
    if (this.tape.position() >= this.tape.length()) this.tape.go(this.tape.past.oldest.peek());
    this.place = this.tape.position();
    this.clock = 0;
    this.times = [];
    this.last = performance.now();
    this.playing.value = true;
    this.timer = setTimeout(() => this.tick(), TICK_MS);
  }

  stop(): void {
    this.playing.value = false;
    clearTimeout(this.timer);
  }

  private async tick(): Promise<void> {
    const now = performance.now();
    const passed = Math.min(now - this.last, 5 * TICK_MS); // a hidden tab does not catch up
    this.last = now;
    if (this.tape.past.problem.peek()) return this.stop();
    const at = this.tape.position();
    if (Math.floor(this.place) !== at) { // somebody moved the slider
      this.place = at;
      this.clock = 0;
    }
    if (this.tape.past.view.peek()?.seq === at) {
      const pace = this.pace.peek();
      if ('events' in pace) this.place += pace.events * passed / 1000;
      else this.place = await this.placeAfter(at, pace.times * passed, pace.times);
      if (!this.playing.peek()) return;
      const next = Math.min(Math.floor(this.place), this.tape.length());
      if (next > at) this.tape.go(next);
      if (next >= this.tape.length()) return this.stop();
    }
    this.timer = setTimeout(() => this.tick(), TICK_MS);
  }

  /** The seq that is reached `passed` milliseconds of the session's time after the last tick. */
  private async placeAfter(at: number, passed: number, times: number): Promise<number> {
    this.times = this.times.filter(({ seq }) => seq > at);
    if (this.times.length === 0) {
      const { events } = await readEvents(this.tape.sid, { after: at, limit: AHEAD })
        .catch(() => ({ events: [] })); // the next tick tries again
      this.times = events.map(({ seq, ts }) => ({ seq, at: Date.parse(ts) }));
      this.last = performance.now();
    }
    if (this.times.length === 0) return at;
    if (this.clock === 0) this.clock = Date.parse(this.tape.past.view.peek()!.ts);
    this.clock = Math.max(this.clock + passed, this.times[0]!.at - REST_MS * times);
    return this.times.findLast((time) => time.at <= this.clock)?.seq ?? at;
  }
}
