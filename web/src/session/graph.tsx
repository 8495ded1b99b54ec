// Who mentions whom: a drawing that moves with what is said, and the same as a table.

import { useEffect, useRef } from 'preact/hooks';
import type { State } from '../data/types';
import { AgentName } from '../ui/agents';
import { setQuery } from '../ui/router';
import { GraphView, type Node } from './graph-view';
import { messagesOf, type Edge } from './marks';
import type { Model } from './model';
import { number } from './text';

const NODES = 100;
const EDGES = 250;
const ROWS = 50; // of the table

interface Drawn { readonly nodes: readonly Node[]; readonly edges: readonly Edge[]; all: number }

/** The agents with most to do with each other, and what is between them. */
function choose(state: State, edges: readonly Edge[]): Drawn {
  const weights = new Map(Object.keys(state.agents).map((id) => [id, 0]));
  for (const { from, to, weight } of edges) {
    weights.set(from, (weights.get(from) ?? 0) + weight);
    weights.set(to, (weights.get(to) ?? 0) + weight);
  }
  let ids = [...weights.keys()];
  if (ids.length > NODES)
    ids = ids.sort((a, b) => weights.get(b)! - weights.get(a)!).slice(0, NODES).sort();
  const drawn = new Set(ids);
  return {
    nodes: ids.map((id) => ({ id, status: state.agents[id]?.status ?? null,
      weight: weights.get(id)! })),
    edges: edges.filter(({ from, to }) => drawn.has(from) && drawn.has(to))
      .sort((a, b) => b.weight - a.weight).slice(0, EDGES),
    all: weights.size,
  };
}

export function GraphPanel({ model }: { model: Model }) {
  const view = model.calm.value;
  void model.learnt.value;
  const svg = useRef<SVGSVGElement>(null);
  const graph = useRef<GraphView | null>(null);
  useEffect(() => {
    graph.current = new GraphView(svg.current!, (agent) => setQuery({ agent, panel: 'timeline' }));
    const end = model.feed.onFold((fold) => {
      if (fold.reset !== undefined || model.at.peek() !== null) return;
      for (const { sender, mentions } of messagesOf(fold).slice(-40))
        for (const agent of mentions.slice(0, 10)) graph.current!.pulse(sender, agent);
    });
    return () => {
      end();
      graph.current!.close();
    };
  }, [model]);
  if (view && model.at.value !== null) model.mentions.noteState(view.state);
  const { nodes, edges, all } = view ? choose(view.state, model.mentions.edges(view.seq)) :
    { nodes: [], edges: [], all: 0 };
  useEffect(() => graph.current?.set(nodes, edges));
  return <section class="panel panel-graph" id="panel-graph" aria-label="Graph" tabIndex={-1}>
    <header class="panel-head row"><h2 class="grow">Who mentions whom</h2>
      {all > nodes.length && <span class="muted small">
        the {nodes.length} busiest of {number.format(all)}</span>}</header>
    <div class="graph">
      <svg ref={svg} role="img" aria-label={`Who mentions whom: ${nodes.length} agents, ${
        edges.length} links. The same stands in the table below.`}>
        <defs><marker id="arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7"
          markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">
          <path d="M0 0.5 7 4 0 7.500Z" /></marker></defs>
      </svg>
      {view && edges.length === 0 && <p class="muted small graph-note">
        Nobody has mentioned anybody yet.</p>}
    </div>
    {edges.length > 0 && <details class="graph-table">
      <summary class="muted small">As a table</summary>
      <table class="table"><thead><tr><th scope="col">who</th><th scope="col">mentions</th>
        <th scope="col" class="number">times</th></tr></thead>
        <tbody>{edges.slice(0, ROWS).map(({ from, to, weight }) => <tr key={`${from} ${to}`}>
          <td><button type="button" class="link" onClick={() =>
            setQuery({ agent: from, panel: 'timeline' })}><AgentName id={from} /></button></td>
          <td><AgentName id={to} /></td><td class="number">{number.format(weight)}</td></tr>)}
        </tbody></table>
      {edges.length > ROWS && <p class="muted small">and {edges.length - ROWS} more</p>}
    </details>}
  </section>;
}
