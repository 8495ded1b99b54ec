// Markdown, as far as agents write it, made into vnodes: paragraphs, headings, lists, quotes,
// tables, code, emphasis, links. HTML is text like any other; images are never loaded but become
// links. There is no way from a message to markup, and none to a request that nobody clicked.
//
// The input is hostile: every search is bounded or remembered, nesting is at most DEPTH, so the
// time is about linear in the length. The caller bounds the length.

import type { ComponentChild, VNode } from 'preact';
import { Code } from './code';
import { shown } from './text';

const DEPTH = 6;
const REACH = 2048; // how far away the end of an emphasis or of a link's address may be
const TRIES = 32; // places that may look like the end of an emphasis

export interface Context {
  /** Is this the id of an agent of the session. */
  readonly isAgent: (id: string) => boolean;
}

export function markdown(text: string, context: Context): ComponentChild {
  return blocks(text.replace(/\r\n?/g, '\n').split('\n'), context, 0);
}

/** `href` if it is one that may be followed: absolute, and of a harmless scheme. */
export function safeLink(href: string): string | null {
  let url;
  try {
    url = new URL(href);
  } catch {
    return null;
  }
  return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
}

// ---- blocks

const FENCE = /^ {0,3}(`{3,}|~{3,}) *([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?= |\t|$)/;
const RULE = /^ {0,3}(?:(?:- *){3,}|(?:\* *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)])( {1,4}|$)/;
const INDENTED = /^(?: {4}|\t)/;

function beginsBlock(line: string): boolean {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || ITEM.test(line) ||
    RULE.test(line);
}

const isBlank = (line: string) => line.trim() === '';

function blocks(lines: readonly string[], context: Context, depth: number): VNode[] {
  const out: VNode[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at]!;
    if (isBlank(line)) {
      at++;
      continue;
    }
    const parse = depth >= DEPTH ? paragraph :
      FENCE.test(line) ? fence :
      HEADING.test(line) ? heading :
      RULE.test(line) ? rule :
      QUOTE.test(line) ? quote :
      ITEM.test(line) ? list :
      INDENTED.test(line) ? indented :
      isTable(lines, at) ? table : paragraph;
    at = parse(lines, at, out, context, depth);
  }
  return out;
}

// Each of these takes a block that begins at line `at` and returns where the next one begins.

function fence(lines: readonly string[], at: number, out: VNode[]): number {
  const [, marks, language] = FENCE.exec(lines[at]!)!;
  let end = at + 1;
  while (end < lines.length && !closes(lines[end]!, marks!)) end++;
  out.push(<Code text={lines.slice(at + 1, end).join('\n')} language={language!} />);
  return end + 1;
}

function closes(line: string, marks: string): boolean {
  const trimmed = line.trim();
  return trimmed.length >= marks.length && trimmed === marks[0]!.repeat(trimmed.length);
}

function heading(lines: readonly string[], at: number, out: VNode[], context: Context): number {
  const [start, marks] = HEADING.exec(lines[at]!)!;
  // The page has headings of its own: what a message calls one is only shown like one.
  out.push(<p class={`heading heading-${Math.min(marks!.length, 4)}`}>
    {inline(lines[at]!.slice(start.length).trim(), context, 0)}</p>);
  return at + 1;
}

function rule(_lines: readonly string[], at: number, out: VNode[]): number {
  out.push(<hr />);
  return at + 1;
}

function quote(
  lines: readonly string[], at: number, out: VNode[], context: Context, depth: number): number {
  const inner: string[] = [];
  for (; at < lines.length && QUOTE.test(lines[at]!); at++)
    inner.push(lines[at]!.replace(QUOTE, ''));
  out.push(<blockquote>{blocks(inner, context, depth + 1)}</blockquote>);
  return at;
}

function indented(lines: readonly string[], at: number, out: VNode[]): number {
  let end = at;
  while (end < lines.length && (INDENTED.test(lines[end]!) || isBlank(lines[end]!))) end++;
  const text = lines.slice(at, end).map((line) => line.replace(INDENTED, '')).join('\n').trimEnd();
  out.push(<Code text={text} language="" />);
  return end;
}

function list(
  lines: readonly string[], at: number, out: VNode[], context: Context, depth: number): number {
  const [, indent, mark] = ITEM.exec(lines[at]!)!;
  const ordered = mark!.length > 1;
  const items: VNode[] = [];
  for (;;) {
    const item = at < lines.length ? ITEM.exec(lines[at]!) : null;
    if (!item || item[1]!.length < indent!.length || item[2]!.length > 1 !== ordered) break;
    const inner = [lines[at]!.slice(item[0].length)];
    at = itemLines(lines, at + 1, item[0].length, inner);
    items.push(<li>{blocks(inner, context, depth + 1)}</li>);
  }
  out.push(ordered ? <ol start={parseInt(mark!, 10)}>{items}</ol> : <ul>{items}</ul>);
  return at;
}

/** The further lines of an item: what is indented, and what goes on without a blank line. */
function itemLines(
  lines: readonly string[], at: number, indent: number, inner: string[]): number {
  let blank = false;
  for (; at < lines.length; at++) {
    const line = lines[at]!;
    if (isBlank(line)) {
      blank = true;
      inner.push('');
    } else if (line.length - line.trimStart().length >= indent) {
      inner.push(line.slice(indent));
    } else if (!blank && !beginsBlock(line)) {
      inner.push(line.trimStart());
    } else {
      break;
    }
  }
  return at;
}

const cells = (line: string) =>
  line.trim().replace(/^\|/, '').replace(/\|$/, '').split(/(?<!\\)\|/).map((cell) => cell.trim());

function isTable(lines: readonly string[], at: number): boolean {
  return lines[at]!.includes('|') && at + 1 < lines.length && lines[at + 1]!.includes('-') &&
    cells(lines[at + 1]!).every((cell) => /^:?-+:?$/.test(cell));
}

function table(lines: readonly string[], at: number, out: VNode[], context: Context): number {
  const row = (line: string, Cell: 'th' | 'td') =>
    <tr>{cells(line).slice(0, 50).map((cell) =>
      <Cell>{inline(cell.replaceAll('\\|', '|'), context, 0)}</Cell>)}</tr>;
  const head = row(lines[at]!, 'th');
  const body: VNode[] = [];
  for (at += 2; at < lines.length && lines[at]!.includes('|'); at++)
    body.push(row(lines[at]!, 'td'));
  out.push(<div class="table"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>);
  return at;
}

function paragraph(lines: readonly string[], at: number, out: VNode[], context: Context): number {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]!) && !beginsBlock(lines[end]!)) end++;
  out.push(<p>{inline(lines.slice(at, end).join('\n'), context, 0)}</p>);
  return end;
}

// ---- what stands in a line

const SPECIAL = /\\|`+|\*{1,3}|_{1,3}|~~|!?\[|<|@|https?:\/\//gi;
const ADDRESS = /https?:\/\/[^\s<>"`]{1,2048}/iy;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2048})>/iy;
const MENTION = /@([A-Za-z0-9][A-Za-z0-9_-]{0,63})/y;
const WORD = /[\p{L}\p{N}_]/u;

/** What a special character begins: a vnode and where the text goes on after it. */
interface Span { node: ComponentChild; end: number }

/** What was found out about a text and need not be searched for again. */
interface Known {
  /** Runs of backquotes that nothing closes from here on. */
  readonly unclosed: Set<string>;
  /** Where each "[" is closed. */
  brackets?: ReadonlyMap<number, number>;
}

function bracketsOf(text: string): Map<number, number> {
  const open: number[] = [];
  const closed = new Map<number, number>();
  const brackets = /[[\]]/g;
  for (let match = brackets.exec(text); match; match = brackets.exec(text)) {
    if (match[0] === '[') open.push(match.index);
    else if (open.length > 0) closed.set(open.pop()!, match.index);
  }
  return closed;
}

function inline(text: string, context: Context, depth: number): ComponentChild[] {
  const out: ComponentChild[] = [];
  const special = new RegExp(SPECIAL);
  const known: Known = { unclosed: new Set() };
  let done = 0;
  for (let match = special.exec(text); match; match = special.exec(text)) {
    const span = spanAt(text, match.index, match[0], context, depth, known);
    if (!span) continue;
    if (match.index > done) out.push(shown(text.slice(done, match.index)));
    out.push(span.node);
    done = special.lastIndex = span.end;
  }
  if (done < text.length) out.push(shown(text.slice(done)));
  return out;
}

function spanAt(text: string, at: number, mark: string, context: Context, depth: number,
  known: Known): Span | null {
  switch (mark[0]) {
    case '\\': {
      const next = text[at + 1] ?? '';
      return /[!-/:-@[-`{-~]/.test(next) ? { node: next, end: at + 2 } : null;
    }
    case '`': return codeSpan(text, at, mark, known);
    case '*': case '_': case '~':
      return depth < DEPTH ? emphasis(text, at, mark, context, depth) : null;
    case '!': case '[': return link(text, at, mark, context, depth, known);
    case '<': {
      AUTOLINK.lastIndex = at;
      const match = AUTOLINK.exec(text);
      return match && anchored(match[1]!, match[1]!, at + match[0].length);
    }
    case '@': return mention(text, at, context);
    default: return address(text, at);
  }
}

function codeSpan(text: string, at: number, mark: string, known: Known): Span | null {
  const from = at + mark.length;
  if (known.unclosed.has(mark)) return null;
  const runs = /`+/g;
  runs.lastIndex = from;
  for (let run = runs.exec(text); run; run = runs.exec(text)) {
    if (run[0].length === mark.length)
      return { node: <code>{shown(text.slice(from, run.index))}</code>, end: runs.lastIndex };
  }
  known.unclosed.add(mark);
  return null;
}

function emphasis(
  text: string, at: number, mark: string, context: Context, depth: number): Span | null {
  const from = at + mark.length;
  const inWord = mark[0] === '_';
  if (!/\S/.test(text[from] ?? ' ') || (inWord && WORD.test(text[at - 1] ?? ''))) return null;
  const reach = text.slice(from, from + REACH);
  let end = reach.indexOf(mark);
  for (let tries = 0; end !== -1 && tries < TRIES; end = reach.indexOf(mark, end + 1), tries++) {
    const after = reach[end + mark.length] ?? '';
    if (end === 0 || /\s/.test(reach[end - 1]!) || reach[end - 1] === '\\') continue;
    if (after === mark[0] || (inWord && WORD.test(after))) continue;
    const inner = inline(reach.slice(0, end), context, depth + 1);
    const node = mark === '~~' ? <del>{inner}</del> :
      mark.length === 3 ? <strong><em>{inner}</em></strong> :
      mark.length === 2 ? <strong>{inner}</strong> : <em>{inner}</em>;
    return { node, end: from + end + mark.length };
  }
  return null;
}

function link(text: string, at: number, mark: string, context: Context, depth: number,
  known: Known): Span | null {
  const from = at + mark.length;
  known.brackets ??= bracketsOf(text);
  const close = known.brackets.get(from - 1);
  if (close === undefined || text[close + 1] !== '(') return null;
  const target = targetAt(text, close + 2);
  if (!target) return null;
  const label = text.slice(from, close);
  const { href, end } = target;
  if (mark === '![')
    return anchored(href, `image: ${label || href}`, end, 'image') ??
      { node: shown(`[image: ${label}]`), end };
  const safe = safeLink(href);
  if (!safe) return null; // is shown as it was written
  // No links within links.
  return { node: anchor(safe, depth < DEPTH ? inline(label, context, DEPTH) : shown(label)), end };
}

/** Where a link leads, from behind its "(" on: an address and perhaps a title, which is skipped. */
function targetAt(text: string, from: number): { href: string; end: number } | null {
  let open = 1;
  let at = from;
  for (; at < text.length && at < from + REACH; at++) {
    if (text[at] === '\n') return null;
    if (text[at] === '(') open++;
    else if (text[at] === ')' && --open === 0) break;
  }
  if (open !== 0) return null;
  const href = text.slice(from, at).trim().split(/\s/, 1)[0]!.replace(/^<|>$/g, '');
  return { href, end: at + 1 };
}

function address(text: string, at: number): Span | null {
  ADDRESS.lastIndex = at;
  let found = ADDRESS.exec(text)?.[0] ?? '';
  for (;;) { // punctuation at its end belongs to the sentence
    const last = found.at(-1) ?? '';
    if (!/[.,;:!?'*_~\])}]/.test(last) || (last === ')' && found.includes('('))) break;
    found = found.slice(0, -1);
  }
  return anchored(found, found, at + found.length);
}

function mention(text: string, at: number, context: Context): Span | null {
  MENTION.lastIndex = at;
  let id = MENTION.exec(text)?.[1];
  if (id && !context.isAgent(id)) id = id.replace(/[-_]+$/, '');
  if (!id || WORD.test(text[at - 1] ?? '') || !context.isAgent(id)) return null;
  return { node: <span class="chip">@{id}</span>, end: at + 1 + id.length };
}

function anchored(target: string, label: string, end: number, name?: string): Span | null {
  const href = safeLink(target);
  return href === null ? null : { node: anchor(href, shown(label), name), end };
}

/** A link that tells nothing of this page to where it leads, and says where that is. */
function anchor(href: string, label: ComponentChild, name?: string) {
  return <a class={name} href={href} title={href} target="_blank"
    rel="noopener noreferrer">{label}</a>;
}
