// The page of compare.sh: each row's rounds as dots, all of it as tables, and the configuration. One
// file that asks nothing of any other host and runs no script; light or dark as the reader's system
// is. How numbers are written, there and in the table of markdown, is told here too.

const style = `
:root { color-scheme: light dark; --text: #1c2330; --soft: #5b6575; --line: #d9dee6; --card: #fff;
  --back: #f4f6f9; --atoll: #0b6bcb; --rival: #b35c00; --good: #18794e; --bad: #c62a2f; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ee; --soft: #9aa5b4; --line: #333b47;
  --card: #1b212a; --back: #12161c; --atoll: #6cb3ff; --rival: #ffa657; --good: #4cc38a;
  --bad: #ff8589; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
p { margin: .25rem 0; color: var(--soft); } .bad { color: var(--bad); }
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr));
  gap: 1rem; margin-top: 1.5rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .9rem 1rem; display: flex; flex-direction: column; gap: .4rem; }
article h3 { font-size: .95rem; margin: 0; line-height: 1.35; }
article p { font-size: .8rem; } article .lacks { margin-top: auto; }
.ratio { font-size: 1.6rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.ratio small { font-size: .8rem; font-weight: 400; color: var(--soft); }
.met { float: right; font-size: .8rem; font-weight: 600; padding: .1rem .5rem;
  border: 1px solid currentColor; border-radius: 1rem; color: var(--good); }
.met.no { color: var(--bad); }
svg { width: 100%; height: auto; display: block; font: 11px system-ui, sans-serif; }
svg text { fill: var(--soft); } .axis { stroke: var(--line); }
.atoll { fill: var(--atoll); stroke: var(--atoll); } .rival { fill: var(--rival); stroke: var(--rival); }
circle { fill-opacity: .45; stroke-width: 1; } .median { stroke-width: 2; }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem;
  overflow-x: auto; white-space: pre-wrap; font-size: .8rem; }
`;

export function number(value) {
  if (!Number.isFinite(value)) return '';
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en').replaceAll(',', ' ');
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
}

export function goal(row, value) {
  return value === undefined ? '' : `${row.less ? '≤' : '≥'} ${value >= 1000 ? number(value) : value}`;
}

export function sideText({ words, notes, median: value }) {
  const about = [words, ...notes].filter(Boolean).join(', ');
  return about ? `${number(value)} (${about})` : number(value);
}

export const missed = 'NO', notJudged = 'not judged';

function isBad({ met }) {
  return met === missed || met === notJudged;
}

function escape(text) {
  return String(text).replace(/[&<>"]/g, (c) => `&#${c.codePointAt(0)};`);
}

const plot = { width: 340, left: 8, right: 332, line: 34 };

/** One side's rounds on a line that begins at 0, and its median as a stroke. */
function strip(side, kind, label, most, y) {
  const x = (value) => plot.left + (value / most) * (plot.right - plot.left);
  const dots = side.values.map((value) =>
    `<circle class="${kind}" cx="${x(value).toFixed(1)}" cy="${y}" r="4"/>`);
  const at = x(side.median).toFixed(1);
  return `<line class="axis" x1="${plot.left}" x2="${plot.right}" y1="${y}" y2="${y}"/>
<text x="${plot.left}" y="${y - 9}">${escape(label)}: ${number(side.median)}</text>
${dots.join('')}<line class="${kind} median" x1="${at}" x2="${at}" y1="${y - 7}" y2="${y + 7}"/>`;
}

function chart(row) {
  const sides = [[row.atoll, 'atoll', row.atoll.words || 'Atoll']];
  if (row.rival) sides.push([row.rival, 'rival', row.rival.words || 'the rival']);
  const most = 1.05 * Math.max(...sides.flatMap(([side]) => side.values));
  const strips = sides.map(([side, kind, label], i) =>
    strip(side, kind, label, most, 24 + i * plot.line));
  return `<svg viewBox="0 0 ${plot.width} ${sides.length * plot.line + 4}" role="img"
 aria-label="each round, from 0 to ${number(most)}">${strips.join('')}</svg>`;
}

function card(row) {
  const goals = row.must === undefined ? '' :
    `must ${goal(row, row.must)}, try ${goal(row, row.attempt)}`;
  const met = row.met &&
    `<span class="met${isBad(row) ? ' no' : ''}">${row.met === missed ? 'missed' : row.met}</span>`;
  const ratio = row.ratio === undefined ? number(row.atoll.median) : row.ratio.toFixed(3);
  return `<article><h3>${met}${escape(row.what)}</h3>
<div class="ratio">${ratio} <small>${row.less ? 'less is better' : 'more is better'}${
    goals && ` · ${goals}`}</small></div>
${chart(row)}<p class="lacks">${escape(row.lacks)}</p></article>`;
}

function table(rows) {
  const cells = rows.map((row) => `<tr><td>${escape(row.what)}</td>
<td class="n">${escape(sideText(row.atoll))}</td>
<td class="n">${row.rival ? escape(sideText(row.rival)) : ''}</td>
<td class="n">${row.ratio === undefined ? '' : row.ratio.toFixed(3)}</td>
<td class="n">${goal(row, row.must)}</td><td class="n">${goal(row, row.attempt)}</td>
<td${isBad(row) ? ' class="bad"' : ''}>${row.met}</td></tr>`);
  return `<div class="table"><table><thead><tr><th>What</th><th>Atoll</th><th>Rival</th><th>Ratio</th>
<th>Must</th><th>Try</th><th>Met</th></tr></thead><tbody>${cells.join('\n')}</tbody></table></div>`;
}

function busy(runs) {
  const percent = (run, name) => {
    const value = run.found.figures?.[name];
    return Number.isFinite(value) ? `${Math.round(value)} %` : '';
  };
  const cells = runs.map((run) => `<tr><td>${escape(run.group)}</td><td>${escape(run.side)}</td>
<td class="n">${run.round}</td><td class="n">${number(run.found.figures?.per_s)}</td>
<td class="n">${number(run.found.latency?.answer_us?.p50)}</td>
<td class="n">${number(run.found.latency?.answer_us?.p99)}</td>
<td class="n">${number(run.found.figures?.server_cpu_us)}</td>
<td class="n">${percent(run, 'server_cpu_percent')}</td>
<td class="n">${percent(run, 'load_cpu_percent')}</td>
<td class="n">${number(run.found.figures?.server_rss_mb)}</td></tr>`);
  return `<div class="table"><table><thead><tr><th>Group</th><th>Side</th><th>Round</th><th>a second</th>
<th>p50 µs</th><th>p99 µs</th><th>CPU µs each</th><th>server</th><th>load</th><th>server MB</th></tr></thead>
<tbody>${cells.join('\n')}</tbody></table></div>`;
}

export function page({ machine, configuration, table: rows, problems, missing, runs }) {
  const wrong = [...problems, ...missing.map((name) => `row ${name} could not be measured`)];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Atoll, compared</title><style>${style}</style></head><body>
<h1>Atoll, compared</h1><p>${escape(machine)}</p>
${wrong.map((text) => `<p class="bad">${escape(text)}</p>`).join('\n')}
<div class="rows">${rows.map(card).join('\n')}</div>
<h2>All rows</h2>${table(rows)}
<h2>All rounds</h2>${busy(runs)}
<h2>Configuration</h2><pre>${escape(configuration)}</pre>
</body></html>
`;
}
