// Draws what loadtest/curves.sh has measured.
//
//   node curves.mjs --runs DIR --out OUT --about TEXT    puts runs into OUT/curves.json, and draws
//   node curves.mjs --out OUT                            draws again, as after a change to bends.txt
//
// A run is DIR/CURVE.POINT.ROUND.json, a report of atoll-load; beside it can lie ….at, where on the
// axis it belongs, if not where its options say. Of a curve that has runs, all that curves.json
// held of it is replaced. OUT/bends.txt explains: "CURVE: text" about a curve, "CURVE @X: text" about
// the bend at X, which is then marked; lines that begin with # are notes. Each curve has a law that
// its CPU time should follow, a, a + b x, or a + b / x, which is fitted and drawn as a dashed line: a
// point more than BEND off it, with none of its rounds on it, is a bend. Those that bends.txt does
// not tell of are named at the end.
//
// Drawn are CURVE.svg for each, readable in light and in dark; table.md; and index.html, which
// needs nothing else.
import { readFileSync, readdirSync, writeFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';

const BEND = 0.15;

// What is drawn: panels of a figure each. `each` is the operation that the CPU time is of.
const curves = {
  history: {
    law: 'flat', title: 'History length', x: 'events in the session', at: (run) => run.at,
    setup: '64 connections, one command at a time each',
  },
  sessions: {
    law: 'flat', title: 'Number of sessions', x: 'sessions', at: (run) => run.options.sessions,
    setup: '64 connections, to all sessions in turn',
  },
  watchers: {
    law: 'rising', title: 'Watchers of the session', x: 'watchers',
    at: (run) => run.options.watchers ?? 0,
    setup: '16 writers, each event told to each watcher, at most 32 on the way',
    panels: [
      { name: 'cpu_us', y: 'server CPU, µs a command', log: true },
      { name: 'delivery_us', y: 'server CPU, µs a delivery', log: true },
    ],
  },
  payload: {
    law: 'rising', title: 'Payload', x: 'bytes of content', at: (run) => run.options.payload,
    setup: '64 connections, 256 sessions',
    panels: [
      { name: 'cpu_us', y: 'server CPU, µs a command', log: true },
      { name: 'mb_per_s', y: 'MB/s of content', log: true },
    ],
  },
  connections: {
    law: 'falling', title: 'Connections', x: 'connections', at: (run) => run.options.connections,
    setup: '256 sessions, a command under way on each connection',
  },
  batch: {
    law: 'falling', title: 'Batch size', x: 'commands in a request', at: (run) => run.options.batch,
    setup: '16 connections, one session',
    panels: [
      { name: 'cpu_us', y: 'server CPU, µs a command', log: true },
      { name: 'per_s', y: 'commands/s', log: true },
    ],
  },
  shards: {
    title: 'Shards', x: 'shards, a core each', at: (run) => run.point,
    setup: '256 connections, 256 sessions; with two, the load shares their cores',
  },
};
const usual = [
  { name: 'cpu_us', y: 'server CPU, µs a command' },
  { name: 'per_s', y: 'commands/s' },
];

// ---- options

function options(argv) {
  const given = {};
  for (let i = 0; i < argv.length; i += 2) {
    if (!['--runs', '--out', '--about'].includes(argv[i]) || argv[i + 1] === undefined) {
      console.error('usage: curves.mjs --out DIR [--runs DIR --about TEXT]');
      process.exit(2);
    }
    given[argv[i].slice(2)] = argv[i + 1];
  }
  if (!given.out) {
    console.error('curves.mjs: --out DIR is missing: where curves.json is, or is to be');
    process.exit(2);
  }
  return given;
}

// ---- from runs to points

const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);

function readRun(dir, file) {
  const [, curve, point, round] = file.match(/^(\w+)\.(\d+)\.(\d+)\.json$/);
  const report = JSON.parse(readFileSync(join(dir, file), 'utf8'));
  const at = join(dir, file.replace(/json$/, 'at'));
  const given = Object.entries(report.options).map(([name, value]) => [name, number(value)]);
  return {
    curve, point: Number(point), round: Number(round), figures: report.figures,
    latency: report.latency, options: Object.fromEntries(given), mode: report.mode,
    at: existsSync(at) ? Number(readFileSync(at, 'utf8')) : undefined,
  };
}

