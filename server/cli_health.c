/*
 * cli_health: `atoll health`, for service managers and containers that have no other program to ask
 * with: whether the server is ready, as /readyz says.
 *
 * Normal path: one GET; what the server said in one word, status 0. Failure: one sentence on
 * stderr, the server's own where it answered; status 1.
 */
#include "server/cli_transfer.h"

#include <stdio.h>

enum { ANSWER_BYTES_MAX = 64 * 1024, TIMEOUT_S = 5 };

static size_t on_bytes(char *p, size_t one, size_t n, void *ctx)
{
    struct buf *answer = ctx;

    if (answer->n + n > ANSWER_BYTES_MAX)
        return 0;
    buf_add(answer, p, one * n);
    return n;
}

int cli_health(int argc, char **argv)
{
    struct transfer_arguments arguments = {.server = argc == 1 ? argv[0] : TRANSFER_SERVER};
    struct buf answer = {0};
    long status = 0;

    if (argc > 1) {
        fprintf(stderr, "atoll: usage: atoll health [URL]\n");
        return TRANSFER_USAGE;
    }
    if (!transfer_check_server(arguments.server, "health"))
        return TRANSFER_USAGE;
    CURL *curl = transfer_open(&arguments);
    if (curl == NULL)
        return TRANSFER_FAILED;
    transfer_set_path(curl, &arguments, "/readyz");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    bool ready = code == CURLE_OK && status == 200;
    if (ready)
        puts("ready");
    else
        transfer_complain(curl, code, buf_str(&answer), "not ready");
    curl_easy_cleanup(curl);
    buf_free(&answer);
    return ready ? TRANSFER_OK : TRANSFER_FAILED;
}
