/*
 * How an agent joins a session of Atoll: the official SDK, the agent's URL, and nothing else.
 *
 * A connection that breaks does no harm. The SDK takes up a wait that it was cut off from by itself
 * (Last-Event-ID), and the session of MCP outlives restarts of the server; what is left to do here
 * is to try a call again that did not get through. A call that did get through, but whose answer
 * was lost, is then made twice: the agents' messages are such that this can be told.
 */
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ErrorCode } from '@modelcontextprotocol/sdk/types.js';
import { setTimeout as delay } from 'node:timers/promises';

const RECONNECT = { initialReconnectionDelay: 100, maxReconnectionDelay: 2000,
  reconnectionDelayGrowFactor: 1.5, maxRetries: 100 };
const PATIENCE = { timeout: 60_000, resetTimeoutOnProgress: true, onprogress: () => {} };

/** `url`: …/v1/sessions/SESSION/agents/AGENT/mcp, with ?tools=coral for the Coral names. */
export async function join(url) {
  const client = new Client({ name: 'atoll-example', version: '1.0.0' });
  const transport = new StreamableHTTPClientTransport(new URL(url),
    { reconnectionOptions: RECONNECT });
  await client.connect(transport);
  return {
    client,

    /** Calls a tool: its structured result; an Error with the tool's own words if it refuses. */
    async use(name, args) {
      for (let wait_ms = 100; ; wait_ms = Math.min(2 * wait_ms, 2000)) {
        try {
          const result = await client.callTool({ name, arguments: args }, undefined, PATIENCE);
          if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
          return result.structuredContent;
        } catch (error) {
          if (!isLostConnection(error)) throw error;
          await delay(wait_ms);
        }
      }
    },

    /** The end, of the process too: it would stay for reconnections that the SDK has put off. */
    async leave() {
      await transport.terminateSession();
      await client.close();
      process.exit();
    },
  };
}

const isLostConnection = (error) =>
  error instanceof TypeError || error.code === 503 || error.code === ErrorCode.ConnectionClosed;
