/*
 * modern: revision 2026-07-28, in which each request stands for itself: what it says of itself in
 * `_meta`, and that its headers say the same.
 */
#include "server/mcp/visit.h"

#include <stdio.h>

enum { VALUE_BYTES = 512 /* of a header that is compared with the body; longer never matches */ };

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* A header's value with its wrapping undone: =?base64?…?= (strict). False: it is not well formed.
 */
static bool unwrap(struct str *value, char out[VALUE_BYTES])
{
    static const char head[] = "=?base64?";
    enum { HEAD = sizeof(head) - 1, TAIL = 2 };
    struct str text = *value;
    size_t n = 0;
    uint32_t bits = 0;

    if (text.n < HEAD + TAIL || memcmp(text.p, head, HEAD) != 0 ||
        memcmp(text.p + text.n - TAIL, "?=", TAIL) != 0)
        return true;
    text = (struct str){text.p + HEAD, text.n - HEAD - TAIL};
    if (text.n % 4 != 0 || text.n / 4 * 3 > VALUE_BYTES)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        bool padding =
            text.p[i] == '=' && i + 2 >= text.n && (i + 1 == text.n || text.p[i + 1] == '=');
        int digit = padding ? 0 : base64_value(text.p[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 == 3) {
            out[n++] = (char)(bits >> 16);
            out[n++] = (char)(bits >> 8);
            out[n++] = (char)bits;
        }
    }
    while (text.n != 0 && text.p[text.n - 1] == '=') {
        text.n--;
        n--;
    }
    *value = (struct str){out, n};
    return true;
}

static void mismatch(struct exchange *exchange, struct str id, const char *header)
{
    char text[160];
    snprintf(text, sizeof(text),
             "Header mismatch: %s is missing, not well formed, or not what the body says.", header);
    visit_refuse(exchange, 400, id, MCP_E_HEADER_MISMATCH, text);
}

static bool matches(const struct exchange *exchange, const char *header, struct str expected)
{
    char room[VALUE_BYTES];
    struct str value = visit_header(exchange, header);
    return value.p != NULL && unwrap(&value, room) && str_equal(value, expected);
}

/* Headers against the body (revision 2026-07-28, "Server Validation"). */
static bool check_headers(struct visit *visit, const struct rpc_message *message,
                          struct str version)
{
    struct exchange *exchange = visit->exchange;
    const char *subject = mcp_method_subject(message->method);

    if (!str_equal(visit->version, version)) {
        mismatch(exchange, message->id, "MCP-Protocol-Version");
        return false;
    }
    if (!matches(exchange, "mcp-method", message->method)) {
        mismatch(exchange, message->id, "Mcp-Method");
        return false;
    }
    struct str name = subject != NULL
                          ? rpc_string(message->params, (struct str){subject, strlen(subject)})
                          : (struct str){0};
    if (name.p != NULL && !matches(exchange, "mcp-name", name)) {
        mismatch(exchange, message->id, "Mcp-Name");
        return false;
    }
    return true;
}

static const char malformed_meta[] = "Every request of revision 2026-07-28 has params._meta with "
                                     "io.modelcontextprotocol/protocolVersion (a string) and "
                                     "io.modelcontextprotocol/clientCapabilities (an object).";

void modern_take(struct visit *visit, const struct rpc_message *message)
{
    struct exchange *exchange = visit->exchange;
    const struct json_value *meta = rpc_member(message->params, STR("_meta"));
    struct str version = rpc_string(meta, STR("io.modelcontextprotocol/protocolVersion"));
    const struct json_value *capabilities =
        rpc_member(meta, STR("io.modelcontextprotocol/clientCapabilities"));
    const struct json_value *level = rpc_member(meta, STR("io.modelcontextprotocol/logLevel"));

    if (message->kind == RPC_NOTIFICATION) {
        visit_accept(exchange); /* this revision has none that mean something here */
        return;
    }
    if (message->kind == RPC_RESPONSE) {
        visit_refuse(exchange, 400, message->id, MCP_E_INVALID_REQUEST,
                     "In revision 2026-07-28 the server asks nothing that could be answered so: "
                     "see inputResponses.");
        return;
    }
    if (version.p == NULL) {
        visit_refuse(exchange, 400, message->id, MCP_E_INVALID_PARAMS, malformed_meta);
        return;
    }
    if (!check_headers(visit, message, version))
        return;
    if (!mcp_is_modern(mcp_version_of(version)) || mcp_version_of(version) == MCP_VERSION_COUNT) {
        visit_refuse_version(exchange, message->id, version);
        return;
    }
    if (capabilities == NULL || capabilities->type != JSON_OBJECT) {
        visit_refuse(exchange, 400, message->id, MCP_E_INVALID_PARAMS, malformed_meta);
        return;
    }
    struct mcp_caller caller = {
        .version = mcp_version_of(version),
        .toolset = visit->coral ? MCP_TOOLS_CORAL : MCP_TOOLS_ATOLL,
        .session = exchange->match.session,
        .agent = exchange->match.agent,
        .client_can = mcp_client_can_of(capabilities),
        .level = level == NULL                ? MCP_LEVEL_NONE
                 : level->type == JSON_STRING ? mcp_level_of(json_str(level))
                                              : MCP_LEVEL_NONE,
    };
    if (level != NULL && caller.level == MCP_LEVEL_NONE) {
        visit_refuse(exchange, 400, message->id, MCP_E_INVALID_PARAMS,
                     "The io.modelcontextprotocol/logLevel must be debug, info, notice, warning, "
                     "error, critical, alert or emergency.");
        return;
    }
    mcp_begin(mcp_call_new(visit_sink(visit, caller.version), &caller, message));
}
