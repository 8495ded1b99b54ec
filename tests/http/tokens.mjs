/** Keys and tokens for tests, made without the program under test (RFC 7515, RFC 7519). */
import { createHmac, randomBytes } from 'node:crypto';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { Server, temporaryDirectory, remove } from './harness.mjs';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

export const inSeconds = (s) => Math.floor(Date.now() / 1000) + s;

/** A token of HS256. */
export function sign(claims, secret, header = {}) {
  const text = `${encode({ alg: 'HS256', typ: 'JWT', ...header })}.${encode(claims)}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

/** Files with secrets, replaced in one step, as a secret's volume does. */
export class Keys {
  constructor() {
    this.directory = temporaryDirectory();
    mkdirSync(this.directory, { recursive: true });
    this.file = join(this.directory, 'key');
    this.renew();
  }
  renew() {
    this.secret = randomBytes(32).toString('hex');
    writeFileSync(`${this.file}.new`, `${this.secret}\n`, { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }
  token(sub, sid, scope, more = {}) {
    return sign({ ...(sub && { sub }), sid, scope, exp: inSeconds(3600), ...more }, this.secret);
  }
  remove() { remove(this.directory); }
}

/** Requests of a server in the name of a token. */
export function as(server, token) {
  const own = Object.create(server);
  own.token = token;
  own.request = (method, path, { headers = {}, ...options } = {}) =>
    server.request(method, path,
      { ...options, headers: { authorization: `Bearer ${token}`, ...headers } });
  return own;
}

/** Within `describe`: a server with one key for all its tests, and tokens of it. */
export function servingWithKey({ args = [], ...options } = {}) {
  const keys = new Keys();
  const server = new Server({ ...options, args: ['--auth-key', keys.file, ...args] });
  server.keys = keys;
  server.as = (...claims) => as(server, keys.token(...claims));
  before(() => server.start());
  after(async () => {
    await server.stop();
    keys.remove();
  });
  return server;
}
