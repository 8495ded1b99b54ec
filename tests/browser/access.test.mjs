/*
 * The dashboard of a server with keys: signing in and out, a token that ends while somebody
 * watches, what is offered to whom, sessions of which parts are hidden; and, of a server without
 * keys that may be reached from elsewhere, the banner.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { expect, newId, serve, serving, until } from '../http/harness.mjs';
import { inSeconds, servingWithKey } from '../http/tokens.mjs';
import { browsing, connected, inWindow, shot } from './browser.mjs';

const chrome = browsing();
// What Chromium itself says of an answer 401 and of a WebSocket that was refused with it.
const SIGNED_OUT = [/status of 401/, /WebSocket connection to .* failed/];

const signInPage = (page) => page.getByRole('heading', { name: 'Sign in' });

async function signIn(page, token) {
  await page.getByLabel('Token').fill(token);
  await page.getByLabel('Token').press('Enter');
}

/** A window whose first tab, at `path`, is signed in. */
function signedIn(server, token, path, body, { expected = [], ...options } = {}) {
  return inWindow(chrome, server, async ({ context, open }) => {
    const page = await open(path);
    await signIn(page, token);
    await connected(page);
    await body({ context, open, page });
  }, { expected: [...SIGNED_OUT, ...expected], ...options });
}

/** Nothing of the token is where a script, a person behind one or a log could see it. */
async function assertNowhere(context, page, server, token) {
  const kept = await page.evaluate(() => JSON.stringify([location.href, document.cookie,
    { ...localStorage }, { ...sessionStorage }, document.documentElement.outerHTML,
    performance.getEntriesByType('resource').map(({ name }) => name),
    [...document.querySelectorAll('input')].map(({ value }) => value)]));
  const signature = token.split('.')[2];
  assert.ok(!kept.includes(signature), 'the page keeps nothing of the token');
  assert.ok(!server.stderr.includes(signature), 'nor does the log');
  const cookies = await context.cookies();
  assert.deepEqual(cookies.map(({ name, httpOnly, sameSite }) => ({ name, httpOnly, sameSite })),
    [{ name: 'atoll', httpOnly: true, sameSite: 'Strict' }]);
}

describe('signing in', () => {
  const server = servingWithKey();
  const admin = () => server.keys.token('root', '*', 'admin');

  it('takes a token once, into a cookie that pages cannot read', async () => {
    const sid = await server.as('root', '*', 'admin').session();
    await inWindow(chrome, server, async ({ context, open }) => {
      const page = await open(`/sessions/${sid}?panel=agents`);
      await signInPage(page).waitFor();
      assert.ok(await page.getByLabel('Token').evaluate((it) => it === document.activeElement),
        'one can type at once');
      assert.equal(await page.getByLabel('Token').getAttribute('type'), 'password');
      await shot(page, 'sign-in-light');
      const token = server.keys.token('ann', `${sid.slice(0, -1)}*`, 'read write');
      await signIn(page, token);
      await connected(page);
      await page.getByRole('heading', { name: sid }).waitFor();
      assert.equal(new URL(page.url()).search, '?panel=agents', 'the place is kept');
      await page.getByRole('button', { name: 'ann', exact: true }).click();
      await page.locator('#who:popover-open').waitFor();
      const who = (await page.locator('#who dl').innerText()).split(/\s*\n\s*/);
      assert.deepEqual(who.slice(0, 6),
        ['Agent', 'ann', 'May', 'read write', 'In', `${sid.slice(0, -1)}*`]);
      assert.equal(who[6], 'Until');
      await shot(page, 'who-light');
      await page.keyboard.press('Escape');
      await page.locator('#who:popover-open').waitFor({ state: 'detached' });
      await assertNowhere(context, page, server, token);
      // Every other tab is in as well.
      await connected(await open('/sessions'));
    }, { expected: SIGNED_OUT });
  });

  it('says why a token is not taken, and takes a better one', async () => {
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/sessions');
      await signIn(page, `${admin().slice(0, -6)}AAAAAA`);
      const alert = page.locator('#sign-in-problem');
      await alert.filter({ hasText: /./ }).waitFor();
      assert.match(await alert.innerText(), /signature|key/);
      assert.equal(await page.getByLabel('Token').getAttribute('aria-invalid'), 'true');
      await shot(page, 'sign-in-refused-light');
      await signIn(page, 'not a token');
      await until(async () => /JWT|token/.test(await alert.innerText()), 'the reason');
      await signIn(page, admin());
      await connected(page);
      await signInPage(page).waitFor({ state: 'detached' });
    }, { expected: [...SIGNED_OUT, /status of 400/] });
  });

  it('is done by keyboard alone, and fits into 400 px in the dark', async () => {
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/server');
      await signInPage(page).waitFor();
      await shot(page, 'sign-in-400px-dark');
      await page.keyboard.insertText(admin());
      await page.keyboard.press('Tab');
      await page.keyboard.press('Enter');
      await connected(page);
      await page.locator('.health').waitFor();
      assert.ok(await page.evaluate(() =>
        document.documentElement.scrollWidth <= document.documentElement.clientWidth));
      await shot(page, 'signed-in-400px-dark');
      await page.getByRole('button', { name: 'root', exact: true }).focus();
      await page.keyboard.press('Enter');
      await page.locator('#who:popover-open').waitFor();
      await shot(page, 'who-400px-dark');
      await page.keyboard.press('Tab');
      await page.keyboard.press('Enter');
      await signInPage(page).waitFor();
    }, { expected: SIGNED_OUT, width: 400, height: 800, dark: true });
  });

  it('ends by signing out, in every tab', async () => {
    await signedIn(server, admin(), '/sessions', async ({ context, open, page }) => {
      const other = await open('/server');
      await other.locator('.tiles').waitFor();
      await page.getByRole('button', { name: 'root', exact: true }).click();
      await page.getByRole('button', { name: 'Sign out' }).click();
      for (const tab of [page, other]) await signInPage(tab).waitFor();
      assert.deepEqual(await context.cookies(), []);
      assert.equal(await other.locator('.tiles').count(), 0, 'nothing is left in sight');
      // Who comes then is not shown what the one before could see.
      await signIn(other, server.keys.token('ann', 'a*', 'read'));
      await other.getByText('The server\'s figures are for those who run it').waitFor();
      assert.equal(await other.locator('.tiles').count(), 0);
      assert.equal(new URL(other.url()).pathname, '/server');
    }, { expected: [/status of 403/] });
  });
});

