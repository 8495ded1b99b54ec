/*
 * What redact.c (places and values), redact_event.c (events and their patches) and redact_reply.c
 * (answers and questions) know of each other.
 */
#ifndef ATOLL_SERVER_REDACT_INTERNAL_H
#define ATOLL_SERVER_REDACT_INTERNAL_H

#include "server/redact.h"

/* ---- places */

/* How a key is written. */
enum key_form { KEY_MEMBER, KEY_PATH, KEY_FORMS };

/* A place in the state. */
struct place {
    uint64_t live; /* pointers that have matched so far, and go on */
    unsigned depth;
    bool hidden;
};

/* A key that is not known, or a position in an array: any. */
#define REDACT_ANY ((struct str){0})

/* What the letters of a place's template stand for; p == NULL: any. */
struct names {
    struct str agent;   /* A */
    struct str by;      /* B: who acts */
    struct str thread;  /* T */
    struct str element; /* E */
    struct str label;   /* L: as it is written in JSON */
};

#define AGENT "agents/A"
#define THREAD "threads/T"
#define PARTICIPANT "threads/T/participants/A"
#define DOER "threads/T/participants/B"
#define MESSAGE "threads/T/messages/-"

struct place redact_root(const struct redaction *redaction);
struct place redact_enter(const struct redaction *redaction, struct place at, struct str key,
                          enum key_form form);
/* Of a template: "threads/T/messages/-/sender", where - is any position. */
struct place redact_place(const struct redaction *redaction, const char *template,
                          const struct names *names);
/* Whether it is hidden; with names that are not known: whether one of the places may be. */
bool redact_hides(const struct redaction *redaction, const char *template,
                  const struct names *names);

/* ---- text: what is taken goes from the front of *in */

void redact_skip(struct str *in, size_t n);
/* The value, or the key with its quotes, that the text begins with. */
struct str redact_take(struct str *in);
/* The key of the next member of an object, and its colon; p == NULL: there is none left. */
struct str redact_take_key(struct str *in);
/* The next segment of a path. */
struct str redact_take_segment(struct str *path);
/* The key of a member that is shown; `begin`: where the members begin in `out`. */
void redact_add_key(struct buf *out, size_t begin, struct str key);
/* Takes a value of a place that is not hidden, and adds what is to be seen of it. */
void redact_add_value(const struct redaction *redaction, struct place at, struct str *in,
                      struct buf *out);
/* An element of an array: null where its place is hidden. */
void redact_add_element(const struct redaction *redaction, struct place at, struct str *in,
                        struct buf *out);
/* The place of an operation; `element`: of an array. False: it lies in a place that is hidden, or
 * deeper than any operation does. */
bool redact_find_op(const struct redaction *redaction, struct str path, struct place *at,
                    bool *element);

#endif
