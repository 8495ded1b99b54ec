// The timeline: all events, newest first, with filters; and the inspector of one of them.

import { useCallback, useEffect } from 'preact/hooks';
import { eventTypes } from '../data/types';
import { AgentName } from '../ui/agents';
import { place, setQuery } from '../ui/router';
import { clockTime } from '../ui/time';
import { ProblemLine } from './forms';
import { Inspector } from './inspector';
import { numberIn, type Model } from './model';
import { counted, gist } from './text';
import type { Entry, Filter } from './timeline-model';
import { Windowed } from './windowed';

const keyOf = (entry: Entry) => entry.seq;

/** What an address says to filter by. A time that is none is left out. */
function filterOf(query: URLSearchParams): Filter {
  const time = (name: string) => {
    const at = new Date(query.get(name) ?? '');
    return Number.isNaN(at.getTime()) ? '' : at.toISOString();
  };
  return { type: query.getAll('type'), agent: query.get('agent') ?? '',
    thread: query.get('in') ?? '', since: time('since'), until: time('until') };
}

export function TimelinePanel({ model }: { model: Model }) {
  const { query } = place.value;
  const { timeline } = model;
  const inspected = numberIn(query, 'event');
  const filter = filterOf(query);
  useEffect(() => timeline.begin(), [timeline]);
  useEffect(() => timeline.setFilter(filter), [timeline, JSON.stringify(filter)]);
  const more = useCallback(() => {
    void timeline.more();
  }, [timeline]);
  const row = useCallback((entry: Entry) => <Line model={model} entry={entry} />, [model]);
  const filtered = filter.type.length > 0 || filter.agent || filter.thread || filter.since ||
    filter.until;
  const entries = timeline.entries.value;
  return <section class="panel panel-timeline" id="panel-timeline" aria-label="Timeline">
    <header class="panel-head row"><h2 class="grow">Timeline</h2>
      {filtered && <button type="button" class="button quiet small" onClick={() => setQuery(
        { type: null, agent: null, in: null, since: null, until: null })}>Clear filters</button>}
    </header>
    <Filters model={model} filter={filter} />
    {inspected !== null && <Inspector key={inspected} model={model} seq={inspected} />}
    <ProblemLine problem={timeline.problem.value} />
    <Windowed items={entries} keyOf={keyOf} row={row} stick="top" guess={50}
      name="timeline" label="Events" onFarEnd={more}
      foot={<p class="pane-note muted small">{timeline.loading.value ? 'Loading…' :
        entries.length === 0 ? 'No events match.' :
        timeline.complete.value ? counted(entries.length, 'event') : ''}</p>} />
  </section>;
}

function Line({ model, entry }: { model: Model; entry: Entry }) {
  const { seq, from, ts, type, actor, thread, text } = entry;
  const chosen = numberIn(place.value.query, 'event') === seq;
  if (type === 'merged') return <button type="button" class="event-line merged"
    onClick={() => model.timeline.open(entry)}>
    <span class="tabular muted">{from}–{seq}</span> {text}; show them</button>;
  return <button type="button" class={`event-line kind-${type.split('.')[0]}`}
    aria-current={chosen ? 'true' : undefined} title={`${seq} ${type} ${ts}`}
    onClick={() => setQuery({ event: chosen ? null : seq })}>
    <span class="row"><span class="tabular muted">{seq}</span>
      <span class="event-type">{type}</span>
      <span class="ellipsis grow">{actor && <AgentName id={actor} />}</span>
      <time class="tabular muted" dateTime={ts}>{clockTime(ts)}</time></span>
    {(thread || text) && <span class="ellipsis muted" dir="auto">
      {thread && <span class="event-thread">{thread} </span>}<bdi>{gist(text)}</bdi></span>}
  </button>;
}

/** A time for <input type=datetime-local>, which knows no zones. */
function localTime(iso: string): string {
  if (!iso) return '';
  const date = new Date(iso);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function Filters({ model, filter }: { model: Model; filter: Filter }) {
  const state = model.calm.value?.state;
  const agents = Object.keys(state?.agents ?? {});
  const threads = Object.entries(state?.threads ?? {}).slice(0, 1000);
  const time = (name: 'since' | 'until') => <label class="field"><span>{name}</span>
    <input class="input" type="datetime-local" step={1} value={localTime(filter[name])}
      onChange={(event) => {
        const at = new Date(event.currentTarget.value);
        setQuery({ [name]: Number.isNaN(at.getTime()) ? null : at.toISOString() });
      }} /></label>;
  return <div class="filters">
    <div class="row">
      <select class="input" aria-label="Type of event" value={filter.type[0] ?? ''}
        onChange={(event) => setQuery({ type: event.currentTarget.value })}>
        <option value="">all types</option>
        {eventTypes.map((type) => <option key={type}>{type}</option>)}
      </select>
      <select class="input" aria-label="Agent" value={filter.agent}
        onChange={(event) => setQuery({ agent: event.currentTarget.value })}>
        <option value="">all agents</option>
        {withChosen(agents, filter.agent).map((id) => <option key={id}>{id}</option>)}
      </select>
      <select class="input" aria-label="Thread" value={filter.thread}
        onChange={(event) => setQuery({ in: event.currentTarget.value })}>
        <option value="">all threads</option>
        {withChosen(threads.map(([tid]) => tid), filter.thread).map((tid) =>
          <option key={tid} value={tid}>{gist(state?.threads[tid]?.name || tid, 40)}</option>)}
      </select>
    </div>
    <details open={filter.since !== '' || filter.until !== ''}>
      <summary class="muted small">By time</summary>
      <div class="row">{time('since')}{time('until')}</div>
    </details>
  </div>;
}

/** The choices, and what the address chose though it is not among them. */
const withChosen = (names: readonly string[], chosen: string) =>
  chosen === '' || names.includes(chosen) ? names : [...names, chosen];
