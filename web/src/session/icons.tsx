// The pictures of this page only; see ui/icons.tsx.

const draw = (path: string, fill = 'none') => () =>
  <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" fill={fill}
    stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">
    <path d={path} />
  </svg>;

export const PlusIcon = draw('M8 3v10M3 8h10');
export const DownIcon = draw('M8 3v10M4 9l4 4 4-4');
export const PlayIcon = draw('M5 3.2v9.6L12.6 8Z', 'currentColor');
export const PauseIcon = draw('M5.5 3.5v9M10.5 3.5v9');
export const BellIcon = draw('M8 2.5a3.8 3.8 0 0 0-3.8 3.8c0 3-1.4 4.2-1.4 5.2h10.4'
  + 'c0-1-1.4-2.2-1.4-5.2A3.8 3.8 0 0 0 8 2.5ZM6.8 13.6h2.4');
export const PenIcon = draw('M11 2.8 13.2 5 5.5 12.7l-2.8.6.6-2.8Z');
