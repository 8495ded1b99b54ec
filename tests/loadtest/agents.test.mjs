/*
 * atoll-load's modes of agents at work: wait, mixed, recover. Each finds nothing wrong with a real
 * server, and what is wrong with one that does not keep its word it does find.
 */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BIN, remove, start, temporaryDirectory } from '../http/harness.mjs';
import { Liar } from './liar.mjs';
import { SHORT, bad, checked, good, load } from './harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const team = join(here, '../../loadtest/data/team.ndjson');
const isInbox = ({ method, path }) => method === 'GET' && path.includes('/inbox');
const isMessage = ({ method, path }) => method === 'POST' && path.endsWith('/messages');

/** From the fourth message on all wait until the run is over: what was planned goes out late. */
const stall = {
  asked: async (liar, request) => {
    if (isMessage(request) && ++liar.count > 3) await (liar.stalled ??= sleep(1500));
  },
};

let server, url;
before(async () => {
  server = await start({ args: ['--shards', '1'] });
  url = server.url;
});
after(() => server.stop());

describe('wait', { concurrency: false }, () => {
  const few = ['--agents', '12', '--sessions', '4', '--connections', '3'];
  const wait = (where, ...more) =>
    [...['wait', '--url', where, '--prefix', 'wait', ...SHORT, ...few], ...more];

  it('wakes each agent with what mentions it', async () => {
    const report = await good(...wait(url, '--pid', String(server.child.pid)));
    const { figures, latency } = report;
    assert.ok(figures.operations >= 1 && figures.server_cpu_us >= 0);
    assert.equal(latency.woken_us.n, figures.operations);
    assert.ok(latency.woken_us.p50 > 0 && latency.woken_us.p50 <= latency.woken_us.max);
    assert.ok(checked(report, 'messages that each agent') >= figures.operations);
    assert.equal(checked(report, 'inboxes empty'), 12);
    assert.equal(figures.expired, 0);
  });

  it('wakes all agents of a session', async () => {
    const report = await good(...wait(url, '--mention', 'all'));
    assert.equal(checked(report, 'messages that each agent'),
      checked(report, 'acknowledged messages found') * 3);
  });

  it('at a fixed rate sends what was planned', async () => {
    const { latency } = await good(...wait(url, '--rate', '100', '--seconds', '1', '--warmup', '0'));
    assert.ok(Math.abs(latency.woken_us.n - 100) <= 2, `${latency.woken_us.n}`);
  });

  it('measures also what a server that stands still at the end makes late', async (t) => {
    const liar = await new Liar(stall).start(t, url);
    const { latency: { woken_us: woken } } = await good(...wait(liar.url, '--rate', '50', '--seconds',
      '0.5', '--warmup', '0'));
    assert.ok(Math.abs(woken.n - 25) <= 2, `${woken.n}`);
    assert.ok(woken.max > 1_000_000, `${woken.max}`);
  });

  it('waits that end without a message are no fault', async () => {
    const { figures } = await good(...wait(url, '--rate', '2', '--seconds', '2.5', '--wait', '1'));
    assert.ok(figures.expired >= 1, `${figures.expired}`);
  });

  const lies = {
    'a wait that ends too early': [{
      asked: (liar, request) => isInbox(request) && request.path.includes('wait=') &&
        liar.now(10) && { status: 200, body: '{"messages":[],"cursor":"x","remaining":0}' },
    }, /agent \d+ was woken by nothing after \d+\.\d+ of 50 s/],
    'an acknowledgement that is not kept': [{
      asked: (liar, { path }) => path.endsWith('/ack') && liar.now(5) &&
        { status: 200, body: '{"seq":1,"events":[]}' },
    }, /agent \d+ got message \d+ of session \d+ a second time/],
    'a message for somebody else': [{
      answered: (liar, request, answer) => {
        if (isInbox(request) && answer.body.includes('content') && liar.now(5))
          answer.body = answer.body.replace(/("content":"[0-9a-f]{8}\.)\d+/, '$1999');
      },
    }, /agent \d+ got a message that is not for it: [0-9a-f]{8}\.999\./],
    'a message that is acknowledged and not kept': [{
      asked: (liar, request) => isMessage(request) && liar.now(5) &&
        { status: 201, body: '{"seq":999999,"id":"m999999","events":[]}' },
    }, /agent \d+ never got message \d+ of session \d+|where message \d+ has to stand is/],
    'an acknowledged message that is not among the events': [{
      answered: (liar, { path }, answer) => {
        if (path.includes('/events?'))
          answer.body = answer.body.replace(/\{"seq":\d+,"ts":"[^"]*","type":"message.sent".*?\},/, '');
      },
    }, /session \d+ holds \d+ messages, and \d+ were acknowledged/],
  };
  for (const [what, [lie, problem]] of Object.entries(lies)) {
    it(`finds ${what}`, async (t) => {
      const liar = await new Liar(lie).start(t, url);
      assert.match(await bad(...wait(liar.url, '--rate', '200')), problem);
    });
  }

  it('refuses more agents than a session can hold', async () => {
    const { code, stderr } = await load('wait', '--url', url, '--agents', '2000', '--sessions', '2');
    assert.equal(code, 2);
    assert.match(stderr, /--agents is 2000 in 2 sessions, and a session has at most 999/);
  });
});

describe('mixed', { concurrency: false }, () => {
  const mixed = (where, ...more) => ['mixed', '--url', where, '--file', team, '--quiet',
    '--connections', '4', '--prefix', 'mixed', ...more];

  it('plays a transcript as often as it was told, and all have what is theirs', async () => {
    const report = await good(...mixed(url, '--copies', '2'));
    assert.equal(report.figures.operations, 244);
    assert.equal(report.figures.made, 12);
    assert.equal(checked(report, 'acknowledged messages read back'), 244);
    for (const kind of ['message', 'watched'])
      assert.equal(report.latency[`${kind}_us`].n, 244, kind);
    assert.equal(report.latency.woken_us.n, checked(report, 'messages that woke'));
    assert.equal(report.latency.ack_us.n > 0, true);
    assert.equal(report.latency.view_us.n, checked(report, 'views that show'));
  });

  it('plays on for a time, at a rate', async () => {
    const { latency } = await good(...mixed(url, '--rate', '100', '--seconds', '1', '--warmup', '0'));
    assert.ok(Math.abs(latency.message_us.n - 100) <= 2, `${latency.message_us.n}`);
  });

  it('measures also what a server that stands still at the end makes late', async (t) => {
    const liar = await new Liar(stall).start(t, url);
    const { latency: { message_us: message } } = await good(...mixed(liar.url, '--rate', '50',
      '--seconds', '0.5', '--warmup', '0'));
    assert.ok(Math.abs(message.n - 25) <= 2, `${message.n}`);
    assert.ok(message.max > 1_000_000, `${message.max}`);
  });

  it('can send the messages alone', async () => {
    const report = await good(...mixed(url, ...SHORT, '--only', 'messages', '--sessions', '7'));
    assert.ok(report.figures.operations > 0 && report.figures.content_mean_bytes > 100);
    assert.ok(checked(report, 'acknowledged messages read back') >= report.figures.operations);
  });

  it('--views 0 --waits 0 --watchers 0 leaves these out', async () => {
    const { latency } = await good(...mixed(url, '--copies', '1', '--views', '0', '--waits', '0',
      '--watchers', '0'));
    assert.deepEqual([latency.view_us.n, latency.woken_us.n, latency.watched_us.n], [0, 0, 0]);
  });

  const lies = {
    'a message that says something else among the events': [{
      answered: (liar, { path }, answer) => {
        if (path.includes('/events?'))
          answer.body = answer.body.replace('"content":"', '"content":"not ');
      },
    }, /seq \d+ differs from what was sent/],
    'a message that is not there any more': [{
      answered: (liar, { path }, answer) => {
        if (path.includes('/events?'))
          answer.body = answer.body.replace(/\{"seq":\d+,"ts":"[^"]*","type":"message.sent".*?\},/, '');
      },
    }, /message \d+ was acknowledged with seq \d+, and seq \d+ is there/],
    'an agent that is told something else': [{
      answered: (liar, request, answer) => {
        if (isInbox(request))
          answer.body = answer.body.replace('"content":"', '"content":"not ');
      },
    }, /agent [\w-]+ got what is not the next message for it: not /],
    'a watcher that misses something': [{
      streamed: (liar, text) => (text.includes('"message.sent"') && ++liar.count === 3 ? ':\n\n' : text),
    }, /watchers: 1 gaps, 0 repeats/],
    'a watcher that is told twice': [{
      streamed: (liar, text) => (text.includes('event: patch') && liar.now(10) ? text + text : text),
    }, /watchers: \d+ gaps, \d+ repeats/],
    'a view that is old': [{
      answered: (liar, { path }, answer) => {
        if (/sessions\/[^/]*$/.test(path))
          answer.body = answer.body.replace(/"seq":\d+/, '"seq":1');
      },
    }, /a view shows less than seq \d+, which was acknowledged/],
  };
  for (const [what, [lie, problem]] of Object.entries(lies)) {
    it(`finds ${what}`, async (t) => {
      const liar = await new Liar(lie).start(t, url);
      assert.match(await bad(...mixed(liar.url, '--copies', '1', '--views', '1')), problem);
    });
  }

  it('names what is wrong with a transcript', async () => {
    const { code, stderr } = await load('mixed', '--url', url, '--file', join(here, 'liar.mjs'));
    assert.equal(code, 2);
    assert.match(stderr, /liar\.mjs:1: /);
  });
});

describe('recover', { concurrency: false }, () => {
  /** What stands behind -- is the server's command, so that comes last. */
  const recover = (fill, ...command) => load('recover', '--seconds', '0.6', '--rounds', '2',
    '--fill', fill, '--sessions', '5', '--connections', '8', '--quiet', '--json', '-', '--',
    ...command);

  it('kills a server, which knows all that it acknowledged', async () => {
    const data = temporaryDirectory();
    try {
      const { code, report, stderr } = await recover('500', BIN, 'serve',
        '--listen', '127.0.0.1:0', '--data', data, '--shards', '1');
      assert.equal(code, 0, stderr);
      assert.deepEqual(report.problems, []);
      assert.equal(report.figures.kills, 2);
      assert.ok(report.figures.operations >= 1 && report.figures.ready_ms > 0);
      assert.ok(report.figures.first_ms >= report.figures.ready_ms);
      assert.ok(checked(report, 'messages read back') >= report.figures.operations);
      assert.equal(checked(report, 'sessions of the history'), 5);
    } finally {
      remove(data);
    }
  });

  it('finds that a server has forgotten', async () => {
    const { code, report } = await recover('0', process.execPath,
      join(here, 'forgetful.mjs'));
    assert.equal(code, 1);
    assert.match(report.problems.join('\n'), /messages are acknowledged and not there/);
  });

  it('says what it needs', async () => {
    const nothing = await load('recover');
    assert.equal(nothing.code, 2);
    assert.match(nothing.stderr, /recover needs the server's command/);
    const none = await recover('0', '/nowhere/atoll');
    assert.equal(none.code, 1);
    assert.match(none.report.problems.join('\n'), /the server does not start: it has ended/);
    assert.match(none.stderr, /\/nowhere\/atoll: No such file/);
  });
});
