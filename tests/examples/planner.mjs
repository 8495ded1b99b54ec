/*
 * A planner: splits a task, hands the parts to a worker, checks what comes back, asks again where
 * it is wrong, and closes the thread with the result. node planner.mjs URL [WORKER]
 */
import { join } from './join.mjs';
import { GOODBYE, TEXT, readAnswer, request, split, summarize } from './task.mjs';

const [url, worker = 'worker'] = process.argv.slice(2);
const agent = await join(url);

const { thread } = await agent.use('atoll_create_thread',
  { name: 'Count the words', participants: [worker] });
const ask = (content) =>
  agent.use('atoll_send_message', { thread, content, mentions: [worker] });

const parts = split(TEXT);
const open = new Map(parts.map((part) => [part.number, part]));
for (const part of parts) await ask(request(part));

let cursor = '';
for (let goodbye = false; !goodbye;) {
  const inbox = await agent.use('atoll_wait', { from: worker, ack: cursor });
  for (const { content } of inbox.messages) {
    const found = readAnswer(content);
    const part = open.get(found?.number);
    if (part && found.words === part.words) open.delete(part.number);
    else if (part) await ask(request(part, true)); // not what it should be
    if (part && open.size === 0) await ask(GOODBYE);
    goodbye ||= content === 'Goodbye.';
  }
  cursor = inbox.cursor;
}
await agent.use('atoll_acknowledge', { cursor });
await agent.use('atoll_close_thread', { thread, summary: summarize(parts) });
console.log(summarize(parts));
await agent.leave();
