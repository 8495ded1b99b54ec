// A block of code: plain at once, coloured when the highlighter has come, which is a file of its
// own and is only asked for when there is code in a language that it knows.

import { useEffect, useState } from 'preact/hooks';
import type { ComponentChild } from 'preact';
import { shown } from './text';

/** A piece of code with its meaning (of highlight.js: keyword, string, …). */
export interface Token { readonly scope?: string; readonly children: readonly (Token | string)[] }

const HIGHLIGHTED = 16 * 1024; // characters: more stay plain

function colour(token: Token | string): ComponentChild {
  if (typeof token === 'string') return shown(token);
  const inner = token.children.map(colour);
  return token.scope ? <span class={`hl-${token.scope.split('.')[0]}`}>{inner}</span> : inner;
}

export function Code({ text, language }: { text: string; language: string }) {
  const [tokens, setTokens] = useState<Token | null>(null);
  useEffect(() => {
    let gone = false;
    setTokens(null);
    if (language && text.length <= HIGHLIGHTED) {
      import('./highlight').then(({ highlight }) => {
        if (!gone) setTokens(highlight(text, language));
      }).catch(() => undefined); // the code is readable without
    }
    return () => {
      gone = true;
    };
  }, [text, language]);
  return <div class="code-block">
    <div class="row code-bar">
      <span class="grow">{shown(language.slice(0, 32)) || 'text'}</span>
      <CopyButton text={text} />
    </div>
    <pre tabIndex={0}><code>{tokens ? colour(tokens) : shown(text)}</code></pre>
  </div>;
}

/** Copies a text, and says whether that worked: browsers may refuse. */
export function CopyButton({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [said, setSaid] = useState('');
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => setSaid(''), 1500);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid('Copied');
    } catch {
      setSaid('Not allowed');
    }
  };
  return <button type="button" class="button quiet small" onClick={copy}>
    <span aria-live="polite">{said || label}</span></button>;
}
