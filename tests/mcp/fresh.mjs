/*
 * Loaded before the suite (node --import): every request of its `fetch` takes a connection of its
 * own, so that the requests of one client land on different reactors.
 */
const { fetch } = globalThis;

globalThis.fetch = (input, init = {}) => {
  const headers = new Headers(init.headers);
  headers.set('connection', 'close');
  return fetch(input, { ...init, headers });
};
