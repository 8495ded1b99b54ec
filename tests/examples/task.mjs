/*
 * The task of the examples, and what would be the work of language models: how a planner words its
 * requests, and how a worker answers them. Everything here is a function of the messages alone.
 */
export const TEXT = `An atoll is a ring of coral around a lagoon. It grew where a volcano stood.

The volcano sank slowly, and the corals built upwards to stay in the light.

What is left is a ring with a calm inside, whatever the sea outside may do.

Many live there together. Each has its place, and every one of them changes the others.`;

const countWords = (text) => text.match(/[\p{L}\p{N}'’-]+/gu)?.length ?? 0;

// ---- the planner

/** The parts of a text, each with what a good answer says. */
export const split = (text) =>
  text.split(/\n{2,}/).map((part, n) => ({ number: n + 1, part, words: countWords(part) }));

export const request = ({ number, part }, again = false) =>
  `Part ${number}: how many words are in this${again ? '? Please count again' : ''}?\n\n${part}`;

/** What a worker says about a part: {number, words}, or undefined. */
export function readAnswer(content) {
  const [, number, words] = content.match(/^Part (\d+) has (\d+) words\.$/) ?? [];
  return number && { number: Number(number), words: Number(words) };
}

export const GOODBYE = 'That is all, thank you.';

export function summarize(parts) {
  const total = parts.reduce((sum, { words }) => sum + words, 0);
  return `The text has ${total} words in ${parts.length} parts.`;
}

// ---- the worker

/** The worker's answer, or undefined where none is asked for. Part 3 it gets wrong at first. */
export function answer(content) {
  if (content === GOODBYE) return 'Goodbye.';
  const asked = /^Part (\d+): how many words are in this(\? Please count again)?\?\n\n(.*)$/s;
  const [, number, again, part] = content.match(asked) ?? [];
  if (number === undefined) return undefined;
  const slip = number === '3' && !again ? 1 : 0;
  return `Part ${number} has ${countWords(part) + slip} words.`;
}
