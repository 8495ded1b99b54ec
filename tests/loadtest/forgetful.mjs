/*
 * A server that keeps what it is told in memory alone: it answers as Atoll does, and a kill -9 shows
 * what that was worth.
 */
import { Fake, faults } from './fake.mjs';

const fake = await new Fake(faults.none).start({ after: () => {} });
console.log(fake.url);
process.on('SIGTERM', () => process.exit(0));
