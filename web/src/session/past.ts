// The session as it stood at any seq. Three ways lead there, the cheapest first:
//
// 1. What was watched is kept for a while: patches, and now and then the view between them (views
//    share what did not change). Any seq among them is folded here, without asking the server.
// 2. From a view that is known the server tells the way to another one nearby: GET …/diff.
// 3. GET …?at=SEQ gives a view as a whole.
//
// Requests are made one at a time; while one is under way only the newest wish is remembered.

import { signal } from '@preact/signals';
import { applyPatch, ProblemError, readDiff, readEvents, readView, shownView }
  from '../data/client';
import type { Fold } from '../data/client';
import type { Patch, Problem, View } from '../data/types';

const KEPT_BYTES = 16 * 1024 * 1024; // of patches; beyond it the older half is dropped
const CHECKPOINT_EVENTS = 200;
const FETCHED = 24; // views
const DIFF_EVENTS = 500; // nearer than this a diff is asked for rather than a view

/** About how much memory a patch holds. */
function sizeOf(patch: Patch): number {
  let size = 200;
  for (const op of patch.ops) {
    const value = op.op === 'remove' ? null : op.value;
    if (typeof value === 'object' && value !== null && 'content' in value)
      size += 2 * String(value.content).length;
  }
  return size;
}

export class Past {
  /** The newest view that was asked for and has come. */
  readonly view = signal<View | null>(null);
  readonly problem = signal<Problem | null>(null);
  /** The oldest seq that can be had. */
  readonly oldest = signal(1);

  private patches: Patch[] = [];
  private bytes = 0;
  // All of these are as the server told them, with what is hidden missing.
  private shown: View | null = null; // the same as `view`
  private checkpoints: View[] = []; // of what was watched, by seq
  private fetched: View[] = []; // the last one used comes last
  private wanted: number | null = null;
  private asking: AbortController | null = null;

  constructor(private readonly sid: string) {}

  /** Takes what the feed told. */
  note({ told: { before, after, patches }, reset }: Fold): void {
    if (before?.epoch !== after.epoch) this.fetched = [];
    if (reset !== undefined) {
      this.patches = [];
      this.bytes = 0;
      this.checkpoints = [after];
      return;
    }
    const last = this.checkpoints.at(-1);
    if (before && (!last || before.seq - last.seq >= CHECKPOINT_EVENTS))
      this.checkpoints.push(before);
    for (const patch of patches) {
      this.patches.push(patch);
      this.bytes += sizeOf(patch);
    }
    if (this.bytes > KEPT_BYTES) this.drop();
  }

  private drop(): void {
    this.patches = this.patches.slice(this.patches.length >> 1);
    this.bytes = this.patches.reduce((sum, patch) => sum + sizeOf(patch), 0);
    const first = this.patches[0]?.seq ?? 0;
    this.checkpoints = this.checkpoints.filter(({ seq }) => seq + 1 >= first);
  }

  /** The patch of an event that was watched. */
  patchOf(seq: number): Patch | null {
    const patch = this.patches[this.indexAfter(seq - 1)];
    return patch && patch.seq === seq && (patch.from ?? seq) === seq ? patch : null;
  }

  /** Where the first patch above `seq` is. */
  private indexAfter(seq: number): number {
    let low = 0;
    let high = this.patches.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.patches[middle]!.seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The view at `seq`, if it can be had without asking. */
  private local(seq: number): View | null {
    const found = this.fetched.find((view) => view.seq === seq);
    if (found) return found;
    const bases = this.checkpoints.concat(this.fetched).filter((view) => view.seq <= seq);
    if (this.shown && this.shown.seq <= seq) bases.push(this.shown);
    let base = bases.reduce<View | null>((a, b) => a && a.seq >= b.seq ? a : b, null);
    if (!base || base.seq === seq) return base;
    const own = new Set<object>();
    let { state } = base;
    for (let n = this.indexAfter(base.seq), at = base.seq; ; n++) {
      const patch = this.patches[n];
      if (!patch || patch.seq > seq || (patch.from ?? patch.seq) !== at + 1) return null;
      state = applyPatch(state, patch.ops, own);
      at = patch.seq;
      if (at === seq) return { epoch: base.epoch, seq, ts: patch.ts, state };
    }
  }

  /** Shows the session at `seq`, as soon as that can be had. */
  show(seq: number): void {
    const view = this.local(seq);
    this.wanted = view ? null : seq;
    if (view) this.found(view);
    else if (!this.asking) void this.ask();
  }

  /** Forgets what was wanted; nothing of the past is shown any more. */
  leave(): void {
    this.wanted = null;
    this.asking?.abort();
    this.asking = null;
    this.shown = this.view.value = null;
    this.problem.value = null;
  }

  /** There is no such place in time. */
  refuse(detail: string): void {
    this.leave();
    this.problem.value = { type: '/problems/unknown-event', title: 'No such event', status: 404,
      detail };
  }

  private found(view: View): void {
    this.shown = view;
    this.view.value = shownView(view);
    this.problem.value = null;
  }

  private async ask(): Promise<void> {
    const asking = this.asking = new AbortController();
    while (this.wanted !== null && this.asking === asking) {
      const seq = this.wanted;
      try {
        const view = await this.fetch(seq, asking.signal);
        if (this.asking !== asking) return;
        this.fetched = this.fetched.filter((other) => other.seq !== seq).slice(1 - FETCHED);
        this.fetched.push(view);
        if (this.wanted === seq) this.wanted = null;
        this.found(view);
      } catch (error) {
        if (this.asking !== asking) return;
        if (!(error instanceof ProblemError)) throw error;
        if (error.problem.oldest) this.oldest.value = error.problem.oldest;
        if (this.wanted === seq) this.wanted = null;
        this.problem.value = error.problem;
      }
    }
    if (this.asking === asking) this.asking = null;
  }

  private async fetch(seq: number, abort: AbortSignal): Promise<View> {
    const base = this.shown;
    if (!base || Math.abs(base.seq - seq) > DIFF_EVENTS) return readView(this.sid, seq, abort);
    const [diff, { events }] = await Promise.all([
      readDiff(this.sid, base.seq, seq, abort),
      readEvents(this.sid, { after: seq - 1, before: seq + 1 }, abort)]);
    if (diff.epoch !== base.epoch || !events[0]) return readView(this.sid, seq, abort);
    return { epoch: base.epoch, seq, ts: events[0].ts, state: applyPatch(base.state, diff.ops) };
  }
}
