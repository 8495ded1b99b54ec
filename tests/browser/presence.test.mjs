/*
 * Who is there: leases, how agents are woken and where that fails, and on the page of the server
 * who is connected by which face.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, serve, serving, until } from '../http/harness.mjs';
import { agentPath, Peer, send } from '../http/mcp.mjs';
import { browsing, connected, inWindow, shot } from './browser.mjs';

const LOOKS = [['light', {}], ['dark', { dark: true }], ['400', { width: 400 }]];
// Nobody may be called there, so the breaker opens at the first call.
const REFUSED = 'http://127.0.0.1:9/"><img/src=x/onerror=window.hacked=1>';

const chrome = browsing();
const agent = (page, id) => page.locator('.agent', { has: page.getByText(id, { exact: true }) });
const lines = (page, type) => page.locator('.event-line', { hasText: type });
const wake = (server, sid, aid, body) => server.put(`/v1/sessions/${sid}/agents/${aid}/wake`, body);

async function noWider(page, most) {
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= most, `${width} px wide`);
}

describe('an agent', () => {
  const server = serving();

  it('whose lease ran out is offline like any other, and says how long the lease is', async () => {
    const sid = await server.session(['ann', 'bob']);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await agent(page, 'bob').waitFor();
      assert.doesNotMatch(await agent(page, 'bob').innerText(), /lease/);
      expect(await server.patch(`/v1/sessions/${sid}/agents/bob`, { lease_s: 86_400 }), 200);
      await agent(page, 'bob').getByText('lease 86,400 s').waitFor();
      expect(await server.patch(`/v1/sessions/${sid}/agents/ann`, { lease_s: 1 }), 200);
      await page.locator('.agent-offline', { hasText: 'lease 1 s' }).waitFor();
      await agent(page, 'ann').getByRole('img', { name: 'offline' }).waitFor();
      await lines(page, 'agent.updated').filter({ hasText: 'status: offline' }).waitFor();
      expect(await server.patch(`/v1/sessions/${sid}/agents/ann`, { lease_s: null }), 200);
      await agent(page, 'ann').getByText('lease').waitFor({ state: 'detached' });
    });
  });

  it('tells by keyboard how it is woken', async () => {
    const sid = await server.session(['ann', 'bob']);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await agent(page, 'ann').waitFor();
      assert.equal(await page.getByRole('button', { name: /is woken/ }).count(), 0);
      expect(await wake(server, sid, 'bob', { url: 'https://agents.example/bob', mentions: true,
        secret: 'known to nobody else' }), 200);
      await page.getByRole('button', { name: 'How bob is woken' }).focus();
      await page.keyboard.press('Enter');
      const told = agent(page, 'bob').getByText(
        'Woken by messages that mention it, through signed calls to https://agents.example/bob');
      await told.waitFor();
      expect(await wake(server, sid, 'bob', { url: 'https://agents.example/bob' }), 200);
      await agent(page, 'bob').getByText('Woken by each message, through unsigned calls').waitFor();
      await page.getByRole('button', { name: 'How bob is woken', expanded: true }).press('Enter');
      await agent(page, 'bob').getByText('Woken by').waitFor({ state: 'detached' });
      expect(await server.delete(`/v1/sessions/${sid}/agents/bob/wake`), 200);
      await page.getByRole('button', { name: 'How bob is woken' }).waitFor({ state: 'detached' });
      await lines(page, 'agent.wake_set').filter({ hasText: 'woken no more' }).waitFor();
    });
  });

  for (const [look, options] of LOOKS)
    it(`that cannot be woken is seen first, with the reason: ${look}`, async () => {
      const sid = await server.session(['ann', 'bob', 'cat', 'dan'], { sid: newId('wake') });
      expect(await server.command(sid, [
        { type: 'agent.update', agent: 'ann', status: 'working', note: 'Reads.', lease_s: 600 },
        { type: 'agent.update', agent: 'cat', status: 'attention', note: 'Look here' },
        { type: 'agent.update', agent: 'dan', status: 'offline', lease_s: 30 },
        { type: 'agent.wake', agent: 'cat', url: REFUSED },
        { type: 'agent.wake', agent: 'ann', url: 'https://agents.example/ann', mentions: true },
        { type: 'agent.wake', agent: 'dan', url: REFUSED, mentions: true }]), 200);
      await inWindow(chrome, server, async ({ open }) => {
        const panel = options.width ? '?panel=agents' : '';
        const page = await open(`/sessions/${sid}${panel}`);
        await connected(page);
        await agent(page, 'dan').waitFor();
        assert.equal(await page.getByText('It cannot be woken').count(), 0);
        const { seq } = await server.say(sid, 'ann', 'Are you there?', { mentions: ['dan'] });
        const why = 'It cannot be woken. The address 127.0.0.1 is not public';
        for (const id of ['cat', 'dan']) await agent(page, id).getByText(why).waitFor();
        await until(async () => (await page.locator('.agent .agent-name').allInnerTexts())
          .join() === 'cat,dan,ann,bob', 'those who need somebody first');
        await page.getByRole('button', { name: 'How dan is woken' }).click();
        await agent(page, 'dan').getByText(REFUSED).waitFor();
        await noWider(page, options.width ?? 1280);
        await shot(page, `agents-wake-${look}`);

        expect(await server.post(`/v1/sessions/${sid}/threads/general/read`,
          { agent: 'dan', upto: seq }), 200);
        expect(await wake(server, sid, 'dan', { url: REFUSED }), 200);
        await agent(page, 'dan').getByText(why).waitFor({ state: 'detached' });
        await agent(page, 'cat').getByText(why).waitFor();
        assert.equal(await page.evaluate(() => window.hacked), undefined);
      }, options);
    });

  it('has lines in the timeline that say what became of its target', async () => {
    const sid = await server.session(['ann', 'bob']);
    const texts = ['bob cannot be woken: The address 127.0.0.1 is not public',
      'woken by mentions: http://127.0.0.1:9/'];
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await connected(page);
      await lines(page, 'agent.registered').first().waitFor();
      expect(await wake(server, sid, 'bob', { url: REFUSED, mentions: true }), 200);
      await server.say(sid, 'ann', 'Hear, hear.', { mentions: ['bob'] });
      for (let again = 0; again < 2; again++) { // as patches that came, then as events
        await agent(page, 'bob').getByText('It cannot be woken').waitFor();
        for (const text of texts)
          await page.locator('.event-line', { hasText: text }).first().waitFor();
        assert.doesNotMatch(await page.locator('.timeline').innerText(), /breaker|signed/);
        await shot(page, 'timeline-wake-light');
        await page.reload();
        await connected(page);
      }
      await page.getByLabel('Type of event').selectOption('agent.wake_reported');
      await page.getByText('1 event', { exact: true }).waitFor();
      await lines(page, 'agent.wake_reported').filter({ hasText: texts[0] }).click();
      await page.getByText('"path": "/agents/bob/wake').first().waitFor();
    });
  });
});

describe('who is connected', () => {
  const MANY = 250;

  for (const [look, options] of LOOKS)
    it(`stands on the page of the server, by face: ${look}`, async (t) => {
      const server = await serve(t);
      const sid = await server.session(['ann', 'bob', 'cat'], { sid: 'x'.repeat(64) });
      await inWindow(chrome, server, async ({ open }) => {
        const page = await open('/server');
        const table = page.getByRole('region', { name: 'Who is connected' });
        await page.getByText('No agent waits for messages or listens by MCP.').waitFor();
        const held = [server.inbox(sid, 'ann', '?wait=55'), server.inbox(sid, 'ann', '?wait=55')];
        const peer = await Peer.connect(server, agentPath(sid, 'bob'));
        expect(await peer.listen(), 200);
        expect(await send(server, 'GET', `/v1/sessions/${sid}/agents/cat/sse`), 200);
        const row = (...cells) => table.getByRole('row', { name: [sid, ...cells].join(' ') });
        await row('ann', 'HTTP inbox', 'waits × 2').waitFor();
        await row('bob', 'MCP', 'listens').waitFor();
        await row('cat', 'MCP, HTTP+SSE', 'listens').waitFor();
        await page.getByText('3 agents', { exact: true }).waitFor();
        await page.getByText('1 companion').waitFor();
        const figure = (name) => page.getByRole('row', { name: new RegExp(`^${name} `) });
        assert.match(await figure('companions').innerText(), /1/);
        assert.match(await figure('mcp_streams').innerText(), /[12]/);
        await page.getByRole('img', { name: /^Watchers now: .*MCP streams 2$/ }).waitFor();
        await noWider(page, options.width ?? 1280);
        await table.scrollIntoViewIfNeeded();
        await shot(page, `server-connected-${look}`);
        await server.say(sid, 'bob', 'Go on.');
        await Promise.all(held);
        await row('ann').waitFor({ state: 'detached' });
        await row('bob').getByRole('link', { name: sid }).click();
        await page.waitForURL(`**/sessions/${sid}`);
      }, options);
    });

  it('is a table of bounded height, scrolled by keyboard, however many they are', async (t) => {
    const server = await serve(t);
    const ids = Array.from({ length: MANY }, (_, i) => `a${String(i).padStart(3, '0')}`);
    const sid = await server.session(ids);
    const waits = ids.map((id) => server.inbox(sid, id, '?wait=55'));
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/server');
      const table = page.getByRole('region', { name: 'Who is connected' });
      await page.getByText(`${MANY} agents`, { exact: true }).waitFor();
      await table.getByText('and 50 more').waitFor();
      const height = await table.evaluate((box) => box.clientHeight);
      assert.ok(height < 400, `${height} px high`);
      await table.focus();
      await page.keyboard.press('End');
      await until(() => table.evaluate((box) => box.scrollTop > 0), 'the table has scrolled');
      await shot(page, 'server-connected-many-light');
    });
    await server.say(sid, ids[0], 'Go on.');
    await server.say(sid, ids[1], 'You too.');
    await Promise.all(waits);
  });
});
