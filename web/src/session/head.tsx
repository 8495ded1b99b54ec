// The head of the page: which session this is, how it stands, and where in time one looks at it.

import { useEffect, useState } from 'preact/hooks';
import { forkSession, ProblemError } from '../data/client';
import { mayWrite, me as account } from '../data/me';
import type { Problem, View } from '../data/types';
import { useHotkey } from '../ui/keys';
import { navigate, place, sessionHref } from '../ui/router';
import { clockTime } from '../ui/time';
import { Labels } from './agents';
import { CopyButton } from './code';
import { ProblemLine } from './forms';
import { PauseIcon, PlayIcon } from './icons';
import type { Model } from './model';
import { paces } from './player';
import { counted, Isolated, number } from './text';

export function Head({ model }: { model: Model }) {
  const view = model.calm.value;
  void place.value; // the address that is copied
  return <header class="session-head">
    <div class="row wrap">
      <h1 class="ellipsis">{model.sid}</h1>
      {view && <Facts view={view} />}
      <span class="grow" />
      <CopyButton text={location.href} label="Copy link" />
    </div>
    {view?.state.summary && <p dir="auto"><Isolated text={view.state.summary} /></p>}
    <TimeBar model={model} />
    <PastNote model={model} />
  </header>;
}

function Facts({ view }: { view: View }) {
  const { status, labels, parent, agents, threads } = view.state;
  const messages = Object.values(threads).reduce((sum, thread) =>
    sum + thread.older + thread.messages.length, 0);
  return <>
    <span class={`badge ${status === 'open' ? 'ok' : ''}`}>{status}</span>
    {account.value?.redacted && <span class="badge warn"
      title="Your token does not show all of this session">parts are hidden from you</span>}
    <Labels labels={labels} />
    {parent && <span class="small">fork of{' '}
      <a href={`${sessionHref(parent.session)}?at=${parent.seq}`}>
        {parent.session} at {number.format(parent.seq)}</a></span>}
    <span class="muted small tabular">{counted(Object.keys(agents).length, 'agent')}
      {' · '}{counted(Object.keys(threads).length, 'thread')}
      {' · '}{counted(messages, 'message')}
      <span class="epoch" title={`epoch ${view.epoch}`}> · epoch {view.epoch.slice(-8)}</span></span>
  </>;
}

/** The slider through the session's time. */
function TimeBar({ model }: { model: Model }) {
  const view = model.calm.value; // a busy session need not move the slider every frame
  const at = model.at.value;
  const length = model.calmLength.value;
  const { playing, pace } = model.player;
  const place = at ?? length;
  useHotkey('p', 'Session', 'Play or stop the past', () => model.player.toggle());
  useHotkey('l', 'Session', 'Back to live', () => model.go(null));
  useHotkey('[', 'Session', 'One event back', () => model.go(Math.max(1, place - 1)));
  useHotkey(']', 'Session', 'One event on', () => model.go(place + 1));
  if (length === 0) return null;
  const time = view && view.seq === place && view.ts ? clockTime(view.ts) : '';
  return <div class="time-bar row" role="group" aria-label="Time">
    <button type="button" class="button icon" onClick={() => model.player.toggle()}
      aria-label={playing.value ? 'Stop' : 'Play'} title={playing.value ? 'Stop (p)' : 'Play (p)'}>
      {playing.value ? <PauseIcon /> : <PlayIcon />}</button>
    <input class="grow" type="range" min={model.past.oldest.value} max={length} step={1}
      value={place} aria-label="Event" aria-valuetext={`event ${place} of ${length} ${time}`}
      onInput={(event) => {
        model.player.stop();
        const wanted = Number(event.currentTarget.value);
        model.go(wanted < length ? wanted : null);
      }} />
    <span class="muted small tabular place">{number.format(place)} / {number.format(length)}</span>
    <select class="input pace" aria-label="Speed" value={paces.findIndex((one) =>
      one.pace === pace.value)} onChange={(event) => {
      pace.value = paces[Number(event.currentTarget.value)]!.pace;
    }}>{paces.map(({ name }, n) => <option key={name} value={n}>{name}</option>)}</select>
    {at === null && <span class="badge ok live">live</span>}
  </div>;
}

function PastNote({ model }: { model: Model }) {
  const at = model.at.value;
  const view = model.past.view.value;
  const problem = model.past.problem.value;
  if (at === null) return null;
  return <div class="past-note row wrap">
    <span class="grow">
      {problem ? <ProblemLine problem={problem} /> : <>You look at the past: event{' '}
        <strong class="tabular">{number.format(at)}</strong>
        {' of '}{number.format(model.calmLength.value)}
        {view?.seq === at ? view.ts && `, ${new Date(view.ts).toLocaleString()}` : ', loading…'}</>}
    </span>
    {!problem && mayWrite(account.value) && !account.value!.redacted
      && <Fork model={model} at={at} />}
    <button type="button" class="button primary" onClick={() => model.go(null)}>
      Back to live</button>
  </div>;
}

/** A new session that begins with the history up to here. */
function Fork({ model, at }: { model: Model; at: number }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => setProblem(null), [at]);
  const fork = async () => {
    setBusy(true);
    try {
      navigate(sessionHref((await forkSession(model.sid, at)).session));
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      setProblem(error.problem);
    }
    setBusy(false);
  };
  return <>
    <ProblemLine problem={problem} />
    <button type="button" class="button" disabled={busy} onClick={fork}
      title="A new session that shares the history up to here">Fork from here</button>
  </>;
}
