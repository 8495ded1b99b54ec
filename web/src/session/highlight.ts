// The highlighter, a file of its own that is loaded when the first block of code is shown. Takes
// the tree of tokens that highlight.js makes, not its HTML.

import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import go from 'highlight.js/lib/languages/go';
import java from 'highlight.js/lib/languages/java';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';
import type { Token } from './code';

const languages = {
  bash, cpp, css, diff, go, java, json, python, rust, sql, typescript, xml, yaml,
};
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);
hljs.registerAliases(['js', 'jsx', 'javascript', 'tsx'], { languageName: 'typescript' });
hljs.registerAliases(['c', 'h'], { languageName: 'cpp' });
hljs.registerAliases(['shell', 'console'], { languageName: 'bash' });

const KEPT = 200;
const known = new Map<string, Token>();

/** The tokens of `text`; null where the language is not known. */
export function highlight(text: string, language: string): Token | null {
  const name = language.toLowerCase();
  if (!hljs.getLanguage(name)) return null;
  const key = `${name}\n${text}`;
  let tokens = known.get(key);
  if (!tokens) {
    const result = hljs.highlight(text, { language: name, ignoreIllegals: true });
    tokens = (result._emitter as unknown as { rootNode: Token }).rootNode;
    known.set(key, tokens);
    if (known.size > KEPT) known.delete(known.keys().next().value!);
  }
  return tokens;
}
