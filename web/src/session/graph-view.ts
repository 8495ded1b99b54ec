// The drawing of the graph. Positions change with each frame, so the elements are moved directly
// and not through a render; between movements nothing runs.

import type { AgentStatus } from '../data/types';
import { agentHue } from '../ui/agents';
import { Force } from './force';
import type { Edge } from './marks';

const SVG = 'http://www.w3.org/2000/svg';
const PULSE_MS = 800;
const PULSES = 16; // at a time; more are not shown
const PULSE_GAP_MS = 150; // between two along the same edge
const LABEL = 16; // characters
const ROOMY = 24; // nodes: where there are more they are smaller, and only so many have names
const MARGIN = 26;
const MUCH = 120; // nodes and edges: more are moved in every third frame only

export interface Node {
  readonly id: string;
  /** null: an agent that has left. */
  readonly status: AgentStatus | null;
  /** How often it mentions or is mentioned. */
  readonly weight: number;
}

interface DrawnNode { group: SVGGElement; circle: SVGCircleElement; radius: number; look: string }
interface DrawnEdge {
  path: SVGPathElement; from: string; to: string; width: number;
  pulsed: number; // when
}
interface Pulse { dot: SVGCircleElement; from: string; to: string; began: number }
interface Point { x: number; y: number }

function make<K extends keyof SVGElementTagNameMap>(name: K,
  attributes: Readonly<Record<string, string>>): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]!);
  return element;
}

export class GraphView {
  private readonly force = new Force();
  private readonly nodes = new Map<string, DrawnNode>();
  private readonly edges = new Map<string, DrawnEdge>();
  private pulses: Pulse[] = [];
  private readonly layers: [SVGGElement, SVGGElement, SVGGElement];
  private readonly sizes: ResizeObserver;
  private readonly still = matchMedia('(prefers-reduced-motion: reduce)');
  private width = 300;
  private height = 220;
  private frame = 0;
  private skipped = 0;
  private changed = true; // what is drawn must be placed anew, though nothing moves
  private placed = 0; // edges

  constructor(private readonly svg: SVGSVGElement, private readonly chosen: (id: string) => void) {
    this.layers = [make('g', { class: 'edges' }), make('g', { class: 'pulses' }),
      make('g', { class: 'nodes' })];
    svg.append(...this.layers);
    this.sizes = new ResizeObserver(([entry]) => {
      this.width = entry!.contentRect.width;
      this.height = entry!.contentRect.height;
      this.changed = true;
      this.run();
    });
    this.sizes.observe(svg);
  }

  close(): void {
    cancelAnimationFrame(this.frame);
    this.sizes.disconnect();
    this.svg.replaceChildren();
  }

  set(nodes: readonly Node[], edges: readonly Edge[]): void {
    this.force.set(nodes.map(({ id }) => id), edges);
    if (this.still.matches) this.force.rest();
    this.drawNodes(nodes);
    this.drawEdges(edges);
    this.changed ||= this.edges.size !== this.placed;
    this.run();
  }

  private drawNodes(nodes: readonly Node[]): void {
    const gone = new Set(this.nodes.keys());
    const size = Math.sqrt(Math.min(1, ROOMY / nodes.length));
    const named = nodes.map(({ weight }) => weight).sort((a, b) => b - a)[ROOMY / 2] ?? -1;
    for (const { id, status, weight } of nodes) {
      gone.delete(id);
      let drawn = this.nodes.get(id);
      if (!drawn) this.nodes.set(id, drawn = this.makeNode(id));
      const quiet = nodes.length > ROOMY && weight <= named;
      const look = `node ${status ?? 'gone'}${quiet ? ' quiet' : ''}`;
      if (drawn.look !== look) drawn.group.setAttribute('class', drawn.look = look);
      const radius = Math.round(size * (7 + Math.min(9, Math.log2(1 + weight))));
      if (drawn.radius !== radius) drawn.circle.setAttribute('r', String(drawn.radius = radius));
    }
    for (const id of gone) {
      this.nodes.get(id)!.group.remove();
      this.nodes.delete(id);
    }
  }

  private makeNode(id: string): DrawnNode {
    const group = make('g', {});
    const circle = make('circle', {});
    circle.style.fill = `hsl(${agentHue(id)} 45% 48%)`;
    const label = make('text', { y: '24', 'text-anchor': 'middle' });
    label.textContent = id.length > LABEL ? id.slice(0, LABEL - 1) + '…' : id;
    const title = make('title', {});
    title.textContent = id;
    group.append(circle, label, title);
    group.addEventListener('click', () => this.chosen(id));
    this.layers[2].append(group);
    return { group, circle, radius: 0, look: '' };
  }