// What is drawn or told of one run. Of a watched one an operation is a delivery, an event a command.
function figuresOf(run) {
  const { figures, latency } = run;
  const watched = run.mode === 'watch';
  const perS = watched ? figures.events_per_s : figures.per_s;
  return {
    x: curves[run.curve].at(run),
    per_s: perS,
    cpu_us: watched ? figures.server_cpu_us_event : figures.server_cpu_us,
    delivery_us: watched ? figures.server_cpu_us : undefined,
    mb_per_s: run.curve === 'payload' ? (perS * run.options.payload) / 1e6 : undefined,
    p50_us: latency.answer_us?.p50,
    p99_us: latency.answer_us?.p99,
    load_percent: figures.load_cpu_percent,
    rss_mb: figures.server_rss_mb,
  };
}

function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, least: sorted[0], most: sorted.at(-1) };
}

function pointOf(runs) {
  const seen = runs.map(figuresOf);
  const point = { rounds: runs.length };
  for (const name of Object.keys(seen[0])) {
    const values = seen.map((figures) => figures[name]).filter((value) => value !== undefined);
    if (values.length === seen.length)
      point[name] = spread(values);
  }
  return point;
}

function takeRuns(dir, about, held) {
  const files = readdirSync(dir).filter((file) => file.endsWith('.json'));
  const runs = files.map((file) => readRun(dir, file));
  for (const name of Object.keys(curves)) {
    const own = runs.filter((run) => run.curve === name);
    if (own.length === 0)
      continue;
    const points = [...new Set(own.map((run) => run.point))].sort((a, b) => a - b);
    held[name] = {
      about,
      points: points.map((point) => pointOf(own.filter((run) => run.point === point))),
    };
  }
  return held;
}

// ---- bends

function readBends(path) {
  const bends = {};
  for (const name of Object.keys(curves))
    bends[name] = { about: [], at: [] };
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [];
  for (const [i, line] of lines.entries()) {
    const found = line.match(/^(\w+)(?: @([\d.]+))?: (.+)$/);
    if (found && bends[found[1]]) {
      const [, name, x, text] = found;
      if (x === undefined)
        bends[name].about.push(text);
      else
        bends[name].at.push({ x: Number(x), text });
    } else if (line.trim() !== '' && !line.startsWith('#')) {
      console.error(`${path}:${i + 1}: neither "CURVE: text" nor "CURVE @X: text"`);
      process.exit(1);
    }
  }
  return bends;
}

// The point that a bend is told of: the nearest one, by ratio.
function nearest(points, x) {
  const apart = (point) => Math.abs(Math.log((point.x.median + 1) / (x + 1)));
  return points.reduce((best, point) => (apart(point) < apart(best) ? point : best));
}

// What a and b in a + b f(x) have to be for the least relative error, and that as a function; none
// for curves without a law.
const laws = { flat: () => 0, rising: (x) => x, falling: (x) => 1 / Math.max(x, 1) };
function lawOf(name, points) {
  const f = laws[curves[name].law];
  if (!f)
    return undefined;
  let [n, x, xx, y, xy] = [0, 0, 0, 0, 0]; /* sums, each point weighed by 1 / y^2 */
  for (const { x: at, cpu_us: { median } } of points) {
    const weight = 1 / median ** 2, value = f(at.median);
    n += weight, x += weight * value, xx += weight * value * value;
    y += weight * median, xy += weight * value * median;
  }
  const whole = n * xx - x * x;
  const b = Math.abs(whole) > 1e-12 * n * xx ? (n * xy - x * y) / whole : 0;
  const a = (y - b * x) / n;
  const [fixed, slope] = [a, b].map((value) => Number(value.toPrecision(2)));
  const rest = { flat: '', rising: ` + ${slope} x`, falling: ` + ${slope} / x` };
  return { at: (value) => a + b * f(value), text: `${fixed}${rest[curves[name].law]} µs` };
}