describe('a token that ends', () => {
  const server = servingWithKey();

  /** Signs in anew where the page asks for it; it goes on where it was. */
  async function goesOn(page, sid, tid) {
    await signInPage(page).waitFor();
    assert.equal(new URL(page.url()).search, `?thread=${tid}`);
    const asked = [];
    page.on('request', (request) => asked.push(request.url()));
    await server.as('root', '*', 'admin').say(sid, 'bob', 'said meanwhile');
    await signIn(page, server.keys.token('ann', sid, 'read write'));
    await page.locator('.message', { hasText: 'said meanwhile' }).waitFor();
    assert.equal(await page.locator('.message').count(), 2);
    assert.ok(asked.length < 20, `no loop: ${asked}`);
  }

  it('by its time leads back to the sign-in, and from there to the same place', async () => {
    const root = server.as('root', '*', 'admin');
    const sid = await root.session();
    await root.say(sid, 'bob', 'said before');
    const token = server.keys.token('ann', sid, 'read write', { exp: inSeconds(9) });
    await signedIn(server, token, `/sessions/${sid}?thread=general`, async ({ page }) => {
      await page.locator('.message', { hasText: 'said before' }).waitFor();
      await goesOn(page, sid, 'general');
    });
  });

  it('because its key is gone does so too', async () => {
    const root = server.as('root', '*', 'admin');
    const sid = await root.session();
    await root.say(sid, 'bob', 'said before');
    const token = server.keys.token('ann', sid, 'read write');
    await signedIn(server, token, `/sessions/${sid}?thread=general`, async ({ page }) => {
      await page.locator('.message', { hasText: 'said before' }).waitFor();
      server.keys.renew();
      await goesOn(page, sid, 'general');
    });
  });
});

