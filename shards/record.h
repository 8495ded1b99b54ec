/*
 * record: the body of a record in a session's chain: what one request did to it, or a snapshot of
 * it. Format: record.c. Touches no shard, no file: also for tools that read a directory offline.
 *
 * Thread: any; nothing here is shared.
 */
#ifndef ATOLL_SHARDS_RECORD_H
#define ATOLL_SHARDS_RECORD_H

#include "core/core.h"
#include "shards/log.h"

enum key_flags {
    KEY_BATCH = 1,  /* of a whole batch: the record holds its answer */
    KEY_EVENT = 2,  /* the answer is the event `seq` */
    KEY_MADE = 4,   /* … and it made something */
    KEY_PLACED = 8, /* in a snapshot: where the record with the answer is */
};

/* What is remembered of an answered request. */
struct key_entry {
    struct core_hash key;  /* of caller and key */
    struct core_hash body; /* of the canonical command(s) */
    log_position position; /* the record that holds it */
    uint64_t seq;          /* as answered */
    int64_t ts_ms;
    uint32_t flags; /* enum key_flags */
};

/* An earlier snapshot of the same history. */
struct record_skip {
    uint64_t seq;
    int64_t ts_ms;
    log_position position;
};

enum { RECORD_SKIPS_MAX = 48 };

/*
 * What a snapshot record says besides keys and the state. `skips` lead to earlier snapshots, the
 * newest first: for each power of two the newest one before this whose ordinal it divides, each
 * once. So the way from any snapshot to the one before a given seq has O(log n) steps.
 */
struct record_snapshot {
    struct core_chain chain;
    uint64_t membership_seq; /* newest event that changed who takes part in what */
    uint64_t log_bytes;      /* of this life's records before this one */
    log_position first;      /* this life's first record; NONE: this one */
    uint64_t ordinal;        /* from 1, along the whole history */
    struct record_skip skips[RECORD_SKIPS_MAX];
    uint32_t skips_n;
    struct str state; /* core_snapshot_encode's bytes; reading only */
};

/* ---- writing: count, keys, events (core_event_encode), and in a snapshot its section, after which
 * the caller adds core_snapshot_encode. */

/* Begins a body: the number of keys that follow. */
void record_add_count(struct buf *body, uint32_t keys);
void record_add_key(struct buf *body, const struct key_entry *entry, struct str answer);
void record_add_snapshot(struct buf *body, const struct record_snapshot *snapshot);

/* ---- other records' bodies. TOMBSTONE: where the life's records began and what they take; PIN and
 * UNPIN: the fork's id and epoch and, pinning, the seq it needs. */

enum { RECORD_END_BYTES = 24 };

void record_add_end(struct buf *body, log_position first, uint64_t log_bytes);
int record_read_end(struct str body, log_position *first, uint64_t *log_bytes);
void record_add_pin(struct buf *body, struct str child, uint64_t child_epoch, uint64_t at);
int record_read_pin(struct str body, struct str *child, uint64_t *child_epoch, uint64_t *at);

/* ---- reading: all keys, then all events, then the snapshot where the record is one */

struct record_reader {
    struct str left;
    uint32_t keys_left;
    uint32_t events_left;
    uint64_t seq; /* of the next event */
    bool snapshot;
    bool cut; /* RECORD_CUT */
};

/* In a record's flags, in memory only: events behind those that it counts are another history's. */
enum { RECORD_CUT = 128 };

int record_read_begin(struct record_reader *reader, const struct log_record *record);
/* 1: one key; 0: no more; -1: not a record. `answer` is empty unless KEY_BATCH. The position is
 * NONE unless KEY_PLACED. */
int record_read_key(struct record_reader *reader, struct key_entry *entry, struct str *answer);
/* Passes over all keys. 0 or -1. */
int record_skip_keys(struct record_reader *reader);
/* 1: one event, its strings in the record and its lists in scratch; 0: no more; -1. `bytes` (may be
 * NULL): the event as it is encoded, for the chain. */
int record_read_event(struct record_reader *reader, struct arena *scratch, struct core_event *event,
                      struct str *bytes);
/* Of a snapshot record, after its events: 0 or -1. The state points into the record. */
int record_read_snapshot(struct record_reader *reader, struct record_snapshot *snapshot);

/* The same for a record of which nothing but the snapshot is wanted: needs scratch to pass over the
 * event of a fork. */
int record_snapshot_of(const struct log_record *record, struct arena *scratch,
                       struct record_snapshot *snapshot);

/* The skips of the snapshot that follows `snapshot`, which stands at `at`. */
uint32_t record_next_skips(const struct record_snapshot *snapshot, const struct record_skip *at,
                           struct record_skip skips[RECORD_SKIPS_MAX]);

#endif
