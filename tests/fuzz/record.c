/*
 * The body of a record in a session's chain: keys, events, a snapshot. The first bytes are the
 * record's type, flags, and how many events it says that it has.
 */
#include "shards/record.h"
#include "tests/fuzz/session.h"

static void read_snapshot(struct world *w, struct record_reader *reader)
{
    struct record_snapshot snapshot;
    struct record_skip skips[RECORD_SKIPS_MAX], at = {.seq = 1, .position = 1};
    struct core_session *s;

    if (record_read_snapshot(reader, &snapshot) != 0)
        return;
    assert(snapshot.skips_n <= RECORD_SKIPS_MAX);
    assert(record_next_skips(&snapshot, &at, skips) <= RECORD_SKIPS_MAX);
    s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    core_snapshot_decode(s, snapshot.state);
    core_session_free(s);
}

static bool read_keys(struct record_reader *reader, struct str body)
{
    struct key_entry entry;
    struct str answer;
    int more;
    while ((more = record_read_key(reader, &entry, &answer)) == 1)
        assert(answer.p >= body.p && answer.p + answer.n <= body.p + body.n);
    return more == 0;
}

static bool read_events(struct world *w, struct record_reader *reader, uint64_t seq)
{
    struct core_event event;
    struct core_refusal why;
    struct str bytes;
    int more;
    while ((more = record_read_event(reader, &w->scratch, &event, &bytes)) == 1) {
        struct core_chain chain = {0};
        assert(event.seq == seq++);
        core_chain_add(&chain, event.seq, bytes);
        event.seq = core_session_seq(w->s) + 1;
        core_apply(w->s, &event, &why);
    }
    return more == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size);
    struct log_record record = {.type = take_byte(&in),
                                .flags = take_byte(&in),
                                .events = take_byte(&in),
                                .session = STR("s1"),
                                .epoch = 1,
                                .seq = 15};
    struct record_reader reader;
    struct record_snapshot snapshot;
    struct str child;
    uint64_t epoch, at;
    log_position first;
    struct world w;

    char *body = exact_copy(in);
    record.body = (struct str){body, in.n};
    session_open(&w);
    if (record_read_begin(&reader, &record) == 0 && read_keys(&reader, record.body) &&
        read_events(&w, &reader, record.seq) && record.type == LOG_RECORD_SNAPSHOT)
        read_snapshot(&w, &reader);
    record_snapshot_of(&record, &w.scratch, &snapshot);
    record_read_end(record.body, &first, &at);
    if (record_read_pin(record.body, &child, &epoch, &at) == 0)
        assert(child.p >= body && child.p + child.n <= body + in.n);
    world_close(&w);
    free(body);
    return 0;
}
