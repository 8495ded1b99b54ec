// The list of all sessions, live.
//
// Figures change with every frame; the order only once a second, and not while somebody points at
// a row, so that nothing jumps away under the pointer.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { connection, watchSummaries, type SummaryFeed } from '../data/client';
import type { Summary } from '../data/types';
import { CloseIcon, SearchIcon } from '../ui/icons';
import { useHotkey } from '../ui/keys';
import { RowList, type RowListHandle } from '../ui/list';
import { ProblemCard } from '../ui/problem';
import { place, sessionHref, setQuery } from '../ui/router';
import { Ago, now } from '../ui/time';
import { several } from '../ui/words';
import { NoSessions } from './empty';
import { arrange, commonLabels, sortOf, sorts, type Sort } from './order';
import { Rates, rateText } from './rates';
import { Sparkline } from './sparkline';

const ROW_PX = 44;
const NARROW_ROW_PX = 64;
const LABELS_OFFERED = 100;
const LABELS_AGAIN_MS = 5_000;

const sortNames: Readonly<Record<Sort, string>> = {
  activity: 'Last activity', id: 'Session', rate: 'Rate', agents: 'Agents', threads: 'Threads',
  messages: 'Messages', seq: 'Seq',
};

function addLabel(label: string): void {
  const labels = place.peek().query.getAll('label');
  if (label !== '' && !labels.includes(label)) setQuery({ label: [...labels, label] });
}

function removeLabel(label: string): void {
  setQuery({ label: place.peek().query.getAll('label').filter((other) => other !== label) });
}

// ---- one row

function Labels({ labels }: { labels: Summary['labels'] }) {
  return (
    <span class="labels">
      {Object.entries(labels).map(([key, value]) => (
        <button class="chip" key={key} title={`Only sessions with ${key}:${value}`}
          onClick={() => addLabel(`${key}:${value}`)}>
          {key}:{value}
        </button>
      ))}
    </span>
  );
}

const counted = (n: number | null) => n?.toLocaleString() ?? '–';

function Row({ summary, rates, at }: { summary: Summary; rates: Rates; at: number }) {
  const { session, status, labels } = summary;
  const seconds = rates.read(session, at);
  const moving = seconds ? at : 0;
  // Only what changed is drawn again.
  return useMemo(() => (
    <div class={`session-row ${status}`} role="listitem">
      <span class="name">
        <span class={`dot ${status === 'open' ? 'working' : 'offline'}`} title={status} />
        <a class="mono ellipsis" href={sessionHref(session)} data-session={session}>{session}</a>
        {status === 'closed' && <span class="badge">closed</span>}
        <Labels labels={labels} />
      </span>
      <span class="rate">
        <Sparkline seconds={seconds} at={at} />
        <span class="number small">{rateText(rates.now(session, at))}</span>
      </span>
      <span class="number count" data-name="agents">{counted(summary.agents)}</span>
      <span class="number count" data-name="threads">{counted(summary.threads)}</span>
      <span class="number count" data-name="messages">{counted(summary.messages)}</span>
      <span class="number count seq" data-name="seq">{summary.seq.toLocaleString()}</span>
      <span class="narrow muted small ellipsis">
        {(['agent', 'thread', 'message'] as const).flatMap((word) => {
          const n = summary[`${word}s`];
          return n === null ? [] : [several(n, word)];
        }).join(' · ')}
      </span>
      <span class="number when muted"><Ago ts={summary.ts} /></span>
    </div>
  ), [summary, moving]);
}

// ---- above the rows

function Heading({ sort }: { sort: Sort }) {
  return (
    <div class="session-row heading" role="group" aria-label="Order">
      {(['id', 'rate', 'agents', 'threads', 'messages', 'seq', 'activity'] as const).map((name) => (
        <button key={name} class={name === 'id' || name === 'rate' ? '' : 'number'}
          aria-pressed={sort === name}
          onClick={() => setQuery({ sort: name === 'activity' ? null : name }, { replace: true })}>
          {sortNames[name]}
          {sort === name && <span aria-hidden="true"> {name === 'id' ? '↑' : '↓'}</span>}
        </button>
      ))}
    </div>
  );
}

