// What is around every page: header with navigation and the state of the connection, the page
// itself, help, announcements.

import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { connection, reconnectNow } from '../data/client';
import { announce, Announcements } from './announce';
import { AutoIcon, MoonIcon, SunIcon } from './icons';
import { Help, helpOpen, useHotkey } from './keys';
import { ProblemCard } from './problem';
import { followLinks, navigate, place } from './router';
import { InsecureBanner, SignedIn, SignIn } from './sign-in';
import { chooseTheme, theme, type Theme } from './theme';
import { now } from './time';

type Loaded = { sid?: string };

const pages = {
  sessions: () => import('../sessions/page').then((m) => m.default as ComponentType<Loaded>),
  session: () => import('../session/page').then((m) => m.default as ComponentType<Loaded>),
  server: () => import('../server/page').then((m) => m.default as ComponentType<Loaded>),
};
const loaded = new Map<string, ComponentType<Loaded>>();

/** A page by its name, once its script is there. */
function usePage(name: keyof typeof pages | 'unknown') {
  const [, loadedNow] = useState(0);
  const [failed, setFailed] = useState<string>();
  useEffect(() => {
    if (name === 'unknown' || loaded.has(name)) return;
    pages[name]().then(
      (page) => { loaded.set(name, page); loadedNow((n) => n + 1); },
      () => setFailed(name));
  }, [name]);
  return { Page: loaded.get(name), failed: failed === name };
}

function Content() {
  const { route } = place.value;
  const { Page, failed } = usePage(route.page);
  if (connection.value.state === 'signed-out') return <SignIn />;
  if (route.page === 'unknown') {
    return (
      <ProblemCard problem={{ title: 'There is no such page',
        detail: `${location.pathname} leads nowhere in the dashboard.` }}>
        <p><a class="button" href="/sessions">All sessions</a></p>
      </ProblemCard>
    );
  }
  if (failed) {
    return (
      <ProblemCard problem={{ title: 'This page could not be loaded',
        detail: 'The server does not answer, or another version of it runs now.' }}>
        <p><button class="button" onClick={() => location.reload()}>Load it again</button></p>
      </ProblemCard>
    );
  }
  if (!Page) return null;
  return route.page === 'session' ? <Page key={route.sid} sid={route.sid} /> : <Page />;
}

// ---- the header

function ConnectionState() {
  const is = connection.value;
  const said = is.state === 'waiting' ? is.reason
    : is.state === 'signed-out' ? 'Not signed in' : is.state;
  useEffect(() => announce(is.state === 'waiting' ? `Not connected. ${said}` : said), [said]);
  if (is.state === 'connected') {
    return <p class="connection ok"><span class="lamp" /><span>Connected</span></p>;
  }
  if (is.state === 'signed-out') {
    return <p class="connection warn"><span class="lamp" /><span>Not signed in</span></p>;
  }
  if (is.state === 'connecting') {
    return <p class="connection warn"><span class="lamp" /><span>Connecting…</span></p>;
  }
  const seconds = Math.max(0, Math.ceil((is.retryAt - now.value) / 1000));
  return (
    <p class="connection bad" title={is.reason}>
      <span class="lamp" />
      <span class="why">{is.reason}</span>
      <span class="when">Reconnecting in {seconds} s</span>
      <button class="button" onClick={reconnectNow}>Now</button>
    </p>
  );
}

const nextTheme: Readonly<Record<Theme, Theme>> = { auto: 'light', light: 'dark', dark: 'auto' };
const themeWords: Readonly<Record<Theme, string>> =
  { auto: 'as the system', light: 'light', dark: 'dark' };

function ThemeToggle() {
  const is = theme.value;
  const words = `Colours: ${themeWords[is]}`;
  return (
    <button class="button quiet icon" title={words} aria-label={words}
      onClick={() => chooseTheme(nextTheme[is])}>
      {is === 'auto' ? <AutoIcon /> : is === 'light' ? <SunIcon /> : <MoonIcon />}
    </button>
  );
}

function Navigation() {
  const { route } = place.value;
  const here = (page: string) => (route.page === page ? 'page' : undefined);
  return (
    <nav aria-label="Pages">
      <a href="/sessions" aria-current={here('sessions')}>Sessions</a>
      {route.page === 'session'
        && <span class="ellipsis mono" aria-current="page">{route.sid}</span>}
      <a href="/server" aria-current={here('server')}>Server</a>
    </nav>
  );
}

export function Shell() {
  useEffect(() => {
    document.addEventListener('click', followLinks);
    return () => document.removeEventListener('click', followLinks);
  }, []);
  const { route } = place.value;
  useEffect(() => {
    document.title = route.page === 'session' ? `${route.sid} · Atoll`
      : route.page === 'server' ? 'Server · Atoll' : 'Sessions · Atoll';
  }, [route.page, route.page === 'session' && route.sid]);
  useHotkey('g s', 'Everywhere', 'Go to the sessions', () => navigate('/sessions'));
  useHotkey('g v', 'Everywhere', 'Go to the server', () => navigate('/server'));
  useHotkey('t', 'Everywhere', 'Colours: system, light, dark',
    () => chooseTheme(nextTheme[theme.peek()]));
  return (
    <div class="shell">
      <a class="skip button" href="#main">To the content</a>
      <header class="bar">
        <a class="brand" href="/sessions" aria-label="Atoll: all sessions">
          <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
            <path d="M16 5a11 11 0 1 0 9.6 5.6" />
            <circle cx="16" cy="16" r="3.6" />
            <circle class="isle" cx="22.4" cy="7" r="2.3" />
          </svg>
          <span>Atoll</span>
        </a>
        <Navigation />
        <span class="grow" />
        <ConnectionState />
        <SignedIn />
        <ThemeToggle />
        <button class="button quiet icon" aria-label="Keyboard help" title="Keyboard help (?)"
          onClick={() => { helpOpen.value = true; }}>?</button>
      </header>
      <div class="banners"><InsecureBanner /></div>
      <main id="main" tabIndex={-1}><Content /></main>
      <Help />
      <Announcements />
    </div>
  );
}