describe('what is offered', () => {
  const server = servingWithKey();
  const composer = (page) => page.locator('.composer');

  it('is not what a token may not do', async () => {
    const root = server.as('root', '*', 'admin');
    const sid = await root.session();
    await root.session(); // of others
    await root.say(sid, 'bob', 'for ann', { mentions: ['ann'] });
    const reader = server.keys.token('ann', sid, 'read');
    await signedIn(server, reader, `/sessions/${sid}?thread=general`, async ({ page }) => {
      await composer(page).getByText('You may look on, and not write.').waitFor();
      assert.equal(await page.locator('textarea').count(), 0);
      for (const name of ['New thread', 'Close…', /^Answer/, /^Change /])
        assert.equal(await page.getByRole('button', { name }).count(), 0, String(name));
      await page.getByRole('link', { name: 'Sessions', exact: true }).click();
      await page.getByText('1 session').waitFor();
      await page.getByRole('link', { name: 'Server', exact: true }).click();
      await page.getByText('The server\'s figures are for those who run it').waitFor();
      await shot(page, 'server-forbidden-light');
    }, { expected: [/status of 403/] });
    assert.deepEqual((await root.events(sid)).filter(({ type }) => type === 'thread.read'), []);
  });

  it('to an agent is to speak as itself', async () => {
    const root = server.as('root', '*', 'admin');
    const sid = await root.session();
    const ann = server.keys.token('ann', sid, 'read write');
    await signedIn(server, ann, `/sessions/${sid}?thread=general`, async ({ page }) => {
      await page.getByLabel('Message', { exact: true }).fill('I am ann.');
      assert.equal(await composer(page).getByText('somebody else').count(), 0);
      await page.getByRole('button', { name: 'Send' }).click();
      await page.locator('.message', { hasText: 'I am ann.' }).waitFor();
      await page.getByRole('button', { name: 'Change ann' }).waitFor();
      assert.equal(await page.getByRole('button', { name: 'Change bob' }).count(), 0);
    });
    const [message] = (await root.events(sid)).filter(({ type }) => type === 'message.sent');
    assert.equal(message.sender, 'ann');
  });

  it('to nobody in particular is to look on', async () => {
    const sid = await server.as('root', '*', 'admin').session();
    const nobody = server.keys.token(null, sid, 'read write');
    await signedIn(server, nobody, `/sessions/${sid}?thread=general`, async ({ page }) => {
      await composer(page).getByText('You may look on, and not write.').waitFor();
      await page.getByRole('button', { name: 'no agent' }).waitFor();
    });
  });

  it('where a token reaches nothing is a word about it', async () => {
    const sid = await server.as('root', '*', 'admin').session();
    const none = server.keys.token('ann', 'elsewhere*', 'read');
    await signedIn(server, none, '/sessions', async ({ page }) => {
      await page.getByText('None that your token reaches (elsewhere*)').waitFor();
      await page.goto(`/sessions/${sid}`);
      await page.locator('[role=alert]', { hasText: /./ }).first().waitFor();
    }, { expected: [/status of 403/] });
  });
});

describe('a session of which parts are hidden', () => {
  const server = servingWithKey();
  const redact = ['/threads/*/messages/*/content', '/threads/*/messages/*/mentions',
    '/threads/secret', '/agents/*/note', '/agents/*/labels', '/agents/mole', '/labels',
    '/threads/*/summary', '/threads/*/participants/bob', '/agents/*/wake/url',
    '/threads/*/messages/*/ts'];

  /** Everything a session can hold. */
  async function busy(root) {
    const sid = await root.session(['ann', 'bob', 'mole'], { participants: ['ann', 'bob'] });
    const commands = [
      { type: 'session.update', labels: { team: 'HIDDEN' } },
      { type: 'agent.update', agent: 'bob', note: 'HIDDEN', status: 'working' },
      { type: 'agent.update', agent: 'mole', note: 'HIDDEN', labels: { HIDDEN: 'x' } },
      { type: 'agent.wake', agent: 'ann', url: 'https://agents.invalid/HIDDEN', mentions: true },
      { type: 'thread.create', thread: 'secret', creator: 'ann', name: 'HIDDEN',
        participants: ['bob'] },
      { type: 'message.send', thread: 'secret', sender: 'ann', content: 'HIDDEN' },
      { type: 'message.send', thread: 'general', sender: 'ann', content: 'HIDDEN',
        mentions: ['bob'], data: { plain: 'to be seen' } },
      { type: 'thread.create', thread: 'done', creator: 'ann', name: 'done',
        participants: ['mole'] },
      { type: 'thread.close', thread: 'done', by: 'ann', summary: 'HIDDEN' },
      { type: 'thread.remove', thread: 'general', agent: 'bob', by: 'ann' },
      { type: 'thread.add', thread: 'general', agent: 'bob', by: 'ann' },
      { type: 'agent.leave', agent: 'mole' },
    ];
    const { json } = expect(await root.command(sid, commands), 200);
    assert.deepEqual(json.results.map(({ status }) => status), commands.map(() => 200));
    return sid;
  }

  it('is shown with what is left, live, in the past and event by event', async () => {
    const root = server.as('root', '*', 'admin');
    const sid = await busy(root);
    const token = server.keys.token('eve', '*', 'read', { redact });
    await signedIn(server, token, `/sessions/${sid}?thread=general`, async ({ page }) => {
      await page.getByText('parts are hidden from you').waitFor();
      await page.locator('.message').first().waitFor();
      await page.locator('.timeline').getByText('session.created').waitFor();
      await shot(page, 'session-redacted-light');
      await page.getByRole('button', { name: 'How ann is woken' }).click();
      await page.getByText('Woken by messages that mention it').waitFor();
      await root.command(sid, [
        { type: 'message.send', thread: 'general', sender: 'bob', content: 'HIDDEN' },
        { type: 'agent.register', agent: 'mole' },
        { type: 'agent.update', agent: 'ann', note: 'HIDDEN', status: 'attention' },
        { type: 'thread.create', thread: 'later', creator: 'bob', name: 'later',
          participants: ['ann', 'mole'] },
      ]);
      await page.locator('.panel-threads').getByText('later').waitFor();
      await page.locator('.agent-attention').waitFor();
      assert.equal(await page.locator('.message').count(), 2);
      const { seq } = await root.view(sid);
      for (let at = seq - 1; at > 0; at--) {
        await page.keyboard.press('[');
        await page.getByText(`event ${at} of ${seq}`).waitFor();
        await page.locator('.past-note', { hasText: 'loading' }).waitFor({ state: 'detached' });
        assert.ok(!(await page.content()).includes('HIDDEN'), `nothing is shown at ${at}`);
      }
      for (let at = 1; at <= seq; at++) {
        await page.goto(`/sessions/${sid}?event=${at}`);
        await page.locator('.inspector .code, .inspector pre').first().waitFor();
        assert.ok(!(await page.content()).includes('HIDDEN'), `nor in event ${at}`);
      }
    });
  });

  it('is listed without what would count it', async () => {
    const root = server.as('root', '*', 'admin');
    const sid = await busy(root);
    const token = server.keys.token('eve', sid, 'read', { redact });
    await signedIn(server, token, '/sessions?sort=threads', async ({ page }) => {
      const row = page.locator('.session-row:not(.heading)');
      await row.waitFor();
      assert.equal(await row.locator('[data-name=threads]').innerText(), '–');
      assert.notEqual(await row.locator('[data-name=seq]').innerText(), '–');
      assert.ok(!(await page.content()).includes('HIDDEN'));
    });
  });
});

