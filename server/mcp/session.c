#include "server/mcp/session.h"

#include "server/mcp/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { NAME_TRIES = 1000 };

/* 26 digits of base 32: 130 bits. */
static void write_name(char out[MCP_COMPANION_BYTES])
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint8_t random[MCP_COMPANION_BYTES - 1];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        abort(); /* names that can be guessed would be a hole */
    out[0] = '~';
    for (size_t i = 0; i < sizeof(random); i++)
        out[1 + i] = digits[random[i] & 31];
}

struct str mcp_companion_name(struct frontend *frontend, struct str session,
                              char out[MCP_COMPANION_BYTES])
{
    struct str name = {out, MCP_COMPANION_BYTES};
    unsigned shard = session.p != NULL ? mailbox_shard_of(frontend->mailbox, session) : 0;

    for (unsigned i = 0; i < NAME_TRIES; i++) {
        write_name(out);
        if (session.p == NULL || mailbox_shard_of(frontend->mailbox, name) == shard)
            break; /* on another shard it works as well, a little slower */
    }
    return name;
}

/* ---- ids: version, toolset, capabilities, companion, session, '\n', agent; of /mcp without the
 * last three. Then '\n' and the caller, where there is one */

void mcp_session_write(struct frontend *frontend, const struct mcp_claims *claims, struct buf *out)
{
    struct buf payload = {0};

    buf_add_byte(&payload, (char)('0' + claims->version));
    buf_add_byte(&payload, (char)('0' + claims->toolset));
    buf_add_byte(&payload, (char)('0' + claims->client_can));
    buf_add_str(&payload, claims->companion);
    if (claims->session.p != NULL) {
        buf_add_str(&payload, claims->session);
        buf_add_byte(&payload, '\n');
        buf_add_str(&payload, claims->agent);
    }
    if (claims->caller.n != 0) {
        buf_add_byte(&payload, '\n');
        buf_add_str(&payload, claims->caller);
    }
    sign_text(frontend->mcp.sessions, buf_str(&payload), out);
    buf_free(&payload);
}

/* What is signed in an id; p == NULL: it is not ours. One that this connection brought before is
 * not checked anew. */
static struct str payload_of(struct connection *connection, struct str id, struct arena *arena)
{
    struct str known = {connection->mcp_session, connection->mcp_session_n};
    if (known.p != NULL && str_equal(id, known))
        return sign_payload(id, arena);
    struct str payload = sign_check(connection->frontend->mcp.sessions, id, arena);
    if (payload.p != NULL && id.n <= UINT16_MAX) {
        connection->mcp_session = mem_realloc(connection->mcp_session, id.n);
        connection->mcp_session_n = (uint16_t)id.n;
        memcpy(connection->mcp_session, id.p, id.n);
    }
    return payload;
}

/* The agent, and behind it the caller, where there is one. */
static void take_agent(struct str rest, struct mcp_claims *claims)
{
    const char *end = rest.n != 0 ? memchr(rest.p, '\n', rest.n) : NULL;
    size_t n = end != NULL ? (size_t)(end - rest.p) : rest.n;
    claims->agent = (struct str){rest.p, n};
    if (end != NULL)
        claims->caller = (struct str){end + 1, rest.n - n - 1};
}

bool mcp_session_read(struct connection *connection, struct str id, struct arena *arena,
                      struct mcp_claims *claims)
{
    enum { FIXED_BYTES = 3 + MCP_COMPANION_BYTES };
    struct str payload = payload_of(connection, id, arena);

    if (payload.p == NULL || payload.n < FIXED_BYTES)
        return false;
    *claims = (struct mcp_claims){
        .version = (enum mcp_version)(payload.p[0] - '0'),
        .toolset = (enum mcp_toolset)(payload.p[1] - '0'),
        .client_can = (unsigned)(payload.p[2] - '0'),
        .companion = {payload.p + 3, MCP_COMPANION_BYTES},
    };
    struct str rest = {payload.p + FIXED_BYTES, payload.n - FIXED_BYTES};
    const char *end = rest.n != 0 ? memchr(rest.p, '\n', rest.n) : NULL;
    if (end == rest.p && end != NULL) {
        claims->caller = (struct str){rest.p + 1, rest.n - 1};
    } else if (end != NULL) {
        claims->session = (struct str){rest.p, (size_t)(end - rest.p)};
        take_agent((struct str){end + 1, rest.n - claims->session.n - 1}, claims);
    }
    return claims->version < MCP_VERSION_COUNT;
}

/* ---- companions */

static struct core_fields *fill(struct request *request, struct str companion, enum core_type type)
{
    struct request_command *item = arena_alloc(&request->arena, sizeof(*item));

    request->kind = REQUEST_COMMANDS;
    request->session = arena_copy(&request->arena, companion);
    *item = (struct request_command){.command.type = type};
    request->commands = item;
    request->commands_n = 1;
    return &item->command.f;
}

static void give(struct core_fields *f, enum core_field field)
{
    f->given |= UINT64_C(1) << field;
}

/* All that are no subscriptions: so these are never too many for them to be set later. */
static struct core_labels initial_labels(struct arena *arena)
{
    enum { INITIAL = 3 };
    struct core_label *items = arena_alloc(arena, INITIAL * sizeof(*items));

    items[0] = (struct core_label){STR("level"), STR("info")};
    items[1] = (struct core_label){STR("stream"), STR("")};
    items[2] = (struct core_label){STR("used"), STR("0")};
    return (struct core_labels){items, INITIAL};
}

void mcp_companion_create(struct request *request, struct str companion)
{
    struct core_fields *f = fill(request, companion, CORE_SESSION_CREATE);
    f->session = request->session;
    f->ttl_s = MCP_SESSION_TTL_S;
    f->labels = initial_labels(&request->arena);
    give(f, CORE_FIELD_LABELS);
    give(f, CORE_FIELD_SESSION);
    give(f, CORE_FIELD_TTL_S);
}

void mcp_companion_label(struct request *request, struct str companion, struct str key,
                         struct str value)
{
    struct core_fields *f = fill(request, companion, CORE_SESSION_UPDATE);
    f->labels = (struct core_labels){arena_alloc(&request->arena, sizeof(struct core_label)), 1};
    f->labels.items[0].key = arena_copy(&request->arena, key);
    f->labels.items[0].value =
        value.p != NULL ? arena_copy(&request->arena, value) : (struct str){0};
    give(f, CORE_FIELD_LABELS);
}
