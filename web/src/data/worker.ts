// The SharedWorker: a hub for all tabs of this build of the dashboard.

import { Hub } from './hub';

const hub = new Hub(location.origin);
(globalThis as unknown as { onconnect: (event: MessageEvent) => void }).onconnect =
  (event) => hub.attach(event.ports[0]!);
