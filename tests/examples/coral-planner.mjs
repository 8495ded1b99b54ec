/* The planner again, by the Coral names. node coral-planner.mjs URL?tools=coral [WORKER] */
import { join } from './join.mjs';
import { GOODBYE, TEXT, readAnswer, request, split, summarize } from './task.mjs';

const [url, worker = 'worker'] = process.argv.slice(2);
const agent = await join(url);

const { thread } = await agent.use('coral_create_thread',
  { threadName: 'Count the words', participantNames: [worker] });
const ask = (content) =>
  agent.use('coral_send_message', { threadId: thread.id, content, mentions: [worker] });

const parts = split(TEXT);
const open = new Map(parts.map((part) => [part.number, part]));
for (const part of parts) await ask(request(part));

for (let goodbye = false; !goodbye;) {
  const { message } = await agent.use('coral_wait_for_agent',
    { agentName: worker, currentUnixTime: Date.now(), maxWaitMs: 50_000 });
  if (!message) continue; // nothing came: go on waiting
  const found = readAnswer(message.text);
  const part = open.get(found?.number);
  if (part && found.words === part.words) open.delete(part.number);
  else if (part) await ask(request(part, true)); // not what it should be
  if (part && open.size === 0) await ask(GOODBYE);
  goodbye = message.text === 'Goodbye.';
}
await agent.use('coral_close_thread', { threadId: thread.id, summary: summarize(parts) });
console.log(summarize(parts));
await agent.leave();
