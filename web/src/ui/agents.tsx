// How agents look, the same on every page.

import type { AgentStatus } from '../data/types';

/** A hue for an id, always the same: for `hsl(hue var(--agent-s) var(--agent-l))`. */
export function agentHue(id: string): number {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619);
  return ((hash >>> 8) % 24) * 15; // steps that can be told apart
}

export function AgentName({ id }: { id: string }) {
  return (
    <span class="agent-name"
      style={{ color: `hsl(${agentHue(id)} var(--agent-s) var(--agent-l))` }}>
      {id}
    </span>
  );
}

export function StatusDot({ status }: { status: AgentStatus }) {
  return <span class={`dot ${status}`} role="img" aria-label={status} title={status} />;
}
