/*
 * A worker: waits until it is mentioned, answers, and waits again. node worker.mjs URL
 *
 * The cursor of one wait is acknowledged by the next one, so a message counts as read only when it
 * has been answered. A worker that is killed in between finds it again when it comes back; the
 * worst that can happen is that it answers twice.
 */
import { join } from './join.mjs';
import { GOODBYE, answer } from './task.mjs';

const agent = await join(process.argv[2]);
console.log('here');

let cursor = '';
for (let open = true; open;) {
  const inbox = await agent.use('atoll_wait', { mentions_only: true, ack: cursor });
  for (const { thread, sender, content } of inbox.messages) {
    const reply = answer(content); // here a language model would be asked
    if (reply === undefined) continue;
    await agent.use('atoll_send_message', { thread, content: reply, mentions: [sender] });
    console.log(reply);
    open &&= content !== GOODBYE;
  }
  cursor = inbox.cursor;
}
await agent.use('atoll_acknowledge', { cursor });
await agent.leave();
