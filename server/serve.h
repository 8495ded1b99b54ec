/*
 * serve: the running server, from the opened data directory to the last committed batch.
 */
#ifndef ATOLL_SERVER_SERVE_H
#define ATOLL_SERVER_SERVE_H

struct config;

/*
 * Runs the server until it is told to stop: listens, recovers the data directory, prints the one
 * line with the URL, serves, and on SIGTERM or SIGINT drains within the grace period. `argc` and
 * `argv` are the flags that `config` was read from, to be read again on SIGHUP; all three
 * stay the caller's and must outlive the call. Main thread only, once per process.
 * Returns the exit status of the process: 0 after a drain, else not 0, with the reason on stderr.
 */
int serve_run(const struct config *config, int argc, char **argv);

#endif