function Totals({ feed, rates, shown }: { feed: SummaryFeed; rates: Rates; shown: number }) {
  const at = now.value;
  const all = feed.sessions.size;
  const rate = rates.total(at);
  return (
    <p class="muted small totals">
      {shown === all ? '' : `${shown.toLocaleString()} of `}
      {all.toLocaleString()} {all === 1 ? 'session' : 'sessions'}
      {rate > 0 && <> · {rateText(rate).replace('/s', ' events/s')}</>}
    </p>
  );
}

function LabelFilters({ feed, labels }: { feed: SummaryFeed; labels: readonly string[] }) {
  const often = Math.floor(now.value / LABELS_AGAIN_MS);
  const ready = feed.ready.value;
  const offered = useMemo(() => commonLabels(feed.sessions.values(), LABELS_OFFERED),
    [feed, ready, often]).filter(([label]) => !labels.includes(label));
  return (
    <>
      {labels.map((label) => (
        <button class="chip chosen" key={label} onClick={() => removeLabel(label)}
          aria-label={`No longer only ${label}`}>
          {label} <CloseIcon />
        </button>
      ))}
      {offered.length > 0 && (
        <select class="input label-choice" aria-label="Only sessions with a label"
          onChange={({ currentTarget }) => {
            addLabel(currentTarget.value);
            currentTarget.value = '';
          }}>
          <option value="">Label…</option>
          {offered.map(([label, count]) => (
            <option key={label} value={label}>{label} ({count.toLocaleString()})</option>
          ))}
        </select>
      )}
    </>
  );
}

// ---- the page

/** The sessions in order: anew at once where the wishes change, else once a second. */
function useOrder(feed: SummaryFeed, rates: Rates, text: string, sort: Sort, held: () => boolean) {
  const arranged = useRef<Summary[]>([]);
  const asked = useRef('');
  const size = useRef(0);
  const at = now.value;
  const [second, setSecond] = useState(at);
  const wish = JSON.stringify([text, sort]);
  const few = feed.sessions.size < 200 && feed.sessions.size !== size.current;
  if (wish !== asked.current || few || (at !== second && !held())
    || (size.current === 0 && feed.sessions.size > 0)) {
    arranged.current = arrange(feed.sessions.values(), text, sort, rates, at);
    asked.current = wish;
    size.current = feed.sessions.size;
  }
  useEffect(() => setSecond(at), [at]);
  return arranged.current;
}

function useNarrow(): boolean {
  const query = useMemo(() => matchMedia('(max-width: 760px)'), []);
  const [narrow, setNarrow] = useState(query.matches);
  useEffect(() => {
    const look = () => setNarrow(query.matches);
    query.addEventListener('change', look);
    return () => query.removeEventListener('change', look);
  }, [query]);
  return narrow;
}

/** j and k move the focus from row to row, also to rows that are not in sight yet. */
function useRowKeys(order: readonly Summary[], list: { current: RowListHandle | null }) {
  const wanted = useRef<string | undefined>(undefined);
  const focus = () => {
    if (wanted.current === undefined) return;
    const row = document.querySelector<HTMLElement>(
      `[data-session="${CSS.escape(wanted.current)}"]`);
    if (!row) return;
    row.focus({ preventScroll: true });
    wanted.current = undefined;
  };
  const move = (step: number) => {
    const from = document.activeElement instanceof HTMLElement
      ? document.activeElement.dataset.session : undefined;
    const old = order.findIndex(({ session }) => session === from);
    const index = old < 0 ? 0 : Math.max(0, Math.min(order.length - 1, old + step));
    const to = order[index];
    if (!to) return;
    list.current?.reveal(index);
    wanted.current = to.session;
    requestAnimationFrame(() => requestAnimationFrame(focus));
  };
  useHotkey(['j', 'ArrowDown'], 'Sessions', 'Next session', () => move(1));
  useHotkey(['k', 'ArrowUp'], 'Sessions', 'Session before', () => move(-1));
}

