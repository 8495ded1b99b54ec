// A server of events as many would write it themselves: Node's own HTTP server and better-sse.
//
//   node sse.mjs --listen 127.0.0.1:PORT
//
// POST /publish tells the body, a text, to all that have GET /stream open, as
// `data: {"seq":N,"text":"…"}`, and answers {"seq":N}. Nothing is kept: what is told while nobody
// listens, or is lost on the way, is gone.
//
// Normal path: prints "sse: listening on http://…" and serves until it is killed. Failure at the
// start: the error, and status 1; wrong options: status 2.
import http from 'node:http';
import { parseArgs } from 'node:util';
import { createChannel, createSession } from 'better-sse';

function listenAddress() {
  try {
    const { values } = parseArgs({ options: { listen: { type: 'string', default: '127.0.0.1:0' } } });
    const [, host, port] = /^([\d.]+):(\d{1,5})$/.exec(values.listen);
    return { host, port: Number(port) };
  } catch {
    console.error('usage: node sse.mjs [--listen ADDRESS:PORT]');
    process.exit(2);
  }
}

const channel = createChannel();
let seq = 0;

async function publish(request, response) {
  let text = '';
  request.setEncoding('utf8');
  for await (const chunk of request) text += chunk;
  channel.broadcast({ seq: ++seq, text });
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({ seq }));
}

const server = http.createServer(async (request, response) => {
  if (request.method === 'POST' && request.url === '/publish') {
    await publish(request, response);
  } else if (request.method === 'GET' && request.url === '/stream') {
    channel.register(await createSession(request, response));
  } else {
    response.statusCode = 404;
    response.end();
  }
});

server.listen({ ...listenAddress(), backlog: 4096 }, () => {
  const { address, port } = server.address();
  console.log(`sse: listening on http://${address}:${port}`);
});
