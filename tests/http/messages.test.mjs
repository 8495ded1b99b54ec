/* Messages beyond the window: by page from the log, in both directions. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, refused, serving } from './harness.mjs';

describe('messages', () => {
  const server = serving({ args: ['--window-messages', '5'] });
  const at = (sid, query) => `/v1/sessions/${sid}/threads/general/messages${query}`;
  const get = async (sid, query) => expect(await server.get(at(sid, query)), 200).json;
  const contents = (page) => page.messages.map((m) => m.content);

  /** 23 messages in `general`, with others in another thread between them. */
  async function scene() {
    const sid = await server.session();
    await server.post(`/v1/sessions/${sid}/threads`,
      { thread: 'other', creator: 'ann', name: 'o', participants: [] });
    const commands = Array.from({ length: 23 }, (_, n) => [
      { type: 'message.send', thread: 'general', sender: 'bob', content: `${n}`, mentions: n % 2
        ? ['ann'] : [], data: { n } },
      { type: 'message.send', thread: 'other', sender: 'ann', content: `other ${n}` },
    ]).flat();
    expect(await server.lines(sid, commands), 200);
    return sid;
  }
  const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => `${from + n}`);

  it('are in the view as far as the window goes', async () => {
    const sid = await scene();
    const { older, messages } = (await server.view(sid)).state.threads.general;
    assert.deepEqual([older, messages.map((m) => m.content)], [18, numbers(18, 22)]);
    assert.deepEqual((await get(sid, '?limit=5')).messages, messages);
  });

  it('come backwards from the newest to the first', async () => {
    const sid = await scene();
    const pages = [];
    let page = await get(sid, '?limit=10');
    for (; page.next !== null;
      page = await get(sid, `?limit=10&before=${page.next}`)) pages.push(contents(page));
    pages.push(contents(page));
    assert.deepEqual(pages, [numbers(13, 22), numbers(3, 12), numbers(0, 2)]);
  });

  it('come forwards from the first to the newest', async () => {
    const sid = await scene();
    const pages = [];
    let page = await get(sid, '?limit=10&after=0');
    for (; page.next !== null;
      page = await get(sid, `?limit=10&after=${page.next}`)) pages.push(contents(page));
    pages.push(contents(page));
    assert.deepEqual(pages, [numbers(0, 9), numbers(10, 19), numbers(20, 22)]);
  });

  it('are the same whether from the window or from the log', async () => {
    const sid = await scene();
    const all = (await get(sid, '?after=0')).messages;
    const sent = (await server.events(sid)).filter((e) =>
      e.type === 'message.sent' && e.thread === 'general');
    assert.deepEqual(all, sent.map(({ id, seq, ts, sender, content, mentions, reply_to, data }) =>
      ({ id, seq, ts, sender, content, mentions, reply_to, data })));
    assert.deepEqual(all.slice(-5), (await server.view(sid)).state.threads.general.messages);
  });

  it('stay readable when the thread is closed', async () => {
    const sid = await scene();
    await server.post(`/v1/sessions/${sid}/threads/general/close`, { by: 'ann' });
    const { older, messages } = (await server.view(sid)).state.threads.general;
    assert.deepEqual([older, messages], [23, []]);
    assert.deepEqual(contents(await get(sid, '')), numbers(0, 22));
    assert.deepEqual((await server.inbox(sid, 'ann')).messages.map((m) => m.content),
      numbers(0, 22));
  });

  it('can be answered beyond the window', async () => {
    const sid = await scene();
    const { id } = (await get(sid, '?after=0&limit=1')).messages[0];
    const { events } = await server.say(sid, 'ann', 'yes', { reply_to: id });
    assert.equal(events[0].reply_to, id);
  });

  it('of an empty thread are none', async () => {
    const sid = await server.session();
    for (const query of ['', '?after=0', '?before=99']) assert.deepEqual(await get(sid, query),
      { messages: [], next: null });
  });

  it('survive a restart', async () => {
    const sid = await scene();
    const before = (await get(sid, '?after=0')).messages;
    await server.restart();
    assert.deepEqual((await get(sid, '?after=0')).messages, before);
  });

  it('refuse what they do not know', async () => {
    const sid = await server.session();
    for (const [query, field] of [['?after=x', 'after'], ['?before=-1', 'before'],
      ['?limit=0', 'limit'], ['?nope=1', 'nope']])
      refused(await server.get(at(sid, query)), 400, 'malformed', field);
    refused(await server.get(at(sid, '?after=1&before=9')), 400, 'malformed');
  });
});