describe('the server\'s page', () => {
  it('shows the health of all, and changes the log level', async (t) => {
    const server = await serve(t);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/server');
      await page.locator('.health .badge.ok', { hasText: /components? healthy/ }).waitFor();
      await shot(page, 'server-health-light');
      await page.getByLabel('Log level').selectOption('debug');
      await until(async () => (await server.get('/v1/log-level')).json.level === 'debug',
        'the level');
    });
  });

  it('names sessions in quarantine, and brings them back', async (t) => {
    const server = await serve(t, { args: ['--idle-passivate', '20ms'] });
    const sid = await server.session();
    await server.say(sid, 'ann', 'something precious');
    await server.restart();
    const write = (from, to) => {
      for (const name of readdirSync(server.data).filter((file) => file.startsWith('segment'))) {
        const path = join(server.data, name);
        const bytes = readFileSync(path);
        for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1))
          bytes.write(to, at);
        writeFileSync(path, bytes, { flag: 'r+' });
      }
    };
    write('something precious', 'Something precious');
    await server.get(`/v1/sessions/${sid}`, { check: false });
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/server');
      const row = page.locator('.quarantine tbody tr', { hasText: sid });
      await row.waitFor();
      assert.match(await row.innerText(), /cannot be read back/);
      await page.locator('.health header .badge.warn').waitFor();
      await page.locator('.health tbody .badge').first().waitFor();
      await shot(page, 'server-quarantine-light');
      await page.setViewportSize({ width: 400, height: 800 });
      await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
      await shot(page, 'server-quarantine-400px-dark');
      await row.getByRole('button', { name: 'Rebuild' }).click();
      await row.getByRole('alert').waitFor(); // it is as it was
      write('Something precious', 'something precious');
      await row.getByRole('button', { name: 'Rebuild' }).click();
      await row.waitFor({ state: 'detached' });
    }, { expected: [/status of 503/] });
    assert.equal((await server.view(sid)).state.threads.general.messages.length, 1);
  });
});

describe('a server without keys', () => {
  const server = serving();

  it('asks for nothing, and offers no way out', async () => {
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/sessions');
      await connected(page);
      assert.equal(await page.locator('.who').count(), 0);
      assert.equal(await page.locator('.banner').count(), 0);
    });
  });

  it('that may be reached from elsewhere says so on every page', async (t) => {
    const open = await serve(t,
      { listen: ['0.0.0.0:0'], args: ['--insecure-no-auth', '--allowed-host', 'localhost'] });
    const own = { url: `http://127.0.0.1:${open.port}` };
    await inWindow(chrome, own, async ({ open: tab }) => {
      for (const path of ['/sessions', `/sessions/${newId()}`, '/server']) {
        const page = await tab(path);
        await page.getByRole('alert').filter({ hasText: 'it has no keys' }).waitFor();
        if (path === '/server') await shot(page, 'insecure-light');
        await page.close();
      }
    });
  });
});
