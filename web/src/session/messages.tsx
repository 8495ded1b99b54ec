// The open thread: its messages, windowed, and where one speaks in it.

import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { maySpeak, me as account } from '../data/me';
import type { Message, State, Thread } from '../data/types';
import { StatusDot } from '../ui/agents';
import { place, setQuery } from '../ui/router';
import { Composer } from './composer';
import { CloseThread, ProblemLine } from './forms';
import { DownIcon } from './icons';
import type { Context } from './markdown';
import { unreadIn } from './marks';
import { MessageRow } from './message';
import type { Model } from './model';
import { counted, Isolated, number, shownPlain } from './text';
import { Windowed } from './windowed';

const READ_AFTER_MS = 1500;
const keyOf = (message: Message) => message.seq;

export function Messages({ model, tid }: { model: Model; tid: string }) {
  const view = model.smooth.value;
  const thread = view?.state.threads[tid];
  if (!view || !thread) return <div class="pane-note muted">{view ?
    <>There is no thread <code>{shownPlain(tid.slice(0, 64))}</code> {
      model.at.value === null ? 'in this session.' : 'at this time.'}</> : 'Loading…'}</div>;
  return <>
    <ThreadHead model={model} tid={tid} thread={thread} state={view.state} />
    <MessageList key={tid} model={model} tid={tid} thread={thread} />
    <Composer key={`to ${tid}`} model={model} tid={tid} thread={thread} state={view.state} />
  </>;
}

function ThreadHead({ model, tid, thread, state }: {
  model: Model; tid: string; thread: Thread; state: State;
}) {
  const [closing, setClosing] = useState(false);
  const names = Object.keys(thread.participants);
  const me = model.me.value;
  const mayClose = me !== null && maySpeak(account.value) && thread.status === 'open' &&
    model.at.value === null && Object.hasOwn(thread.participants, me);
  return <header class="thread-head">
    <div class="row">
      <h2 class="grow ellipsis"><Isolated text={thread.name || tid} /></h2>
      {thread.status === 'closed' && <span class="badge">closed</span>}
      <span class="muted small">{
        counted(thread.older + thread.messages.length, 'message')}</span>
      {mayClose && <button type="button" class="button quiet small"
        onClick={() => setClosing(true)}>Close…</button>}
    </div>
    <ul class="row participants" aria-label="Participants">
      {names.slice(0, 12).map((id) => <li key={id} class="chip">
        {state.agents[id] && <StatusDot status={state.agents[id].status} />}{id}</li>)}
      {names.length > 12 && <li class="chip">{names.length - 12} more</li>}
    </ul>
    {thread.summary && <p class="muted small" dir="auto"><Isolated text={thread.summary} /></p>}
    {closing && <CloseThread model={model} tid={tid} onDone={() => setClosing(false)} />}
  </header>;
}

function MessageList({ model, tid, thread }: { model: Model; tid: string; thread: Thread }) {
  const log = model.log(tid);
  const list = useRef<Windowed<Message>>(null);
  const [stuck, setStuck] = useState(true);
  const seen = useRef(0); // the last message when the end was left
  log.sync(thread, stuck);
  void log.version.value;
  const last = log.items.at(-1)?.seq ?? 0;
  if (stuck) seen.current = last;

  const context = useMemo<Context>(() => ({
    isAgent: (id) => Object.hasOwn(model.view.peek()?.state.agents ?? {}, id),
  }), [model]);
  const row = useCallback((message: Message) =>
    <MessageRow model={model} tid={tid} message={message} context={context} />,
  [model, tid, context]);
  const older = useCallback(() => {
    if (!log.problem.peek()) void log.loadOlder();
  }, [log]);
  const lost = useLookedFor(model, tid, list);
  useReading(model, tid, thread, stuck ? last : 0);

  const fresh = stuck ? 0 : countAfter(log.items, seen.current);
  return <div class="messages">
    {lost !== null && <p class="pane-note warn" role="alert">There is no message {lost} in this
      thread. <button type="button" class="button small"
        onClick={() => setQuery({ message: null })}>All right</button></p>}
    <Windowed handle={list} items={log.items} keyOf={keyOf} row={row} stick="bottom" guess={90}
      name="message-list" label="Messages" onStuck={setStuck} onFarEnd={older}
      head={<Beginning model={model} tid={tid} older={log.start} none={last === 0} />} />
    {!stuck && <button type="button" class="button to-end" onClick={() => {
      setQuery({ message: null }, { replace: true });
      list.current?.goToEnd();
    }}><DownIcon />{fresh > 0 ? `${number.format(fresh)} new` : 'To the newest'}</button>}
  </div>;
}

function countAfter(items: readonly Message[], seq: number): number {
  let n = items.length;
  while (n > 0 && items[n - 1]!.seq > seq) n--;
  return items.length - n;
}

/** What stands before the first message that is known. */
function Beginning({ model, tid, older, none }: {
  model: Model; tid: string; older: number; none: boolean;
}) {
  const log = model.log(tid);
  if (log.problem.value) return <div class="pane-note">
    <ProblemLine problem={log.problem.value} />
    <button type="button" class="button small" onClick={() => log.loadOlder()}>Try again</button>
  </div>;
  if (older > 0) return <p class="pane-note muted small">
    {number.format(older)} older messages{log.loading.value ? ', loading…' : ''}</p>;
  return <p class="pane-note muted small">
    {none ? 'Nothing has been said here yet.' : 'The thread begins here.'}</p>;
}

/** Scrolls to the message in the address; returns its id where there is none. */
function useLookedFor(model: Model, tid: string,
  list: { readonly current: Windowed<Message> | null }): string | null {
  const seq = model.lookedFor.value;
  const [lost, setLost] = useState<string | null>(null);
  useEffect(() => {
    let gone = false;
    setLost(null);
    if (seq !== null && (place.peek().query.get('thread') ?? tid) === tid) {
      void model.log(tid).find(seq).then((found) => {
        if (gone) return;
        if (found) list.current?.reveal(seq);
        else setLost(`m${seq}`);
      });
    }
    return () => {
      gone = true;
    };
  }, [model, tid, seq]);
  return lost;
}

/** What somebody who takes part has before their eyes counts as read after a moment. */
function useReading(model: Model, tid: string, thread: Thread, upto: number): void {
  const me = model.me.value;
  const unread = me !== null && maySpeak(account.value) && upto > 0 && model.at.value === null &&
    unreadIn(thread, me).count > 0;
  const newest = useRef(upto);
  newest.current = upto;
  useEffect(() => {
    if (!unread) return;
    const timer = setTimeout(() => {
      if (!document.hidden) model.send({ type: 'thread.read', thread: tid, agent: me!,
        upto: newest.current }).catch(() => undefined); // the next message tries again
    }, READ_AFTER_MS);
    return () => clearTimeout(timer);
  }, [model, tid, unread]);
}
