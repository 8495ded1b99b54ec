// The keyboard: keys that pages listen to while they are shown, and the help that lists them.
//
// A key is one as KeyboardEvent.key has it ('j', '/', '?', 'Escape', 'ArrowDown'), or two in a row
// ('g s'). They are not heard while somebody types, except Escape.

import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';

interface Hotkey {
  readonly keys: readonly string[];
  readonly what: string;
  readonly group: string;
  readonly action: (event: KeyboardEvent) => void;
}

const PAIR_MS = 1200;
const listening = new Set<Hotkey>();
export const helpOpen = signal(false);
let first: { key: string; at: number } | undefined;

/** Hears a key while the component is shown. `what` is told in the help, under `group`. */
export function useHotkey(
  keys: string | readonly string[], group: string, what: string,
  action: (event: KeyboardEvent) => void): void {
  const newest = useRef(action);
  newest.current = action;
  const text = typeof keys === 'string' ? keys : keys.join('\n');
  useEffect(() => {
    const hotkey = { keys: text.split('\n'), what, group,
      action: (event: KeyboardEvent) => newest.current(event) };
    listening.add(hotkey);
    return () => { listening.delete(hotkey); };
  }, [text, what, group]);
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement
    && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.key !== 'Escape' && isTyping(event.target)) return;
  const pair = first && Date.now() - first.at < PAIR_MS ? `${first.key} ${event.key}` : undefined;
  first = { key: event.key, at: Date.now() };
  // The newest listener wins: a dialog over a page, a page over the shell.
  const found = [...listening].reverse().find(({ keys }) => pair && keys.includes(pair))
    ?? [...listening].reverse().find(({ keys }) => keys.includes(event.key));
  if (!found) return;
  first = undefined;
  event.preventDefault();
  found.action(event);
});

const names: Readonly<Record<string, string>> = {
  Escape: 'Esc', ArrowDown: '↓', ArrowUp: '↑', ArrowLeft: '←', ArrowRight: '→', ' ': 'Space',
};

/** What `?` shows. */
export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpOpen.value;
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  useHotkey('?', 'Everywhere', 'This help', () => { helpOpen.value = !helpOpen.peek(); });
  const groups = new Map<string, Hotkey[]>();
  for (const hotkey of listening) {
    groups.set(hotkey.group, [...groups.get(hotkey.group) ?? [], hotkey]);
  }
  return (
    <dialog class="help card" ref={dialog} aria-label="Keyboard"
      onClose={() => { helpOpen.value = false; }}
      onClick={({ target }) => { if (target === dialog.current) helpOpen.value = false; }}>
      <header class="row">
        <h2 class="grow">Keyboard</h2>
        <button class="button quiet" onClick={() => { helpOpen.value = false; }}>Close</button>
      </header>
      {open && [...groups].map(([group, hotkeys]) => (
        <section key={group}>
          <h3>{group}</h3>
          <dl>
            {hotkeys.map(({ keys, what }) => (
              <div key={what}>
                <dt>{keys.map((key, i) => (
                  <span key={key}>
                    {i > 0 && ' or '}
                    {key === ' ' ? <kbd>Space</kbd>
                      : key.split(' ').map((one) => <kbd key={one}>{names[one] ?? one}</kbd>)}
                  </span>
                ))}</dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
    </dialog>
  );
}
