/*
 * The examples do what they say, also when one of the agents, or the server, is killed while they
 * are at it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { expect, serve, until, within } from '../http/harness.mjs';
import { TEXT, readAnswer, split, summarize } from './task.mjs';

/** An example as a process of its own: its lines, and how it ended. */
class Example {
  constructor(t, file, ...args) {
    const path = fileURLToPath(new URL(file, import.meta.url));
    this.child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.lines = [];
    this.errors = '';
    let rest = '';
    this.child.stdout.setEncoding('utf8').on('data', (data) => {
      const lines = (rest + data).split('\n');
      rest = lines.pop();
      this.lines.push(...lines);
      this.look?.();
    });
    this.child.stderr.setEncoding('utf8').on('data', (data) => { this.errors += data; });
    this.ended = new Promise((done) =>
      this.child.on('close', (code, signal) => { done({ code, signal }); this.look?.(); }));
    t.after(async () => {
      this.child.kill('SIGKILL');
      await this.ended;
    });
  }

  /** Resolves as soon as it has said so many lines. */
  async said(count) {
    await within(new Promise((done, fail) => {
      this.look = () => {
        if (this.lines.length >= count) done();
        else if (this.child.exitCode !== null) fail(new Error(`it ended: ${this.errors}`));
      };
      this.look();
    }), `${count} lines`);
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  async succeeds() {
    const end = await within(this.ended, 'its end')
      .catch((error) => assert.fail(`${error.message}; it said: ${this.lines}\n${this.errors}`));
    assert.deepEqual(end, { code: 0, signal: null }, this.errors);
  }
}

/** What the session says about the work: the thread, and the answers in it. */
async function isDone(server, sid) {
  const { state } = await server.view(sid);
  const [thread] = Object.values(state.threads);
  assert.deepEqual([thread.name, thread.status, thread.summary],
    ['Count the words', 'closed', summarize(split(TEXT))]);
  const said = (await server.events(sid)).filter((e) => e.type === 'message.sent');
  const right = split(TEXT).map(({ number, words }) => ({ number, words }));
  const answers = said.filter((e) => e.sender === 'worker').map((e) => readAnswer(e.content));
  for (const part of right)
    assert.ok(answers.some((a) => a?.number === part.number && a.words === part.words),
      `part ${part.number} was answered`);
  const inbox = await server.inbox(sid, 'worker');
  assert.ok(inbox.messages.length <= 1, JSON.stringify(inbox));
  return said;
}

for (const [what, prefix, query] of [['Atoll\'s tools', '', ''],
  ['the Coral names', 'coral-', '?tools=coral']])
  describe(`planner and worker, by ${what}`, () => {
    async function begin(t) {
      const server = await serve(t, { args: ['--shards', '2'] });
      const sid = await server.session([], { thread: null });
      const url = (agent) => `${server.url}/v1/sessions/${sid}/agents/${agent}/mcp${query}`;
      const worker = () => new Example(t, `${prefix}worker.mjs`, url('worker'));
      const planner = () => new Example(t, `${prefix}planner.mjs`, url('planner'));
      const first = worker();
      await until(async () => (await server.view(sid)).state.agents.worker, 'the worker is there');
      return { server, sid, worker, planner, first };
    }

    it('solve the task', async (t) => {
      const { server, sid, planner, first } = await begin(t);
      const second = planner();
      await Promise.all([second.succeeds(), first.succeeds()]);
      assert.deepEqual(second.lines, [summarize(split(TEXT))]);
      const said = await isDone(server, sid);
      const parts = split(TEXT).length;
      assert.equal(said.length, 2 * (parts + 2), 'each part once, one again, and a goodbye');
    });

    it('lose nothing when the worker is killed and comes back', async (t) => {
      const { server, sid, worker, planner, first } = await begin(t);
      const other = planner();
      await first.said(3); // here, and two answers
      await first.kill();
      await Promise.all([worker().succeeds(), other.succeeds()]);
      await isDone(server, sid);
    });

    it('go on when the server is killed and comes back', async (t) => {
      const { server, sid, planner, first } = await begin(t);
      const other = planner();
      await first.said(2);
      await server.kill();
      await server.start();
      await Promise.all([other.succeeds(), first.succeeds()]);
      await isDone(server, sid);
    });
  });

describe('the example on the newer SDK', () => {
  it('says hello', async (t) => {
    const server = await serve(t, { args: ['--shards', '2'] });
    const sid = await server.session(['friend'], { thread: null });
    const example = new Example(t, 'modern.mjs',
      `${server.url}/v1/sessions/${sid}/agents/newcomer/mcp`);
    const { messages: [hello] } = await server.inbox(sid, 'friend', '?wait=30');
    assert.equal(hello.content, 'Is anybody there?');
    expect(await server.post(`/v1/sessions/${sid}/threads/${hello.thread}/messages`,
      { sender: 'friend', content: 'I am.' }), 201);
    await example.succeeds();
    assert.deepEqual(example.lines, ['I am.']);
    assert.equal((await server.view(sid)).state.threads[hello.thread].summary, 'Yes: I am.');
  });
});
