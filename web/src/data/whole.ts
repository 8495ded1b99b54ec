// A state with parts that are hidden from us (a token's `redact`): members may be missing, elements
// of arrays null. For the pages they are empty then. What was whole before stays what it was, and
// what was made whole once stays that: so identity still says what has changed.

import type {
  Agent, Message, Operation, Patch, SessionEvent, State, Summary, Thread, View, WakeTarget,
} from './types';

const noAgent: Agent = { description: null, status: 'idle', note: null, priority: 0, labels: {},
  lease_s: null, wake: null };
const noWake: WakeTarget = { url: '', mentions: false, signed: false, breaker: 'closed',
  why: null };
const noThread: Thread = { name: '', creator: '', status: 'open', summary: null, participants: {},
  older: 0, messages: [] };
const noMessage: Message = { id: '', seq: 0, ts: '', sender: '', content: '', mentions: [],
  reply_to: null, data: null };
const noState: State = { id: '', parent: null, status: 'open', summary: null, labels: {},
  created_at: '', agents: {}, threads: {} };

const made = new WeakMap<object, object>();

function remember<T extends object>(part: T, make: () => T): T {
  let whole = made.get(part) as T | undefined;
  if (!whole) made.set(part, whole = make());
  return whole;
}

function filled<T extends object>(part: T, empty: Partial<T>): T {
  return Object.keys(empty).every((name) => name in part) ? part : { ...empty, ...part };
}

function eachOf<T extends object>(all: Readonly<Record<string, T>>, make: (part: T) => T) {
  return remember(all, () => {
    const whole = Object.entries(all).map(([id, part]) => [id, make(part)] as const);
    return whole.every(([id, part]) => part === all[id]) ? all : Object.fromEntries(whole);
  });
}

const wholeMessage = (message: Message) => remember(message, () => {
  const whole = filled(message, noMessage);
  const mentions = whole.mentions.filter((agent) => agent !== null);
  return mentions.length === whole.mentions.length ? whole : { ...whole, mentions };
});

const wholeMessages = (messages: readonly Message[]) => remember(messages, () => {
  const whole = messages.filter((message) => message !== null).map(wholeMessage);
  return whole.length === messages.length && whole.every((m, i) => m === messages[i])
    ? messages : whole;
});

const wholeThread = (thread: Thread) => remember(thread, () => {
  const whole = filled(thread, noThread);
  const messages = wholeMessages(whole.messages);
  const participants = eachOf(whole.participants,
    (participant) => remember(participant, () => filled(participant, { read: 0, taken: [] })));
  return messages === whole.messages && participants === whole.participants
    ? whole : { ...whole, messages, participants };
});

const wholeAgent = (agent: Agent) => remember(agent, () => {
  const whole = filled(agent, noAgent);
  const wake = whole.wake && filled(whole.wake, noWake);
  return wake === whole.wake ? whole : { ...whole, wake };
});

const wholeState = (state: State) => remember(state, () => {
  const whole = filled(state, noState);
  const agents = eachOf(whole.agents, wholeAgent);
  const threads = eachOf(whole.threads, wholeThread);
  // One without its place or its name is no address.
  const parent = whole.parent && 'session' in whole.parent && 'seq' in whole.parent
    ? whole.parent : null;
  return agents === whole.agents && threads === whole.threads && parent === whole.parent
    ? whole : { ...whole, agents, threads, parent };
});

export function wholeView(view: View): View {
  return remember(view, () => {
    const state = wholeState(view.state);
    return state === view.state ? view : { ...view, state };
  });
}

/** Of a page of messages. */
export { wholeMessages };

function wholeOperation(op: Operation): Operation[] {
  if (op.op === 'remove') return [op];
  const [, root, id, member, which] = op.path.split('/');
  const isPart = typeof op.value === 'object' && op.value !== null;
  if (root === 'threads' && member === 'messages' && which !== undefined)
    return isPart ? [{ ...op, value: wholeMessage(op.value as Message) }] : [];
  if (id === undefined || member !== undefined || !isPart) return [op];
  if (root === 'threads') return [{ ...op, value: wholeThread(op.value as Thread) }];
  return root === 'agents' ? [{ ...op, value: wholeAgent(op.value as Agent) }] : [op];
}

/** To be read, not to be folded: what is added to hidden places is left out. */
export function wholePatch(patch: Patch): Patch {
  return { ...patch, ops: patch.ops.flatMap(wholeOperation) };
}

// What the lines of events are made of.
const noFields: Readonly<Partial<Record<SessionEvent['type'], object>>> = {
  'session.closed': { summary: null },
  'session.forked': { parent: '', parent_seq: 0 },
  'agent.registered': { agent: '' },
  'agent.updated': { agent: '' },
  'agent.wake_set': { agent: '', url: '', mentions: false },
  'agent.wake_reported': { agent: '', breaker: 'closed', why: null },
  'agent.left': { agent: '', threads: [] },
  'thread.created': { thread: '', name: '', creator: '', participants: [] },
  'thread.participant_added': { thread: '', agent: '', by: '' },
  'thread.participant_removed': { thread: '', agent: '', by: '' },
  'thread.closed': { thread: '', by: '', summary: null },
  'message.sent': { thread: '', sender: '', content: '', mentions: [] },
  'thread.read': { thread: '', agent: '', read: 0 },
  'inbox.acked': { agent: '', threads: [] },
};

const isShown = (one: unknown) => one !== null;

/** The list elements that are hidden are left out. */
export function wholeEvent(event: SessionEvent): SessionEvent {
  const whole: Record<string, unknown> = { ...noFields[event.type], ...event };
  for (const name of ['mentions', 'participants', 'threads']) {
    const list = whole[name];
    if (Array.isArray(list)) whole[name] = list.filter(isShown);
  }
  return whole as unknown as SessionEvent;
}

const noSummary: Partial<Summary> = { status: 'open', labels: {}, created_at: '', agents: null,
  threads: null, messages: null };

export const wholeSummary = (summary: Summary): Summary => filled(summary, noSummary);
