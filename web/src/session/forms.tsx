// What somebody does as an agent, apart from sending messages: take part, make and close threads,
// set a status. Where the server refuses, its words stand where the wish was made.

import { useEffect, useRef, useState } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { ProblemError } from '../data/client';
import { me as account, onlyAgent } from '../data/me';
import {
  agentStatuses, type Agent, type AgentStatus, type Command, type CommandAnswer, type Problem,
} from '../data/types';
import { announce } from '../ui/announce';
import { setQuery } from '../ui/router';
import type { Model } from './model';
import { shown } from './text';

export const ID_PATTERN = '[A-Za-z0-9][A-Za-z0-9_\\-]{0,63}';
const ID_RULE = 'Letters, digits, _ and -, at most 64, beginning with a letter or a digit';

export function ProblemLine({ problem }: { problem: Problem | null }) {
  return problem && <p class="problem-line" role="alert">
    <strong>{shown(problem.title)}.</strong> {shown(problem.detail)}</p>;
}

/** Commands one at a time, with what became of the last one. */
export function useCommand(model: Model) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const run = async (command: Command, done = ''): Promise<CommandAnswer | null> => {
    setBusy(true);
    setProblem(null);
    try {
      const answer = await model.send(command);
      if (done) announce(done);
      return answer;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      setProblem(error.problem);
      return null;
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, run };
}

/** A dialog over the page; Escape, and a click beside it, close it. */
function Dialog({ title, onDone, onSubmit, children }: {
  title: string; onDone: () => void; onSubmit: () => void; children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  return <dialog ref={dialog} class="card session-dialog" aria-label={title} onClose={onDone}
    onClick={(event) => {
      if (event.target === dialog.current) dialog.current!.close();
    }}>
    <form class="stack" onSubmit={(event) => {
      event.preventDefault();
      onSubmit();
    }}>
      <h2>{title}</h2>
      {children}
    </form>
  </dialog>;
}

function Buttons({ onDone, busy, action }: { onDone: () => void; busy: boolean; action: string }) {
  return <div class="row">
    <span class="grow" />
    <button type="button" class="button quiet" onClick={onDone}>Cancel</button>
    <button type="submit" class="button primary" disabled={busy}>{action}</button>
  </div>;
}

/** Becomes an agent of the session, a new one or one that is there. */
export function Join({ model }: { model: Model }) {
  const only = onlyAgent(account.value);
  const [chosen, setName] = useState('');
  const name = only ?? chosen;
  const field = useRef<HTMLInputElement>(null);
  const { busy, problem, run } = useCommand(model);
  const join = async () => {
    if (!field.current!.reportValidity()) return;
    const there = Object.hasOwn(model.feed.view.peek()?.state.agents ?? {}, name);
    const command: Command = there ? { type: 'agent.register', agent: name } :
      { type: 'agent.register', agent: name, labels: { kind: 'human' } };
    if (await run(command, `You are ${name} now.`)) model.speakAs(name);
  };
  return <div class="join">
    <label class="row grow"><span class="muted small">Speak here as</span>
      <input class="input grow" required pattern={ID_PATTERN} title={ID_RULE} value={name}
        placeholder="your-name" autocomplete="off" spellcheck={false} name="agent" ref={field}
        readOnly={only !== null}
        onInput={(event) => setName(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== 'Enter') return;
          event.preventDefault();
          void join();
        }} /></label>
    <button type="button" class="button" disabled={busy} onClick={join}>Register</button>
    <ProblemLine problem={problem} />
  </div>;
}

export function NewThread({ model, onDone }: { model: Model; onDone: () => void }) {
  const [name, setName] = useState('');
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const { busy, problem, run } = useCommand(model);
  const me = model.me.value;
  const agents = Object.keys(model.calm.value?.state.agents ?? {});
  const choose = (agent: string) => {
    const next = new Set(chosen);
    if (!next.delete(agent)) next.add(agent);
    setChosen(next);
  };
  const make = async () => {
    const answer = await run({ type: 'thread.create', creator: me!, name,
      participants: [...chosen] }, `The thread ${name} is made.`);
    if (!answer) return;
    onDone();
    setQuery({ thread: answer.id!, message: null, panel: 'messages' });
  };
  if (me === null || !agents.includes(me)) return <Dialog title="New thread" onDone={onDone}
    onSubmit={onDone}>
    <p>A thread is made by an agent: register as one first.</p>
    <Join model={model} />
    <Buttons onDone={onDone} busy={false} action="Close" />
  </Dialog>;
  return <Dialog title="New thread" onDone={onDone} onSubmit={make}>
    <label class="field"><span>Name</span>
      <input class="input" required maxLength={1024} value={name} name="name" autofocus
        onInput={(event) => setName(event.currentTarget.value)} /></label>
    <fieldset class="choices"><legend class="muted small">With whom</legend>
      {agents.filter((agent) => agent !== me).map((agent) => <label key={agent} class="row">
        <input type="checkbox" checked={chosen.has(agent)} onChange={() => choose(agent)} />
        {agent}</label>)}
      {agents.length < 2 && <p class="muted small">There are no other agents yet.</p>}
    </fieldset>
    <ProblemLine problem={problem} />
    <Buttons onDone={onDone} busy={busy} action={`Make it as ${me}`} />
  </Dialog>;
}

export function CloseThread({ model, tid, onDone }: {
  model: Model; tid: string; onDone: () => void;
}) {
  const [summary, setSummary] = useState('');
  const { busy, problem, run } = useCommand(model);
  const close = async () => {
    if (await run({ type: 'thread.close', thread: tid, by: model.me.peek()!,
      ...(summary && { summary }) }, 'The thread is closed.')) onDone();
  };
  return <Dialog title="Close this thread" onDone={onDone} onSubmit={close}>
    <p>Nothing can be said in it afterwards. What was said stays readable.</p>
    <label class="field"><span>What came of it (may be empty)</span>
      <textarea class="input" rows={3} maxLength={1024} value={summary} autofocus
        onInput={(event) => setSummary(event.currentTarget.value)} /></label>
    <ProblemLine problem={problem} />
    <Buttons onDone={onDone} busy={busy} action="Close the thread" />
  </Dialog>;
}

export function ChangeAgent({ model, id, agent, onDone }: {
  model: Model; id: string; agent: Agent; onDone: () => void;
}) {
  const [status, setStatus] = useState<AgentStatus>(agent.status);
  const [note, setNote] = useState(agent.note ?? '');
  const [priority, setPriority] = useState(String(agent.priority));
  const { busy, problem, run } = useCommand(model);
  const change = async () => {
    if (await run({ type: 'agent.update', agent: id, status, note: note || null,
      priority: Number(priority) }, `${id} is changed.`)) onDone();
  };
  return <Dialog title={`Change ${id}`} onDone={onDone} onSubmit={change}>
    <label class="field"><span>Status</span>
      <select class="input" value={status} name="status" autofocus
        onChange={(event) => setStatus(event.currentTarget.value as AgentStatus)}>
        {agentStatuses.map((name) => <option key={name}>{name}</option>)}
      </select></label>
    <label class="field"><span>Note</span>
      <input class="input" maxLength={1024} value={note} name="note"
        onInput={(event) => setNote(event.currentTarget.value)} /></label>
    <label class="field"><span>Priority</span>
      <input class="input" type="number" step={1} required value={priority}
        onInput={(event) => setPriority(event.currentTarget.value)} /></label>
    <ProblemLine problem={problem} />
    <Buttons onDone={onDone} busy={busy} action="Change" />
  </Dialog>;
}
