/*
 * More connections than anybody needs: they cost little, nobody else waits for them, they may be
 * bounded for all and for each address, and when there is no room for another file the server goes
 * on with those it has.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Server, serve, until } from './harness.mjs';
import { SANITIZER, Wire, figure, head, many, residentBytes, witnessed } from './hostile.mjs';

/** What this process may open, less what it needs. */
const FILES = Number(execFileSync('sh', ['-c', 'ulimit -n']).toString()) || 1024;
/** ATOLL_CROWD says how many; sanitizers are slow, and keep much for each. */
const CROWD = Math.min(FILES - 500,
  Number(process.env.ATOLL_CROWD ?? (SANITIZER ? 2000 : 10_000)));

describe('a crowd', () => {
  const server = witnessed(['--idle-timeout', '10min', '--header-timeout', '10min']);

  it(`of ${CROWD} connections keeps nobody out`, async (t) => {
    const before = residentBytes(server.child.pid);
    const half = `GET /v1/status HTTP/1.1\r\nhost: ${server.hostname}\r\nx-`;
    const crowd = await many(CROWD, 200, async (i) => {
      const wire = new Wire(server);
      await wire.connected;
      if (i % 2) await wire.say(half);
      return wire;
    });
    await until(async () => (await figure(server, 'connections')) > CROWD, 'all of them');
    for (let n = 0; n < 20; n++) await server.serves();
    const each = (residentBytes(server.child.pid) - before) / CROWD;
    t.diagnostic(`${Math.round(each)} bytes of the server's memory for each connection`);
    for (const wire of crowd) wire.socket.write('y: 1\r\n\r\n'); // half of them have now asked
    await until(() => crowd.filter((wire) => wire.statuses[0] === 200).length >= CROWD / 2 - 1,
      'an answer to each that has asked');
    for (const [i, wire] of crowd.entries()) i % 3 ? wire.close() : wire.reset();
  });
});

describe('a bound on connections', () => {
  it('of all closes those beyond it, and opens again', async (t) => {
    const server = await serve(t, { args: ['--max-connections', '100', '--shards', '1'] });
    const first = await many(90, 10, async () => {
      const wire = new Wire(server);
      await wire.say(head(server, 'GET /healthz'));
      assert.equal(await wire.answer(), 200);
      return wire;
    });
    const beyond = await many(50, 50, async () => new Wire(server));
    await until(() => beyond.filter((wire) => wire.ended).length >= 40,
      'those beyond to be closed');
    for (const wire of [...first, ...beyond]) wire.close();
    await until(async () => (await server.get('/healthz').catch(() => ({}))).status === 200,
      'room again');
  });

  it('of one address does not touch another', async (t) => {
    const server = await serve(t, { args: ['--max-connections-per-address', '20'] });
    const wires = await many(60, 10, async () => {
      const wire = new Wire(server, { localAddress: '127.0.0.3' });
      await wire.connected;
      await wire.say(head(server, 'GET /healthz'));
      return wire;
    });
    await until(() => wires.filter((wire) => wire.ended || wire.statuses.length > 0).length === 60,
      'an answer or the end for each');
    assert.equal(wires.filter((wire) => wire.statuses[0] === 200).length, 20);
    const sid = await server.session(); // from 127.0.0.1
    await server.say(sid, 'ann', 'hello');
    for (const wire of wires) wire.close();
    await until(async () => {
      const again = new Wire(server, { localAddress: '127.0.0.3' });
      await again.say(head(server, 'GET /healthz'));
      const status = await again.answer();
      again.close();
      return status === 200;
    }, 'room again for that address');
  });
});

describe('a server without room for another file', () => {
  it('goes on with those it has, and takes others when some have left', async (t) => {
    // As the shell's own limit, which the server inherits.
    const server = new Server({ args: ['--shards', '1'] });
    const limited = new Limited(server, 120);
    await limited.start();
    t.after(() => limited.stop());
    const sid = await server.session();
    const stream = server.stream(sid);
    await stream.equalsView();
    const crowd = Array.from({ length: 300 }, () => new Wire(server));
    await Promise.all(crowd.map((wire) => wire.connected)); // the kernel's backlog has them
    // By the connection that is kept; or another, where the server has closed that to make room.
    await until(() => server.say(sid, 'ann', 'still served').catch(() => false), 'to be served');
    await stream.equalsView();
    for (const wire of crowd) wire.close();
    await until(async () => {
      const wire = new Wire(server);
      await wire.say(head(server, 'GET /healthz'));
      const status = await Promise.race([wire.answer(), delay(500)]);
      wire.close();
      return status === 200;
    }, 'a new connection to be answered');
  });
});

/** A server whose process may open only so many files. */
class Limited {
  constructor(server, files) { Object.assign(this, { server, files }); }
  async start() {
    await this.server.start();
    execFileSync('prlimit', ['--pid', String(this.server.child.pid),
      `--nofile=${this.files}:${this.files}`]);
  }
  stop() { return this.server.stop(); }
}