// Points whose CPU time is off the law.
function findBends(name, points) {
  const law = lawOf(name, points);
  return !law ? [] : points.map(({ x, cpu_us: { median, least, most } }) => {
    const expected = law.at(x.median);
    return { x: x.median, ratio: median / expected, apart: least > expected || most < expected };
  }).filter(({ ratio, apart }) => apart && Math.abs(Math.log(ratio)) > Math.log(1 + BEND));
}

// ---- drawing

const WIDTH = 940, HEIGHT = 320, PANEL = 400, LEFT = 62, GAP = 70, TOP = 46, BOTTOM = 52;

const escapeText = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

// 1234567 as 1.2M; short, for axes and labels.
function brief(value) {
  const [size, sign] = value >= 999500 ? [1e6, 'M'] : value >= 9995 ? [1e3, 'k'] : [1, ''];
  const scaled = value / size;
  const digits = scaled >= 99.5 || Number.isInteger(scaled) ? 0 : scaled >= 9.95 ? 1 : 2;
  return scaled.toFixed(digits).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '') + sign;
}

// Steps of 1, 2 or 5 from 0 to above `most`, with room for a label.
function linearTicks(most) {
  const raw = most / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((n) => n * power >= raw) * power;
  return Array.from({ length: Math.ceil((most * 1.1) / step) + 1 }, (_, i) => i * step);
}

function logTicks(least, most) {
  const first = Math.floor(Math.log10(least)), last = Math.ceil(Math.log10(most));
  return Array.from({ length: Math.max(last - first, 1) + 1 }, (_, i) => 10 ** (first + i));
}

// A value's place between 0 and 1. Nought, on a logarithmic axis, stands a decade before the first.
function scaleOf(ticks, log) {
  const [first, last] = [ticks[0], ticks.at(-1)];
  if (!log)
    return (value) => (value - first) / (last - first || 1);
  const low = Math.log10(first), high = Math.log10(last);
  return (value) => (Math.log10(Math.max(value, first)) - low) / (high - low || 1);
}

function xAxis(name, points) {
  const xs = points.map((point) => point.x.median);
  if (name === 'shards')
    return { ticks: xs, place: (x) => (xs.indexOf(x) + 0.5) / xs.length, label: brief };
  const positive = xs.filter((x) => x > 0);
  const ticks = logTicks(Math.min(...positive), Math.max(...positive));
  if (positive.length !== xs.length) /* nought, a decade before the first */
    ticks.unshift(ticks[0] / 10);
  return {
    ticks, place: scaleOf(ticks, true),
    label: (x) => (x === ticks[0] && positive.length !== xs.length ? '0' : brief(x)),
  };
}

function yAxis(panel, points) {
  const most = Math.max(...points.map((point) => point[panel.name].most));
  const least = Math.min(...points.map((point) => point[panel.name].least));
  const ticks = panel.log ? logTicks(least, most) : linearTicks(most);
  return { ticks, place: scaleOf(ticks, panel.log), label: brief };
}

