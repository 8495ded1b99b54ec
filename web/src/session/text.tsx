// Text that others wrote, as vnodes: never as markup. Characters that would turn the direction of
// what follows, or cannot be seen at all, are shown as a small mark with their name, so that
// nothing looks like what it is not.

import type { ComponentChild } from 'preact';

const names: Readonly<Record<number, string>> = {
  0x202a: 'LRE', 0x202b: 'RLE', 0x202c: 'PDF', 0x202d: 'LRO', 0x202e: 'RLO',
  0x2066: 'LRI', 0x2067: 'RLI', 0x2068: 'FSI', 0x2069: 'PDI',
};
// Bidirectional embeddings, overrides and isolates; control characters but tab and line ends.
const hidden = /[\u202a-\u202e\u2066-\u2069\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;
const split = new RegExp(`(${hidden.source})`);

function codeName(character: string): string {
  return 'U+' + character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
}

/** `text` with marks for what cannot be seen. */
export function shown(text: string): ComponentChild {
  if (!hidden.test(text)) return text;
  return text.split(split).map((part, n) => n % 2 === 0 ? part :
    <span class="mark" title={codeName(part)}>{names[part.charCodeAt(0)] ?? codeName(part)}</span>);
}

/** The same for attributes and other places that hold plain text only. */
export function shownPlain(text: string): string {
  if (!hidden.test(text)) return text;
  return text.split(split).map((part, n) => n % 2 === 0 ? part :
    `[${names[part.charCodeAt(0)] ?? codeName(part)}]`).join('');
}

/** Text whose direction is its own affair and nobody else's. */
export function Isolated({ text, class: name }: { text: string; class?: string }) {
  return <bdi class={name}>{shown(text)}</bdi>;
}

/** The first line of a text, short. */
export function gist(text: string, length = 100): string {
  const line = text.slice(0, 4 * length).trimStart().split('\n', 1)[0]!;
  return shownPlain(line.length > length ? line.slice(0, length - 1) + '…' : line);
}

export const number = new Intl.NumberFormat();

/** '1 message', '2 messages'. */
export const counted = (n: number, what: string) =>
  `${number.format(n)} ${what}${n === 1 ? '' : 's'}`;

const JSON_SHOWN = 64 * 1024;

/** JSON as text to read; what is very long is cut. */
export function Json({ value }: { value: unknown }) {
  const text = JSON.stringify(value, null, 2) ?? '';
  const cut = text.length > JSON_SHOWN;
  return <pre class="code json" tabIndex={0}>{shown(cut ? text.slice(0, JSON_SHOWN) : text)}
    {cut && `\n… ${number.format(text.length - JSON_SHOWN)} more characters`}</pre>;
}
