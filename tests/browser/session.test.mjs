/*
 * The page of a session: what is said, live and long ago; the session at any moment of its past;
 * speaking in it; and content of every bad kind, which must be shown and must do nothing.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expect, newId, serve, serving, until } from '../http/harness.mjs';
import { browsing, connected, frames, inWindow, pour, shot } from './browser.mjs';

// What any machine must reach, however busy; the figure itself is in the test's output.
const FRAMES_LEAST = 20;
const LRO = '\u202d';
const RLO = '\u202e';

const chrome = browsing();
const message = (page, text) => page.locator('article.message', { hasText: text });
const list = (page) => page.locator('.message-list');
const lines = (page) => page.locator('.event-line');
const slider = (page) => page.getByRole('slider', { name: 'Event' });

/** A session with so many messages, all numbered. */
async function talkative(server, n, sid) {
  const id = await server.session(['ann', 'bob'], { sid });
  for (let from = 1; from <= n; from += 500) {
    const batch = Array.from({ length: Math.min(500, n - from + 1) }, (_, i) => ({
      type: 'message.send', thread: 'general', sender: i % 2 ? 'ann' : 'bob',
      content: `Number ${from + i} of them.${' And more of it.'.repeat((from + i) % 30)}`,
      mentions: i % 2 ? ['bob'] : ['ann'],
    }));
    expect(await server.command(id, batch), 200);
  }
  return id;
}

const fromEnd = (page) =>
  list(page).evaluate((box) => box.scrollHeight - box.clientHeight - box.scrollTop);

/** The first message in sight and where it stands. */
const firstInSight = (page) => list(page).evaluate((box) => {
  const { top } = box.getBoundingClientRect();
  const seen = [...box.querySelectorAll('article')].find((article) =>
    article.getBoundingClientRect().bottom > top);
  return [seen.getAttribute('aria-label'), Math.round(seen.getBoundingClientRect().top)];
});

async function scrollUntil(page, condition) {
  await list(page).hover();
  await until(async () => {
    if (await condition()) return true;
    await page.mouse.wheel(0, -900);
    return false;
  }, String(condition));
}

