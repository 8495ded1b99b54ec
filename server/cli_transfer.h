/*
 * cli_transfer: `atoll export` and `atoll import`: a session as a file, out of one server and into
 * another. What the file holds stands in import_line.h.
 *
 * Normal path: an export is written to FILE.part, checked against its own header and renamed; an
 * import is read once to see that it is whole, then sent in pages, each when the one before has
 * been taken. The session appears on the server with the last page. Failure: one sentence on
 * stderr, the server's own where it refused; status 1. A part of an export never has the name of a
 * whole one, and a part of an import is no session.
 */
#ifndef ATOLL_SERVER_CLI_TRANSFER_H
#define ATOLL_SERVER_CLI_TRANSFER_H

#include "core/base.h"

#include <curl/curl.h>

#define TRANSFER_SERVER "http://127.0.0.1:8080"

enum { TRANSFER_URL_BYTES = 512, TRANSFER_OK = 0, TRANSFER_FAILED = 1, TRANSFER_USAGE = 2 };
enum { TRANSFER_TOKEN_BYTES = 8192 };

/* What stands behind the command's name. */
struct transfer_arguments {
    const char *subject;    /* SID or FILE */
    const char *server;     /* --server: an http:// or https:// URL, or unix:PATH */
    const char *output;     /* --output; NULL: not given */
    const char *token_file; /* --token-file; NULL: what ATOLL_TOKEN holds, if it is set */
};

/* `output`: whether --output is known. False: they are not right, and stderr says why. */
bool transfer_read_arguments(int argc, char **argv, bool output, struct transfer_arguments *out);

/* Whether this may be a server's place; false: stderr says that `argument` is wrong. */
bool transfer_check_server(const char *server, const char *argument);

/* A connection to the server, which brings the token. NULL: said why on stderr. curl_easy_cleanup
 * ends it. */
CURL *transfer_open(const struct transfer_arguments *arguments);
/* Sets the URL of a path that begins with a slash. */
void transfer_set_path(CURL *curl, const struct transfer_arguments *arguments, const char *path);
/* Says why a transfer failed: curl's reason, or the `detail` of the problem in `body`. */
void transfer_complain(CURL *curl, CURLcode code, struct str body, const char *what);

/* The commands. They return the exit status of the process. */
int cli_export(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_health(int argc, char **argv);

#endif
