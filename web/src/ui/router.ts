// Where we are: the page's address, and ways to change it. Every view of the dashboard has an
// address of its own, so that it can be sent to somebody else.

import { signal, type ReadonlySignal } from '@preact/signals';

export type Route =
  | { readonly page: 'sessions' }
  | { readonly page: 'session'; readonly sid: string }
  | { readonly page: 'server' }
  | { readonly page: 'unknown' };

export interface Place {
  readonly route: Route;
  readonly query: URLSearchParams;
}

function read(): Place {
  const query = new URLSearchParams(location.search);
  const path = location.pathname;
  if (path === '/' || path === '/sessions') return { route: { page: 'sessions' }, query };
  if (path === '/server') return { route: { page: 'server' }, query };
  const match = /^\/sessions\/([^/]+)$/.exec(path);
  if (!match) return { route: { page: 'unknown' }, query };
  try {
    return { route: { page: 'session', sid: decodeURIComponent(match[1]!) }, query };
  } catch {
    return { route: { page: 'unknown' }, query };
  }
}

const current = signal<Place>(read());

/** The address now. */
export const place: ReadonlySignal<Place> = current;

addEventListener('popstate', () => { current.value = read(); });

/** Goes to another address of the dashboard; with `replace` without a step to go back. */
export function navigate(to: string, { replace = false } = {}): void {
  if (to === location.pathname + location.search) return;
  history[replace ? 'replaceState' : 'pushState'](null, '', to);
  const before = current.value.route;
  current.value = read();
  if (JSON.stringify(before) !== JSON.stringify(current.value.route)) scrollTo(0, 0);
}

/** Changes parameters of the query, all others stay; null, '' and [] remove one. */
export function setQuery(
  changes: Readonly<Record<string, string | number | readonly string[] | null>>,
  { replace = false } = {}): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    if (value === null || value === '') continue;
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, String(one));
  }
  const text = query.toString().replaceAll('%3A', ':');
  navigate(location.pathname + (text && `?${text}`), { replace });
}

export function sessionHref(sid: string): string {
  return `/sessions/${encodeURIComponent(sid)}`;
}

/** Links within the dashboard change the address without loading the page again. */
export function followLinks(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey
    || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest('a') : null;
  if (!link || link.target || link.origin !== location.origin || link.hasAttribute('download')
    || !/^\/($|sessions|server)/.test(link.pathname)) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
}
