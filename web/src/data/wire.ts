// What a page and the hub say to each other over a MessagePort.

import type { Command, CommandAnswer, Problem } from './types';

export type Connection =
  | { readonly state: 'connecting' }
  | { readonly state: 'connected' }
  /** The next attempt is at `retryAt` (as Date.now() counts); `reason` is a sentence. */
  | { readonly state: 'waiting'; readonly retryAt: number; readonly reason: string }
  /** The server wants a token, and the browser has no cookie with a good one. */
  | { readonly state: 'signed-out' };

export type ToHub =
  | { readonly kind: 'watch' | 'unwatch'; readonly sid: string }
  /** The sessions' summaries, of those with all these labels; null: none any more. */
  | { readonly kind: 'summaries'; readonly labels: readonly string[] | null }
  | { readonly kind: 'status'; readonly on: boolean }
  | { readonly kind: 'command'; readonly ref: number; readonly sid: string;
      readonly command: Command }
  | { readonly kind: 'retry' }
  | { readonly kind: 'signed-out' }
  /** One 'told' has arrived. */
  | { readonly kind: 'ack' }
  /** The page holds this lock as long as it lives. */
  | { readonly kind: 'lock'; readonly name: string }
  | { readonly kind: 'bye' };

export type FromHub =
  | { readonly kind: 'connection'; readonly connection: Connection }
  /** Messages of the server that this page watches, as they came. */
  | { readonly kind: 'told'; readonly messages: readonly string[] }
  /** The page was too slow and was not told everything: it has to ask for all of it again. */
  | { readonly kind: 'again' }
  | { readonly kind: 'refused'; readonly sid: string; readonly problem: Problem }
  | { readonly kind: 'summaries-refused'; readonly problem: Problem }
  | { readonly kind: 'answer'; readonly ref: number;
      readonly result: CommandAnswer | { readonly problem: Problem } }
  | { readonly kind: 'status'; readonly text: string; readonly at: number }
  /** It is not for us. */
  | { readonly kind: 'status-refused'; readonly problem: Problem };

export function unreachable(detail: string): Problem {
  return { type: '/problems/unreachable', title: 'No answer', status: 0, detail };
}
