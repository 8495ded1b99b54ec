#include "server/cli_transfer.h"

#include "server/cli.h"
#include "server/json.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONNECT_TIMEOUT_S = 10, SILENCE_S = 120 /* for which a transfer may stand still */ };

bool transfer_check_server(const char *server, const char *argument)
{
    if (strlen(server) < TRANSFER_URL_BYTES / 2 &&
        (strncmp(server, "http://", 7) == 0 || strncmp(server, "https://", 8) == 0 ||
         (strncmp(server, "unix:", 5) == 0 && server[5] != '\0')))
        return true;
    fprintf(stderr, "atoll: %s: \"%s\" is not an http:// or https:// URL, and not unix:PATH\n",
            argument, server);
    return false;
}

bool transfer_read_arguments(int argc, char **argv, bool output, struct transfer_arguments *out)
{
    const char *value;

    *out = (struct transfer_arguments){.server = TRANSFER_SERVER};
    for (int i = 0; i < argc; i++) {
        if ((value = cli_take_option(argc, argv, &i, "--server")) != NULL) {
            out->server = value;
        } else if ((value = cli_take_option(argc, argv, &i, "--token-file")) != NULL) {
            out->token_file = value;
        } else if (output && (value = cli_take_option(argc, argv, &i, "--output")) != NULL) {
            out->output = value;
        } else if (argv[i][0] == '-' || out->subject != NULL) {
            fprintf(stderr,
                    "atoll: \"%s\" is not an argument of this command, or lacks its value\n",
                    argv[i]);
            return false;
        } else {
            out->subject = argv[i];
        }
    }
    if (out->subject == NULL) {
        fprintf(stderr, "atoll: an argument is missing; see atoll help\n");
        return false;
    }
    return transfer_check_server(out->server, "--server");
}

/* The first line of the file. False: stderr says why. */
static bool read_token(const char *path, char token[TRANSFER_TOKEN_BYTES + 2])
{
    FILE *file = fopen(path, "r");
    bool read = file != NULL && fgets(token, TRANSFER_TOKEN_BYTES + 2, file) != NULL;
    if (file != NULL)
        fclose(file);
    if (read)
        token[strcspn(token, "\r\n")] = '\0';
    if (read && token[0] != '\0' && strlen(token) <= TRANSFER_TOKEN_BYTES)
        return true;
    fprintf(stderr, "atoll: --token-file: %s cannot be read, or its first line is no token\n",
            path);
    return false;
}

/* False: stderr says why. */
static bool take_token(CURL *curl, const struct transfer_arguments *arguments)
{
    char text[TRANSFER_TOKEN_BYTES + 2];
    const char *token = getenv("ATOLL_TOKEN");

    if (arguments->token_file != NULL) {
        if (!read_token(arguments->token_file, text))
            return false;
        token = text;
    }
    if (token == NULL || token[0] == '\0')
        return true;
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
    curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, token); /* copied */
    return true;
}

CURL *transfer_open(const struct transfer_arguments *arguments)
{
    CURL *curl = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? curl_easy_init() : NULL;

    if (curl == NULL) {
        fprintf(stderr, "atoll: libcurl cannot be started\n");
        return NULL;
    }
    if (strncmp(arguments->server, "unix:", 5) == 0)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, arguments->server + 5);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* the server itself, whatever http_proxy says */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
    if (!take_token(curl, arguments)) {
        curl_easy_cleanup(curl);
        return NULL;
    }
    return curl;
}

void transfer_set_path(CURL *curl, const struct transfer_arguments *arguments, const char *path)
{
    char url[TRANSFER_URL_BYTES];
    const char *base =
        strncmp(arguments->server, "unix:", 5) == 0 ? "http://localhost" : arguments->server;
    size_t n = strlen(base);

    while (n != 0 && base[n - 1] == '/')
        n--;
    int size = snprintf(url, sizeof(url), "%.*s%s", (int)n, base, path);
    assert(size > 0 && (size_t)size < sizeof(url));
    curl_easy_setopt(curl, CURLOPT_URL, url);
}

/* The `detail` of a problem, in the arena; p == NULL: it is none. */
static struct str detail_of(struct json_parser *parser, struct arena *arena, struct str body)
{
    const struct json_value *root;
    struct json_error error;

    if (body.n == 0 || json_parse(parser, arena, body, &root, &error) != 0 ||
        root->type != JSON_OBJECT)
        return (struct str){0};
    const struct json_value *key = json_first(root);
    for (uint32_t i = 0; i < root->size; i++, key = json_next(key + 1))
        if (str_equal(json_str(key), STR("detail")) && (key + 1)->type == JSON_STRING)
            return json_str(key + 1);
    return (struct str){0};
}

void transfer_complain(CURL *curl, CURLcode code, struct str body, const char *what)
{
    char *url = NULL;
    long status = 0;

    curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &url);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    struct json_parser *parser = json_parser_new(1, 0);
    struct arena arena = {0};
    struct str detail = status >= 300 ? detail_of(parser, &arena, body) : (struct str){0};
    if (detail.p != NULL)
        fprintf(stderr, "atoll: %s: %.*s (%ld)\n", what, (int)detail.n, detail.p, status);
    else if (code != CURLE_OK && status < 300)
        fprintf(stderr, "atoll: %s: %s: %s\n", what, url != NULL ? url : "",
                curl_easy_strerror(code));
    else
        fprintf(stderr, "atoll: %s: %s answered with status %ld\n", what, url != NULL ? url : "",
                status);
    arena_free(&arena);
    json_parser_free(parser);
}