  private drawEdges(edges: readonly Edge[]): void {
    const gone = new Set(this.edges.keys());
    for (const { from, to, weight } of edges) {
      const key = `${from} ${to}`;
      gone.delete(key);
      let drawn = this.edges.get(key);
      if (!drawn) {
        const path = make('path', { 'marker-end': 'url(#arrow)' });
        this.edges.set(key, drawn = { path, from, to, width: 0, pulsed: 0 });
        this.layers[0].append(path);
      }
      const width = 1 + Math.round(Math.min(4, Math.log2(weight) * 0.6) * 4) / 4;
      if (drawn.width !== width) drawn.path.setAttribute('stroke-width', String(drawn.width = width));
    }
    for (const key of gone) {
      this.edges.get(key)!.path.remove();
      this.edges.delete(key);
    }
  }

  /** Something was said to somebody just now. */
  pulse(from: string, to: string): void {
    const edge = this.edges.get(`${from} ${to}`);
    const now = performance.now();
    if (!edge || now - edge.pulsed < PULSE_GAP_MS || this.pulses.length >= PULSES ||
      this.still.matches || document.hidden || !this.seen()) return;
    edge.pulsed = now;
    const dot = make('circle', { r: '4' });
    dot.style.fill = `hsl(${agentHue(from)} 70% 55%)`;
    this.layers[1].append(dot);
    this.pulses.push({ dot, from, to, began: now });
    this.run();
  }

  /** Not in a panel that is hidden for lack of room: those have no size. */
  private seen(): boolean {
    return this.width > 0;
  }

  private run(): void {
    if (!this.frame) this.frame = requestAnimationFrame((now) => this.moved(now));
  }

  private moved(now: number): void {
    this.frame = 0;
    if (!this.seen()) return;
    if (this.nodes.size + this.edges.size > MUCH && this.skipped++ % 3 !== 0) return this.run();
    if (!this.force.cold || this.changed) {
      this.force.step();
      this.place(this.scale());
      this.changed = false;
    }
    this.movePulses(now);
    if (!this.force.cold || this.pulses.length > 0) this.run();
  }

  /** How the layout is fitted into the picture. */
  private scale(): (id: string) => Point {
    let [left, right, top, bottom] = [-60, 60, -60, 60];
    for (const { x, y } of this.force.bodies) {
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
    const wide = (this.width - 4 * MARGIN) / (right - left);
    const high = (this.height - 2.4 * MARGIN) / (bottom - top);
    // Stretched into the room there is, yet not out of shape.
    const fx = Math.min(wide, high * 2.5, 2);
    const fy = Math.min(high, wide * 2.5, 2);
    return (id) => {
      const { x, y } = this.force.at(id)!;
      return { x: this.width / 2 + (x - (left + right) / 2) * fx,
        y: this.height / 2 - 6 + (y - (top + bottom) / 2) * fy };
    };
  }

  private place(point: (id: string) => Point): void {
    this.placed = this.edges.size;
    for (const [id, { group }] of this.nodes) {
      const { x, y } = point(id);
      group.setAttribute('transform', `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    }
    for (const { path, from, to } of this.edges.values()) {
      const a = point(from);
      const b = point(to);
      if (from === to) {
        path.setAttribute('d', `M${a.x} ${a.y - 8}c-26 -34 26 -34 2 -4`);
        continue;
      }
      const c = bend(a, b);
      // The arrow ends at the rim of the node.
      const end = towards(c, b, this.nodes.get(to)!.radius + 3);
      path.setAttribute('d', `M${a.x.toFixed(1)} ${a.y.toFixed(1)}Q${c.x.toFixed(1)} ${
        c.y.toFixed(1)} ${end.x.toFixed(1)} ${end.y.toFixed(1)}`);
    }
  }

  private movePulses(now: number): void {
    const point = this.pulses.length > 0 ? this.scale() : null;
    this.pulses = this.pulses.filter(({ dot, from, to, began }) => {
      const t = (now - began) / PULSE_MS;
      if (t >= 1 || !this.nodes.has(from) || !this.nodes.has(to)) {
        dot.remove();
        return false;
      }
      const a = point!(from);
      const b = point!(to);
      const c = bend(a, b);
      const s = Math.max(0, t);
      const along = (p: number, q: number, r: number) =>
        (1 - s) * (1 - s) * p + 2 * s * (1 - s) * q + s * s * r;
      dot.setAttribute('cx', along(a.x, c.x, b.x).toFixed(1));
      dot.setAttribute('cy', along(a.y, c.y, b.y).toFixed(1));
      return true;
    });
  }
}

/** The control point of the curve between two nodes, to one side, so that both ways can be seen. */
function bend(a: Point, b: Point): Point {
  return { x: (a.x + b.x) / 2 - (b.y - a.y) * 0.14, y: (a.y + b.y) / 2 + (b.x - a.x) * 0.14 };
}

/** The point before `b`, `distance` away from it. */
function towards(a: Point, b: Point, distance: number): Point {
  const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
  return { x: b.x - (b.x - a.x) / length * distance, y: b.y - (b.y - a.y) / length * distance };
}
