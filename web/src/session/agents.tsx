// The agents: what each does, for how long, and what it has not read.

import { useEffect, useState } from 'preact/hooks';
import type { Agent } from '../data/types';
import { AgentName, StatusDot } from '../ui/agents';
import { duration, now } from '../ui/time';
import { ChangeAgent } from './forms';
import { PenIcon } from './icons';
import { unreadByAgent, unreadText, type Unread } from './marks';
import type { Model } from './model';
import { Isolated, number } from './text';

const SHOWN = 100; // more at a wish

// Who needs a human comes first.
const order = ['attention', 'question', 'working', 'waiting', 'idle', 'offline'];

export function Agents({ model }: { model: Model }) {
  const view = model.calm.value;
  const [changing, setChanging] = useState<string | null>(null);
  const [all, setAll] = useState(false);
  void model.learnt.value;
  const agents = Object.entries(view?.state.agents ?? {}).sort(([, a], [, b]) =>
    order.indexOf(a.status) - order.indexOf(b.status) || b.priority - a.priority);
  const unread = view ? unreadByAgent(view.state) : new Map<string, Unread>();
  const changed = changing !== null ? view?.state.agents[changing] : undefined;
  const may = model.at.value === null && view?.state.status === 'open';
  useEffect(() => {
    if (!may) setChanging(null);
  }, [may]);
  return <section class="panel panel-agents" id="panel-agents" aria-label="Agents">
    <header class="panel-head row"><h2 class="grow">
      Agents <span class="muted small">{number.format(agents.length)}</span></h2></header>
    {view && agents.length === 0 &&
      <p class="pane-note muted">No agents yet. Register as one at the foot of a thread.</p>}
    <ul class="agents">
      {(all ? agents : agents.slice(0, SHOWN)).map(([id, agent]) =>
        <AgentRow key={id} id={id} agent={agent} unread={unread.get(id)}
          since={model.statusTimes.since(id, view!.seq, agent.status)}
          at={model.at.value === null ? null : Date.parse(view!.ts)} isMe={id === model.me.value}
          onChange={may ? () => setChanging(id) : undefined} />)}
    </ul>
    {!all && agents.length > SHOWN && <button type="button" class="button small"
      onClick={() => setAll(true)}>Show all {number.format(agents.length)}</button>}
    {changed && <ChangeAgent model={model} id={changing!} agent={changed}
      onDone={() => setChanging(null)} />}
  </section>;
}

function AgentRow({ id, agent, unread, since, at, isMe, onChange }: {
  id: string; agent: Agent; unread: Unread | undefined;
  /** When it took its status, and the time that is looked at; null is now. */
  since: number | null; at: number | null;
  isMe: boolean; onChange: (() => void) | undefined;
}) {
  const { status, note, description, priority, labels } = agent;
  return <li class={`agent agent-${status}`}>
    <div class="row">
      <StatusDot status={status} />
      <span class="ellipsis"><AgentName id={id} /></span>
      {isMe && <span class="badge">you</span>}
      {priority !== 0 && <span class="badge" title="priority">
        {priority > 0 && '+'}{priority}</span>}
      <span class="grow" />
      {unread && <span class="badge warn" title="messages it has not read">
        {unreadText(unread)}<span class="visually-hidden"> unread</span></span>}
      {onChange && <button type="button" class="button quiet icon small" title="Change status"
        aria-label={`Change ${id}`} onClick={onChange}><PenIcon /></button>}
    </div>
    <div class="muted small">{status}{since !== null && <> for <Ticking since={since} at={at} /></>}
      {note && <>: <Isolated text={note} /></>}</div>
    {description && description !== id && <div class="muted small" dir="auto">
      <Isolated text={description} /></div>}
    <Labels labels={labels} />
  </li>;
}

function Ticking({ since, at }: { since: number; at: number | null }) {
  return <span class="tabular">{duration((at ?? now.value) - since)}</span>;
}

export function Labels({ labels }: { labels: Readonly<Record<string, string>> }) {
  const all = Object.entries(labels);
  if (all.length === 0) return null;
  return <span class="labels">{all.map(([key, value]) => <span class="chip" key={key}>
    <Isolated text={value === '' ? key : `${key}: ${value}`} /></span>)}</span>;
}
