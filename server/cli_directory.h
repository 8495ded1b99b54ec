/*
 * cli_directory: the commands that work on a data directory's files, without a server:
 *
 *   atoll verify DATA_DIR            checks all of it; no server may be using it
 *   atoll backup DEST [--data DIR]   copies it, also while a server writes to it
 *
 * They return the exit status of the process: 0 done (and well), 1 a fault was found or it could
 * not be done, with a sentence on stderr that names what, 2 a command line that is not right.
 */
#ifndef ATOLL_SERVER_CLI_DIRECTORY_H
#define ATOLL_SERVER_CLI_DIRECTORY_H

int cli_verify(int argc, char **argv);
int cli_backup(int argc, char **argv);

#endif
