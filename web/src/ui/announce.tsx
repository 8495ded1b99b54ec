// What a screen reader is told without having asked: connection, outcome of commands.

import { signal } from '@preact/signals';

const text = signal('');

/** Says something politely; for what also can be seen. */
export function announce(what: string): void {
  text.value = what;
}

export function Announcements() {
  return <div class="visually-hidden" role="status" aria-live="polite">{text}</div>;
}
