/*
 * The dashboard in a real Chromium, driven by playwright-core, against a server of one's own from
 * tests/http/harness.mjs. Whatever a page says in the console, any error in it, anything that its
 * Content-Security-Policy refused and any request to another host fails the test it happened in.
 */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { expect, newId } from '../http/harness.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SCREENSHOTS = process.env.ATOLL_SCREENSHOTS ?? join(ROOT, 'build/screenshots');
export const PATIENCE_MS = 15_000;
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A Chromium with an empty profile. */
export function launch() {
  return chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
}

/** Within a test file: one for all its tests. */
export function browsing() {
  const chrome = {};
  before(async () => { chrome.browser = await launch(); });
  after(() => chrome.browser?.close());
  return chrome;
}

/**
 * A window with cookies, storage and worker of its own, whose tabs share them: `body` is given it,
 * `open(path)` opens a tab. `expected` are the console's messages that the test provokes.
 */
export async function inWindow(chrome, server, body,
  { expected = [], width = 1280, height = 800, dark = false, ...options } = {}) {
  const faults = [];
  const context = await chrome.browser.newContext({
    baseURL: server.url, viewport: { width, height }, colorScheme: dark ? 'dark' : 'light',
    reducedMotion: 'reduce', ...options,
  });
  context.setDefaultTimeout(PATIENCE_MS);
  context.on('page', (page) => {
    page.on('pageerror', (error) => faults.push(error.stack));
    page.on('console', (message) => {
      const text = message.text();
      const bad = message.type() === 'error' || message.type() === 'warning';
      if (bad && !expected.some((like) => like.test(text))) faults.push(`console: ${text}`);
    });
    page.on('request', (request) => {
      const url = request.url();
      if (!url.startsWith(`${server.url}/`) && !url.startsWith('data:'))
        faults.push(`asked ${url}`);
    });
  });
  const open = async (path) => {
    const page = await context.newPage();
    await page.goto(path);
    return page;
  };
  try {
    await body({ context, open });
  } finally {
    await context.close();
  }
  assert.deepEqual(faults, []);
}

/** Makes `n` sessions with the labels team:team-0 … team-9: their ids, sorted. */
export async function populate(server, n, prefix = newId('many')) {
  const names = Array.from({ length: n }, (_, i) => `${prefix}-${String(i).padStart(5, '0')}`);
  const queue = names.map((name, i) => [name, i]);
  await Promise.all(Array.from({ length: 32 }, async () => {
    for (let next = queue.pop(); next; next = queue.pop())
      expect(await server.put(`/v1/sessions/${next[0]}`,
        { labels: { team: `team-${next[1] % 10}` } }, { check: false }), 201);
  }));
  return names;
}

/** Waits until the header says so. */
export function connected(page) {
  return page.locator('.connection.ok').waitFor();
}

export async function shot(page, name) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

/** Frames per second that the page drew in this time, and its longest pause, in ms. */
export function frames(page, ms) {
  return page.evaluate((length) => new Promise((done) => {
    const began = performance.now();
    let last = began;
    let count = 0;
    let longest = 0;
    const frame = (now) => {
      count++;
      longest = Math.max(longest, now - last);
      last = now;
      if (now - began < length) requestAnimationFrame(frame);
      else done({ rate: (count * 1000) / (now - began), longest });
    };
    requestAnimationFrame(frame);
  }), ms);
}

/** Sends `rate` messages per second into a session, in batches, until `over` is set. */
export async function pour(server, sid, rate, over) {
  const EVERY_MS = 20;
  const began = Date.now();
  let sent = 0;
  while (!over.now) {
    const due = Math.floor(((Date.now() - began) / 1000) * rate) - sent;
    if (due > 0) {
      const batch = Array.from({ length: due }, (_, i) => ({
        type: 'message.send', thread: 'general', sender: (sent + i) % 2 ? 'ann' : 'bob',
        content: `Message **${sent + i}**, with \`code\` and a [link](https://example.org).`,
        mentions: (sent + i) % 5 ? [] : ['ann'],
      }));
      expect(await server.command(sid, batch, { check: false }), 200);
      sent += due;
    }
    await new Promise((done) => { setTimeout(done, EVERY_MS); });
  }
  return sent / ((Date.now() - began) / 1000);
}
