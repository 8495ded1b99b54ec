/* What sessions go through in more than one file. */
import assert from 'node:assert/strict';
import { expect } from './harness.mjs';

export const say = (content, fields) =>
  ({ type: 'message.send', thread: 'general', sender: 'ann', content, ...fields });

/** Commands of every kind, some of which change nothing, with a window that overflows at 5. */
function* everything(server, sid) {
  yield { type: 'session.update', labels: { 'a/b': '1', '~': '2' } };
  for (const agent of ['ann', 'bob', 'cat']) yield { type: 'agent.register', agent,
    labels: { role: agent } };
  yield { type: 'agent.update', agent: 'ann', status: 'working', note: 'n', priority: 5,
    labels: { role: null, x: 'y' } };
  yield { type: 'agent.register', agent: 'ann', description: 'again' };
  yield { type: 'thread.create', thread: 'general', creator: 'ann', name: 'g',
    participants: ['bob'] };
  yield { type: 'thread.create', thread: 'other', creator: 'cat', name: 'o',
    participants: ['ann'] };
  for (let n = 0; n < 8;
    n++) yield say(`m${n}`, { mentions: n % 3 ? ['bob'] : [], data: n % 2 ? { n } : null });
  yield { type: 'thread.add', thread: 'general', agent: 'cat', by: 'ann', history: true };
  yield async () => ({ type: 'inbox.ack', agent: 'bob',
    cursor: (await server.inbox(sid, 'bob', '?mentions=true&limit=2')).cursor });
  for (let n = 0; n < 7;
    n++) yield say(`o${n}`, { thread: 'other', sender: n % 2 ? 'cat' : 'ann', reply_to: null });
  yield { type: 'thread.read', thread: 'general', agent: 'cat', upto: 12 };
  yield async () =>
    ({ type: 'inbox.ack', agent: 'ann', cursor: (await server.inbox(sid, 'ann')).cursor });
  yield { type: 'thread.create', thread: 'late', creator: 'cat', name: 'l', participants: ['bob'] };
  yield say('l0', { thread: 'late', sender: 'bob', data: [{ deep: 'x' }] });
  yield { type: 'thread.remove', thread: 'general', agent: 'cat', by: 'bob' };
  yield { type: 'thread.close', thread: 'other', by: 'cat', summary: 's' };
  yield { type: 'session.update', labels: { 'a/b': null, '~': '3', team: 'x' } };
  yield { type: 'agent.leave', agent: 'cat' };
  yield { type: 'agent.update', agent: 'ann', note: null };
  yield say('l1', { thread: 'late', sender: 'bob' });
  yield { type: 'session.close', summary: 'done' };
}

/** Puts a new session through all of it; `between(n)` before the nth command. */
export async function liveThrough(server, sid, between) {
  let n = 0;
  for (let command of everything(server, sid)) {
    await between(n++);
    if (typeof command === 'function') command = await command();
    expect(await server.command(sid, command), 200);
  }
  assert.ok(n > 30);
}