function Search({ text }: { text: string }) {
  const input = useRef<HTMLInputElement>(null);
  useHotkey('/', 'Sessions', 'Search', () => input.current?.select());
  useHotkey('Escape', 'Sessions', 'Clear the search', () => {
    setQuery({ q: null }, { replace: true });
    input.current?.blur();
  });
  return (
    <label class="search">
      <SearchIcon />
      <span class="visually-hidden">Search</span>
      <input class="input" ref={input} type="search" value={text} spellcheck={false}
        placeholder="Search ids and labels ( / )"
        onInput={({ currentTarget }) => setQuery({ q: currentTarget.value }, { replace: true })} />
    </label>
  );
}

function Nothing({ feed, text, labels }: {
  feed: SummaryFeed; text: string; labels: readonly string[];
}) {
  const problem = feed.problem.value;
  if (problem) return <ProblemCard problem={problem} />;
  if (!feed.ready.value) {
    return connection.value.state === 'connected'
      ? <p class="muted notice" role="status">Loading…</p>
      : <p class="muted notice" role="status">Waiting for the server…</p>;
  }
  if (feed.sessions.size === 0 && labels.length === 0) return <NoSessions />;
  return (
    <section class="empty">
      <h1>No session matches</h1>
      <p class="muted">
        {text && <>No id or label holds “{text}”. </>}
        {labels.length > 0 && <>Only sessions with {labels.join(' and ')} are looked at. </>}
      </p>
      <p>
        <button class="button" onClick={() => setQuery({ q: null, label: null })}>
          Show all sessions
        </button>
      </p>
    </section>
  );
}

export default function SessionsPage() {
  const { query } = place.value;
  const text = query.get('q') ?? '';
  const sort = sortOf(query.get('sort'));
  const labels = query.getAll('label');
  const rates = useMemo(() => new Rates(), []);
  const feed = useMemo(() => watchSummaries(labels, (after, before) => rates.note(after, before)),
    [labels.join('\n')]);
  useEffect(() => () => feed.close(), [feed]);

  const pointed = useRef(false);
  const list = useRef<RowListHandle>(null);
  void feed.version.value;
  const order = useOrder(feed, rates, text, sort, () => pointed.current);
  useRowKeys(order, list);
  const narrow = useNarrow();
  const at = now.value;

  return (
    <div class="sessions">
      <div class="tools">
        <h1 class="visually-hidden">Sessions</h1>
        <Search text={text} />
        <LabelFilters feed={feed} labels={labels} />
        <select class="input sort-choice" aria-label="Order" value={sort}
          onChange={({ currentTarget: { value } }) => setQuery({ sort: value }, { replace: true })}>
          {sorts.map((name) => <option key={name} value={name}>{sortNames[name]}</option>)}
        </select>
        <span class="grow" />
        <Totals feed={feed} rates={rates} shown={order.length} />
      </div>
      {order.length === 0 ? <Nothing feed={feed} text={text} labels={labels} /> : (
        <div class="session-list" onPointerEnter={() => { pointed.current = true; }}
          onPointerLeave={() => { pointed.current = false; }}>
          <Heading sort={sort} />
          <RowList count={order.length} rowHeight={narrow ? NARROW_ROW_PX : ROW_PX}
            label="Sessions" handle={list} row={(index) => {
              const old = order[index]!;
              const summary = feed.sessions.get(old.session) ?? old;
              return <Row key={old.session} summary={summary} rates={rates} at={at} />;
            }} />
        </div>
      )}
    </div>
  );
}
