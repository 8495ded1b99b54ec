/* A transcript in memory, in the shape in which it is sent: every body is ready to post. */
#ifndef LOADTEST_TRANSCRIPT_H
#define LOADTEST_TRANSCRIPT_H

#include <jansson.h>

/*
 * Reads the NDJSON file `path` (plain or gzip) and gives an array of sessions, each
 *   {"id", "agents": [body…], "threads": [body…], "messages": [{"thread", "at_ms", "body"}…]}
 * in order of first appearance; `at_ms` counts from the session's first line. Session ids begin
 * with `prefix`. Names that are no valid ids get one of their own, the same on every run.
 * The caller owns the array. NULL on failure, after a line on stderr naming the file and line.
 */
json_t *transcript_load(const char *path, const char *prefix);

#endif
