/*
 * The same door with the newer SDK and the protocol of 2026-07-28, which has no sessions and no
 * handshake: says hello to the agent `friend`, who has to be in the session, and waits for an answer.
 * node modern.mjs URL
 */
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const client = new Client({ name: 'atoll-example', version: '1.0.0' },
  { versionNegotiation: { mode: { pin: '2026-07-28' } } });
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));

async function use(name, args) {
  const result = await client.callTool({ name, arguments: args });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  return result.structuredContent;
}

const { thread } = await use('atoll_create_thread', { name: 'Hello', participants: ['friend'] });
await use('atoll_send_message', { thread, content: 'Is anybody there?', mentions: ['friend'] });
const { messages, cursor } = await use('atoll_wait', { from: 'friend' });
await use('atoll_acknowledge', { cursor });
await use('atoll_close_thread', { thread, summary: `Yes: ${messages[0]?.content ?? 'nobody'}` });
console.log(messages[0]?.content ?? 'Nobody answered.');
await client.close();
