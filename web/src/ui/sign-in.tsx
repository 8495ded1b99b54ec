// Signing in: a token goes to the server once, which puts it into a cookie that no script can read.

import { useEffect, useRef, useState } from 'preact/hooks';
import { disconnect, reconnectNow } from '../data/client';
import { me, signIn, signOut } from '../data/me';
import type { Problem } from '../data/types';
import { announce } from './announce';

export function SignIn() {
  const [problem, setProblem] = useState<Problem>();
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);

  async function submit(event: Event) {
    event.preventDefault();
    const token = field.current!.value.trim();
    if (token === '' || busy) return;
    setBusy(true);
    const refused = await signIn(token);
    setBusy(false);
    setProblem(refused);
    if (!refused) reconnectNow();
    field.current?.select();
  }

  return (
    <section class="empty sign-in">
      <h1>Sign in</h1>
      <p class="muted">This server wants to know who you are. Paste a token; whoever runs the server
        makes one with <code class="mono">atoll token</code>.</p>
      <form class="stack" onSubmit={submit}>
        <label class="field">
          <span>Token</span>
          <input ref={field} class="input mono" type="password" name="token" autocomplete="off"
            spellcheck={false} required aria-invalid={problem !== undefined}
            aria-describedby="sign-in-problem" onInput={() => setProblem(undefined)} />
        </label>
        <p id="sign-in-problem" class="bad-text" role="alert">{problem?.detail}</p>
        <div class="row">
          <button class="button primary" disabled={busy}>Sign in</button>
        </div>
      </form>
      <p class="muted small">It is kept in a cookie that pages cannot read, until it ends or you sign
        out.</p>
    </section>
  );
}

async function leave(): Promise<void> {
  if (await signOut()) disconnect();
  else announce('You are still signed in: the server did not answer.');
}

/** Who we are, and the way out. */
export function SignedIn() {
  const who = me.value;
  if (who?.auth !== 'token') return null;
  const facts: readonly [string, string][] = [
    ['Agent', who.sub ?? 'none'],
    ['May', who.scope.trim() || 'nothing'],
    ['In', who.sessions.map((sid) => (sid === '*' ? 'all sessions' : sid)).join(', ')
      || 'no session'],
    ['Until', who.expires ? new Date(who.expires).toLocaleString() : 'its key is taken back'],
  ];
  return (
    <div class="who">
      <button class="button quiet ellipsis" popovertarget="who" title="Who you are">
        {who.sub ?? 'no agent'}</button>
      <div id="who" class="card" popover="auto">
        <dl>{facts.map(([name, fact]) => (
          <div key={name}><dt class="muted">{name}</dt><dd class="mono">{fact}</dd></div>
        ))}</dl>
        {who.redacted && <p class="muted small">Parts of sessions are hidden from you.</p>}
        <button class="button" onClick={() => void leave()}>Sign out</button>
      </div>
    </div>
  );
}

/** On every page, where anybody who reaches the server may do anything. */
export function InsecureBanner() {
  if (!me.value?.insecure) return null;
  return (
    <p class="banner bad" role="alert">
      Whoever reaches this server may read and change everything: it has no keys, and may be reached
      from other machines. Start it with <code class="mono">--auth-key</code>.
    </p>
  );
}
