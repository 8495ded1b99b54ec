// Bundles the dashboard: node build.mjs --out DIR [--modules DIR]
//
// Writes to DIR the files that the server gives out, each also as .gz, and assets_data.c, which
// takes them into the binary (server/assets.c looks them up there). Names of scripts and styles
// hold a hash of their content, so that browsers may keep them for ever. `--modules` is the
// node_modules to build from, by default the one next to this file: CMake has one in each build
// tree, so that builds of several trees do not meet.
//
// Fails where the sources do not bundle, and where a page would load more than FIRST_LOAD_BYTES of
// compressed script before it shows anything.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const FIRST_LOAD_BYTES = 80 * 1024;
const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: { out: { type: 'string' }, modules: { type: 'string' } },
});
if (!options.out) {
  console.error('usage: node build.mjs --out DIR [--modules DIR]');
  process.exit(2);
}
const out = resolve(options.out);
const modules = resolve(options.modules ?? join(here, 'node_modules'));
const esbuild = createRequire(join(modules, 'x.js'))('esbuild');

const shared = {
  absWorkingDir: here,
  nodePaths: [modules],
  bundle: true,
  minify: true,
  target: ['es2022'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  outdir: out,
  metafile: true,
  logLevel: 'warning',
  legalComments: 'none',
};

const content = (path) => readFileSync(join(out, path));
const packed = (path) => gzipSync(content(path), { level: 9 });
const hash = (bytes) => createHash('sha256').update(bytes).digest('base64url').slice(0, 16);

/** The outputs of a build by their names, with what each imports. */
function outputsOf({ metafile }) {
  return Object.fromEntries(Object.entries(metafile.outputs).map(([path, about]) => [
    basename(path), {
      entry: about.entryPoint,
      css: about.cssBundle && basename(about.cssBundle),
      imports: about.imports.filter(({ kind }) => kind === 'import-statement')
        .map(({ path: imported }) => basename(imported)),
    }]));
}

async function bundle() {
  const worker = outputsOf(await esbuild.build({
    ...shared, entryPoints: ['src/data/worker.ts'], entryNames: '[name]-[hash]', format: 'iife',
  }));
  const workerName = Object.keys(worker).find((name) => worker[name].entry);
  const pages = outputsOf(await esbuild.build({
    ...shared, entryPoints: ['src/main.tsx'], entryNames: '[name]-[hash]',
    chunkNames: '[name]-[hash]', format: 'esm', splitting: true,
    define: { WORKER_URL: JSON.stringify(`/assets/${workerName}`) },
  }));
  return { workerName, pages };
}

/** A script with all that it cannot run without. */
function withImports(pages, name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  pages[name].imports.forEach((imported) => withImports(pages, imported, found));
  return found;
}

const byEntry = (pages, source) =>
  Object.keys(pages).find((name) => pages[name].entry === source && name.endsWith('.js'));

/** What each page loads before it shows something, in bytes on the wire. */
function firstLoads({ workerName, pages }) {
  const main = [...withImports(pages, byEntry(pages, 'src/main.tsx'))];
  const sizes = {};
  for (const [page, source] of [['sessions', 'src/sessions/page.tsx'],
    ['session', 'src/session/page.tsx'], ['server', 'src/server/page.tsx']]) {
    const name = byEntry(pages, source);
    const scripts = new Set([workerName, ...main, ...(name ? withImports(pages, name) : [])]);
    sizes[page] = [...scripts].reduce((sum, script) => sum + packed(script).length, 0);
  }
  return sizes;
}

function writePage({ pages }) {
  const main = byEntry(pages, 'src/main.tsx');
  const picture = readFileSync(join(here, 'src/ui/icon.svg'));
  const icon = `icon-${hash(picture).slice(0, 8)}.svg`;
  writeFileSync(join(out, icon), picture);
  const preloads = [...withImports(pages, main)].filter((name) => name !== main)
    .map((name) => `<link rel="modulepreload" href="/assets/${name}">`).join('');
  const page = readFileSync(join(here, 'src/index.html'), 'utf8')
    .replace('<!-- head -->', () => `<link rel="icon" href="/assets/${icon}">`
      + `<link rel="stylesheet" href="/assets/${pages[main].css}">${preloads}`
      + `<script type="module" src="/assets/${main}"></script>`);
  writeFileSync(join(out, 'index.html'), page);
}

// ---- into the binary

const types = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml',
};

function incbin(symbol, path) {
  return `__asm__(".section .rodata\\n.balign 8\\n.global ${symbol}\\n${symbol}:\\n"
        ".incbin ${JSON.stringify(JSON.stringify(path)).slice(1, -1)}\\n.byte 0\\n.previous\\n");
extern const char ${symbol}[];
`;
}

/** The names sort as strcmp has it: they are looked up by halves. */
function writeData(names) {
  let declarations = '';
  const rows = names.map((name, i) => {
    const plain = content(name);
    const small = packed(name);
    writeFileSync(join(out, `${name}.gz`), small);
    declarations += incbin(`asset_${i}`, join(out, name));
    declarations += incbin(`asset_${i}_gz`, join(out, `${name}.gz`));
    return `    {"${name}", "${types[extname(name)]}", "\\"${hash(plain)}\\"",
     {asset_${i}, ${plain.length}}, {asset_${i}_gz, ${small.length}}},\n`;
  });
  const text = `/* Made by web/build.mjs: the files of the dashboard. */
#include "server/assets_internal.h"

${declarations}
const struct asset assets_table[] = {
${rows.join('')}};
const size_t assets_n = ${names.length};
`;
  writeFileSync(join(out, 'assets_data.c'), text);
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const built = await bundle();
writePage(built);
const names = readdirSync(out).filter((name) => extname(name) in types).sort();
writeData(names);
const sizes = firstLoads(built);
writeFileSync(join(out, 'sizes.json'), `${JSON.stringify(sizes)}\n`);
for (const [page, bytes] of Object.entries(sizes)) {
  if (bytes > FIRST_LOAD_BYTES) {
    console.error(`The page ${page} loads ${bytes} bytes of compressed script first; `
      + `at most ${FIRST_LOAD_BYTES} are allowed.`);
    process.exitCode = 1;
  }
}
console.log('First load, bytes of compressed script:', JSON.stringify(sizes));
