/*
 * Every bound of the rooms between frontends and the log, with what happens at it.
 */
#ifndef ATOLL_SHARDS_LIMITS_H
#define ATOLL_SHARDS_LIMITS_H

enum {
    /* Requests on their way to one shard from one frontend, by lane (mailbox.h): mailbox_send
     * refuses, 503. */
    CONTROL_RING_ITEMS = 2048,
    REQUEST_RING_ITEMS = 8192, /* commands */
    TELEMETRY_RING_ITEMS = 4096,
    /* Replies, frames and notices on their way back. Half is for replies: as many requests may be
     * outstanding. The other half is for the rest: frames that do not fit detach their feed. */
    REPLY_RING_ITEMS = 16384,
    REPLY_CREDITS = REPLY_RING_ITEMS / 2,
    /* What a shard takes from one ring before the next one's turn comes, by lane; of telemetry no
     * more either than it can do in TELEMETRY_SLICE_NS. */
    CONTROL_SHARE = 128,
    COMMANDS_SHARE = 64,
    TELEMETRY_SHARE = 16,
    TELEMETRY_SLICE_NS = 250 * 1000,
    /* Requests taken from the rings of one frontend in one turn, in the mean: the rest waits for
     * the next. */
    TURN_REQUESTS_MAX = 512,
    /* Of so many requests one is measured: how long it waits in its ring. */
    QUEUE_SAMPLE = 64,
    /* Commands of one batch, sessions of one list, … worked on before the clock is looked at. */
    SLICE_STEPS = 64,
    /* Nothing holds a turn longer than this on purpose; what is not done goes on next turn. */
    SLICE_NS = 1000 * 1000,
    /* Sessions that one turn looks at for a list: the rest in the next. */
    LIST_STEPS = 2000,
    /* Bytes of summaries in one answer about changes: it ends early there. */
    CHANGES_BYTES = 64 * 1024,
    /* How often those that wait for changes are told of them. */
    CHANGES_PAUSE_MS = 100,
    /* Sessions that have changed and left memory, or have ended, of which a shard keeps in mind
     * when: the oldest is forgotten, and who was told of nothing since has to begin anew. */
    CHANGES_NOTES_MAX = 16384,
    /* What a small command takes in the log: without room for it none is even decided. */
    RECORD_HINT_BYTES = 512,
    /* How often a shard whose disk is full looks whether there is room again. */
    FULL_LOOK_MS = 1000,
    /* Requests queued behind a busy session (a batch in slices): 503 for the next. */
    SESSION_QUEUE_MAX = 1024,
    /* Messages handed out to one agent and not acknowledged: it gets no more before some are. And
     * how long they stay so: then they are handed out again. */
    HANDED_MAX = 1000,
    HANDED_MS = 60 * 1000,
    /* Bytes relayed to one frontend that it has not taken yet: the next are refused, but for one
     * that finds none before it. */
    RELAYED_BYTES_MAX = 16 * 1024 * 1024,
    /* A session whose commands have broken an invariant so often within so long is not made anew
     * again, but put into quarantine. */
    QUARANTINE_AFTER = 3,
    QUARANTINE_WITHIN_MS = 60 * 1000,
    /* Idempotency keys kept for a session: the oldest leaves. And for how long, in event time. */
    SESSION_KEYS_MAX = 10000,
    SESSION_KEYS_MS = 24 * 60 * 60 * 1000,
    /* Agents whose time has come (a lease, a call) that one turn looks at; the rest in the next. */
    ATTENDED_STEPS = 256,
    /* Errands of a reactor under way (what its shard itself has to say, among others), beyond which
     * no more leases and calls are looked at: their answers come first. */
    ATTENDED_ERRANDS = 1024,
    /* Sessions with leases or targets that are loaded at the same time after a start. */
    ATTENDED_LOADS = 8,
    /* What the shard itself has to say could not be logged or sent: how long until it tries again.
     */
    ATTENDED_AGAIN_MS = 1000,
    /* From news for an agent to the call: it may come back and wait by itself. */
    WAKE_DELAY_MS = 250,
    /* Calls of a shard under way, looks at what there is to tell included: the rest queues. */
    WAKES_MAX = 64,
    /* Messages that a call's cursor acknowledges: the oldest. */
    WAKE_CURSOR_MAX = 100,
    /* After a call that failed, doubled each time; after WAKE_FAILURES in a row its breaker opens,
     * and it is tried after WAKE_PROBE_MS, doubled up to WAKE_PROBE_MAX_MS. */
    WAKE_RETRY_MS = 1000,
    WAKE_FAILURES = 5,
    WAKE_PROBE_MS = 60 * 1000,
    WAKE_PROBE_MAX_MS = 10 * 60 * 1000,
    /* An inbox that could not be read for a call: how long until it is tried again. */
    WAKE_UNREADABLE_MS = 10 * 1000,
    /* Sessions that one turn looks at to passivate them; the rest in the next. */
    PASSIVATE_STEPS = 64,
    /* Where memory is short, a session that nobody has used for so long leaves it. */
    PRESSED_PASSIVATE_MS = 1000,
    /* Lives of a segment that one piece of work says yes or no to. */
    KEEP_STEPS = 64,
    /* How often ended lives are looked through for those that are due. */
    GARBAGE_LOOK_MS = 100,
    /* Ended lives that one pass of compaction looks at; the rest in the next. */
    GARBAGE_A_PASS = 10000,
    /* A session with a ttl, or a segment, that cannot be read: how long until it is tried again. */
    UNREADABLE_AGAIN_MS = 60 * 60 * 1000,
    /* After a checkpoint or compaction that failed: how long until it is tried again. */
    UPKEEP_AGAIN_MS = 10 * 1000,
    /* How often retention looks whether a segment has become too old. */
    RETENTION_LOOK_MS = 10 * 1000,
    /* Bytes of one frame made from the log for a follower that catches up; more comes in the next.
     */
    CATCH_UP_BYTES = 256 * 1024,
    /* Bytes of one page of events or messages: a page ends early there. */
    PAGE_BYTES = 4 * 1024 * 1024,
};

#endif
