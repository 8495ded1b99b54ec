// A small picture of a session's last seconds.

import { useEffect, useRef } from 'preact/hooks';
import { dark } from '../ui/theme';
import { RATE_SECONDS } from './rates';

const WIDTH = 112;
const HEIGHT = 24;

function paint(canvas: HTMLCanvasElement, seconds: Float32Array | undefined): void {
  const scale = devicePixelRatio || 1;
  if (canvas.width !== WIDTH * scale) {
    canvas.width = WIDTH * scale;
    canvas.height = HEIGHT * scale;
  }
  const to = canvas.getContext('2d')!;
  const style = getComputedStyle(canvas);
  to.setTransform(scale, 0, 0, scale, 0, 0);
  to.clearRect(0, 0, WIDTH, HEIGHT);
  to.fillStyle = style.getPropertyValue('--border');
  to.fillRect(0, HEIGHT - 1, WIDTH, 1);
  if (!seconds) return;
  const most = Math.max(2, ...seconds);
  const bar = WIDTH / (RATE_SECONDS - 1);
  to.fillStyle = style.getPropertyValue('--accent');
  seconds.forEach((n, i) => {
    if (n === 0) return;
    // By the root, so that a single event can be seen next to a hundred.
    const height = Math.max(2, Math.sqrt(n / most) * (HEIGHT - 2));
    to.fillRect(i * bar, HEIGHT - 1 - height, Math.max(1, bar - 1), height);
  });
}

/** Painted again whenever `at` or `seconds` changes. */
export function Sparkline({ seconds, at }: { seconds: Float32Array | undefined; at: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const isDark = dark.value;
  const moving = seconds ? at : 0;
  useEffect(() => paint(canvas.current!, seconds), [moving, isDark]);
  return <canvas class="sparkline" ref={canvas} aria-hidden="true" />;
}
