// JSON Patch (RFC 6902) as the server writes it: add, remove and replace. Nothing is changed in
// place: objects and arrays on the way to a change are copied, all others keep their identity.
// Copies made for one call are made once: `own` holds them, and later operations change them.

import type { Operation } from './types';

type Node = Record<string, unknown> | unknown[];

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null;
}

function segments(path: string): string[] {
  if (path[0] !== '/') throw new Error(`not a path into a state: ${path}`);
  const names = path.slice(1).split('/');
  return path.includes('~')
    ? names.map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~')) : names;
}

function copyOf<T extends Node>(node: T, own: Set<Node>): T {
  if (own.has(node)) return node;
  const copy = (Array.isArray(node) ? node.slice() : { ...node }) as T;
  own.add(copy);
  return copy;
}

function indexOf(array: unknown[], name: string, last: number): number {
  const index = name === '-' ? array.length : Number(name);
  if (!Number.isInteger(index) || index < 0 || index > last) {
    throw new Error(`no place ${name} in a list of ${array.length}`);
  }
  return index;
}

function changeArray(array: unknown[], name: string, change: Operation): void {
  const index = indexOf(array, name, change.op === 'add' ? array.length : array.length - 1);
  if (change.op === 'add') array.splice(index, 0, change.value);
  else if (change.op === 'remove') array.splice(index, 1);
  else array[index] = change.value;
}

function changeObject(object: Record<string, unknown>, name: string, change: Operation): void {
  if (change.op !== 'add' && !Object.hasOwn(object, name)) throw new Error(`no member ${name}`);
  if (change.op === 'remove') delete object[name];
  else if (name === '__proto__') throw new Error('a member that no state has');
  else object[name] = change.value;
}

/** Walks to the parent of what changes, copying on the way. */
function apply(root: Node, change: Operation, own: Set<Node>): void {
  const names = segments(change.path);
  let node = root;
  for (const name of names.slice(0, -1)) {
    const members = node as Record<PropertyKey, unknown>;
    const key = Array.isArray(node) ? indexOf(node, name, node.length - 1) : name;
    const child = Object.hasOwn(members, key) ? members[key] : undefined;
    if (!isNode(child)) throw new Error(`${change.path} leads nowhere`);
    node = members[key] = copyOf(child, own);
  }
  const last = names[names.length - 1]!;
  if (Array.isArray(node)) changeArray(node, last, change);
  else changeObject(node, last, change);
}

/**
 * The state after these operations; `state` itself stays as it is. Several calls may share `own`
 * as long as nobody has kept a result in between. Throws where an operation does not fit.
 */
export function applyPatch<T extends object>(
  state: T, ops: readonly Operation[], own: Set<object> = new Set()): T {
  if (ops.length === 0) return state;
  const root = copyOf(state as unknown as Node, own as Set<Node>);
  for (const change of ops) apply(root, change, own as Set<Node>);
  return root as unknown as T;
}
