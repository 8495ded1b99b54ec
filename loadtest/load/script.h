/*
 * script: a transcript (loadtest/transcript.h) made ready to be played again and again: bodies that
 * only need a head before them, and what answers are compared with.
 *
 * Thread: anyone's; it does not change.
 */
#ifndef ATOLL_LOAD_SCRIPT_H
#define ATOLL_LOAD_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_NOBODY UINT32_MAX

struct script_message {
    const char *thread, *sender;
    uint32_t to; /* whom it wakes: the agent that it mentions, or SCRIPT_NOBODY */
    char *body;  /* of POST …/threads/{thread}/messages */
    size_t body_size;
    const char *content; /* as UTF-8; zero bytes can be in it */
    size_t content_size;
    char *json; /* the content as the inside of a JSON string */
    size_t json_size;
};

/* What is played in one session. */
struct script {
    char *setup; /* a batch of commands: the session, its agents, its threads */
    size_t setup_size;
    const char **agents;
    uint32_t agents_n, messages_n;
    struct script_message *messages;
};

struct scripts {
    struct script *all;
    uint32_t n, agents_max, messages_max;
    uint64_t messages, bytes; /* of all contents */
    void *text;               /* what it is made of */
};

/* False: told on standard error, naming file and line. What it reads stays until the program ends.
 */
bool scripts_load(struct scripts *scripts, const char *path);

#endif
