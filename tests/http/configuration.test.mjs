/*
 * Flags, environment and file: which of them counts, and errors that name key, value and what is
 * allowed.
 */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Server, expect, remove, run, temporaryDirectory } from './harness.mjs';

describe('configuration', () => {
  const directory = temporaryDirectory();
  after(() => remove(directory));
  const data = join(directory, 'data');
  const file = (text) => {
    const path = join(directory, 'atoll.yaml');
    writeFileSync(path, text);
    return path;
  };

  it('what is wrong is named with its value and what is allowed, and nothing is started',
    async () => {
    const rows = [
      [['--shards', 'many'], {}, '', ['shards', 'many', /\d/]],
      [['--durability', 'perhaps'], {}, '', ['durability', 'perhaps', 'commit', 'relaxed']],
      [['--io', 'magic'], {}, '', ['io', 'magic', 'uring', 'posix', 'auto']],
      [['--listen', 'nowhere'], {}, '', ['listen', 'nowhere', /port/i]],
      [['--listen', '127.0.0.1:99999'], {}, '', ['listen', '127.0.0.1:99999']],
      [['--grace', 'a while'], {}, '', ['grace', 'a while', 'ms']],
      [['--heartbeat', '0ms'], {}, '', ['heartbeat', '0ms', '100ms']],
      [['--nope', '1'], {}, '', ['--nope']],
      [['--shards'], {}, '', ['shards']],
      [['nope'], {}, '', ['nope']],
      [[], { ATOLL_SHARDS: '-1' }, '', ['ATOLL_SHARDS', '-1']],
      [[], { ATOLL_WINDOW_MESSAGES: 'x' }, '', ['ATOLL_WINDOW_MESSAGES', 'x']],
      [[], {}, 'shards: many', ['shards', 'many']],
      [[], {}, 'durability: perhaps', ['durability', 'perhaps', 'commit', 'relaxed']],
      [[], {}, 'shardz: 1', ['shardz']],
      [[], {}, 'shards: [1, 2]', ['shards']],
      [[], {}, 'shards: 1\nshards: 2', ['shards']],
      [[], {}, 'shards: {', ['atoll.yaml']],
      [['--config', join(directory, 'absent.yaml')], {}, '', ['absent.yaml']],
    ];
    for (const [args, env, yaml, words] of rows) {
      const all = ['serve', '--data', data, ...(yaml ? ['--config', file(yaml)] : []), ...args];
      const { code, stdout, stderr } = await run(all, { env });
      assert.equal(code, 2, `${all.join(' ')}: ${stderr}`);
      assert.equal(stdout, '');
      for (const word of words)
        assert.ok(word instanceof RegExp ? word.test(stderr) : stderr.includes(word),
          `no ${word} in: ${stderr}`);
      if (yaml && words[0] !== 'atoll.yaml') {
        const checked = await run(['check-config', file(yaml)]);
        assert.equal(checked.code, 2);
        for (const word of words) assert.ok(checked.stderr.includes(word), checked.stderr);
      }
    }
    assert.ok(!existsSync(data), 'no data directory was made');
  });

  it('a flag counts before the environment, then the file, then the default', async () => {
    const durability = async (args, env) => {
      const server = await new Server({ args, env }).start();
      try {
        return (await server.status()).durability;
      } finally {
        await server.stop();
      }
    };
    const config = ['--config', file('durability: relaxed\nshards: 1\n')];
    assert.equal(await durability([]), 'commit');
    assert.equal(await durability(config), 'relaxed');
    assert.equal(await durability(config, { ATOLL_DURABILITY: 'commit' }), 'commit');
    assert.equal(await durability([...config, '--durability', 'relaxed'],
      { ATOLL_DURABILITY: 'commit' }), 'relaxed');
  });

  it('a good file is good, and the default file documents the defaults', async () => {
    assert.equal((await run(['check-config',
      file('shards: 2\nlisten:\n  - 127.0.0.1:0\nheartbeat: 5s\n')])).code, 0);
    assert.equal((await run(['check-config',
      fileURLToPath(new URL('../../deploy/atoll.yaml', import.meta.url))])).code, 0);
    assert.equal((await run(['check-config', join(directory, 'absent.yaml')])).code, 2);
  });

  it('the program tells its version and its options', async () => {
    const version = await run(['version']);
    assert.equal(version.code, 0);
    assert.match(version.stdout, /\d+\.\d+/);
    const help = await run(['help', 'serve']);
    assert.equal(help.code, 0);
    for (const option of ['--listen', '--data', '--shards', '--durability', '--io', '--grace',
      '--config']) assert.ok(help.stdout.includes(option), option);
    assert.equal((await run(['help'])).code, 0);
    assert.equal((await run(['nonsense'])).code, 2);
    assert.equal((await run([])).code, 2);
  });

  it('an address in use is said', async () => {
    const server = await new Server().start();
    const { code, stderr } =
      await run(['serve', '--listen', `127.0.0.1:${server.port}`, '--data', data]);
    assert.notEqual(code, 0);
    assert.ok(stderr.includes(server.port), stderr);
    expect(await server.get('/healthz'), 200);
    await server.stop();
  });
});
