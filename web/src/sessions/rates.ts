// How much happens in each session: events per second over the last half minute or so, from what
// the summaries' seqs grow by. Sessions in which nothing happened take no memory.

import type { Summary } from '../data/types';

export const RATE_SECONDS = 40;
const MEAN_SECONDS = 5;

class Rate {
  private readonly counts = new Float32Array(RATE_SECONDS);
  private newest = 0; // second that counts[newest % RATE_SECONDS] stands for

  /** Puts zeros where seconds have gone by. */
  private advance(second: number): void {
    const from = Math.max(this.newest + 1, second - RATE_SECONDS + 1);
    for (let s = from; s <= second; s++) this.counts[s % RATE_SECONDS] = 0;
    this.newest = Math.max(this.newest, second);
  }

  add(second: number, events: number): void {
    this.advance(second);
    this.counts[second % RATE_SECONDS]! += events;
  }

  /** Oldest first; the second that is not over yet is left out. */
  read(second: number): Float32Array {
    this.advance(second);
    const seconds = new Float32Array(RATE_SECONDS - 1);
    for (let i = 0; i < seconds.length; i++) {
      seconds[i] = this.counts[(second + 1 + i) % RATE_SECONDS]!;
    }
    return seconds;
  }
}

export class Rates {
  private readonly rates = new Map<string, Rate>();

  note(after: Summary, before: Summary | undefined): void {
    if (!before || after.seq <= before.seq) return;
    let rate = this.rates.get(after.session);
    if (!rate) this.rates.set(after.session, rate = new Rate());
    rate.add(Math.floor(Date.now() / 1000), after.seq - before.seq);
  }

  /** Events in each second until `ms`; undefined where there were none. */
  read(sid: string, ms: number): Float32Array | undefined {
    return this.rates.get(sid)?.read(Math.floor(ms / 1000));
  }

  /** Events per second now, as a mean of a few. */
  now(sid: string, ms: number): number {
    return mean(this.read(sid, ms));
  }

  /** Of all sessions; forgets those in which nothing happens any more. */
  total(ms: number): number {
    let total = 0;
    for (const [sid, rate] of this.rates) {
      const seconds = rate.read(Math.floor(ms / 1000));
      if (seconds.every((n) => n === 0)) this.rates.delete(sid);
      else total += mean(seconds);
    }
    return total;
  }
}

function mean(seconds: Float32Array | undefined): number {
  if (!seconds) return 0;
  let sum = 0;
  for (let i = seconds.length - MEAN_SECONDS; i < seconds.length; i++) sum += seconds[i]!;
  return sum / MEAN_SECONDS;
}

export function rateText(rate: number): string {
  if (rate === 0) return '';
  return rate < 10 ? `${rate.toFixed(1)}/s` : `${Math.round(rate).toLocaleString()}/s`;
}
