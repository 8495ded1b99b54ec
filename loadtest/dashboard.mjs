// What the dashboard takes, in Chromium against a server of its own: node loadtest/dashboard.mjs
//
// Prints, and checks: compressed script of each page's first load (at most 80 KiB), time to the
// first view (at most 1 s), frames per second while a session gets 500 messages a second and while
// a list of 10 000 sessions is scrolled (more than 50). Needs Debian's chromium and the npm packages
// of tests/http and tests/browser, as `tests/run.sh browser` installs them. The server is
// build/atoll or $ATOLL_BIN. The exit status is 1 where a figure is missed.

import { readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { dirname, join } from 'node:path';
import { start, BIN } from '../tests/http/harness.mjs';
import { connected, frames, inWindow, launch, populate, pour } from '../tests/browser/browser.mjs';

const SESSIONS = 10_000;
const MESSAGES_PER_S = 500;
const WARM_MS = 2_000;
const MEASURED_MS = 10_000;
const BYTES_MOST = 80 * 1024;
const VIEW_MOST_MS = 1_000;
const FRAMES_LEAST = 50;

let missed = false;
function tell(what, figure, unit, good) {
  missed ||= !good;
  console.log(`${what.padEnd(52)} ${figure.padStart(8)} ${unit}${good ? '' : '   MISSED'}`);
}

async function firstViews(chrome, server, sid) {
  for (const path of ['/sessions', `/sessions/${sid}`, '/server'])
    await inWindow(chrome, server, async ({ context }) => {
      const page = await context.newPage();
      await page.goto(path);
      // The first paint of something that is not the empty page, as the browser saw it.
      await page.locator('h1').first().waitFor({ state: 'attached' });
      await connected(page);
      const ms = await page.evaluate(() =>
        performance.getEntriesByName('first-contentful-paint')[0].startTime);
      tell(`first view of ${path}`, ms.toFixed(0), 'ms', ms <= VIEW_MOST_MS);
    });
}

async function busySession(chrome, server, sid) {
  await inWindow(chrome, server, async ({ open }) => {
    const page = await open(`/sessions/${sid}`);
    await connected(page);
    const over = {};
    const pouring = pour(server, sid, MESSAGES_PER_S, over);
    await frames(page, WARM_MS);
    const { rate, longest } = await frames(page, MEASURED_MS);
    over.now = true;
    const sent = await pouring;
    tell(`a session with ${sent.toFixed(0)} messages/s`, rate.toFixed(1), 'frames/s',
      rate > FRAMES_LEAST);
    console.log(`${'  its longest pause between two frames'.padEnd(52)} ${longest.toFixed(0)
      .padStart(8)} ms`);
  });
}

async function longList(chrome, server) {
  await populate(server, SESSIONS);
  await inWindow(chrome, server, async ({ open }) => {
    const began = Date.now();
    const page = await open('/sessions');
    await page.getByText(/^10,00\d sessions/).waitFor();
    console.log(`${`${SESSIONS} sessions listed after`.padEnd(52)} ${String(Date.now() - began)
      .padStart(8)} ms`);
    await page.evaluate(() => {
      const list = document.querySelector('.row-list');
      setInterval(() => { list.scrollTop = (list.scrollTop + 400) % list.scrollHeight; }, 16);
    });
    const { rate, longest } = await frames(page, MEASURED_MS);
    tell('scrolling through them', rate.toFixed(1), 'frames/s', rate > FRAMES_LEAST);
    console.log(`${'  its longest pause between two frames'.padEnd(52)} ${longest.toFixed(0)
      .padStart(8)} ms`);
  });
}

const sizes = JSON.parse(readFileSync(join(dirname(BIN), 'web/files/sizes.json'), 'utf8'));
console.log(`${cpus().length} cores, load ${loadavg()[0].toFixed(2)}, ${BIN}`);
for (const [page, bytes] of Object.entries(sizes))
  tell(`compressed script first loaded by ${page}`, String(bytes), 'bytes', bytes <= BYTES_MOST);
const server = await start();
const chrome = { browser: await launch() };
try {
  const sid = await server.session();
  await firstViews(chrome, server, sid);
  await busySession(chrome, server, sid);
  await longList(chrome, server);
} finally {
  await chrome.browser.close();
  await server.stop();
}
process.exit(missed ? 1 : 0);
