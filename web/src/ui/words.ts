// Words that go with figures.

/** '1 session', '2 sessions'. */
export function several(n: number, word: string): string {
  return `${n.toLocaleString()} ${word}${n === 1 ? '' : 's'}`;
}
