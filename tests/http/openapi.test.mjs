/*
 * The document of the contract: well formed, complete in itself, with examples that hold, and
 * served as it is.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { SPEC_PATH, cleanEnvironment, conforms, expect, serving, spec } from './harness.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

describe('web/openapi.yaml', () => {
  it('passes the linter', async () => {
    const env = cleanEnvironment({ REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true',
      CI: 'true' });
    const args = [here('node_modules/@redocly/cli/bin/cli.js'), 'lint', '--config',
      here('redocly.yaml'), SPEC_PATH];
    await promisify(execFile)(process.execPath, args, { env }).catch((error) =>
      assert.fail(error.stdout + error.stderr));
  });

  it('has no component that nothing uses', () => {
    const text = readFileSync(SPEC_PATH, 'utf8');
    const { securitySchemes, ...others } = spec.components;
    for (const [kind, components] of Object.entries(others))
      for (const name of Object.keys(components))
        assert.ok(text.includes(`$ref: '#/components/${kind}/${name}'`), `${kind}/${name}`);
    assert.deepEqual(spec.security.flatMap(Object.keys), Object.keys(securitySchemes));
  });

  it('has an example that holds for every command and every event', () => {
    for (const kind of ['Command', 'Event'])
      for (const { $ref } of spec.components.schemas[kind].oneOf) {
        const name = $ref.split('/').at(-1);
        const { examples, properties } = spec.components.schemas[name];
        assert.ok(examples?.length > 0, name);
        for (const example of examples) conforms(`/components/schemas/${kind}`, example, name);
        assert.ok(Object.keys(spec.components.schemas[kind].discriminator.mapping)
          .includes(properties.type.const));
      }
    assert.deepEqual(Object.keys(spec.components.schemas.Event.discriminator.mapping),
      spec.components.schemas.EventType.enum);
  });

  it('lets no object have fields that it does not name', () => {
    // Closed where they are used.
    const open = ['Command', 'Event', 'CommandOptions', 'EventBase', 'OfSession'];
    for (const [name, schema] of Object.entries(spec.components.schemas))
      if (schema.type === 'object' && !open.includes(name) && !name.endsWith('Fields'))
        assert.ok('additionalProperties' in schema || schema.unevaluatedProperties === false, name);
  });
});

describe('the server', () => {
  const server = serving();
  it('serves the document byte for byte', async () => {
    assert.equal(expect(await server.get('/openapi.yaml'), 200).text,
      readFileSync(SPEC_PATH, 'utf8'));
  });
});
