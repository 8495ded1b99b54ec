// One session: what is said in it, by whom, and how it came to be so.

import { useEffect, useMemo } from 'preact/hooks';
import { useSession } from '../data/client';
import { useHotkey } from '../ui/keys';
import { ProblemCard } from '../ui/problem';
import { place, setQuery } from '../ui/router';
import { Agents } from './agents';
import { GraphPanel } from './graph';
import { Head } from './head';
import { Messages } from './messages';
import { Model } from './model';
import { shownPlain } from './text';
import { Threads } from './threads';
import { TimelinePanel } from './timeline';

const panels = ['messages', 'threads', 'agents', 'graph', 'timeline'] as const;
type Panel = (typeof panels)[number];

export default function SessionPage({ sid }: { sid: string }) {
  const feed = useSession(sid);
  const model = useMemo(() => new Model(feed), [feed]);
  useEffect(() => () => model.close(), [model]);
  const status = feed.status.value;
  if (status === 'refused') {
    const problem = feed.problem.value!;
    return problem.status === 404 ? <Unknown sid={sid} /> : <ProblemCard problem={problem}>
      <p><a class="button" href="/sessions">All sessions</a></p></ProblemCard>;
  }
  if (status === 'loading') return <p class="pane-note muted" role="status">Loading {sid}…</p>;
  return <Session model={model} />;
}

function Unknown({ sid }: { sid: string }) {
  const base = `${location.origin}/v1/sessions/${encodeURIComponent(sid)}`;
  return <ProblemCard problem={{ title: 'There is no such session',
    detail: `No session is called “${shownPlain(sid)}”: it was never made, or it was deleted.` }}>
    <p>To make it, and to let somebody speak in it:</p>
    <pre class="code">{`curl -X PUT ${base}
curl ${base}/agents --json '{"agent":"ann"}'
curl ${base}/threads --json \\
  '{"creator":"ann","name":"general","participants":[],"thread":"general"}'
curl ${base}/threads/general/messages --json '{"sender":"ann","content":"Hello."}'`}</pre>
    <p class="row">
      <button class="button primary" onClick={() => location.reload()}>Look again</button>
      <a class="button" href="/sessions">All sessions</a></p>
  </ProblemCard>;
}

/** The thread in the address; else the one where something was said last. */
function useOpenThread(model: Model): string | null {
  const named = place.value.query.get('thread');
  const view = model.calm.value;
  const kept = useMemo(() => ({ tid: null as string | null }), [model]);
  if (named !== null) return kept.tid = named;
  const threads = view?.state.threads ?? {};
  if (kept.tid !== null && Object.hasOwn(threads, kept.tid)) return kept.tid;
  let newest = -1;
  for (const tid in threads) {
    const { messages, status } = threads[tid]!;
    const seq = messages.at(-1)?.seq ?? (status === 'open' ? 0 : -0.5);
    if (seq > newest) [newest, kept.tid] = [seq, tid];
  }
  return newest === -1 ? null : kept.tid;
}

/** Where there is no room for all panels: which of them is seen. */
function Tabs({ panel, show }: { panel: Panel; show: (name: Panel) => void }) {
  const keyed = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    const next = (panels.indexOf(panel) + step + panels.length) % panels.length;
    show(panels[next]!);
    (event.currentTarget as HTMLElement).querySelector<HTMLElement>(`.tab-${panels[next]}`)?.focus();
    event.preventDefault();
  };
  return <div class="tabs session-tabs" role="tablist" aria-label="Panels" onKeyDown={keyed}>
    {panels.map((name) => <button type="button" role="tab" key={name} class={`tab-${name}`}
      aria-selected={name === panel} aria-controls={`panel-${name}`}
      tabIndex={name === panel ? 0 : -1} onClick={() => show(name)}>{name}</button>)}
  </div>;
}

function Session({ model }: { model: Model }) {
  const { query } = place.value;
  const wished = query.get('panel') as Panel;
  const panel = panels.includes(wished) ? wished : query.has('event') ? 'timeline' : 'messages';
  const tid = useOpenThread(model);
  const show = (name: Panel) => setQuery({ panel: name === 'messages' ? null : name },
    { replace: true });
  panels.forEach((name, n) => useHotkey(String(n + 1), 'Session', `Show ${name}`, () => {
    show(name);
    const seen = document.getElementById(`panel-${name}`);
    (seen?.querySelector<HTMLElement>('.windowed, a, button') ?? seen)?.focus();
  }));
  return <div class={`session${query.has('event') ? ' inspecting' : ''}`} data-panel={panel}>
    <Head model={model} />
    {model.feed.status.value === 'ended' && <p class="past-note" role="alert">This session was
      deleted while you watched. What you see is how it stood last.{' '}
      <a href="/sessions">All sessions</a></p>}
    <Tabs panel={panel} show={show} />
    <div class="panels">
      <div class="side">
        <Threads model={model} open={tid} />
        <Agents model={model} />
      </div>
      <section class="panel panel-messages" id="panel-messages" aria-label="Messages" tabIndex={-1}>
        {tid !== null ? <Messages model={model} tid={tid} /> :
          <p class="pane-note muted">Nothing is said here yet: the session has no threads. The list
            of threads says how to make one.</p>}
      </section>
      <div class="side">
        <GraphPanel model={model} />
        <TimelinePanel model={model} />
      </div>
    </div>
  </div>;
}
