#include "script.h"

#include "transcript.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must_calloc(size_t n, size_t size)
{
    void *p = calloc(n != 0 ? n : 1, size);

    if (p == NULL) {
        fprintf(stderr, "atoll-load: out of memory\n");
        exit(2);
    }
    return p;
}

static const char *member(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static uint32_t agent_number(const struct script *script, const char *name)
{
    uint32_t i = 0;

    while (strcmp(script->agents[i], name) != 0) /* each sender and addressee is one of them */
        i++;
    return i;
}

/* Gives the entries of a list a type and puts them into the batch. */
static void add_commands(json_t *batch, json_t *list, const char *type)
{
    size_t i;
    json_t *entry;

    json_array_foreach (list, i, entry) {
        json_t *command = json_pack("{ss}", "type", type);
        json_object_update(command, entry);
        json_array_append_new(batch, command);
    }
}

static void add_message(struct script *script, struct script_message *message, const json_t *entry)
{
    json_t *body = json_object_get(entry, "body");
    json_t *content = json_object_get(body, "content");
    const char *to = json_string_value(json_array_get(json_object_get(body, "mentions"), 0));
    char *quoted = json_dumps(content, JSON_ENCODE_ANY);

    message->thread = member(entry, "thread");
    message->sender = member(body, "sender");
    /* Who mentions itself is not told so: its own messages are never unread. */
    message->to =
        to != NULL && strcmp(to, message->sender) != 0 ? agent_number(script, to) : SCRIPT_NOBODY;
    message->body = json_dumps(body, JSON_COMPACT);
    message->body_size = strlen(message->body);
    message->content = json_string_value(content);
    message->content_size = json_string_length(content);
    message->json = quoted + 1;
    message->json_size = strlen(quoted) - 2;
}

static void make_script(struct script *script, const json_t *session)
{
    json_t *agents = json_object_get(session, "agents");
    const json_t *messages = json_object_get(session, "messages");
    json_t *batch = json_pack("[{ss}]", "type", "session.create");

    add_commands(batch, agents, "agent.register");
    add_commands(batch, json_object_get(session, "threads"), "thread.create");
    script->setup = json_dumps(batch, JSON_COMPACT);
    script->setup_size = strlen(script->setup);
    json_decref(batch);
    script->agents_n = (uint32_t)json_array_size(agents);
    script->agents = must_calloc(script->agents_n, sizeof(*script->agents));
    for (uint32_t i = 0; i < script->agents_n; i++)
        script->agents[i] = member(json_array_get(agents, i), "agent");
    script->messages_n = (uint32_t)json_array_size(messages);
    script->messages = must_calloc(script->messages_n, sizeof(*script->messages));
    for (uint32_t i = 0; i < script->messages_n; i++)
        add_message(script, &script->messages[i], json_array_get(messages, i));
}

bool scripts_load(struct scripts *scripts, const char *path)
{
    json_t *sessions = transcript_load(path, "");

    if (sessions == NULL)
        return false;
    *scripts = (struct scripts){.n = (uint32_t)json_array_size(sessions), .text = sessions};
    if (scripts->n == 0) {
        fprintf(stderr, "atoll-load: %s has no messages\n", path);
        return false;
    }
    scripts->all = must_calloc(scripts->n, sizeof(*scripts->all));
    for (uint32_t i = 0; i < scripts->n; i++) {
        struct script *script = &scripts->all[i];
        make_script(script, json_array_get(sessions, i));
        scripts->messages += script->messages_n;
        for (uint32_t k = 0; k < script->messages_n; k++)
            scripts->bytes += script->messages[k].content_size;
        if (script->agents_n > scripts->agents_max)
            scripts->agents_max = script->agents_n;
        if (script->messages_n > scripts->messages_max)
            scripts->messages_max = script->messages_n;
    }
    return true;
}
