/*
 * The worker again, by the names that agents of Coral Server know.
 * node coral-worker.mjs URL?tools=coral
 *
 * There is nothing to acknowledge with them: a message is consumed when its wait is answered. So an
 * agent that was killed looks at `coral://state` first, where the open threads and their messages
 * stand, and answers what it finds unanswered there. What came while it was away comes by waiting.
 */
import { join } from './join.mjs';
import { GOODBYE, answer } from './task.mjs';

const agent = await join(process.argv[2]);
const name = new URL(process.argv[2]).pathname.split('/').at(-2);
console.log('here');

/** Answers a message; true where it was the last one. */
async function reply({ threadId, senderName, text }) {
  const content = answer(text); // here a language model would be asked
  if (content === undefined) return false;
  await agent.use('coral_send_message', { threadId, content, mentions: [senderName] });
  console.log(content);
  return text === GOODBYE;
}

/** Of the open threads, the messages that mention this agent and that it has not answered. */
async function* unanswered() {
  const { contents: [{ text }] } = await agent.client.readResource({ uri: 'coral://state' });
  const [, json = '[]'] = text.match(/# Threads[^]*?```json\n([^]*?)\n```/) ?? [];
  for (const { threadId, messages = [] } of JSON.parse(json))
    for (const { messageText, sendingAgentName, mentionAgentNames = [] } of messages) {
      const mine = (m) => m.sendingAgentName === name && m.messageText === answer(messageText);
      if (mentionAgentNames.includes(name) && !messages.some(mine))
        yield { threadId, senderName: sendingAgentName, text: messageText };
    }
}

let done = false;
for await (const message of unanswered()) done = await reply(message) || done;
while (!done) {
  const { message } = await agent.use('coral_wait_for_mention',
    { currentUnixTime: Date.now(), maxWaitMs: 50_000 });
  if (message) done = await reply(message);
}
await agent.leave();
