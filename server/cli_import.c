/*
 * cli_import: `atoll import`. The file is read twice: first to see that every line can be one and
 * that it ends where its header says, so that no half of a session is sent; then to send it.
 */
#include "server/cli_transfer.h"

#include "server/import_line.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE_BYTES = 4 * 1024 * 1024, ANSWER_BYTES_MAX = 64 * 1024, ID_BYTES = 64 };

struct import {
    const struct transfer_arguments *arguments;
    FILE *file;
    char *line; /* getline's */
    size_t line_cap;
    CURL *curl;
    struct import_header header;
    char session[ID_BYTES + 1]; /* the header's */
    struct buf page, answer;
    uint64_t sent;   /* events that the server has taken */
    uint64_t events; /* in `page` */
};

static int complain(const struct import *import, uint64_t line, const char *why)
{
    fprintf(stderr, "atoll: import: %s: line %" PRIu64 ": %s\n", import->arguments->subject, line,
            why);
    return TRANSFER_FAILED;
}

static int complain_system(const struct import *import)
{
    fprintf(stderr, "atoll: import: %s: %s\n", import->arguments->subject, strerror(errno));
    return TRANSFER_FAILED;
}

/* ---- looking through */

static int look_at_header(struct import *import, struct str line, struct core_chain *chain)
{
    char why[IMPORT_WHY_BYTES];

    if (import_header_read(line, &import->header, why) != 0)
        return complain(import, 1, why);
    memcpy(import->session, import->header.session.p, import->header.session.n);
    import->session[import->header.session.n] = '\0';
    *chain = import->header.chain;
    return TRANSFER_OK;
}

static int look_at_event(const struct import *import, struct str line, uint64_t seq,
                         struct core_chain *chain)
{
    char why[IMPORT_WHY_BYTES];
    struct import_event event;

    if (import_event_read(line, &event, why) != 0)
        return complain(import, seq + 1, why);
    if (event.seq != seq) {
        snprintf(why, sizeof(why), "its seq must be %" PRIu64, seq);
        return complain(import, seq + 1, why);
    }
    *chain = event.chain;
    return TRANSFER_OK;
}

static int look_through(struct import *import)
{
    struct core_chain chain;
    ssize_t n;
    uint64_t lines = 0;
    int status = TRANSFER_OK;

    while (status == TRANSFER_OK &&
           (n = getline(&import->line, &import->line_cap, import->file)) >= 0) {
        struct str line = {import->line, (size_t)n};
        status = lines == 0 ? look_at_header(import, line, &chain)
                            : look_at_event(import, line, lines, &chain);
        lines++;
    }
    if (status != TRANSFER_OK)
        return status;
    if (ferror(import->file))
        return complain_system(import);
    if (lines == 0)
        return complain(import, 1, "the file is empty");
    if (lines - 1 != import->header.seq)
        return complain(import, lines, "the file ends here, and not where its first line says");
    if (memcmp(&chain, &import->header.chain, sizeof(chain)) != 0)
        return complain(import, lines, "its chain is not the one that the first line promises");
    return TRANSFER_OK;
}

/* ---- sending */

static size_t on_bytes(char *p, size_t one, size_t n, void *ctx)
{
    struct import *import = ctx;
    (void)one;
    if (import->answer.n + n <= ANSWER_BYTES_MAX)
        buf_add(&import->answer, p, n);
    return n;
}

static int send_page(struct import *import, bool last)
{
    char path[TRANSFER_URL_BYTES / 2];
    long status = 0;

    snprintf(path, sizeof(path), "/v1/sessions/%s/import?after=%" PRIu64 "%s", import->session,
             import->sent, last ? "" : "&more=true");
    transfer_set_path(import->curl, import->arguments, path);
    curl_easy_setopt(import->curl, CURLOPT_POSTFIELDS, import->page.p);
    curl_easy_setopt(import->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)import->page.n);
    import->answer.n = 0;
    CURLcode code = curl_easy_perform(import->curl);
    curl_easy_getinfo(import->curl, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK || status != (last ? 201 : 200)) {
        transfer_complain(import->curl, code, buf_str(&import->answer), "import");
        return TRANSFER_FAILED;
    }
    import->sent += import->events;
    import->events = import->page.n = 0;
    return TRANSFER_OK;
}

static int send_lines(struct import *import)
{
    uint64_t lines = 0;
    ssize_t n;

    rewind(import->file);
    while ((n = getline(&import->line, &import->line_cap, import->file)) >= 0) {
        if (import->events != 0 && import->page.n + (size_t)n > PAGE_BYTES &&
            send_page(import, false) != TRANSFER_OK)
            return TRANSFER_FAILED;
        buf_add(&import->page, import->line, (size_t)n);
        import->events += lines++ != 0; /* the first is the header */
    }
    return ferror(import->file) ? complain_system(import) : send_page(import, true);
}

static int send_file(struct import *import)
{
    import->curl = transfer_open(import->arguments);
    if (import->curl == NULL)
        return TRANSFER_FAILED;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/x-ndjson");
    headers = curl_slist_append(headers, "Expect:"); /* no round trip before each page */
    curl_easy_setopt(import->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(import->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(import->curl, CURLOPT_WRITEDATA, import);
    int status = send_lines(import);
    curl_slist_free_all(headers);
    curl_easy_cleanup(import->curl);
    return status;
}

int cli_import(int argc, char **argv)
{
    struct transfer_arguments arguments;
    struct import import = {.arguments = &arguments};

    if (!transfer_read_arguments(argc, argv, false, &arguments))
        return TRANSFER_USAGE;
    import.file = fopen(arguments.subject, "re");
    if (import.file == NULL)
        return complain_system(&import);
    int status = look_through(&import);
    if (status == TRANSFER_OK)
        status = send_file(&import);
    if (status == TRANSFER_OK)
        fprintf(stderr, "atoll: %s imported up to seq %" PRIu64 "\n", import.session, import.sent);
    fclose(import.file);
    free(import.line);
    buf_free(&import.page);
    buf_free(&import.answer);
    return status;
}
