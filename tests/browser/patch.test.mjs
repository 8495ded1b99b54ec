/*
 * The dashboard's own JSON Patch against fast-json-patch: the same result, nothing changed in
 * place, and what no operation touched is still the same object.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { before, it } from 'node:test';
import { load } from './bundle.mjs';

const jsonPatch = createRequire(new URL('../http/x.js', import.meta.url))('fast-json-patch');
const seed = Number(process.env.ATOLL_SEED ?? Date.now() % 2 ** 31);
let applyPatch;
before(async () => ({ applyPatch } = await load('data/patch.ts')));

/** Numbers that a seed repeats (mulberry32). */
function randomFrom(state) {
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const names = ['a', 'b', 'with/slash', 'with~tilde', '~1', 'toString', '0'];

function value(random, depth = 0) {
  const kind = random(depth > 3 ? 3 : 5);
  if (kind === 0) return random(100);
  if (kind === 1) return `text ${random(10)}`;
  if (kind === 2) return null;
  if (kind === 3) return Array.from({ length: random(4) }, () => value(random, depth + 1));
  return Object.fromEntries(names.slice(0, random(names.length + 1))
    .map((name) => [name, value(random, depth + 1)]));
}

const escape = (name) => String(name).replaceAll('~', '~0').replaceAll('/', '~1');

/** An operation that fits the document. */
function operation(random, document) {
  let node = document;
  let path = '';
  for (;;) {
    const keys = Object.keys(node);
    const deeper = keys.filter((key) => typeof node[key] === 'object' && node[key] !== null);
    if (deeper.length === 0 || random(3) === 0) {
      const op = keys.length === 0 ? 'add' : ['add', 'remove', 'replace'][random(3)];
      if (op === 'add') {
        const key = Array.isArray(node) ? ['-', random(node.length + 1)][random(2)]
          : names[random(names.length)];
        return { op, path: `${path}/${escape(key)}`, value: value(random) };
      }
      const key = escape(keys[random(keys.length)]);
      return { op, path: `${path}/${key}`, ...(op === 'replace' && { value: value(random) }) };
    }
    const key = deeper[random(deeper.length)];
    path += `/${escape(key)}`;
    node = node[key];
  }
}

function deepFreeze(node) {
  if (typeof node !== 'object' || node === null) return node;
  Object.values(node).forEach(deepFreeze);
  return Object.freeze(node);
}

it('does what fast-json-patch does, and changes nothing in place', () => {
  const random = randomFrom(seed);
  for (let round = 0; round < 2000; round++) {
    const before = { root: value(random), list: [value(random)], same: { kept: [1] } };
    const ops = [];
    let expected = structuredClone(before);
    for (let n = random(8); n > 0; n--) {
      const one = operation(random, { root: expected.root, list: expected.list });
      if (/^\/(root|list)$/.test(one.path) && one.op === 'remove') continue;
      ops.push(one);
      expected = jsonPatch.applyPatch(expected, structuredClone([one]), false, true).newDocument;
    }
    deepFreeze(before);
    deepFreeze(ops);
    const after = applyPatch(before, ops);
    assert.deepEqual(after, expected, `ATOLL_SEED=${seed}, round ${round}: ${JSON.stringify(ops)}`);
    if (ops.every(({ path }) => !path.startsWith('/same'))) assert.equal(after.same, before.same);
  }
});

it('shares copies over several patches, and leaves untouched threads alone', () => {
  const before = deepFreeze({ threads: { a: { messages: [1] }, b: { messages: [2] } } });
  const own = new Set();
  const first = applyPatch(before, [{ op: 'add', path: '/threads/a/messages/-', value: 3 }], own);
  const second = applyPatch(first, [{ op: 'remove', path: '/threads/a/messages/0' }], own);
  assert.deepEqual(second.threads.a.messages, [3]);
  assert.equal(second.threads.a, first.threads.a, 'copied once for both');
  assert.equal(second.threads.b, before.threads.b);
});

it('refuses what does not fit', () => {
  const state = { list: [1], object: {} };
  for (const one of [{ op: 'remove', path: '/nothing' }, { op: 'replace', path: '/x', value: 1 },
    { op: 'add', path: '/list/2', value: 1 }, { op: 'remove', path: '/list/1' },
    { op: 'add', path: '/a/b', value: 1 }, { op: 'add', path: '/list/x', value: 1 },
    { op: 'add', path: '', value: 1 }, { op: 'add', path: '/__proto__', value: 1 },
    { op: 'add', path: '/object/__proto__/x', value: 1 },
    { op: 'add', path: '/object/constructor/prototype/x', value: 1 }])
    assert.throws(() => applyPatch(state, [one]), Error, JSON.stringify(one));
  assert.equal({}.x, undefined);
});
