// A list of any length of rows of one height: only those in sight are in the document.

import type { ComponentChildren, Ref } from 'preact';
import { useEffect, useImperativeHandle, useRef, useState } from 'preact/hooks';

const BEYOND = 8; // rows kept above and below what is seen

export interface RowListHandle {
  /** Scrolls so that the row is in sight. */
  reveal(index: number): void;
}

export function RowList({ count, rowHeight, row, label, handle }: {
  count: number;
  rowHeight: number;
  /** The row at `index`; give it a key. It is put into a box of rowHeight. */
  row: (index: number) => ComponentChildren;
  label: string;
  handle?: Ref<RowListHandle>;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 800 });

  useEffect(() => {
    const element = box.current!;
    const look = () => setSeen((old) => {
      const next = { top: element.scrollTop, height: element.clientHeight };
      const moved = Math.floor(old.top / rowHeight) !== Math.floor(next.top / rowHeight);
      return moved || old.height !== next.height ? next : old;
    });
    look();
    element.addEventListener('scroll', look, { passive: true });
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    return () => {
      element.removeEventListener('scroll', look);
      sizes.disconnect();
    };
  }, [rowHeight]);

  useImperativeHandle(handle ?? null, () => ({
    reveal(index) {
      const element = box.current;
      if (!element) return;
      const top = index * rowHeight;
      if (top < element.scrollTop) element.scrollTop = top;
      else if (top + rowHeight > element.scrollTop + element.clientHeight) {
        element.scrollTop = top + rowHeight - element.clientHeight;
      }
    },
  }), [rowHeight]);

  const first = Math.max(0, Math.floor(seen.top / rowHeight) - BEYOND);
  const end = Math.min(count, Math.ceil((seen.top + seen.height) / rowHeight) + BEYOND);
  const rows = [];
  for (let index = first; index < end; index++) rows.push(row(index));
  return (
    <div class="row-list" ref={box} role="list" aria-label={label} tabIndex={-1}>
      <div class="row-list-all" style={{ height: `${count * rowHeight}px` }}>
        <div class="row-list-seen" style={{ transform: `translateY(${first * rowHeight}px)` }}>
          {rows}
        </div>
      </div>
    </div>
  );
}
