// The agents: what each does, for how long, what it has not read, and how it is woken.

import { useEffect, useState } from 'preact/hooks';
import { me as account, speaksFor } from '../data/me';
import type { Agent, WakeTarget } from '../data/types';
import { AgentName, StatusDot } from '../ui/agents';
import { duration, now } from '../ui/time';
import { ChangeAgent } from './forms';
import { BellIcon, PenIcon } from './icons';
import { unreadByAgent, unreadText, type Unread } from './marks';
import type { Model } from './model';
import { gist, Isolated, number } from './text';

const SHOWN = 100; // more at a wish

// Who needs a human comes first.
const order = ['attention', 'question', 'unreachable', 'working', 'waiting', 'idle', 'offline'];
const rank = ({ status, wake }: Agent) => order.indexOf(
  wake?.breaker === 'open' && status !== 'attention' && status !== 'question' ?
    'unreachable' : status);

export function Agents({ model }: { model: Model }) {
  const view = model.calm.value;
  const [changing, setChanging] = useState<string | null>(null);
  const [all, setAll] = useState(false);
  void model.learnt.value;
  const agents = Object.entries(view?.state.agents ?? {}).sort(([, a], [, b]) =>
    rank(a) - rank(b) || b.priority - a.priority);
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
          onChange={may && speaksFor(account.value, id) ? () => setChanging(id) : undefined} />)}
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
  const { status, note, description, priority, labels, lease_s, wake } = agent;
  const [showsWake, setShowsWake] = useState(false);
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
      {wake && <button type="button" class="button quiet icon small" title="It can be woken"
        aria-label={`How ${id} is woken`} aria-expanded={showsWake}
        onClick={() => setShowsWake(!showsWake)}><BellIcon /></button>}
      {onChange && <button type="button" class="button quiet icon small" title="Change status"
        aria-label={`Change ${id}`} onClick={onChange}><PenIcon /></button>}
    </div>
    <div class="muted small">{status}{since !== null && <> for <Ticking since={since} at={at} /></>}
      {note && <>: <Isolated text={note} /></>}
      {lease_s !== null && <span class="lease" title="Offline when it was not heard of for so long">
        {' · '}lease {number.format(lease_s)} s</span>}</div>
    {wake?.breaker === 'open' && <p class="unreachable small"><strong>It cannot be woken.</strong>
      {wake.why !== null && <> <Isolated text={wake.why} /></>}</p>}
    {wake && showsWake && <Wake wake={wake} />}
    {description && description !== id && <div class="muted small" dir="auto">
      <Isolated text={description} /></div>}
    <Labels labels={labels} />
  </li>;
}

function Wake({ wake: { url, mentions, signed } }: { wake: WakeTarget }) {
  return <p class="muted small">Woken by {mentions ? 'messages that mention it' : 'each message'},
    through {signed ? 'signed' : 'unsigned'} calls{url !== '' && <>
      {' '}to <bdi class="mono">{gist(url, 300)}</bdi></>}</p>;
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
