// A list of rows of any height of which only those in sight are in the document.
//
// It sticks to one end: at it, new rows push the others on; away from it, what is seen stays where
// it is, whatever is added before or behind. So the place is kept as an anchor, the first row in
// sight and how far it is scrolled past, and the scroll position follows from that and from the
// heights. Heights not yet measured are guessed; a ResizeObserver tells the true ones before the
// frame is painted, and the anchor holds. At the bottom the rows hang from the end of the content,
// so that they stand right whatever was guessed above them, and what was measured may wait.

import { Component, createRef, type ComponentChild, type VNode } from 'preact';

const BEYOND_PX = 600; // rows are kept so far above and below what is seen
const BEYOND_STUCK_PX = 300; // the same at the end that it sticks to
const SETTLE_MS = 150; // how long a measure may wait at the bottom
const FEW = 50; // rows: fewer may not fill the box, and then every guess is seen
const NEAR_PX = 800; // so near an end more is asked for

interface Props<T> {
  /** In the order of their keys, rising or falling. */
  readonly items: readonly T[];
  readonly keyOf: (item: T) => number;
  /** Must be the same function as long as it makes the same of an item. */
  readonly row: (item: T, index: number) => VNode;
  readonly stick: 'top' | 'bottom';
  /** A guess at a row's height, until some were measured. */
  readonly guess: number;
  readonly label: string;
  readonly name: string;
  /** Stands before the first row, or behind the last one. */
  readonly head?: ComponentChild;
  readonly foot?: ComponentChild;
  readonly onStuck?: (stuck: boolean) => void;
  /** Given the list itself while it is there. */
  readonly handle?: { current: Windowed<T> | null };
  /** The end that it does not stick to is near. */
  readonly onFarEnd?: () => void;
}

interface Anchor { readonly key: number; readonly past: number }

export class Windowed<T> extends Component<Props<T>> {
  private readonly box = createRef<HTMLDivElement>();
  private readonly headBox = createRef<HTMLDivElement>();
  private readonly heights = new Map<number, number>();
  private mean = this.props.guess; // of the heights measured last
  private offsets = new Float64Array(256);
  private stuck = true;
  private anchor: Anchor | null = null;
  private top = 0;
  private port = 600;
  private lead = 0; // how far the rows begin below the top of the content: the head
  private first = 0;
  private end = 0;
  private settle: ReturnType<typeof setTimeout> | undefined;
  private readonly sizes = new ResizeObserver((entries) => this.resized(entries));

  /** Brings the row into sight and stays there. */
  reveal(key: number): void {
    this.unstick({ key, past: -this.port / 3 });
    this.forceUpdate();
  }

  /** Goes to the end that it sticks to. */
  goToEnd(): void {
    this.setStuck(true);
    this.forceUpdate();
  }

  override componentDidMount(): void {
    this.sizes.observe(this.box.current!);
    this.sizes.observe(this.headBox.current!);
    if (this.props.handle) this.props.handle.current = this;
    this.componentDidUpdate();
  }

  override componentWillUnmount(): void {
    this.sizes.disconnect();
    clearTimeout(this.settle);
    if (this.props.handle) this.props.handle.current = null;
  }

  override componentDidUpdate(): void {
    const box = this.box.current!;
    if (Math.abs(box.scrollTop - this.top) >= 1) box.scrollTop = this.top; // at most to its end
    this.top = box.scrollTop;
    this.askForMore();
  }

  private askForMore(): void {
    const box = this.box.current!;
    const left = this.props.stick === 'bottom' ? box.scrollTop :
      box.scrollHeight - box.clientHeight - box.scrollTop;
    if (left < NEAR_PX) this.props.onFarEnd?.();
  }

  private resized(entries: readonly ResizeObserverEntry[]): void {
    let changed = false;
    for (const { target, borderBoxSize } of entries) {
      const height = borderBoxSize[0]!.blockSize;
      if (target === this.box.current) {
        changed ||= target.clientHeight !== this.port;
        this.port = target.clientHeight;
      } else if (target === this.headBox.current) {
        changed ||= height !== this.lead;
        this.lead = height;
      } else {
        const key = Number((target as HTMLElement).dataset.key);
        if (!target.isConnected || this.heights.get(key) === height) continue;
        if (!this.heights.has(key)) this.mean += (height - this.mean) / 16;
        this.heights.set(key, height);
        changed = true;
      }
    }
    if (!changed) return;
    if (this.hangs()) this.settle ??= setTimeout(() => this.forceUpdate(), SETTLE_MS);
    else this.forceUpdate();
  }

  private hangs(): boolean {
    return this.stuck && this.props.stick === 'bottom' && this.props.items.length > FEW;
  }

  private setStuck(stuck: boolean): void {
    if (this.stuck === stuck) return;
    this.stuck = stuck;
    this.props.onStuck?.(stuck);
  }

  private unstick(anchor: Anchor | null): void {
    this.anchor = anchor;
    this.setStuck(false);
  }

  private readonly scrolled = () => {
    const box = this.box.current!;
    const down = box.scrollHeight - box.clientHeight - box.scrollTop;
    const [left, towards] = this.props.stick === 'bottom' ?
      [down, box.scrollTop >= this.top] : [box.scrollTop, box.scrollTop <= this.top];
    if (left <= 1 && towards) this.setStuck(true);
    else if (left > 1 && (!towards || !this.stuck)) this.unstick(this.anchorAt(box.scrollTop));
    this.top = box.scrollTop;
    if (this.range(this.top).some((n, i) => n !== (i ? this.end : this.first))) this.forceUpdate();
    this.askForMore();
  };

