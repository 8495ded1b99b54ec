/*
 * The modes of atoll-load that watch: all that is told is counted and checked, and what a server
 * tells wrongly is found.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { start, until } from '../http/harness.mjs';
import { FakeStreams } from './fake_streams.mjs';
import { SHORT, bad, begin, checked, finish, good, load } from './harness.mjs';

describe('against Atoll', { concurrency: false }, () => {
  let server, url, pid;
  before(async () => {
    server = await start({ args: ['--shards', '1', '--heartbeat', '100ms'] });
    url = server.url;
    pid = String(server.child.pid);
  });
  after(() => server.stop());

  it('watch: every event is told to every watcher, and how long it took is known', async () => {
    const report = await good('watch', '--url', url, '--pid', pid, ...SHORT, '--watchers', '14',
      '--sessions', '4', '--writers', '2', '--ahead', '4');
    const { figures, latency } = report;
    assert.ok(figures.operations > 0 && figures.events_per_s > 0 && figures.server_cpu_us >= 0);
    assert.ok(latency.delivery_us.n > 0 && latency.delivery_send_us.n > 0);
    assert.ok(latency.last_us.n > 0 && latency.last_us.n <= latency.delivery_us.n);
    assert.deepEqual([figures.merged, figures.resets], [0, 0]);
    assert.ok(figures.bytes_each > 212 && figures.bytes_each < 228, `${figures.bytes_each}`);
    assert.equal(checked(report, 'sessions read back'), 4);
    const written = checked(report, 'messages read back');
    const told = checked(report, 'events told');
    assert.ok(told >= 3 * written && told <= 4 * written, `${told} of ${written}`);
  });

  it('watch: many writers of one session, batches, and some who read nothing until the end', async () => {
    const report = await good('watch', '--url', url, ...SHORT, '--prefix', 'many', '--watchers', '3',
      '--stopped', '2', '--writers', '4', '--batch', '50', '--write', 'message', '--payload', '100');
    const written = checked(report, 'messages read back');
    assert.ok(written >= 200 && written % 50 === 0);
    // A snapshot may stand for some of what those who read nothing have missed.
    const told = checked(report, 'events told');
    assert.ok(told > 2 * written && told <= 5 * written, `${told} of ${written}`);
  });

  it('watch: at a rate, as many as were planned', async () => {
    const { latency } = await good('watch', '--url', url, '--seconds', '1', '--warmup', '0', '--quiet',
      '--prefix', 'rate', '--watchers', '5', '--writers', '1', '--rate', '100');
    assert.ok(Math.abs(latency.answer_us.n - 100) <= 2, `${latency.answer_us.n}`);
    assert.equal(latency.delivery_us.n, 5 * latency.answer_us.n);
    assert.equal(latency.last_send_us.n, latency.answer_us.n);
    assert.ok(latency.delivery_us.p50 <= latency.delivery_send_us.p50);
  });

  it('watch: whoever comes back is told what was missed', async () => {
    await good('fill', '--url', url, '--prefix', 'back', '--sessions', '1', '--events', '50',
      '--quiet');
    const { figures } = await good('watch', '--url', url, '--prefix', 'back', '--watchers', '6',
      '--path', '/v1/sessions/back0/stream?after=10', '--from', '10', '--until', '50', '--quiet');
    assert.equal(figures.patches, 6 * 40);
    assert.ok(figures.first_ms > 0 && figures.first_ms <= figures.level_ms);
  });

  it('ws: answers in order, and what else is told', async () => {
    const report = await good('ws', '--url', url, '--pid', pid, ...SHORT, '--prefix', 'ws',
      '--connections', '4', '--sessions', '2', '--window', '32');
    const answered = checked(report, 'answers in order');
    assert.ok(report.figures.operations > 0);
    assert.equal(report.latency.answer_us.n, report.figures.operations);
    assert.equal(checked(report, 'messages read back'), answered);
    assert.equal(checked(report, 'events told'), 2 * answered); // two connections to each session
  });

  it('ws: with a rate, and nothing told but answers', async () => {
    const report = await good('ws', '--url', url, '--seconds', '0.5', '--warmup', '0', '--quiet',
      '--prefix', 'wsr', '--rate', '400', '--path', '/v1/sessions/wsr{}/ws?path=/labels');
    const { n } = report.latency.answer_us;
    assert.ok(Math.abs(n - 200) <= 2, `${n}`);
    assert.equal(checked(report, 'events told'), 0);
  });

  it('idle: nothing but heartbeats, then one event for all', async () => {
    const report = await good('idle', '--url', url, '--pid', pid, ...SHORT, '--prefix', 'idle',
      '--streams', '11', '--sessions', '3', '--connections', '5');
    assert.ok(report.figures.heartbeats >= 1);
    assert.equal(report.figures.operations, 0);
    assert.equal(report.figures.connections_closed, 0);
    assert.equal(report.latency.delivery_us.n, 11);
    assert.equal(report.latency.last_us.n, 3);
    assert.equal(report.latency.again_us.n, 5);
    assert.equal(checked(report, 'messages read back'), 3);
  });

  it('idle --hold: until it is told to end', async () => {
    const run = begin('idle', '--url', url, '--warmup', '0', '--streams', '4', '--hold', '--quiet',
      '--json', '-');
    await until(() => run.stderr.includes('begun: 4 streams, 0 connections'));
    run.child.kill('SIGTERM');
    const { code, report } = await finish(run);
    assert.equal(code, 0);
    assert.equal(report.latency.delivery_us.n, 4);
  });

  it('options that cannot be are refused in words', async () => {
    for (const [args, sentence] of [
      [['watch', '--watchers', '0'], /--watchers is "0", and has to be a whole number from 1 to 100000/],
      [['watch', '--watchers', '2', '--sessions', '3'], /--sessions is 3, and has to be no more than/],
      [['watch', '--target', 'nchan', '--batch', '2'], /--batch is 2, and has to be 1 to 1000, and 1 wh/],
      [['watch', '--writers', '1', '--batch', '5', '--ahead', '4'], /--ahead is 4, and has to be as m/],
      [['watch', '--writers', '1', '--target', 'sendloop'], /target sendloop takes nothing/],
      [['ws', '--sessions', '2'], /--sessions is 2, and has to be no more than --connections/],
      [['ws', '--path', 'x'], /--path is "x", and has to begin with \//],
      [['idle', '--streams', '2', '--sessions', '3'], /--sessions is 3, and has to be no more than/],
    ]) {
      const { code, stderr } = await load(...args, '--url', url);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, sentence);
    }
  });
});

describe('against a server that tells something wrong', { concurrency: true }, () => {
  const few = ['--seconds', '0.4', '--warmup', '0', '--quiet', '--rate', '100'];
  const watch = ['watch', '--watchers', '3', '--writers', '1', ...few];
  const expected = {
    skip: /watchers saw 1 gaps and 0 repetitions/,
    twice: /watchers saw 0 gaps and 1 repetitions/,
    back: /watchers saw 0 gaps and 1 repetitions/,
    end: /1 streams were told that their session has ended/,
    close: /a watcher of session 0, which stands at \d+: the server has closed the connection/,
    lose: /1 messages are acknowledged and not there/,
    answer: /a request of 1 commands made the events 21 to 21, where 20 is the next/,
    refuse: /a command: 503/,
  };

  it('an honest one is found to be so', async (t) => {
    const fake = await new FakeStreams('none').start(t);
    const report = await good(...watch, '--url', fake.url);
    assert.equal(checked(report, 'events told'), 3 * fake.written);
    await good('ws', ...few, '--url', fake.url);
    await good('idle', ...SHORT, '--streams', '3', '--url', fake.url);
  });

  for (const [fault, problem] of Object.entries(expected)) {
    it(`watch finds it out: ${fault}`, async (t) => {
      const fake = await new FakeStreams(fault).start(t);
      assert.match(await bad(...watch, '--url', fake.url), problem);
    });
  }

  for (const [fault, problem] of Object.entries({
    order: /connection 0: an answer that is not the next one, or not good/,
    status: /an answer that is not the next one, or not good: \{"ref":\d+,"status":409/,
    jump: /connection 0: an answer's seq does not follow the last/,
    skip: /1 patches did not follow what was told before/,
    lose: /1 messages are acknowledged and not there/,
  })) {
    it(`ws finds it out: ${fault}`, async (t) => {
      const fake = await new FakeStreams(fault).start(t);
      assert.match(await bad('ws', ...few, '--url', fake.url), problem);
    });
  }

  it('idle finds out that something was told while nobody wrote', async (t) => {
    const fake = await new FakeStreams('disturb').start(t);
    assert.match(await bad('idle', ...SHORT, '--streams', '3', '--connections', '1', '--url',
      fake.url),
      /streams were told 3 patches while nobody wrote/);
  });
});
