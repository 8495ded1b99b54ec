// A chart of lines over time that goes on by itself. uPlot is loaded when the first one is shown.

import type uPlot from 'uplot';
import { useEffect, useRef, useState } from 'preact/hooks';
import { dark } from './theme';

type Plot = typeof uPlot;
let plot: Plot | undefined;

function usePlot(): Plot | undefined {
  const [, loaded] = useState(false);
  useEffect(() => {
    if (!plot) void import('uplot').then((module) => { plot = module.default; loaded(true); });
  }, []);
  return plot;
}

const HEIGHT = 150;

/** Steps of an axis of bytes. */
const binary = Array.from({ length: 50 }, (_, i) => 2 ** i);
const time = (s: number) => new Date(s * 1000).toLocaleTimeString(
  undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

function options(
  { names, format, seconds, isBytes }: Look, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--fg-muted'), font: `11px ${style.fontFamily}`,
    grid: { stroke: colour('--border'), width: 1 }, ticks: { show: false },
  };
  return {
    width: element.clientWidth || 300,
    height: HEIGHT,
    padding: [8, 20, 0, 0], // room for half of the last time
    legend: { live: false, show: false },
    cursor: { sync: { key: 'atoll' }, drag: { x: false, y: false }, y: false,
      points: { size: 6 } },
    scales: {
      // At first half a minute, then as much as there is.
      x: { range: (_, oldest, newest) =>
        [newest - Math.min(seconds, Math.max(30, newest - oldest)), newest] },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] },
    },
    axes: [
      { ...axis, space: 80, size: 26, values: (_, ticks) => ticks.map(time) },
      { ...axis, space: 34, size: 62, ...(isBytes && { incrs: binary }),
        values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      {},
      ...names.map((label, i) => ({
        label, stroke: colour(`--series-${i % 6 + 1}`), width: 1.5, points: { show: false },
      })),
    ],
  };
}

interface Look {
  names: readonly string[];
  format: (value: number) => string;
  /** How much time is shown at most. */
  seconds: number;
  isBytes: boolean;
}

/** `data` is the times in seconds, then the values of each of `names`; null is a gap. */
export function Chart({ data, label, ...look }: Look & {
  data: uPlot.AlignedData;
  /** What a screen reader says in place of the picture. */
  label: string;
}) {
  const Plot = usePlot();
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | undefined>(undefined);
  const newest = useRef(data);
  newest.current = data;
  const isDark = dark.value;

  useEffect(() => {
    if (!Plot) return;
    const element = box.current!;
    const made = new Plot(options(look, element), newest.current, element);
    chart.current = made;
    const sizes = new ResizeObserver(() => made.setSize(
      { width: element.clientWidth, height: HEIGHT }));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      made.destroy();
      chart.current = undefined;
    };
  }, [Plot, isDark, look.names.join('\n'), look.format]);

  useEffect(() => { chart.current?.setData(data); }, [data]);
  return <div class="chart" ref={box} role="img" aria-label={label} />;
}