function drawPanel(name, panel, all, bends, left) {
  const points = all.filter((point) => point[panel.name]);
  const x = xAxis(name, all), y = yAxis(panel, points);
  const height = HEIGHT - TOP - BOTTOM, right = left + PANEL - LEFT;
  const px = (value) => (left + x.place(value) * (right - left)).toFixed(1);
  const py = (value) => (TOP + (1 - y.place(value)) * height).toFixed(1);
  const text = (kind, anchor, at, line, said) =>
    `<text class="${kind}" text-anchor="${anchor}" x="${at}" y="${line}">${escapeText(said)}</text>`;
  const path = (kind, d) => `<path class="${kind}" d="${d}"/>`;
  const circle = (kind, cx, cy, r) => `<circle class="${kind}" cx="${cx}" cy="${cy}" r="${r}"/>`;
  const parts = [text('y', 'start', left, TOP - 20, panel.y)];
  for (const tick of y.ticks)
    parts.push(path('grid', `M${left} ${py(tick)}H${right}`),
      text('tick', 'end', left - 8, +py(tick) + 4, y.label(tick)));
  for (const tick of x.ticks)
    parts.push(text('tick', 'middle', px(tick), HEIGHT - BOTTOM + 18, x.label(tick)));
  parts.push(text('tick', 'middle', (left + right) / 2, HEIGHT - 12, curves[name].x));
  const line = (places) => `M${places.map(([at, value]) => `${px(at)} ${py(value)}`).join('L')}`;
  for (const { x: { median }, [panel.name]: { least, most } } of points)
    parts.push(path('spread', `M${px(median)} ${py(least)}V${py(most)}`));
  const law = panel.name === 'cpu_us' ? lawOf(name, all) : undefined;
  if (law) {
    const xs = points.map((point) => point.x.median), low = Math.log(Math.max(xs[0], 1));
    const steps = Array.from({ length: 41 },
      (_, i) => Math.exp(low + (i / 40) * (Math.log(xs.at(-1)) - low)));
    parts.push(path('law', line(steps.map((at) => [at, law.at(at)]))),
      text('tick', 'end', right, TOP - 20, `- - ${law.text}`));
  }
  parts.push(path('line', line(points.map((point) => [point.x.median, point[panel.name].median]))));
  for (const [i, point] of points.entries()) {
    const value = point[panel.name].median, limited = point.load_percent?.median >= 95;
    const anchor = i === 0 ? 'start' : i === points.length - 1 ? 'end' : 'middle';
    parts.push(circle(limited ? 'limited' : 'dot', px(point.x.median), py(value), 4),
      text('value', anchor, px(point.x.median), +py(value) - 10, brief(value)));
  }
  for (const [i, bend] of bends.entries()) {
    const point = nearest(all, bend.x);
    if (!point[panel.name])
      continue;
    const cx = px(point.x.median), dot = +py(point[panel.name].median);
    const cy = dot + 28 > HEIGHT - BOTTOM ? dot - 28 : dot + 20; /* above, where the axis is near */
    parts.push(circle('mark', cx, cy, 8), text('marked', 'middle', cx, cy + 4, i + 1));
  }
  return parts.join('\n');
}

const style = `
  svg { color-scheme: light dark; font: 12px system-ui, sans-serif; }
  text { fill: #333; } .tick { fill: #666; } .y { font-weight: 600; } .value { font-size: 11px; }
  .grid { stroke: #ddd; fill: none; } .line { stroke: #0b6bcb; stroke-width: 2; fill: none; }
  .law { stroke: #888; stroke-dasharray: 5 4; fill: none; }
  .spread { stroke: #0b6bcb; stroke-width: 6; stroke-opacity: .22; fill: none; }
  .dot { fill: #0b6bcb; } .limited { fill: #fff; stroke: #0b6bcb; stroke-width: 2; }
  .mark { fill: #c2410c; } .marked { fill: #fff; font-size: 11px; font-weight: 600; }
  .paper { fill: #fff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; } .tick { fill: #aaa; } .grid { stroke: #3a3f46; } .paper { fill: #16191d; }
    .line, .spread { stroke: #6cb2ff; } .dot { fill: #6cb2ff; }
    .limited { fill: #16191d; stroke: #6cb2ff; } .marked { fill: #fff; }
  }`;

function drawCurve(name, held, bends) {
  const panels = curves[name].panels ?? usual;
  const drawn = panels.map((panel, i) =>
    drawPanel(name, panel, held.points, bends.at, LEFT + i * (PANEL + GAP)));
  const title = `${curves[name].title}: ${panels.map((panel) => panel.y).join('; ')}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" ` +
    `aria-label="${escapeText(title)}">\n<title>${escapeText(title)}</title>\n` +
    `<style>${style}\n</style>\n` +
    `<rect class="paper" width="${WIDTH}" height="${HEIGHT}"/>\n${drawn.join('\n')}\n</svg>\n`;
}

// ---- words and numbers

const columns = [
  ['per_s', 'commands/s'], ['cpu_us', 'server CPU, µs'], ['delivery_us', '… a delivery'],
  ['p50_us', 'p50, µs'], ['p99_us', 'p99, µs'], ['load_percent', 'load CPU, %'],
  ['rss_mb', 'server MB'],
];

