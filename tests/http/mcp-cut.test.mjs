/*
 * Atoll's tools where there is more than a model's context should hold: each answer is bounded, the
 * cursor of a wait acknowledges just what it showed, and what was cut can be read to the last byte.
 * And a wait that nothing can come to any more says so.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, randomFrom, serving, until } from './harness.mjs';
import { MODERN, Peer, agentPath, refusedTool } from './mcp.mjs';

const MOST = 34_000; // of a result's text, and of its structured form

const nested = (levels) => (levels === 0 ? 1 : [nested(levels - 1)]);

describe('a result of a tool', () => {
  const server = serving({ args: ['--shards', '2'] });
  const random = randomFrom(Number(process.env.ATOLL_SEED ?? 7));
  const peer = (sid, agent) => new Peer(server, agentPath(sid, agent), { version: MODERN });

  async function use(client, name, args) {
    const result = await client.request('tools/call', { name, arguments: args });
    assert.ok(!result.isError, result.content[0].text);
    assert.ok(result.content[0].text.length < MOST, `text of ${result.content[0].text.length}`);
    const length = JSON.stringify(result.structuredContent).length;
    assert.ok(length < MOST, `structured content of ${length}`);
    return result.structuredContent;
  }

  const unit = () => ['abc', '€', '\u0001"\\\n', '😀x'][Math.floor(random() * 4)];

  async function fill(sid, n) {
    const sizes = [10, 3_000, 9_000, 60_000];
    const sent = Array.from({ length: n }, (_, i) => {
      const text = unit();
      const bytes = sizes[Math.floor(random() * sizes.length)];
      return { type: 'message.send', thread: 'general', sender: 'bob', mentions: i % 3 ? [] : ['ann'],
        content: text.repeat(Math.ceil(bytes / Buffer.byteLength(text)) - 1) + i,
        data: i % 4 ? null : { list: Array(Math.floor(random() * 2000)).fill('y"') } };
    });
    sent.push({ ...sent[0], content: 'deep', data: nested(30) });
    for (const command of sent)
      command.id = expect(await server.command(sid, command), 200).json.id;
    return sent;
  }

  it('never floods a context, and a wait loses nothing of what it leaves out', async () => {
    const sid = await server.session();
    const sent = await fill(sid, 24);
    const ann = peer(sid, 'ann');
    const seen = [];
    for (let ack = '', remaining = sent.length; ;) {
      const answer = await use(ann, 'atoll_wait', { ack, wait_s: 0 });
      if (answer.messages.length === 0) break;
      assert.equal(answer.remaining, remaining - answer.messages.length);
      seen.push(...answer.messages);
      ({ cursor: ack, remaining } = answer);
    }
    assert.deepEqual(seen.map((m) => m.id), sent.map((m) => m.id));
    for (const [i, message] of seen.entries()) {
      assert.ok(sent[i].content.startsWith(message.content));
      assert.equal(message.content === sent[i].content, message.more === undefined);
      if (message.data !== undefined) assert.deepEqual(message.data, sent[i].data);
      else assert.equal(message.more_data !== undefined, sent[i].data !== null);
    }
  });

  it('says where a message that was cut goes on', async () => {
    const sid = await server.session();
    const sent = await fill(sid, 4);
    const ann = peer(sid, 'ann');
    for (const { id, content, data } of sent) {
      let [text, more] = ['', id];
      while (more !== '') {
        const piece = await use(ann, 'atoll_read_thread', { thread: 'general', cursor: more });
        text += piece.messages[0].content;
        ({ more } = piece);
      }
      assert.equal(text, content);
      [text, more] = ['', `${id}.data`];
      while (more !== '') {
        const piece = await use(ann, 'atoll_read_thread', { thread: 'general', cursor: more });
        text += piece.messages[0].data_text;
        ({ more } = piece);
      }
      assert.deepEqual(JSON.parse(text), data);
    }
  });

  it('lists any number of agents in pages', async () => {
    const sid = await server.session();
    const description = 'd"'.repeat(300);
    expect(await server.lines(sid, Array.from({ length: 500 }, (_, i) =>
      ({ type: 'agent.register', agent: `agent-${i}`, description }))), 200);
    const ann = peer(sid, 'ann');
    const seen = [];
    let pages = 0;
    for (let cursor = ''; pages === 0 || cursor !== ''; pages++) {
      const { agents, more } = await use(ann, 'atoll_list_agents', { cursor });
      seen.push(...agents.map((agent) => agent.agent));
      cursor = more;
    }
    assert.ok(pages > 10);
    assert.deepEqual(seen, Object.keys((await server.view(sid)).state.agents));
    const state = await use(ann, 'atoll_get_state', { cursor: '' });
    assert.equal(state.agents.length + state.agents_left_out, seen.length);
    assert.deepEqual(state.threads.map((thread) => thread.thread), ['general']);
  });

  it('says that nothing more will come where the session is closed', async () => {
    const sid = await server.session();
    const ann = peer(sid, 'ann');
    assert.equal((await use(ann, 'atoll_wait', { wait_s: 0 })).closed, false);
    const waiting = ann.request('tools/call', { name: 'atoll_wait', arguments: { wait_s: 1 } });
    expect(await server.command(sid, { type: 'session.close' }), 200);
    const { structuredContent, content } = await waiting;
    assert.equal(structuredContent.closed, true);
    assert.match(content[0].text, /the session is closed/);
  });

  it('says that one was removed from the session, which the wait does not undo', async () => {
    const sid = await server.session();
    const told = refusedTool(peer(sid, 'ann').call('atoll_wait', {}), /You were removed/);
    await until(async () => (await server.total('waiting')) > 0, 'ann waits');
    expect(await server.command(sid, { type: 'agent.leave', agent: 'ann' }), 200);
    await told;
    assert.deepEqual(Object.keys((await server.view(sid)).state.agents), ['bob']);
  });
});
