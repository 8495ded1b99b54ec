// Which sessions are shown, and in which order.

import type { Summary } from '../data/types';
import type { Rates } from './rates';

export const sorts = ['activity', 'id', 'rate', 'agents', 'threads', 'messages', 'seq'] as const;
export type Sort = (typeof sorts)[number];

export function sortOf(text: string | null): Sort {
  return sorts.find((sort) => sort === text) ?? 'activity';
}

const byId = (a: Summary, b: Summary) => (a.session < b.session ? -1 : 1);
const newestFirst = (a: Summary, b: Summary) =>
  (a.ts === b.ts ? byId(a, b) : a.ts > b.ts ? -1 : 1);

function holds({ session, labels }: Summary, words: readonly string[]): boolean {
  const text = session.toLowerCase();
  return words.every((word) => text.includes(word) || Object.entries(labels).some(
    ([key, value]) => `${key}:${value}`.toLowerCase().includes(word)));
}

/** The sessions whose id or labels hold every word of `text`. */
export function arrange(
  all: Iterable<Summary>, text: string, sort: Sort, rates: Rates, at: number): Summary[] {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const found: Summary[] = [];
  for (const summary of all) if (words.length === 0 || holds(summary, words)) found.push(summary);
  if (sort === 'id') return found.sort(byId);
  if (sort === 'activity') return found.sort(newestFirst);
  if (sort === 'rate') {
    const now = new Map(found.map((summary) => [summary, rates.now(summary.session, at)]));
    return found.sort((a, b) => now.get(b)! - now.get(a)! || newestFirst(a, b));
  }
  return found.sort((a, b) => (b[sort] ?? -1) - (a[sort] ?? -1) || byId(a, b));
}

/** The labels that most sessions have, as `key:value`. */
export function commonLabels(all: Iterable<Summary>, most: number): [string, number][] {
  const counts = new Map<string, number>();
  for (const { labels } of all) {
    for (const [key, value] of Object.entries(labels)) {
      const text = `${key}:${value}`;
      counts.set(text, (counts.get(text) ?? 0) + 1);
    }
  }
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, most);
}
