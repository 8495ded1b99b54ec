/*
 * history: reads a range of a session's committed events from the log, while the shard goes on.
 *
 * Each record names the session's record before it, and every CHAIN_STRIDE-th position is kept in
 * memory. So a reading goes chunk by chunk: into the chain at the first kept position behind what
 * it wants, back along the chain to where it begins, then forward through what it collected. No
 * step reads more than one record, and each is a completion of its own: nothing holds a turn.
 *
 * Descending readings visit each record's events as they come, newest first.
 *
 * If the session's life ends meanwhile, the reading ends with -ENOENT.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

struct history_record {
    struct history_record *older; /* while collecting; the list begins with the oldest */
    struct log_record record;
};

struct history *history_new(struct shard *shard, struct session *session, struct request *request)
{
    struct history *history = mem_alloc(sizeof(*history));
    *history = (struct history){
        .shard = shard, .session = session, .request = request, .epoch = session->epoch};
    session->pins++;
    shard->histories++;
    return history;
}

void history_free(struct history *history)
{
    struct shard *shard = history->shard;
    log_read_release(&history->read);
    arena_free(&history->records);
    shard->histories--;
    history->session->pins--;
    session_drop_if_vacant(shard, history->session);
    free(history);
}

/* Where to enter the chain to reach `seq` by going back: the first kept position that is not
 * before it, if it is committed. (A session's positions ascend; its seqs do not where a record
 * holds keys alone.) */
static log_position chain_entrance(const struct session *session, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = session->chain_n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (session->chain[middle].last_seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    bool kept = low < session->chain_n && session->chain[low].position <= session->committed_head;
    return kept ? session->chain[low].position : session->committed_head;
}

static void history_read_done(struct log_read *read, int result);

static void history_read_at(struct history *history, log_position position)
{
    history->read.done = history_read_done;
    history->read.owner = history;
    log_read(history->shard->log, &history->read, position);
}

void history_start(struct history *history)
{
    struct session *session = history->session;
    if (history->until > session->committed_seq)
        history->until = session->committed_seq;
    if (history->after >= history->until) {
        history->done(history, 0);
        return;
    }
    uint64_t first = history->descending ? history->until : history->after + 1;
    history->collected = NULL;
    history_read_at(history, chain_entrance(session, first));
}

static int history_open_record(struct record_reader *reader, const struct log_record *record)
{
    struct key_entry key;
    struct str answer;
    int more = record_read_begin(reader, record);
    while (more == 0 && (more = record_read_key(reader, &key, &answer)) == 1)
        more = 0;
    return more;
}

static bool history_wants(const struct history *history, uint64_t seq)
{
    return seq > history->after && seq <= history->until && !history->full;
}

static int history_visit_record(struct history *history, const struct log_record *record)
{
    struct arena *scratch = &history->shard->scratch;
    struct record_reader reader;
    struct core_event event;
    int more = history_open_record(&reader, record);
    while (more == 0 && (more = record_read_event(&reader, scratch, &event)) == 1) {
        if (history_wants(history, event.seq))
            history->full = !history->visit(history, &event);
        arena_reset(scratch);
        more = 0;
    }
    return more;
}

static int history_visit_record_descending(struct history *history, const struct log_record *record)
{
    struct arena *scratch = &history->shard->scratch;
    struct core_event *events = arena_alloc(scratch, record->events * sizeof(*events) + 1);
    struct record_reader reader;
    uint32_t n = 0;
    int more = history_open_record(&reader, record);
    while (more == 0 && n < record->events &&
           (more = record_read_event(&reader, scratch, &events[n])) == 1) {
        n++;
        more = 0;
    }
    while (more == 0 && n-- != 0) {
        if (history_wants(history, events[n].seq))
            history->full = !history->visit(history, &events[n]);
    }
    arena_reset(scratch);
    return more;
}

static void history_collect(struct history *history, const struct log_record *record)
{
    struct history_record *kept = arena_alloc(&history->records, sizeof(*kept));
    kept->record = *record;
    kept->record.body = arena_copy(&history->records, record->body);
    kept->older = history->collected; /* so far; reversed in time: the newest came first */
    history->collected = kept;
}

/* The chunk is complete, its oldest record first in the list. */
static int history_visit_chunk(struct history *history)
{
    int result = 0;
    uint64_t last_seq = history->after;
    for (struct history_record *at = history->collected; at != NULL; at = at->older) {
        if (result == 0)
            result = history_visit_record(history, &at->record);
        if (at->record.seq + at->record.events - 1 > last_seq)
            last_seq = at->record.seq + at->record.events - 1;
    }
    history->collected = NULL;
    arena_reset(&history->records);
    history->after = last_seq;
    return result;
}

static int history_take(struct history *history, const struct log_record *record, bool *go_back)
{
    bool reached = record->seq <= history->after + 1;
    *go_back = !reached && !history->full && record->previous != LOG_POSITION_NONE;
    if (!reached && record->previous == LOG_POSITION_NONE)
        return -EIO; /* the chain ends before it should */
    if (history->descending) {
        int result = history_visit_record_descending(history, record);
        *go_back = *go_back && !history->full;
        if (!*go_back)
            history->after = history->until;
        return result != 0 ? -EIO : 0;
    }
    history_collect(history, record);
    if (*go_back)
        return 0;
    return history_visit_chunk(history) != 0 ? -EIO : 0;
}

static void history_read_done(struct log_read *read, int result)
{
    struct history *history = read->owner;
    struct session *session = history->session;
    bool go_back = false;
    history->shard->stats.history_records++;
    if (session->core == NULL || session->epoch != history->epoch)
        result = -ENOENT;
    else if (result == 0 && (read->record.epoch != history->epoch ||
                             !str_equal(read->record.session, session_id(session))))
        result = -EIO;
    if (result == 0)
        result = history_take(history, &read->record, &go_back);
    if (result != 0)
        history->done(history, result);
    else if (go_back)
        history_read_at(history, read->record.previous);
    else if (history->full)
        history->done(history, 0);
    else
        history_start(history); /* the next chunk, or done */
}