describe('what is said', () => {
  const server = serving();

  it('appears as it is said, at the end, with who was meant', async () => {
    const sid = await talkative(server, 30);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await message(page, 'Number 30 of').waitFor();
      await server.say(sid, 'ann', 'Have **you** seen it, @bob? See `a.c`.', { mentions: ['bob'] });
      const said = message(page, 'seen it');
      await said.waitFor();
      assert.equal(await said.locator('strong').innerText(), 'you');
      assert.equal(await said.locator('.content code').innerText(), 'a.c');
      assert.equal(await said.locator('.content .chip').innerText(), '@bob');
      await until(async () => await fromEnd(page) < 2, 'the list at its end');
      await lines(page).filter({ hasText: 'seen it' }).first().waitFor();
    });
  });

  it('stays where it is for who reads above, and counts what is new', async () => {
    const sid = await talkative(server, 120);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await message(page, 'Number 120 of').waitFor();
      await scrollUntil(page, async () => await fromEnd(page) > 1500);
      await page.waitForFunction(() => { // until it rests
        const { scrollTop } = document.querySelector('.message-list');
        const rests = window.lastTop === scrollTop;
        window.lastTop = scrollTop;
        return rests;
      }, undefined, { polling: 200 });
      const before = await firstInSight(page);
      for (let n = 0; n < 7; n++) await server.say(sid, 'bob', `late ${n}`);
      await page.getByRole('button', { name: '7 new' }).waitFor();
      assert.deepEqual(await firstInSight(page), before);
      await page.getByRole('button', { name: '7 new' }).click();
      await message(page, 'late 6').waitFor();
      await until(async () => await fromEnd(page) < 2, 'the list at its end');
    });
  });

  it('is read back to the first word by scrolling', async () => {
    const sid = await talkative(server, 350);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await message(page, 'Number 350 of').waitFor();
      await page.getByText('250 older messages').waitFor({ state: 'attached' });
      await scrollUntil(page, () => message(page, 'Number 1 of').isVisible());
      await page.getByText('The thread begins here.').waitFor();
      const there = await page.locator('article.message').count();
      assert.ok(there < 100, `${there} of 350 are in the document`);
      const order = await page.locator('article.message').evaluateAll((articles) =>
        articles.map((article) => Number(/m(\d+)$/.exec(article.getAttribute('aria-label'))[1])));
      assert.deepEqual(order, order.toSorted((a, b) => a - b));
    });
  });

  it('has an address, also where it was said long ago', async () => {
    const sid = await talkative(server, 350);
    const { seq } = (await server.events(sid)).find((event) =>
      event.content?.startsWith('Number 20 '));
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}?thread=general&message=m${seq}`);
      await page.locator('.looked-for', { hasText: 'Number 20 of' }).waitFor();
      await page.goto(`/sessions/${sid}?thread=general&message=m999999`);
      await page.getByText('There is no message m999999').waitFor();
      await page.goto(`/sessions/${sid}?thread=nowhere`);
      await page.getByText('There is no thread nowhere').waitFor();
    });
  });

  it('keeps its frames while a session gets 500 messages a second', async (t) => {
    const busy = await serve(t);
    const sid = await busy.session();
    await inWindow(chrome, busy, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await connected(page);
      const over = {};
      const pouring = pour(busy, sid, 500, over);
      await message(page, 'Message').first().waitFor();
      const { rate, longest } = await frames(page, 4000);
      over.now = true;
      const sent = await pouring;
      t.diagnostic(`${sent.toFixed(0)} messages/s: ${rate.toFixed(1)} frames/s, ` +
        `longest ${longest.toFixed(0)} ms`);
      assert.ok(rate >= FRAMES_LEAST, `${rate} frames/s`);
      const last = (await busy.view(sid)).state.threads.general.messages.at(-1).content;
      await message(page, /Message (\d+)/.exec(last.replaceAll('*', ''))[0]).waitFor();
    }, { reducedMotion: 'no-preference' });
  });
});

describe('content of a bad kind', () => {
  const server = serving();

  it('is shown and does nothing', async () => {
    const sid = await server.session(['ann', 'bob']);
    const rows = [
      '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"> <b>bold</b>',
      '[click](javascript:window.hacked=3) [data](data:text/html,<script>window.hacked=4</script>)',
      '[up](JaVaScRiPt:window.hacked=5) <javascript:window.hacked=6> [rel](/v1/sessions)',
      '![a picture](https://elsewhere.example/pixel.png) ![](javascript:window.hacked=7)',
      '[real](https://ok.example/path "onclick=window.hacked=8")',
      '```html\n<script>window.hacked = 9</script>\n```',
      `before ${RLO}txt.exe\u202c ${LRO}x \u2067y\u2069 after`,
      `${'['.repeat(5000)}${'*'.repeat(5000)}${'`'.repeat(5000)}${'> '.repeat(5000)}`,
      'w'.repeat(256 * 1024),
    ];
    for (const content of rows) await server.say(sid, 'ann', content);
    await server.say(sid, 'bob', 'the end', { data: { '</script>': `${RLO}<b>` } });
    expect(await server.command(sid, { type: 'agent.update', agent: 'bob',
      note: `<img src=x onerror="window.hacked=10">${RLO}note` }), 200);
    expect(await server.command(sid, { type: 'session.update',
      labels: { '<b>label</b>': `${RLO}value` } }), 200);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await message(page, 'the end').waitFor();
      await message(page, 'the end').getByText('data').click();
      const seen = new Map(); // what is in sight on the way up
      const collect = async () => {
        const rowsNow = await page.locator('article.message').evaluateAll((articles) =>
          articles.map((article) => [article.getAttribute('aria-label'), {
            text: article.querySelector('.content').innerText,
            links: [...article.querySelectorAll('.content a')].map((link) =>
              [link.textContent, link.getAttribute('href'), link.rel, link.target]),
          }]));
        for (const [label, row] of rowsNow) seen.set(label, row);
        return seen.size === rows.length + 1;
      };
      await scrollUntil(page, collect);
      const seqOf = ([label]) => Number(/m(\d+)$/.exec(label)[1]);
      const all = [...seen].sort((a, b) => seqOf(a) - seqOf(b)).map(([, row]) => row);
      const texts = all.map(({ text }) => text).join('\n');
      assert.match(texts, /<script>window\.hacked = 1<\/script><img src=x onerror=/);
      assert.match(texts, /\[click\]\(javascript:window\.hacked=3\)/);
      assert.match(texts, /before RLOtxt\.exePDF LROx RLIyPDI after/);
      assert.deepEqual(all.flatMap(({ links }) => links), [
        ['image: a picture', 'https://elsewhere.example/pixel.png'],
        ['real', 'https://ok.example/path'],
      ].map((link) => [...link, 'noopener noreferrer', '_blank']));
      assert.equal(await page.locator('main img, main script, main iframe').count(), 0);
      const raw = await page.evaluate(() => document.body.innerText + document.title);
      assert.doesNotMatch(raw, /[\u202a-\u202e\u2066-\u2069]/);
      await page.locator('.agent', { hasText: 'note' }).getByText('RLO').waitFor();
      assert.equal(await page.evaluate(() => window.hacked), undefined);
      await shot(page, 'session-hostile-light');
    });
  });

  it('does not hold up the page by its size, nor push it out of shape', async () => {
    const sid = await server.session(['ann', 'bob']);
    await server.say(sid, 'ann', 'w'.repeat(256 * 1024));
    await server.say(sid, 'ann', `${'many words '.repeat(12)}\n`.repeat(1900));
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      for (const name of [/Show all 252,700 characters/, /Show all 262,144 characters/]) {
        await scrollUntil(page, () => page.getByRole('button', { name }).first().isVisible());
        const began = Date.now();
        await page.getByRole('button', { name }).first().click();
        await page.evaluate(() => new Promise((done) => {
          requestAnimationFrame(() => requestAnimationFrame(done));
        }));
        assert.ok(Date.now() - began < 5000, `${Date.now() - began} ms to show it`);
      }
      const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth,
        document.querySelector('.message-list').scrollWidth -
        document.querySelector('.message-list').clientWidth]);
      assert.ok(wide <= 400, `${wide} px wide`);
      assert.ok(room <= 0, `${room} px hang out of the list`);
    }, { width: 400 });
  });
});

describe('the past', () => {
  const server = serving();

  it('is shown at any moment by the slider and its keys, and left again', async () => {
    const sid = await talkative(server, 150);
    const { seq } = await server.view(sid);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await message(page, 'Number 150 of').waitFor();
      await slider(page).focus();
      await page.keyboard.press('ArrowLeft');
      await page.getByText(`You look at the past: event ${seq - 1} of ${seq}`).waitFor();
      await message(page, 'Number 149 of').waitFor();
      assert.equal(await message(page, 'Number 150 of').count(), 0);
      await page.waitForURL(`**/sessions/${sid}?*at=${seq - 1}*`);
      await page.keyboard.press('Home');
      await page.getByText(`event 1 of ${seq}`).waitFor();
      await until(async () => await page.locator('.agent').count() === 0, 'no agents yet');
      await slider(page).fill('60');
      await until(async () => await message(page, 'Number 56 of').count() === 1, 'message 56');
      const at = await server.view(sid, '?at=60');
      const shown = await page.locator('article.message').last().getAttribute('aria-label');
      assert.ok(shown.endsWith(at.state.threads.general.messages.at(-1).id), shown);
      await shot(page, 'session-past-light');
      await page.getByRole('button', { name: 'Back to live' }).first().click();
      await message(page, 'Number 150 of').waitFor();
      await page.waitForURL((url) => !url.searchParams.has('at'));
    });
  });

  it('plays to its end, and then is the present', async () => {
    const sid = await talkative(server, 60);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}?at=44`);
      await message(page, 'Number 40 of').waitFor();
      await page.evaluate(() => { // what is on the page at each change, by the number of the place
        window.played = new Map();
        new MutationObserver(() => {
          const place = Number(document.querySelector('input[type=range]').value);
          const last = [...document.querySelectorAll('article.message')].at(-1);
          window.played.set(place, last?.getAttribute('aria-label'));
        }).observe(document.querySelector('.session'),
          { subtree: true, childList: true, attributes: true });
      });
      await page.getByLabel('Speed').selectOption('5 events/s');
      await page.getByRole('button', { name: 'Play' }).click();
      await page.locator('.live').waitFor();
      await message(page, 'Number 60 of').waitFor();
      await page.getByRole('button', { name: 'Play' }).waitFor();
      const seqOf = (label) => Number(/m(\d+)$/.exec(label)[1]);
      // From 63 on it goes over into the present, whose last message is the 64th.
      const played = (await page.evaluate(() => [...window.played])).filter(([place]) => place < 63);
      for (const [place, last] of played)
        assert.ok(seqOf(last) <= place, `${last} at ${place}: nothing of the future`);
      const right = played.filter(([place, last]) => seqOf(last) === place).length;
      assert.ok(right >= 5, `${right} of ${played.length} moments were shown: ${played}`);
    });
  });

  it('has an address, can be forked, and says where there is none', async () => {
    const sid = await talkative(server, 40);
    const { seq } = await server.view(sid);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}?at=99999`);
      await page.getByText(`There is no event 99999: the session stands at ${seq}.`).waitFor();
      await page.goto(`/sessions/${sid}?at=20`);
      await message(page, 'Number 16 of').waitFor();
      await page.getByRole('button', { name: 'Fork from here' }).click();
      await page.getByRole('link', { name: `${sid} at 20` }).waitFor();
      assert.notEqual(new URL(page.url()).pathname, `/sessions/${sid}`);
      await message(page, 'Number 16 of').waitFor();
    });
  });
});

describe('the timeline', () => {
  const server = serving();

  it('goes back to the first event, filters, and tells what an event changed', async () => {
    const sid = await server.session();
    await server.live(sid, 15);
    const events = await server.events(sid);
    const of = (type) => events.filter((event) => event.type === type);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      const panel = page.getByRole('region', { name: 'Timeline' });
      await lines(page).first().waitFor();
      assert.match(await lines(page).first().innerText(), new RegExp(`^${events.at(-1).seq}\\b`));
      await panel.locator('.windowed').hover();
      await until(async () => {
        await page.mouse.wheel(0, 3000);
        return panel.getByText(`${events.length} events`).isVisible();
      }, 'the first event');

      await panel.getByLabel('Type of event').selectOption('thread.closed');
      await panel.getByText(`${of('thread.closed').length} events`).waitFor();
      await page.waitForURL(/type=thread\.closed/);
      await panel.getByLabel('Agent', { exact: true }).selectOption('ann');
      await panel.getByText('No events match.').waitFor();
      await panel.getByRole('button', { name: 'Clear filters' }).click();

      const created = of('thread.created')[2];
      await page.goto(`/sessions/${sid}?event=${created.seq}`);
      const inspector = page.getByRole('article', { name: `Event ${created.seq}` });
      await inspector.getByText('"type": "thread.created"').waitFor();
      const { ops } = await server.diff(sid, `?from=${created.seq - 1}&to=${created.seq}`);
      await until(async () => {
        const [, patch] = await inspector.locator('.json').allInnerTexts();
        return patch && JSON.stringify(JSON.parse(patch)) === JSON.stringify(ops);
      }, 'the patch');
      await inspector.getByRole('button', { name: 'Go to it' }).click();
      await page.getByText(`You look at the past: event ${created.seq}`).waitFor();
      await page.keyboard.press('Escape');
      await inspector.waitFor({ state: 'detached' });
      await page.goto(`/sessions/${sid}?event=99999`);
      await page.getByText('There is no event 99,999').waitFor();
    });
  });

  it('shows the patch of a live event as it came', async () => {
    const sid = await server.session();
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await connected(page);
      await page.locator('.agent').first().waitFor();
      expect(await server.command(sid,
        { type: 'agent.update', agent: 'ann', status: 'attention', note: 'Look here' }), 200);
      await page.locator('.agent-attention', { hasText: 'Look here' }).waitFor();
      await lines(page).filter({ hasText: 'Look here' }).click();
      await page.getByText('as it came').waitFor();
      await page.getByText('"path": "/agents/ann/status"').waitFor();
    });
  });
});

describe('somebody at the page', () => {
  const server = serving();

  it('registers, takes part, speaks, mentions, answers', async () => {
    const sid = await server.session(['ann', 'bob'], { sid: newId('speak') });
    await server.say(sid, 'ann', 'What is the port?');
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await page.getByPlaceholder('your-name').fill('eve of all');
      await page.getByRole('button', { name: 'Register', exact: true }).click();
      assert.equal((await server.view(sid)).state.agents['eve of all'], undefined);
      await page.getByPlaceholder('your-name').fill('eve');
      await page.getByRole('button', { name: 'Register', exact: true }).click();
      await page.getByRole('button', { name: 'Take part, let in by ann' }).click();
      const area = page.getByLabel('Message', { exact: true });
      await area.pressSequentially('Good day @b');
      await page.locator('.offers').getByRole('option', { name: 'bob' }).waitFor();
      await page.keyboard.press('Enter');
      await area.pressSequentially('and all');
      await page.keyboard.press('Enter');
      await message(page, 'Good day @bob and all').waitFor();
      await message(page, 'What is the port?').getByRole('button', { name: /^Answer/ }).click();
      await page.keyboard.type('8080');
      await page.keyboard.press('Enter');
      await message(page, '8080').locator('.reply-to', { hasText: 'What is the port?' }).waitFor();
      const { threads } = (await server.view(sid)).state;
      const [question, greeting, answer] = threads.general.messages;
      assert.deepEqual([greeting.sender, greeting.mentions], ['eve', ['bob']]);
      assert.deepEqual([answer.sender, answer.reply_to, answer.content],
        ['eve', question.id, '8080']);
      await until(async () => (await server.view(sid)).state.threads.general.participants.eve
        .read >= question.seq, 'what was seen counts as read');
      await page.reload();
      await page.getByText('As eve').waitFor();
      await shot(page, 'session-speaking-light');
    });
  });

  it('makes threads, closes them, changes a status', async () => {
    const sid = await server.session();
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await page.getByPlaceholder('your-name').fill('ann');
      await page.getByRole('button', { name: 'Register', exact: true }).click();
      await page.getByText('As ann').waitFor();
      await page.getByRole('button', { name: 'New thread' }).click();
      await page.getByRole('dialog').getByLabel('Name').fill('Aside');
      await page.getByRole('checkbox', { name: 'bob' }).check();
      await page.getByRole('button', { name: 'Make it as ann' }).click();
      await page.getByRole('heading', { name: 'Aside' }).waitFor();
      await page.getByLabel('Message', { exact: true }).fill('Said aside.');
      await page.getByRole('button', { name: 'Send' }).click();
      await message(page, 'Said aside.').waitFor();
      await page.getByRole('button', { name: 'Close…' }).click();
      await page.getByLabel(/What came of it/).fill('All is said.');
      await page.getByRole('button', { name: 'Close the thread' }).click();
      await page.getByText('This thread is closed.').waitFor();
      await message(page, 'Said aside.').waitFor();
      await page.reload(); // a closed thread has no messages in the state
      await message(page, 'Said aside.').waitFor();
      await page.getByRole('button', { name: 'Change ann' }).click();
      await page.getByLabel('Status').selectOption('question');
      await page.getByLabel('Note').fill('Who knows?');
      await page.getByRole('button', { name: 'Change', exact: true }).click();
      await page.locator('.agent-question', { hasText: 'Who knows?' }).waitFor();
      const { agents, threads } = (await server.view(sid)).state;
      assert.deepEqual([agents.ann.status, agents.ann.note], ['question', 'Who knows?']);
      const aside = Object.values(threads).find(({ name }) => name === 'Aside');
      assert.deepEqual([aside.status, aside.summary, Object.keys(aside.participants).sort()],
        ['closed', 'All is said.', ['ann', 'bob']]);
    });
  });

  it('is told what the server refuses, where it was asked for', async () => {
    const sid = await server.session();
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await page.getByPlaceholder('your-name').fill('ann');
      await page.getByRole('button', { name: 'Register', exact: true }).click();
      const area = page.getByLabel('Message', { exact: true });
      await area.fill('x'.repeat(256 * 1024 + 1));
      await page.getByRole('button', { name: 'Send' }).click();
      await page.locator('.composer .problem-line', { hasText: 'content' }).waitFor();
      assert.equal((await area.inputValue()).length, 256 * 1024 + 1, 'what was typed is kept');
    });
  });
});

describe('a session that is not there', () => {
  const server = serving();

  it('says what it is and what to run', async () => {
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open('/sessions/never-made');
      await page.getByRole('heading', { name: 'There is no such session' }).waitFor();
      await page.getByText(`curl -X PUT ${server.url}/v1/sessions/never-made`).waitFor();
    });
  });

  it('is told apart from one without threads, and from one that goes', async () => {
    const sid = await server.session(['ann'], { thread: null });
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await page.getByText('No threads yet').waitFor();
      expect(await server.command(sid, { type: 'thread.create', creator: 'ann', name: 'Here',
        participants: [] }), 200);
      await page.getByRole('heading', { name: 'Here' }).waitFor();
      expect(await server.delete(`/v1/sessions/${sid}`), 204);
      await page.getByText('deleted while you watched').waitFor();
      await page.getByRole('heading', { name: 'Here' }).waitFor();
    });
  });
});

describe('without a mouse, and with little room', () => {
  const server = serving();

  it('has every panel behind a tab at 400 px', async () => {
    const sid = await server.session();
    await server.live(sid, 5);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      for (const [tab, inside] of [['threads', '.thread-row'], ['agents', '.agent'],
        ['graph', '.graph svg'], ['timeline', '.event-line'], ['messages', 'article.message']]) {
        await page.getByRole('tab', { name: tab }).click();
        await page.locator(inside).first().waitFor();
        await shot(page, `session-${tab}-400`);
      }
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 400);
    }, { width: 400 });
  });

  it('tells in a table what the graph draws', async () => {
    const sid = await talkative(server, 20);
    await inWindow(chrome, server, async ({ open }) => {
      const page = await open(`/sessions/${sid}`);
      await page.getByText('As a table').focus();
      await page.keyboard.press('Enter');
      await page.locator('.graph-table tr', { hasText: /^bobann10$/ }).waitFor();
      await server.say(sid, 'bob', 'One more.', { mentions: ['ann'] });
      await page.locator('.graph-table tr', { hasText: /^bobann11$/ }).waitFor();
    });
  });
});
