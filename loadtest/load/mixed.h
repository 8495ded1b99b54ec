/*
 * mixed: what the two forms of mode `mixed` share (mixed.c: the whole blend, messages.c: messages
 * alone).
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_MIXED_H
#define ATOLL_LOAD_MIXED_H

#include "ask.h"
#include "mode.h"
#include "script.h"

/* One life of a script in a session. */
struct play {
    const struct script *script;
    uint32_t number; /* part of the session's name */
    uint32_t acked;  /* messages; from the first one on, and after the last one again */
    uint32_t room;
    uint64_t *seqs; /* of these */
};

/* Of the session that a play is in; `run` is drawn anew for each run. */
void play_name(const struct play *play, const char *prefix, uint32_t run, char name[64]);
/* The play's next message was acknowledged with this seq. */
void play_acked(struct play *play, uint64_t seq);
/* Reads the session back: each acknowledged message has to be there under its seq, as it was sent,
 * and nothing else. What is wrong becomes a problem of the report; returns how many were right. */
uint64_t play_check(const struct play *play, const char *name, struct asker *asker,
                    struct report *report);

/* Messages alone (`--only messages`); returns what a mode's run does. */
int messages_run(const struct load_options *options, struct report *report,
                 const struct scripts *scripts);

#endif
