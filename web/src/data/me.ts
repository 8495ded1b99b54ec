// Who we are to the server: by a cookie that no script sees, or, where the server has no keys,
// everybody. A token is sent once, to be put into that cookie, and kept nowhere here.

import { signal, type ReadonlySignal } from '@preact/signals';
import type { Me, Problem } from './types';
import { unreachable } from './wire';

const current = signal<Me | null>(null);

/** null: not known yet, or nobody that the server lets in. */
export const me: ReadonlySignal<Me | null> = current;

/** Something of the sessions may be missing (whole.ts); also as long as nobody has said. */
export const isRedacted = (): boolean => current.peek()?.redacted ?? true;

export function mayWrite(who: Me | null): boolean {
  return who !== null && /\bwrite\b/.test(who.scope);
}

const isAdmin = (who: Me) => /\badmin\b/.test(who.scope);

/** As some agent: a token that names none changes only what no agent does. */
export function maySpeak(who: Me | null): boolean {
  return mayWrite(who) && (isAdmin(who!) || who!.sub !== null);
}

/** The one agent that it speaks for; null where it may speak for any. */
export function onlyAgent(who: Me | null): string | null {
  return who === null || isAdmin(who) ? null : who.sub;
}

export function speaksFor(who: Me | null, agent: string): boolean {
  return mayWrite(who) && (isAdmin(who!) || who!.sub === agent);
}

export async function lookUpMe(): Promise<void> {
  try {
    const answer = await fetch('/v1/me');
    current.value = answer.ok ? await answer.json() as Me : null;
  } catch {
    // The connection says that the server is gone; who we are may well be as it was.
  }
}

/** Why it did not work, or undefined. */
export async function signIn(token: string): Promise<Problem | undefined> {
  try {
    const answer = await fetch('/v1/login', {
      method: 'POST', headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token }),
    });
    if (!answer.ok) return await answer.json() as Problem;
    await lookUpMe();
    return undefined;
  } catch {
    return unreachable('The server cannot be reached.');
  }
}

/** Whether the cookie is gone. */
export async function signOut(): Promise<boolean> {
  try {
    return (await fetch('/v1/logout', { method: 'POST' })).ok;
  } catch {
    return false;
  }
}

export function forgetMe(): void {
  current.value = null;
}
