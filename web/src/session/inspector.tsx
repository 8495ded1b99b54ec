// One event as it is: what the server tells of it, and what it changed in the state, as the patch
// that a watcher gets.

import { useEffect, useRef, useState } from 'preact/hooks';
import { ProblemError, readDiff, readEvents } from '../data/client';
import type { Operation, Problem, SessionEvent } from '../data/types';
import { useHotkey } from '../ui/keys';
import { setQuery } from '../ui/router';
import { CopyButton } from './code';
import { ProblemLine } from './forms';
import type { Model } from './model';
import { Json, number } from './text';

interface Found {
  readonly event: SessionEvent | null;
  readonly ops: readonly Operation[];
  /** Whether the patch is the one that came, or was asked for afterwards. */
  readonly live: boolean;
}

async function find(model: Model, seq: number, abort: AbortSignal): Promise<Found> {
  if (seq < 1 || seq > model.length.peek()) return { event: null, ops: [], live: false };
  const patch = model.past.patchOf(seq);
  const [{ events }, diff] = await Promise.all([
    readEvents(model.sid, { after: seq - 1, before: seq + 1 }, abort),
    patch || seq === 1 ? null : readDiff(model.sid, seq - 1, seq, abort).catch((error: unknown) => {
      // The state before it is no longer kept.
      if (error instanceof ProblemError) return null;
      throw error;
    })]);
  return { event: events[0] ?? null, ops: patch?.ops ?? diff?.ops ?? [], live: patch !== null };
}

export function Inspector({ model, seq }: { model: Model; seq: number }) {
  const [found, setFound] = useState<Found | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const title = useRef<HTMLHeadingElement>(null);
  const close = () => {
    setQuery({ event: null });
    document.querySelector<HTMLElement>('.windowed.timeline')?.focus();
  };
  useHotkey('Escape', 'Session', 'Close the inspector', close);
  useEffect(() => {
    title.current?.focus();
    const abort = new AbortController();
    find(model, seq, abort.signal).then(setFound, (error: unknown) => {
      if (error instanceof ProblemError) setProblem(error.problem);
    });
    return () => abort.abort();
  }, [model, seq]);
  const length = model.calmLength.value;
  return <article class="inspector" aria-label={`Event ${seq}`}>
    <header class="row wrap">
      <h3 ref={title} tabIndex={-1}>Event {number.format(seq)}</h3>
      <button type="button" class="button small" disabled={seq <= 1}
        onClick={() => setQuery({ event: seq - 1 })}>Before</button>
      <button type="button" class="button small" disabled={seq >= length}
        onClick={() => setQuery({ event: seq + 1 })}>After</button>
      <button type="button" class="button small" onClick={() => model.go(seq)}>Go to it
      </button>
      <button type="button" class="button quiet small" onClick={close}>Close</button>
    </header>
    <ProblemLine problem={problem} />
    {!found && !problem && <p class="muted small">Loading…</p>}
    {found && !found.event && <p role="alert">There is no event {number.format(seq)}: the session
      stands at {number.format(length)}.</p>}
    {found?.event && <>
      <div class="row"><h4 class="grow">Event</h4>
        <CopyButton text={JSON.stringify(found.event)} /></div>
      <Json value={found.event} />
      <div class="row"><h4 class="grow">Patch <span class="muted small">{found.live ?
        'as it came' : 'what changed in the state'}</span></h4>
        <CopyButton text={JSON.stringify(found.ops)} /></div>
      {found.ops.length > 0 ? <Json value={found.ops} /> : <p class="muted small">{seq === 1 ?
        'With it the state began.' : 'It changed nothing that the state shows.'}</p>}
    </>}
  </article>;
}
