// One message. All of it was written by others: see text.tsx and markdown.tsx.

import { useMemo } from 'preact/hooks';
import { maySpeak, me as account } from '../data/me';
import type { Message } from '../data/types';
import { agentHue, AgentName } from '../ui/agents';
import { clockTime } from '../ui/time';
import { setQuery } from '../ui/router';
import { markdown, type Context } from './markdown';
import type { Model } from './model';
import { gist, Json, number, shown } from './text';

const FOLDED_CHARACTERS = 4000;
const FOLDED_LINES = 60;
const WORTH_IT = 1.5; // so much longer it must be to be folded
const PARSED = 32 * 1024; // characters: what is longer is shown as it is
const PIECE = 4096; // of plain text in one element: browsers are slow with very long words

/** Where a line ends, at most so many lines and characters on. */
function endOf(text: string, lines: number, characters: number): number {
  let at = -1;
  for (let n = 0; n < lines; n++) {
    at = text.indexOf('\n', at + 1);
    if (at === -1 || at > characters) return Math.min(text.length, characters);
  }
  return at;
}

/** How much of a text is shown at first. */
function foldAt(text: string): number {
  return endOf(text, WORTH_IT * FOLDED_LINES, WORTH_IT * FOLDED_CHARACTERS) === text.length ?
    text.length : endOf(text, FOLDED_LINES, FOLDED_CHARACTERS);
}

function pieces(text: string): string[] {
  const out = [];
  for (let at = 0; at < text.length;) {
    let end = at + PIECE;
    if (end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00) end++; // a surrogate pair
    out.push(text.slice(at, end));
    at = end;
  }
  return out;
}

function Content({ text, context }: { text: string; context: Context }) {
  return useMemo(() => <div class="content" dir="auto">
    {text.length <= PARSED ? markdown(text, context) :
      <div class="plain">{pieces(text).map((piece) => <span>{shown(piece)}</span>)}</div>}
  </div>, [text, context]);
}

export function AgentMark({ id }: { id: string }) {
  return <span class="agent-mark" aria-hidden="true"
    style={{ background: `hsl(${agentHue(id)} 45% 42%)` }}>{id.slice(0, 2)}</span>;
}

function replyGist(model: Model, tid: string, id: string): string {
  const seq = Number(id.slice(1));
  const message = model.log(tid).items.find((other) => other.seq === seq);
  return message ? `${message.sender}: ${gist(message.content, 80)}` : id;
}

export function MessageRow({ model, tid, message, context }: {
  model: Model; tid: string; message: Message; context: Context;
}) {
  const { id, seq, ts, sender, content, mentions, reply_to, data } = message;
  const end = model.unfolded.value.has(seq) ? content.length : foldAt(content);
  const looked = model.lookedFor.value === seq;
  return <article class={`message${looked ? ' looked-for' : ''}`} aria-label={`${sender}, ${id}`}>
    <AgentMark id={sender} />
    <header class="row">
      <AgentName id={sender} />
      {mentions.length > 0 && <span class="mentions">
        <span aria-label="mentions">→</span>
        {mentions.slice(0, 8).map((agent) => <span class="chip" key={agent}>@{agent}</span>)}
        {mentions.length > 8 && <span class="chip">{mentions.length - 8} more</span>}
      </span>}
      <span class="grow" />
      <span class="message-tools">
        {maySpeak(account.value) && <button type="button" class="button quiet small"
          aria-label={`Answer ${sender}, ${id}`}
          onClick={() => model.answer(tid, message)}>Answer</button>}
        <button type="button" class="button quiet small" aria-label={`Inspect event ${seq}`}
          onClick={() => setQuery({ event: seq, panel: 'timeline' })}>Inspect</button>
      </span>
      <a class="muted small message-time" href={model.hrefOf(tid, id)}
        title={ts === '' ? id : `${id}, ${new Date(ts).toLocaleString()}`}>
        <time dateTime={ts}>{clockTime(ts)}</time></a>
    </header>
    {reply_to && <button type="button" class="reply-to ellipsis"
      onClick={() => setQuery({ message: reply_to })}>
      <span aria-hidden="true">↩ </span><span class="visually-hidden">in answer to </span>
      <bdi>{replyGist(model, tid, reply_to)}</bdi></button>}
    {content === '' && account.value?.redacted
      && <p class="muted small">No text that you may see.</p>}
    <Content text={end === content.length ? content : content.slice(0, end)} context={context} />
    {end < content.length && <button type="button" class="button small show-all"
      onClick={() => model.unfold(seq)}>
      Show all {number.format(content.length)} characters</button>}
    {data !== null && <details class="data"><summary>data</summary><Json value={data} /></details>}
  </article>;
}
