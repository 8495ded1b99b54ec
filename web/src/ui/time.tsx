// Times, as people read them, and one clock that ticks for all of them.

import { computed, signal } from '@preact/signals';

const clock = signal(Date.now());
setInterval(() => { if (!document.hidden) clock.value = Date.now(); }, 1000);
document.addEventListener('visibilitychange', () => { clock.value = Date.now(); });

/** Milliseconds, once a second. Reading it in a render makes the component tick. */
export const now = computed(() => clock.value);

const units: readonly [string, number][] = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]];

/** A length of time: '3 min', '2 h'. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  for (const [unit, size] of units) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return '0 s';
}

/** How long ago: 'now', '3 min ago'. */
export function ago(ts: string | number, at: number): string {
  const ms = at - (typeof ts === 'number' ? ts : Date.parse(ts));
  return ms < 2000 ? 'now' : `${duration(ms)} ago`;
}

// Made once: making one takes longer than drawing a message.
const timeOfDay = new Intl.DateTimeFormat(
  undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dayAndTime = new Intl.DateTimeFormat(
  undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

/** The time of day, with the date where that is another day; nothing where it is hidden from us. */
export function clockTime(ts: string): string {
  if (ts === '') return '';
  const time = new Date(ts);
  const sameDay = time.toDateString() === new Date().toDateString();
  return (sameDay ? timeOfDay : dayAndTime).format(time);
}

/** Date and time in full; for titles. */
export function exactTime(ts: string): string {
  return exact.format(new Date(ts));
}

/** How long ago, ticking, with the exact time on hover. */
export function Ago({ ts }: { ts: string }) {
  return <time dateTime={ts} title={exactTime(ts)}>{ago(ts, now.value)}</time>;
}
