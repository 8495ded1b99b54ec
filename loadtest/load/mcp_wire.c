#include "mcp_wire.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char meta[] = ",\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","
                           "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"atoll-load\","
                           "\"version\":\"1\"},\"io.modelcontextprotocol/clientCapabilities\":{}}";

/* The head of a request, with a hole for the body's size, which is written when it is known. */
enum { SIZE_DIGITS = 8 };

static size_t put_head(struct text *text, const char *session, const char *agent)
{
    static const char hole[] = "        "; /* blanks before a value mean nothing */
    _Static_assert(sizeof(hole) - 1 == SIZE_DIGITS, "room for its digits");

    text->n = 0;
    text_format(text,
                "POST /v1/sessions/%s/agents/%s/mcp HTTP/1.1\r\n%s"
                "Content-Type: application/json\r\n"
                "Accept: application/json, text/event-stream\r\nContent-Length: ",
                session, agent, http_host);
    size_t at = text->n;
    text_format(text, "%s\r\n", hole);
    return at;
}

static void put_size(struct text *text, size_t at, size_t body_at)
{
    size_t n = text->n - body_at;

    for (size_t digit = SIZE_DIGITS; n != 0 && digit-- != 0; n /= 10)
        text->p[at + digit] = (char)('0' + n % 10);
}

void mcp_put_call(struct text *text, enum mcp_revision revision, const char *token,
                  const char *session, const char *agent, const char *tool, uint64_t id,
                  const char *arguments)
{
    size_t at = put_head(text, session, agent);

    if (revision == MCP_MODERN)
        text_format(text,
                    "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n"
                    "Mcp-Name: %s\r\n\r\n",
                    tool);
    else
        text_format(text, "MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: %s\r\n\r\n", token);
    size_t body_at = text->n;
    text_format(text,
                "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"tools/call\",\"params\":{"
                "\"name\":\"%s\",\"arguments\":%s%s}}",
                (unsigned long long)id, tool, arguments, revision == MCP_MODERN ? meta : "");
    put_size(text, at, body_at);
}

/* ---- a session of the protocol */

/* The value of a header of the answer; false: there is none, or it is too long. */
static bool take_header(const struct http *http, const char *name, char *value, size_t room)
{
    const char *end = http->head + strlen(http->head); /* it stays, where no chunks follow */
    size_t n = strlen(name);

    for (const char *line = http->head; line + n < end; line++) {
        bool begins = line == http->head || line[-1] == '\n';
        if (!begins || strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *from = line + n + 1;
        while (from < end && *from == ' ')
            from++;
        const char *to = memchr(from, '\r', (size_t)(end - from));
        if (to == NULL || (size_t)(to - from) >= room)
            return false;
        memcpy(value, from, (size_t)(to - from));
        value[to - from] = '\0';
        return true;
    }
    return false;
}

const char *mcp_initialize(struct asker *asker, const char *session, const char *agent,
                           char token[MCP_TOKEN_BYTES])
{
    struct text *text = &asker->request;
    size_t at = put_head(text, session, agent);

    text_format(text, "\r\n");
    size_t body_at = text->n;
    text_format(text, "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
                      "\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},"
                      "\"clientInfo\":{\"name\":\"atoll-load\",\"version\":\"1\"}}}");
    put_size(text, at, body_at);
    const char *wrong = asker_ask(asker);
    if (wrong != NULL)
        return wrong;
    if (!take_header(&asker->http, "Mcp-Session-Id", token, MCP_TOKEN_BYTES))
        return "initialize was answered without an Mcp-Session-Id";
    at = put_head(text, session, agent);
    text_format(text, "MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: %s\r\n\r\n", token);
    body_at = text->n;
    text_format(text, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
    put_size(text, at, body_at);
    return asker_ask(asker);
}

/* ---- answers */

const char *mcp_result(const struct http *http)
{
    const char *p = http->keep_body ? http->body : http->tail;
    const char *end = p + (http->keep_body ? http->body_size : http->tail_size);
    const char *error = find_member(p, end, "isError");

    if (http->status != 200 || (error != NULL && strncmp(error, "true", 4) == 0))
        return NULL;
    return find_member(p, end, "structuredContent");
}
