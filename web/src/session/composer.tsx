// Where one speaks in a thread: register, take part, write. "@" offers who can be mentioned.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { maySpeak, me as account, onlyAgent } from '../data/me';
import type { State, Thread } from '../data/types';
import { Join, ProblemLine, useCommand } from './forms';
import type { Model } from './model';
import { gist } from './text';

const OFFERED = 8;

export function Composer({ model, tid, thread, state }: {
  model: Model; tid: string; thread: Thread; state: State;
}) {
  const me = model.me.value;
  if (model.at.value !== null) return <Foot><p class="muted small grow">You look at the past.</p>
    <button type="button" class="button small" onClick={() => model.go(null)}>Back to live</button>
  </Foot>;
  if (!maySpeak(account.value))
    return <Foot><p class="muted small">You may look on, and not write.</p></Foot>;
  if (state.status === 'closed')
    return <Foot><p class="muted small">The session is closed.</p></Foot>;
  if (thread.status === 'closed')
    return <Foot><p class="muted small">This thread is closed.</p></Foot>;
  if (me === null || !Object.hasOwn(state.agents, me)) return <Foot><Join model={model} /></Foot>;
  if (!Object.hasOwn(thread.participants, me))
    return <Foot><TakePart model={model} tid={tid} thread={thread} me={me} /></Foot>;
  return <Write model={model} tid={tid} thread={thread} me={me} />;
}

function Foot({ children }: { children: ComponentChildren }) {
  return <footer class="composer row">{children}</footer>;
}

function SpeakingAs({ model, me }: { model: Model; me: string }) {
  return <span class="muted small">As <strong>{me}</strong>{onlyAgent(account.value) === null && <>
    {' · '}<button type="button" class="link" onClick={() => model.speakAs(null)}>somebody else
    </button></>}</span>;
}

function TakePart({ model, tid, thread, me }: {
  model: Model; tid: string; thread: Thread; me: string;
}) {
  const { busy, problem, run } = useCommand(model);
  const names = Object.keys(thread.participants);
  const by = names.includes(thread.creator) ? thread.creator : names[0];
  if (onlyAgent(account.value) !== null)
    return <p class="muted small">As {me} you take part when an agent of this thread lets you in.</p>;
  if (by === undefined)
    return <p class="muted small">Nobody is left in this thread who could let you in.</p>;
  return <>
    <span class="grow"><SpeakingAs model={model} me={me} /></span>
    <button type="button" class="button" disabled={busy} onClick={() => run(
      { type: 'thread.add', thread: tid, agent: me, by, history: true }, 'You take part now.')}>
      Take part, let in by {by}</button>
    <ProblemLine problem={problem} />
  </>;
}

/** The "@…" that the caret stands behind. */
function mentionAt(text: string, caret: number): { from: number; begun: string } | null {
  const match = /(^|[^\w@])@([\w-]{0,64})$/.exec(text.slice(Math.max(0, caret - 80), caret));
  return match && { from: caret - match[2]!.length, begun: match[2]!.toLowerCase() };
}

function offersFor(begun: string, names: readonly string[]): string[] {
  const at = (name: string) => name.toLowerCase().indexOf(begun);
  return names.filter((name) => at(name) !== -1).sort((a, b) => at(a) - at(b)).slice(0, OFFERED);
}

function Write({ model, tid, thread, me }: {
  model: Model; tid: string; thread: Thread; me: string;
}) {
  const [text, setText] = useState(model.drafts.get(tid) ?? '');
  const [caret, setCaret] = useState(0);
  const [chosen, setChosen] = useState(0);
  const [closed, setClosed] = useState(false); // the offers, by Escape
  const area = useRef<HTMLTextAreaElement>(null);
  const { busy, problem, run } = useCommand(model);
  const answered = model.answering.value?.tid === tid ? model.answering.value.message : null;
  const others = Object.keys(thread.participants).filter((name) => name !== me);
  const mention = closed ? null : mentionAt(text, caret);
  const offers = mention ? offersFor(mention.begun, others) : [];
  useEffect(() => {
    if (answered) area.current?.focus();
  }, [answered]);

  const change = (value: string) => {
    setText(value);
    model.drafts.set(tid, value);
    setCaret(area.current!.selectionStart);
    setChosen(0);
    setClosed(false);
  };
  const take = (name: string) => {
    const { from } = mention!;
    const value = `${text.slice(0, from)}${name} ${text.slice(caret)}`;
    area.current!.value = value;
    area.current!.selectionStart = area.current!.selectionEnd = from + name.length + 1;
    area.current!.focus();
    change(value);
  };
  const submit = async () => {
    if (busy || text.trim() === '') return;
    const mentions = [...new Set([...text.matchAll(/@([A-Za-z0-9][\w-]{0,63})/g)]
      .map((match) => match[1]!))].filter((name) => others.includes(name));
    const answer = await run({ type: 'message.send', thread: tid, sender: me, content: text,
      ...(mentions.length > 0 && { mentions }),
      ...(answered && { reply_to: answered.id }) }, 'Sent.');
    if (!answer) return;
    change('');
    if (model.answering.peek()?.message === answered) model.answering.value = null;
  };
  const keyed = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (offers.length > 0 && step !== 0) {
      setChosen((chosen + step + offers.length) % offers.length);
    } else if (offers.length > 0 && (event.key === 'Enter' || event.key === 'Tab')) {
      take(offers[chosen]!);
    } else if (offers.length > 0 && event.key === 'Escape') {
      setClosed(true);
    } else if (event.key === 'Escape' && answered) {
      model.answering.value = null;
    } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      void submit();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  return <footer class="composer write">
    <div class="row">
      <SpeakingAs model={model} me={me} />
      {answered && <span class="chip grow">Answer to {answered.sender}: {gist(answered.content, 60)}
        <button type="button" class="link" aria-label="Not as an answer"
          onClick={() => { model.answering.value = null; }}>×</button></span>}
    </div>
    <div class="row">
      <textarea ref={area} class="input grow" rows={Math.min(8, text.split('\n', 8).length + 1)}
        value={text} placeholder="Message, @ to mention. Enter sends, Shift+Enter makes a line."
        aria-label="Message" aria-autocomplete="list" aria-controls="mention-offers"
        aria-activedescendant={offers.length > 0 ? `offer-${chosen}` : undefined}
        onInput={(event) => change(event.currentTarget.value)} onKeyDown={keyed}
        onSelect={() => setCaret(area.current!.selectionStart)}
        onBlur={() => setClosed(true)} onFocus={() => setClosed(false)} />
      <button type="button" class="button primary" disabled={busy || text.trim() === ''}
        onClick={submit}>Send</button>
    </div>
    <ul id="mention-offers" class="offers card" role="listbox" aria-label="Who to mention"
      hidden={offers.length === 0}>
      {offers.map((name, n) => <li key={name} id={`offer-${n}`} role="option"
        aria-selected={n === chosen} onMouseDown={(event) => {
          event.preventDefault(); // the field keeps the focus
          take(name);
        }}>{name}</li>)}
    </ul>
    <ProblemLine problem={problem} />
  </footer>;
}
