// Where the nodes of the graph stand: they repel each other, edges pull, and the middle attracts a
// little. Cools down; warm again when something is new. Deterministic: the same input, the same
// picture.

import type { Edge } from './marks';

export interface Body { readonly id: string; x: number; y: number; vx: number; vy: number }

const COOLING = 0.985;
const COLD = 0.004;
const DAMPING = 0.78;

export class Force {
  bodies: Body[] = [];
  private byId = new Map<string, Body>();
  private springs: { a: Body; b: Body; pull: number }[] = [];
  private heat = 0;

  get cold(): boolean {
    return this.heat < COLD;
  }

  at(id: string): Body | undefined {
    return this.byId.get(id);
  }

  warm(heat = 1): void {
    this.heat = Math.max(this.heat, heat);
  }

  /** Nodes that stay keep their place; new ones begin on a circle. */
  set(ids: readonly string[], edges: readonly Edge[]): void {
    const before = this.byId;
    this.byId = new Map();
    this.bodies = ids.map((id, n) => {
      const angle = 2 * Math.PI * n / ids.length - Math.PI / 2;
      const body = before.get(id) ??
        { id, x: 100 * Math.cos(angle), y: 100 * Math.sin(angle), vx: 0, vy: 0 };
      this.byId.set(id, body);
      return body;
    });
    const springs = this.springs.length;
    this.springs = edges.flatMap(({ from, to, weight }) => {
      const a = this.byId.get(from);
      const b = this.byId.get(to);
      return a && b && a !== b ? [{ a, b, pull: 1 + Math.log2(weight) / 2 }] : [];
    });
    if (before.size === 0) {
      this.warm();
      for (let n = 0; n < 80; n++) this.step();
    } else if (ids.some((id) => !before.has(id)) || ids.length !== before.size) {
      this.warm(0.6);
    } else if (this.springs.length !== springs) {
      this.warm(Math.min(0.3, 3 * Math.abs(this.springs.length - springs) / this.springs.length));
    }
  }

  step(): void {
    const length = 90; // of an edge at rest
    this.heat *= COOLING;
    const { bodies, heat } = this;
    for (let i = 0; i < bodies.length; i++) {
      const a = bodies[i]!;
      a.vx -= a.x * 0.012 * heat;
      a.vy -= a.y * 0.012 * heat;
      for (let j = i + 1; j < bodies.length; j++) {
        const b = bodies[j]!;
        const dx = a.x - b.x || 0.1 * (j - i);
        const dy = a.y - b.y || 0.1;
        const push = Math.min(length * length / (dx * dx + dy * dy), 4) * heat * 0.05;
        a.vx += dx * push;
        a.vy += dy * push;
        b.vx -= dx * push;
        b.vy -= dy * push;
      }
    }
    for (const { a, b, pull } of this.springs) {
      const dx = b.x - a.x;
      const dy = b.y - a.y;
      const distance = Math.hypot(dx, dy) || 1;
      const force = (distance - length) / distance * 0.03 * pull * heat;
      a.vx += dx * force;
      a.vy += dy * force;
      b.vx -= dx * force;
      b.vy -= dy * force;
    }
    for (const body of bodies) {
      body.vx *= DAMPING;
      body.vy *= DAMPING;
      body.x += body.vx;
      body.y += body.vy;
    }
  }

  rest(): void {
    while (!this.cold) this.step();
  }
}