function tableOf(name, points) {
  const shown = columns.filter(([column]) => points.some((point) => point[column]));
  const cell = (point, column) => {
    const value = point[column];
    if (!value)
      return '';
    const range = column === 'cpu_us' ? ` (${brief(value.least)} to ${brief(value.most)})` : '';
    return brief(value.median) + range;
  };
  return {
    head: [curves[name].x, ...shown.map(([, title]) => title)],
    rows: points.map((point) =>
      [brief(point.x.median), ...shown.map(([column]) => cell(point, column))]),
  };
}

function markdownOf(name, held, bends) {
  const { head, rows } = tableOf(name, held.points);
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [
    `### ${curves[name].title}`, '', `${curves[name].setup}. ${held.about}.`, '',
    `![${curves[name].title}](${name}.svg)`, '', line(head), line(head.map(() => '--:')),
    ...rows.map(line), '', ...bends.about.flatMap((text) => [text, '']),
    ...bends.at.map(({ x, text }, i) => `${i + 1}. At ${brief(x)}: ${text}`),
    ...(bends.at.length ? [''] : []),
  ].join('\n');
}

function sectionOf(name, held, bends, svg) {
  const { head, rows } = tableOf(name, held.points);
  const row = (cells, tag) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeText(cell)}</${tag}>`).join('')}</tr>`;
  const marks = bends.at
    .map(({ x, text }) => `<li>At ${brief(x)}: ${escapeText(text)}</li>`).join('');
  return `<section id="${name}"><h2>${escapeText(curves[name].title)}</h2>
<p class="setup">${escapeText(`${curves[name].setup}. ${held.about}.`)}</p>
<div class="wide">${svg}</div>${bends.about.map((text) => `<p>${escapeText(text)}</p>`).join('')}
${marks ? `<ol>${marks}</ol>` : ''}
<details><summary>Numbers</summary><div class="wide"><table>
${row(head, 'th')}${rows.map((cells) => row(cells, 'td')).join('')}</table></div></details>
</section>`;
}

function pageOf(sections) {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Atoll: what a command costs</title>
<style>
  :root { color-scheme: light dark; }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
    background: light-dark(#fff, #16191d); color: light-dark(#222, #ddd); }
  svg { width: 100%; min-width: 40rem; height: auto; display: block; }
  .setup { color: light-dark(#555, #aaa); }
  h1, h2 { line-height: 1.2; } section { margin-top: 3rem; } .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .2rem .7rem; text-align: right;
    border-bottom: 1px solid light-dark(#ddd, #3a3f46); }
</style>
<h1>What a command costs</h1>
<p>One durable <code>message.send</code> of 64 bytes, unless it says otherwise. Dots are medians, the
bars behind them all that was seen, the dashed line the law that fits them best; a hollow dot is one
where the load generator was the limit. Numbers in circles are bends, explained below their chart.</p>
${sections.join('\n')}
</html>
`;
}

// ---- all of it

const given = options(process.argv.slice(2));
const store = join(given.out, 'curves.json');
let held = existsSync(store) ? JSON.parse(readFileSync(store, 'utf8')) : {};
if (given.runs) {
  held = takeRuns(given.runs, given.about ?? '', held);
  writeFileSync(store, `${JSON.stringify(held, null, 1)}\n`);
}
const bends = readBends(join(given.out, 'bends.txt'));
const sections = [], tables = [];
for (const name of Object.keys(curves).filter((known) => held[known])) {
  const svg = drawCurve(name, held[name], bends[name]);
  writeFileSync(join(given.out, `${name}.svg`), svg);
  sections.push(sectionOf(name, held[name], bends[name], svg));
  tables.push(markdownOf(name, held[name], bends[name]));
  for (const bend of findBends(name, held[name].points)) {
    const told = bends[name].at.some(({ x }) => nearest(held[name].points, x).x.median === bend.x);
    if (!told)
      console.log(`${name}: a bend at ${brief(bend.x)} is not explained: ` +
        `${bend.ratio.toFixed(2)} times what its law says, ${lawOf(name, held[name].points).text}`);
  }
}
writeFileSync(join(given.out, 'index.html'), pageOf(sections));
writeFileSync(join(given.out, 'table.md'), tables.join('\n'));
