// The threads of the session: which there are, who takes part, what is new.

import { useRef, useState } from 'preact/hooks';
import { maySpeak, me as account } from '../data/me';
import type { Thread } from '../data/types';
import { RowList } from '../ui/list';
import { setQuery } from '../ui/router';
import { NewThread } from './forms';
import { PlusIcon } from './icons';
import { unreadIn, unreadText } from './marks';
import type { Model } from './model';
import { gist, Isolated, number } from './text';

const ROW_PX = 56;
const FILTER_FROM = 12; // threads: fewer are seen at once

const total = (thread: Thread) => thread.older + thread.messages.length;

export function Threads({ model, open }: { model: Model; open: string | null }) {
  const view = model.calm.value;
  const me = model.me.value;
  const [text, setText] = useState('');
  const [making, setMaking] = useState(false);
  // What was there when the thread was last open: what is more is new.
  const looked = useRef(new Map<string, number>());
  const threads = Object.entries(view?.state.threads ?? {});
  const live = model.at.value === null;
  if (live) for (const [tid, thread] of threads) {
    const known = looked.current.get(tid);
    if (known === undefined || tid === open || total(thread) < known)
      looked.current.set(tid, total(thread));
  }
  const wanted = text.trim().toLowerCase();
  const listed = threads
    .filter(([tid, { name }]) => !wanted || tid.includes(wanted) ||
      name.toLowerCase().includes(wanted))
    .sort(([, a], [, b]) => Number(a.status === 'closed') - Number(b.status === 'closed'));

  const badge = (tid: string, thread: Thread) => {
    const mine = me !== null && Object.hasOwn(thread.participants, me);
    const count = mine ? unreadText(unreadIn(thread, me)) :
      number.format(total(thread) - (looked.current.get(tid) ?? 0));
    if (!live || count === '0' || tid === open) return null;
    return <span class="badge ok" title={mine ? 'unread by you' : 'new since you looked'}>
      {count}<span class="visually-hidden"> {mine ? 'unread' : 'new'}</span></span>;
  };
  const row = (index: number) => {
    const [tid, thread] = listed[index]!;
    const last = thread.messages.at(-1);
    return <div key={tid} role="listitem"><a class={`thread-row ${thread.status}`}
      aria-current={tid === open ? 'true' : undefined} href={model.hrefOf(tid)}
      onClick={(event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        setQuery({ thread: tid, message: null, panel: 'messages' });
      }}>
      <span class="row">
        <strong class="grow ellipsis"><Isolated text={thread.name || tid} /></strong>
        {thread.status === 'closed' && <span class="badge">closed</span>}
        {badge(tid, thread)}
      </span>
      <span class="muted small ellipsis" dir="auto">{last ?
        `${last.sender}: ${gist(last.content, 80)}` :
        Object.keys(thread.participants).slice(0, 5).join(', ')}</span>
    </a></div>;
  };

  return <section class="panel panel-threads" id="panel-threads" aria-label="Threads">
    <header class="panel-head row">
      <h2 class="grow">Threads <span class="muted small">{number.format(threads.length)}</span></h2>
      {view?.state.status === 'open' && live && maySpeak(account.value) &&
        <button type="button" class="button quiet icon" aria-label="New thread" title="New thread"
          onClick={() => setMaking(true)}><PlusIcon /></button>}
    </header>
    {threads.length > FILTER_FROM && <input class="input panel-filter" type="search"
      aria-label="Find a thread" placeholder="Find a thread" value={text}
      onInput={(event) => setText(event.currentTarget.value)} />}
    {threads.length === 0 && view && <NoThreads model={model} />}
    {threads.length > 0 && listed.length === 0 && <p class="pane-note muted">None is called so.</p>}
    <RowList count={listed.length} rowHeight={ROW_PX} row={row} label="Threads" />
    {making && <NewThread model={model} onDone={() => setMaking(false)} />}
  </section>;
}

function NoThreads({ model }: { model: Model }) {
  const base = `${location.origin}/v1/sessions/${model.sid}`;
  return <div class="pane-note">
    <p>No threads yet. Agents talk in threads; make one here, or from a shell:</p>
    <pre class="code">{`curl ${base}/agents \\
  --json '{"agent":"ann"}'
curl ${base}/threads \\
  --json '{"creator":"ann","name":"general",
           "participants":[]}'`}</pre>
  </div>;
}
