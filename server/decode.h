/*
 * decode: from a request body to commands, by the schema table of core/.
 *
 * Normal path: a body is JSON (one command as an object, many as an array) or NDJSON (one command
 * a line); decode_commands or decode_rest fills the commands of a request, all in its arena.
 * Failure: what spoils the whole body is the function's own refusal. A bad command of a batch only
 * gets request_command.bad and leaves the others alone. Details of a batch begin with the command's
 * index, from 0: "command 3: ...".
 *
 * Thread: a decoder belongs to one thread.
 */
#ifndef ATOLL_SERVER_DECODE_H
#define ATOLL_SERVER_DECODE_H

#include "shards/request.h"

enum {
    DECODE_KEY_BYTES = 128, /* an idempotency key; longer: 413 */
    DECODE_REF_BYTES = 128, /* the `ref` of a WebSocket's message; longer: 400 */
    /* Of a secret, which is these bytes of text, or "whsec_" and the base64 of these bytes. */
    DECODE_SECRET_MIN_BYTES = 16,
    DECODE_SECRET_MAX_BYTES = 256,
};

struct decoder;
struct json_value;
struct query;
struct seal_key;

/* `limits` must outlive it. */
struct decoder *decoder_new(const struct core_limits *limits, uint32_t max_batch_commands,
                            size_t max_batch_bytes);
void decoder_free(struct decoder *d);
/* What secrets are sealed with, for the request's session and the command's agent: has to be said
 * before a command with one comes. The key must outlive the decoder. */
void decoder_seal_with(struct decoder *d, const struct seal_key *key);

/* Who acts in a command that does not say (creator, sender, by, agent); p == NULL: it must. And the
 * `trace` of one that has none. Has to be said before each decode of a request, and to live as long
 * as that. */
void decoder_speak_as(struct decoder *d, struct str agent, struct str trace);

/*
 * The body of POST .../commands. Fills the request's commands, commands_n and batch, and moves the
 * key of a single command to request->key; one that the request has already (from a header) must
 * then be the same. 0, or -1 with *why filled: nothing of the body is to be done.
 */
int decode_commands(struct decoder *d, struct str body, bool ndjson, struct request *request,
                    struct core_refusal *why);

/*
 * The body of a REST form, which is one command of a known type: an object, or empty. `preset`
 * (NULL: none) has the fields that came in the path or query, with their bits set in `given`; its
 * strings must live as long as the request. They are checked like the body's, and may not stand in
 * the body as well. Otherwise like decode_commands.
 */
int decode_rest(struct decoder *d, enum core_type type, const struct core_fields *preset,
                struct str body, struct request *request, struct core_refusal *why);

/*
 * The body of POST .../fork: an object with "at" and "session", both optional, or empty. Fills
 * request->at and request->session (left alone where the body names none).
 */
int decode_fork(struct decoder *d, struct str body, struct request *request,
                struct core_refusal *why);

/*
 * A page of an exported session, as NDJSON: the lines behind event request->after, the first page
 * with the header line before them. Fills the request's imports, and `at` from the header: the seq
 * and epoch that the export ends with. The session must be request->session.
 */
int decode_import(struct str body, struct request *request, struct core_refusal *why);

/* A message that a client sends over a WebSocket. Its values live until decode_message_end, or the
 * decoder's next use. */
struct decode_message {
    const struct json_value *root;
    const struct json_value *watch, *unwatch; /* NULL: it is no such message */
    struct str ref;                           /* as JSON; p == NULL: none */
    struct str session;                       /* many, a command: the one it goes to */
    bool many;                                /* of many sessions: commands have a `session` */
    bool is_command;
};

/*
 * Reads what all messages have, into `scratch`. 0, or -1 with *why filled, and the message's ref as
 * far as it was read.
 */
int decode_message(struct decoder *d, struct str text, bool many, struct arena *scratch,
                   struct decode_message *out, struct core_refusal *why);
/* Adds the message's command, with its key and ref, to those of the request. 0, or -1 with *why
 * filled and the request's commands as they were. */
int decode_message_command(struct decoder *d, const struct decode_message *message,
                           struct request *request, struct core_refusal *why);
/*
 * What `watch` or `unwatch` holds, as the parameters of a query with just these members; its
 * strings lie in `scratch`. *session: the one that is (not) to be watched; p == NULL: it is about
 * the summary. 0, or -1 with *why filled.
 */
int decode_watch(const struct decode_message *message, struct arena *scratch, struct query *query,
                 struct str *session, struct core_refusal *why);
/* All of the message is done with. */
void decode_message_end(struct decoder *d);

/* What a tool's arguments may be (MCP). */
struct decode_arguments {
    const char *what; /* whose they are: for refusals */
    const struct core_field_spec *specs;
    uint32_t n;
    const char *const *others; /* names that somebody else looks at, up to a NULL; NULL: none */
};
/*
 * Reads an object that was parsed already: each member by the row of its name, into `out`, from
 * where the rows' offsets count. What is not required may be null or "" as well as left out; so may
 * what is nullable, but those two then mean that it is given, as null. Sets the bits of what is
 * given. Texts are copied to `arena`. 0, or -1 with *why filled, naming the argument.
 */
int decode_arguments(struct decoder *d, const struct decode_arguments *rows,
                     const struct json_value *object, struct arena *arena, void *out,
                     uint64_t *given, struct core_refusal *why);

/* Its parser, for other files of decode. */
struct json_parser *decoder_parser(struct decoder *d);

/* Whether an idempotency key is 1 to DECODE_KEY_BYTES bytes of UTF-8 without control characters. */
bool decode_key_valid(struct str key);

#endif
