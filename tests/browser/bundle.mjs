/*
 * Parts of the dashboard that need no browser, for tests under Node: bundled as web/build.mjs does
 * it, by the esbuild of web/node_modules.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const WEB = fileURLToPath(new URL('../../web/', import.meta.url));

/** What a source file of web/src exports. */
export async function load(source) {
  const { build } = createRequire(`${WEB}x.js`)('esbuild');
  const { outputFiles: [{ text }] } = await build({
    absWorkingDir: WEB, entryPoints: [`src/${source}`], bundle: true, format: 'esm', write: false,
  });
  return import(`data:text/javascript;base64,${Buffer.from(text).toString('base64')}`);
}
