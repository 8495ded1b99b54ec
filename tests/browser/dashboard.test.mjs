/*
 * The dashboard as a whole: what it is served with, what it loads, the lists, the connection that
 * all tabs share, and a server that goes away and comes back.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, serve, serving, until } from '../http/harness.mjs';
import {
  browsing, connected, frames, inWindow, PATIENCE_MS, populate, pour, shot,
} from './browser.mjs';

const FIRST_LOAD_BYTES = 80 * 1024;
const MANY = 10_000;
// What the figures below must reach on any machine, however busy; loadtest/ measures them.
const FIRST_VIEW_MS = 5_000;
const FRAMES_LEAST = 20;

const chrome = browsing();

const rows = (page) => page.locator('.session-row:not(.heading)');
const rowOf = (page, sid) => rows(page).filter({ has: page.locator(`[data-session="${sid}"]`) });

describe('the files of the dashboard', () => {
  const server = serving();

  it('come compressed, with hashes in their names to be kept for ever', async () => {
    const page = expect(await server.get('/', { check: false }), 200);
    assert.match(page.headers['content-type'], /^text\/html/);
    assert.equal(page.headers['cache-control'], 'no-cache');
    const names = [...page.text.matchAll(/"(\/assets\/[^"]+)"/g)].map(([, name]) => name);
    assert.ok(names.length >= 3, page.text);
    for (const name of names) {
      const plain = await fetch(server.url + name, { headers: { 'accept-encoding': 'identity' } });
      const packed = await server.get(name,
        { headers: { 'accept-encoding': 'gzip' }, check: false });
      assert.equal(plain.status, 200);
      assert.equal(plain.headers.get('content-encoding'), null);
      assert.match(plain.headers.get('cache-control'), /immutable/);
      assert.equal(packed.headers['content-encoding'], 'gzip');
      assert.equal(packed.headers.vary, 'accept-encoding');
      const bytes = (await plain.arrayBuffer()).byteLength;
      assert.ok(bytes < 2048 || Number(packed.headers['content-length']) < bytes / 2,
        `${name} is smaller compressed`);
      const again = await server.get(name,
        { headers: { 'if-none-match': packed.headers.etag }, check: false });
      assert.equal(again.status, 304);
      assert.equal(again.text, '');
    }
    assert.equal((await server.get('/assets/index.html', { check: false })).status, 404);
    assert.equal((await server.get('/assets/none.js', { check: false })).json.type,
      '/problems/unknown-route');
  });

  it('forbid the page everything but its own origin', async () => {
    for (const path of ['/', '/sessions', '/sessions/x', '/server']) {
      const { headers } = expect(await server.get(path, { check: false }), 200);
      const policy = headers['content-security-policy'];
      for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'",
        "connect-src 'self'", "worker-src 'self'", "base-uri 'none'", "form-action 'none'",
        "frame-ancestors 'none'"])
        assert.ok(policy.split('; ').includes(rule), `${path}: ${rule} in ${policy}`);
      assert.equal(headers['x-content-type-options'], 'nosniff');
      assert.equal(headers['referrer-policy'], 'no-referrer');
      assert.equal(headers['x-frame-options'], 'DENY');
    }
  });

  it('are few: at most 80 KiB of compressed script before a page shows something', async (t) => {
    const sid = await server.session();
    for (const path of ['/sessions', `/sessions/${sid}`, '/server'])
      await inWindow(chrome, server, async ({ context }) => {
        const page = await context.newPage();
        const began = Date.now();
        await page.goto(path);
        await page.locator('h1').first().waitFor({ state: 'attached' });
        const shown = Date.now() - began;
        await connected(page);
        const scripts = await page.evaluate(() => performance.getEntriesByType('resource')
          .filter(({ name }) => name.endsWith('.js')).map(({ name }) => new URL(name).pathname));
        let bytes = 0;
        let worker = false;
        // The worker's script is not among them; its name stands in one of them.
        for (const name of scripts) {
          const { body, text } = await packedScript(server, name);
          bytes += body;
          const match = /\/assets\/worker-[\w-]+\.js/.exec(text);
          if (match && !worker) bytes += (await packedScript(server, match[0])).body;
          worker ||= match !== null;
        }
        assert.ok(worker, 'the worker was counted');
        t.diagnostic(`${path.replace(sid, '{sid}')}: ${bytes} bytes, first view ${shown} ms`);
        assert.ok(bytes <= FIRST_LOAD_BYTES, `${path} loads ${bytes} bytes`);
        assert.ok(shown < FIRST_VIEW_MS, `${path} showed something after ${shown} ms`);
      });
  });
});

async function packedScript(server, name) {
  const text = await (await fetch(server.url + name)).text();
  const { headers } = await server.request('GET', name,
    { headers: { 'accept-encoding': 'gzip' }, check: false });
  return { text, body: Number(headers['content-length']) };
}

describe('the list of sessions', () => {
  it('tells a newcomer what to run, and shows the first session as it comes', async (t) => {
    const server = await serve(t);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/');
      await page.getByRole('heading', { name: 'No sessions yet' }).waitFor();
      assert.match(await page.locator('.code').first().innerText(),
        new RegExp(`${server.url}/v1/sessions/demo`));
      await shot(page, 'sessions-empty-light');
      const sid = await server.session();
      await rowOf(page, sid).waitFor();
      await server.say(sid, 'ann', 'hello');
      await rowOf(page, sid).locator('[data-name=messages]', { hasText: /^1$/ }).waitFor();
      const { seq } = await server.view(sid);
      await rowOf(page, sid).locator('[data-name=seq]', { hasText: `${seq}` }).waitFor();
      expect(await server.delete(`/v1/sessions/${sid}`), 204);
      await page.getByRole('heading', { name: 'No sessions yet' }).waitFor();
    });
  });

  describe('of many', () => {
    const server = serving();

    it(`holds ${MANY} without lag`, async (t) => {
      const names = await populate(server, MANY);
      await inWindow(chrome, server, async ({ open }) => {
        const began = Date.now();
        const page = await open('/sessions?sort=id');
        await page.getByText(`${MANY.toLocaleString('en')} sessions`).waitFor();
        const told = Date.now() - began;
        assert.ok(await rows(page).count() < 100, 'only rows in sight are in the document');
        await rowOf(page, names[0]).waitFor();
        const moving = frames(page, 2000);
        for (let i = 0; i < 20; i++) {
          await page.locator('.row-list').evaluate((list, part) => {
            list.scrollTop = list.scrollHeight * part;
          }, i / 20);
          await server.put(`/v1/sessions/${names[i]}`, undefined, { check: false });
        }
        const { rate, longest } = await moving;
        await page.locator('.row-list').evaluate((list) => { list.scrollTop = list.scrollHeight; });
        await rowOf(page, names.at(-1)).waitFor();
        t.diagnostic(`${MANY} sessions told in ${told} ms; scrolling: ${rate.toFixed(0)} frames/s, `
          + `longest ${longest.toFixed(0)} ms`);
        assert.ok(rate >= FRAMES_LEAST, `${rate} frames/s while scrolling`);
        const search = page.getByRole('searchbox');
        await search.fill(names[4321]);
        await rowOf(page, names[4321]).waitFor();
        assert.equal(await rows(page).count(), 1);
      });
    });

    it('filters by label and text, each with an address of its own', async () => {
      await inWindow(chrome, server, async ({ open }) => {
        const page = await open('/sessions?label=team:team-3&sort=id');
        await page.getByText(/^1,000 sessions/).waitFor();
        await page.getByRole('searchbox').fill('team-3 00003');
        await page.getByText('1 of 1,000 sessions').waitFor();
        assert.match(page.url(), /label=team:team-3/);
        assert.match(page.url(), /q=team-3\+00003/);
        await page.reload();
        await page.getByText('1 of 1,000 sessions').waitFor();
        await page.getByRole('searchbox').fill('nothing like it');
        await page.getByRole('button', { name: 'Show all sessions' }).click();
        await page.getByText(`${MANY.toLocaleString('en')} sessions`).waitFor();
        assert.doesNotMatch(page.url(), /label|q=/);
      });
    });

    it('is usable by keyboard alone', async () => {
      await inWindow(chrome, server, async ({ open }) => {
        const page = await open('/sessions?sort=id');
        await rows(page).first().waitFor();
        await page.keyboard.press('/');
        await page.keyboard.type('00007');
        await page.getByText('1 of 10,000 sessions').waitFor();
        await page.keyboard.press('Escape');
        await page.getByText(/^10,000 sessions/).waitFor();
        for (const step of ['j', 'j', 'j', 'k']) {
          await page.keyboard.press(step);
          await page.waitForTimeout(60); // the focus moves with a frame
        }
        const sid = await page.evaluate(() => document.activeElement.dataset.session);
        assert.match(sid, /-00001$/);
        await page.keyboard.press('Enter');
        await page.waitForURL(`**/sessions/${sid}`);
        await page.keyboard.press('?');
        await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
        await page.keyboard.press('Escape');
        await page.getByRole('dialog', { name: 'Keyboard' }).waitFor({ state: 'hidden' });
        await page.keyboard.press('g');
        await page.keyboard.press('v');
        await page.waitForURL('**/server');
        await page.goBack();
        await page.waitForURL(`**/sessions/${sid}`);
      });
    });
  });
});

describe('the connection', () => {
  it('is one WebSocket for all tabs', async (t) => {
    const server = await serve(t);
    const sids = await Promise.all([server.session(), server.session()]);
    const sockets = async () => (await server.status()).reactors
      .reduce((sum, { sockets: n }) => sum + n, 0);
    await inWindow(chrome, server, async ({ open }) => {
      const list = await open('/sessions');
      const first = await open(`/sessions/${sids[0]}`);
      const same = await open(`/sessions/${sids[0]}`);
      const other = await open(`/sessions/${sids[1]}`);
      const figures = await open('/server');
      for (const page of [list, first, same, other, figures]) await connected(page);
      assert.equal(await sockets(), 1);
      await Promise.all([server.say(sids[0], 'ann', 'to the first'),
        server.say(sids[1], 'ann', 'to the other')]);
      for (const page of [first, same]) await page.getByText('to the first').first().waitFor();
      await other.getByText('to the other').first().waitFor();
      await rowOf(list, sids[0]).locator('[data-name=messages]', { hasText: '1' }).waitFor();
      const watching = async () => (await server.status()).shards
        .reduce((sum, { watching: n }) => sum + n, 0);
      assert.equal(await watching(), 2, 'one watch for each session, however many tabs');
      await same.close();
      await other.close();
      await until(async () => await watching() === 1, 'the watch of the closed tab ends',
        PATIENCE_MS);
      await server.say(sids[0], 'bob', 'still there');
      await first.getByText('still there').first().waitFor();
    });
    await until(async () => await sockets() === 0, 'the WebSocket ends with the last tab');
  });

  it('does without a SharedWorker where there is none', async (t) => {
    const server = await serve(t);
    const sid = await server.session();
    await inWindow(chrome, server, async ({ context, open }) => {
      await context.addInitScript(() => { delete window.SharedWorker; });
      const page = await open(`/sessions/${sid}`);
      await connected(page);
      await server.say(sid, 'ann', 'heard all the same');
      await page.getByText('heard all the same').first().waitFor();
    });
  });

  it('survives kill -9 of the server without a reload, and misses nothing', async (t) => {
    const server = await serve(t);
    const sid = await server.session();
    await inWindow(chrome, server, async ({ open }) => {
      const session = await open(`/sessions/${sid}`);
      const list = await open('/sessions');
      await server.say(sid, 'ann', 'before the fall');
      await session.getByText('before the fall').first().waitFor();
      await rowOf(list, sid).waitFor();
      for (const page of [session, list]) await page.evaluate(() => { window.kept = true; });
      await server.kill();
      for (const page of [session, list]) {
        await page.locator('.connection.bad').waitFor();
        assert.match(await page.locator('.connection .when').innerText(), /Reconnecting in \d+ s/);
      }
      assert.match(await session.locator('.connection .why').innerText(), /cannot be reached/);
      await shot(session, 'session-disconnected-light');
      await server.start();
      const other = await server.session();
      await server.say(sid, 'bob', 'after the fall');
      for (const page of [session, list]) await connected(page);
      await session.getByText('after the fall').first().waitFor();
      await rowOf(list, other).waitFor();
      await rowOf(list, sid).locator('[data-name=messages]', { hasText: '2' }).waitFor();
      for (const page of [session, list])
        assert.equal(await page.evaluate(() => window.kept), true, 'the page was not loaded again');
    }, { expected: [/net::ERR_/] });
  });

  it('draws a session that gets 500 messages a second', async (t) => {
    const server = await serve(t);
    const sid = await server.session();
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await connected(page);
      const over = {};
      const pouring = pour(server, sid, 500, over);
      await page.getByText(/^Message/).first().waitFor();
      const { rate, longest } = await frames(page, 4000);
      over.now = true;
      const sent = await pouring;
      t.diagnostic(`${sent.toFixed(0)} messages/s: ${rate.toFixed(1)} frames/s, `
        + `longest ${longest.toFixed(0)} ms`);
      assert.ok(rate >= FRAMES_LEAST, `${rate} frames/s`);
      const seq = (await server.view(sid)).seq.toLocaleString('en');
      await page.getByText(`${seq} / ${seq}`).waitFor();
    });
  });
});

describe('every page', () => {
  const server = serving();
  const looks = [['light', { dark: false }], ['dark', { dark: true }],
    ['400', { width: 400 }]];

  for (const [look, options] of looks)
    it(`has landmarks and fits: ${look}`, async () => {
      const sid = await server.session(['ann', 'bob'], { sid: `look-${look}` });
      await server.live(sid, 6);
      await inWindow(chrome, server, async ({ open }) => {
        const page = await open('/');
        for (const [name, path] of [['sessions', '/sessions'], ['session', `/sessions/${sid}`],
          ['server', '/server'], ['unknown', '/sessions/nobody-made-this']]) {
          await page.goto(path);
          await connected(page);
          if (name === 'server') await page.locator('.chart canvas').first().waitFor();
          if (name === 'session') await page.getByText(/round \d/).first().waitFor();
          if (name === 'sessions') await rowOf(page, sid).waitFor();
          await page.locator('h1').first().waitFor({ state: 'attached' });
          for (const landmark of ['banner', 'navigation', 'main'])
            assert.ok(await page.getByRole(landmark).count() >= 1, `${path}: ${landmark}`);
          const width = await page.evaluate(() => document.documentElement.scrollWidth);
          assert.ok(width <= (options.width ?? 1280), `${path} is ${width} px wide`);
          await page.waitForTimeout(name === 'server' ? 1200 : 200); // for lines to be seen
          await shot(page, `${name}-${look}`);
        }
      }, options);
    });

  it('keeps the colours that were chosen', async () => {
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/sessions');
      const background = () => page.evaluate(() => getComputedStyle(document.body.parentElement)
        .backgroundColor);
      const light = await background();
      await page.getByRole('button', { name: 'Colours: as the system' }).click();
      await page.getByRole('button', { name: 'Colours: light' }).click();
      await page.getByRole('button', { name: 'Colours: dark' }).waitFor();
      assert.notEqual(await background(), light);
      const darkOne = await background();
      await page.reload();
      await page.getByRole('button', { name: 'Colours: dark' }).waitFor();
      assert.equal(await background(), darkOne);
    });
  });
});
