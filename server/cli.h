/*
 * cli: the command line, `atoll COMMAND [OPTION]…`.
 */
#ifndef ATOLL_SERVER_CLI_H
#define ATOLL_SERVER_CLI_H

/*
 * Runs the command that `argv` names (serve, export, import, ...) and returns the exit
 * status of the process: 0 done, 2 a command line or configuration that is not right, with one
 * line on stderr that says why, or what serve_run returned. Main thread, once per process.
 */
int cli_run(int argc, char **argv);

/* The value of "--name VALUE" or "--name=VALUE" at *i, which is then that of its last word; NULL:
 * it is another argument, or has no value. */
const char *cli_take_option(int argc, char **argv, int *i, const char *name);

#endif