  /** Somebody wants to leave the end: at once, or what arrives would hold them there. */
  private leave(away: 'top' | 'bottom'): void {
    const box = this.box.current!;
    if (away === this.props.stick || box.scrollHeight <= box.clientHeight + 1) return;
    if (this.stuck) this.unstick(this.anchorAt(box.scrollTop));
  }

  private readonly wheeled = (event: WheelEvent) => {
    if (event.deltaY !== 0) this.leave(event.deltaY < 0 ? 'top' : 'bottom');
  };

  private readonly keyed = (event: KeyboardEvent) => {
    if (['ArrowUp', 'PageUp', 'Home'].includes(event.key)) this.leave('top');
    if (['ArrowDown', 'PageDown', 'End'].includes(event.key)) this.leave('bottom');
  };

  private layout(): number {
    const { items, keyOf } = this.props;
    if (this.heights.size > 2 * items.length + 1000) this.forget();
    if (this.offsets.length <= items.length) this.offsets = new Float64Array(2 * items.length + 1);
    let sum = 0;
    for (let n = 0; n < items.length; n++) {
      this.offsets[n] = sum;
      sum += this.heights.get(keyOf(items[n]!)) ?? this.mean;
    }
    this.offsets[items.length] = sum;
    return sum;
  }

  /** Keeps the heights of what is still in the list. */
  private forget(): void {
    const known = this.props.items.map((item) => this.props.keyOf(item))
      .flatMap((key): [number, number][] =>
        this.heights.has(key) ? [[key, this.heights.get(key)!]] : []);
    this.heights.clear();
    for (const [key, height] of known) this.heights.set(key, height);
  }

  /** The row at a height within the rows. */
  private indexAt(y: number): number {
    let low = 0;
    let high = Math.max(0, this.props.items.length - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.offsets[middle]! <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  private indexOf(key: number): number {
    const { items, keyOf } = this.props;
    let low = 0;
    let high = items.length - 1;
    const rising = high < 1 || keyOf(items[0]!) < keyOf(items[high]!);
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = keyOf(items[middle]!);
      if (found === key) return middle;
      if ((found < key) === rising) low = middle + 1;
      else high = middle - 1;
    }
    return Math.min(low, items.length - 1);
  }

  private anchorAt(top: number): Anchor | null {
    const { items, keyOf } = this.props;
    if (items.length === 0) return null;
    const index = this.indexAt(top - this.lead);
    return { key: keyOf(items[index]!), past: top - this.lead - this.offsets[index]! };
  }

  private range(top: number): [number, number] {
    const y = top - this.lead;
    const beyond = this.stuck ? BEYOND_STUCK_PX : BEYOND_PX;
    return [this.indexAt(y - beyond),
      Math.min(this.props.items.length, this.indexAt(y + this.port + beyond) + 1)];
  }

  override render() {
    const { items, keyOf, row, stick, label, name, head, foot } = this.props;
    const total = this.layout();
    clearTimeout(this.settle);
    this.settle = undefined;
    if (this.stuck) {
      this.top = stick === 'top' ? 0 : 1e7;
    } else if (this.anchor && items.length > 0) {
      this.top = this.lead + this.offsets[this.indexOf(this.anchor.key)]! + this.anchor.past;
    }
    const seen = Math.max(0, Math.min(this.top, this.lead + total - this.port));
    [this.first, this.end] = this.range(seen);
    const rows = [];
    for (let n = this.first; n < this.end; n++) {
      const key = keyOf(items[n]!);
      rows.push(<Row key={key} id={key} item={items[n]!} index={n} row={row} sizes={this.sizes} />);
    }
    return <div class={`windowed ${name}`} ref={this.box} tabIndex={0} role="region"
      aria-label={label} onScroll={this.scrolled} onWheel={this.wheeled} onKeyDown={this.keyed}>
      <div class="windowed-head" ref={this.headBox}>{head}</div>
      <div class="windowed-content" style={{ height: `${total}px` }}>
        <div role="list" style={this.hangs() ?
          { bottom: `${total - this.offsets[this.end]!}px`, top: 'auto' } :
          { bottom: 'auto', top: `${this.offsets[this.first]}px` }}>
          {rows}
        </div>
      </div>
      {foot}
    </div>;
  }
}

interface RowProps<T> {
  readonly id: number;
  readonly item: T;
  readonly index: number;
  readonly row: (item: T, index: number) => VNode;
  readonly sizes: ResizeObserver;
}

class Row<T> extends Component<RowProps<T>> {
  private readonly element = createRef<HTMLDivElement>();

  override shouldComponentUpdate(next: RowProps<T>): boolean {
    return next.item !== this.props.item || next.row !== this.props.row;
  }

  override componentDidMount(): void {
    this.props.sizes.observe(this.element.current!);
  }

  override componentWillUnmount(): void {
    this.props.sizes.unobserve(this.element.current!);
  }

  override render() {
    const { id, item, index, row } = this.props;
    return <div class="windowed-row" role="listitem" ref={this.element} data-key={id}>
      {row(item, index)}
    </div>;
  }
}
