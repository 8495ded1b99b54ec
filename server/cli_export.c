/*
 * cli_export: `atoll export`. Lines are checked as they come: the header, then events without a
 * gap; at the end the last one's chain has to be the header's.
 */
#include "server/cli_transfer.h"

#include "server/import_line.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PROBLEM_BYTES_MAX = 64 * 1024, PATH_BYTES = 4096 };

struct export
{
    CURL *curl;
    FILE *file;
    struct buf line;             /* what has come of the line that is not whole yet */
    struct buf problem;          /* an answer that is no export */
    struct import_header header; /* strings not kept */
    struct core_chain chain;     /* of the last event */
    uint64_t lines, seq;
    char why[IMPORT_WHY_BYTES]; /* of the first line that is wrong */
    bool bad, unwritten;
};

/* False: the line is wrong, and `why` says how. */
static bool take_line(struct export *export)
{
    struct str line = buf_str(&export->line);
    struct import_event event;

    if (export->lines++ == 0) {
        if (import_header_read(line, &export->header, export->why) != 0)
            return false;
    } else {
        if (import_event_read(line, &event, export->why) != 0)
            return false;
        if (event.seq != ++export->seq) {
            snprintf(export->why, sizeof(export->why), "its seq is not %" PRIu64, export->seq);
            return false;
        }
        export->chain = event.chain;
    }
    export->line.n = 0;
    return true;
}

static bool take_lines(struct export *export, const char *p, size_t n)
{
    while (n != 0) {
        const char *end = memchr(p, '\n', n);
        size_t part = end != NULL ? (size_t)(end - p) : n;
        buf_add(&export->line, p, part);
        if (end != NULL && !take_line(export))
            return false;
        part += end != NULL;
        p += part;
        n -= part;
    }
    return true;
}

static size_t on_bytes(char *p, size_t one, size_t n, void *ctx)
{
    struct export *export = ctx;
    long status = 0;

    curl_easy_getinfo(export->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        if (export->problem.n + n <= PROBLEM_BYTES_MAX)
            buf_add(&export->problem, p, n);
        return n;
    }
    export->bad = !take_lines(export, p, n);
    export->unwritten = !export->bad && fwrite(p, one, n, export->file) != n;
    return export->bad || export->unwritten ? 0 : n;
}

static int fail(const char *what, const char *path)
{
    fprintf(stderr, "atoll: export: %s %s: %s\n", what, path, strerror(errno));
    return TRANSFER_FAILED;
}

/* Whether all has come that the header promised. */
static int check(struct export *export, CURLcode code)
{
    long status = 0;

    curl_easy_getinfo(export->curl, CURLINFO_RESPONSE_CODE, &status);
    if (export->unwritten)
        return fail("cannot write", "the export");
    if (export->bad) {
        fprintf(stderr, "atoll: export: line %" PRIu64 " of the answer: %s\n", export->lines,
                export->why);
        return TRANSFER_FAILED;
    }
    if (code != CURLE_OK || status != 200) {
        transfer_complain(export->curl, code, buf_str(&export->problem), "export");
        return TRANSFER_FAILED;
    }
    if (export->line.n != 0 || export->lines == 0 || export->seq != export->header.seq ||
        memcmp(&export->chain, &export->header.chain, sizeof(export->chain)) != 0) {
        fprintf(stderr,
                "atoll: export: it ends at seq %" PRIu64
                ", and not with the seq and chain that its first line promises\n",
                export->seq);
        return TRANSFER_FAILED;
    }
    return TRANSFER_OK;
}

static int fetch(struct export *export, const struct transfer_arguments *arguments)
{
    char path[TRANSFER_URL_BYTES / 2];

    export->curl = transfer_open(arguments);
    if (export->curl == NULL)
        return TRANSFER_FAILED;
    snprintf(path, sizeof(path), "/v1/sessions/%s/export", arguments->subject);
    transfer_set_path(export->curl, arguments, path);
    curl_easy_setopt(export->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(export->curl, CURLOPT_WRITEDATA, export);
    int status = check(export, curl_easy_perform(export->curl));
    curl_easy_cleanup(export->curl);
    buf_free(&export->line);
    buf_free(&export->problem);
    return status;
}

/* To FILE.part, which gets its name when it is whole and on disk. */
static int fetch_file(struct export *export, const struct transfer_arguments *arguments)
{
    char part[PATH_BYTES];

    if ((size_t)snprintf(part, sizeof(part), "%s.part", arguments->output) >= sizeof(part)) {
        errno = ENAMETOOLONG;
        return fail("cannot write", arguments->output);
    }
    export->file = fopen(part, "we");
    if (export->file == NULL)
        return fail("cannot write", part);
    int status = fetch(export, arguments);
    if (status == TRANSFER_OK && (fflush(export->file) != 0 || fsync(fileno(export->file)) != 0))
        status = fail("cannot write", part);
    if (fclose(export->file) != 0 && status == TRANSFER_OK)
        status = fail("cannot write", part);
    if (status == TRANSFER_OK && rename(part, arguments->output) != 0)
        status = fail("cannot rename to", arguments->output);
    if (status != TRANSFER_OK)
        (void)unlink(part);
    return status;
}

int cli_export(int argc, char **argv)
{
    struct transfer_arguments arguments;
    struct export export = {.file = stdout};

    if (!transfer_read_arguments(argc, argv, true, &arguments))
        return TRANSFER_USAGE;
    if (!core_id_valid((struct str){arguments.subject, strlen(arguments.subject)})) {
        fprintf(stderr, "atoll: \"%s\" is no session: an id matches " CORE_ID_RULE "\n",
                arguments.subject);
        return TRANSFER_USAGE;
    }
    int status =
        arguments.output != NULL ? fetch_file(&export, &arguments) : fetch(&export, &arguments);
    if (arguments.output == NULL && fflush(stdout) != 0 && status == TRANSFER_OK)
        status = fail("cannot write to", "standard output");
    if (status == TRANSFER_OK)
        fprintf(stderr, "atoll: %s exported as it stood at seq %" PRIu64 "\n", arguments.subject,
                export.seq);
    return status;
}
