/*
 * compaction: ridding the disk of what nobody needs: records of lives that have ended, and history
 * older than what is promised to be kept.
 *
 * A pass goes through the segments in which such records may lie, one at a time: a slow job reads
 * the segment (compact_survey), every shard that owns one of its sessions says what is needed of
 * each life (REQUEST_KEEP, an errand), a slow job writes the segment anew without the rest, or
 * drops it (compact_rewrite). Appending goes on beside it.
 *
 * Only segments wholly before the checkpoint of their log are touched, so that a recovery never
 * looks into one. Where deleted data lies behind that for too long, the log moves on to another
 * segment, and a checkpoint is written first.
 *
 * Segments of older generations belong to no shard in particular: whoever has garbage there sees to
 * them, and the file's name of the next version lets only one at a time (-EEXIST).
 *
 * What of a life is needed (compaction_verdict): of one that goes on everything, or, of a segment
 * that is older than the promise, what its newest snapshot and the records behind it hold; of one
 * that has ended what its forks have pinned.
 *
 * Failure: the segment stays as it was, and the garbage in the list; the next pass tries again.
 */
#include "shards/compact.h"
#include "shards/report.h"
#include "shards/shard.h"
#include "shards/sim_bug.h"
#include "shards/upkeep.h"

#include <errno.h>
#include <stdlib.h>

/* What is known of a segment that retention has looked at. */
struct segment_age {
    uint32_t number;
    int64_t newest_ts_ms;
    int64_t done_ms; /* monotonic: when it was last rid of old history; 0: never */
    int64_t bad_ms;  /* monotonic: it could not be read then; 0: it could */
};

struct candidate {
    uint32_t number;
    bool expired;
};

struct upkeep {
    struct shard *shard;
    struct candidate *segments; /* of this pass */
    uint32_t segments_n, at;
    bool incomplete; /* one could not be seen to */
    bool refused;    /* a verdict on the present segment */
    bool running;
    struct io_job job;
    struct compact_survey *survey;
    struct compact_result result;
    uint32_t answers; /* of owners, that are awaited */
    atomic_bool stop;
    char error[256];
    int64_t again_ms;       /* monotonic: no pass before */
    int64_t look_ms;        /* monotonic: garbage is not looked at before */
    int64_t roll_ms;        /* monotonic: the log is not moved on, nor a checkpoint begun, before */
    uint32_t first_segment; /* of this generation */
    int64_t retention_ms;
    struct segment_age *ages;
    uint32_t ages_n, ages_cap;
};

static struct upkeep *upkeep_of(struct shard *shard)
{
    if (shard->upkeep == NULL) {
        shard->upkeep = mem_alloc(sizeof(*shard->upkeep));
        *shard->upkeep = (struct upkeep){.shard = shard};
    }
    return shard->upkeep;
}

/* ---- garbage */

static int garbage_order(const struct garbage *a, const struct garbage *b)
{
    return (a->number > b->number) - (a->number < b->number);
}

RB_GENERATE(garbage_tree, garbage, by_number, garbage_order)

void upkeep_add_garbage(struct shard *shard, const struct garbage *what)
{
    struct garbage_list *list = &shard->garbage;
    struct garbage *garbage = memcpy(mem_alloc(sizeof(*garbage)), what, sizeof(*garbage));
    garbage->number = ++list->made;
    garbage->taken = false;
    RB_INSERT(garbage_tree, &list->tree, garbage);
    list->n++;
    list->bytes += garbage->bytes;
}

struct garbage *upkeep_garbage_after(struct shard *shard, uint64_t number)
{
    struct garbage key = {.number = number + 1};
    return RB_NFIND(garbage_tree, &shard->garbage.tree, &key);
}

static void garbage_remove(struct shard *shard, struct garbage *garbage)
{
    struct garbage_list *list = &shard->garbage;
    RB_REMOVE(garbage_tree, &list->tree, garbage);
    list->n--;
    list->bytes -= garbage->bytes;
    free(garbage);
}

static int by_life(const void *left, const void *right)
{
    const struct garbage *a = *(struct garbage *const *)left, *b = *(struct garbage *const *)right;
    int order = str_compare((struct str){a->id, a->id_size}, (struct str){b->id, b->id_size});
    return order != 0 ? order : (a->epoch > b->epoch) - (a->epoch < b->epoch);
}

void upkeep_settle_garbage(struct shard *shard)
{
    struct garbage **all = mem_alloc((shard->garbage.n + 1) * sizeof(*all));
    struct garbage *garbage;
    uint32_t n = 0;
    RB_FOREACH(garbage, garbage_tree, &shard->garbage.tree)
    all[n++] = garbage;
    qsort(all, n, sizeof(*all), by_life);
    for (uint32_t i = 1; i < n; i++) {
        if (by_life(&all[i], &all[i - 1]) == 0)
            garbage_remove(shard, all[i - 1]);
    }
    free(all);
}

/* A clock that was set back must not keep it for ever. */
static bool garbage_is_due(const struct shard *shard, const struct garbage *garbage)
{
    if (shard->now_ms < garbage->again_ms)
        return false;
    return garbage->since_ms > shard->wall_ms ||
           shard->wall_ms - garbage->since_ms >= shard->settings.compact_after_ms;
}

/* Whether a segment that could not be read may hold some of it. */
static bool may_lie_in_bad(const struct upkeep *upkeep, const struct garbage *garbage)
{
    for (uint32_t i = 0; i < upkeep->ages_n; i++) {
        const struct segment_age *age = &upkeep->ages[i];
        if (age->bad_ms != 0 && age->number >= garbage->first >> 32 &&
            age->number <= garbage->last >> 32)
            return true;
    }
    return false;
}

/* What a pass has taken: done with, or left for the next. */
static void garbage_settle_taken(struct shard *shard, bool done)
{
    struct garbage *garbage, *next;
    for (garbage = RB_MIN(garbage_tree, &shard->garbage.tree); garbage != NULL; garbage = next) {
        next = RB_NEXT(garbage_tree, &shard->garbage.tree, garbage);
        if (!garbage->taken)
            continue;
        garbage->taken = false;
        if (done && may_lie_in_bad(shard->upkeep, garbage))
            garbage->again_ms = shard->now_ms + UNREADABLE_AGAIN_MS;
        else if (done)
            garbage_remove(shard, garbage);
    }
}

/* ---- verdicts */

static struct compact_verdict verdict_of(struct shard *shard, const struct compact_life *life,
                                         bool expired)
{
    struct entry *entry = entry_find(shard, life->session);
    struct entry_life now;
    bool alive = entry != NULL && entry_life(entry, &now) && now.epoch == life->epoch;
    if (!alive) {
        struct compact_verdict dead = {.from = UINT64_MAX};
        if (!expired && !sim_bug(SIM_BUG_PINNED_DROPPED))
            dead.upto_seq = fork_pinned(shard, life->session, life->epoch);
        return dead;
    }
    if (!expired)
        return (struct compact_verdict){.from = LOG_POSITION_NONE};
    return (struct compact_verdict){.from = now.base};
}

/* What a verdict speaks of (an end, a snapshot) must not be taken back by a crash: it is given when
 * all that the log held then is on disk, and not only committed. */
struct keeping {
    struct keeping *next;
    struct shard *shard;
    struct request *request;
    uint32_t at;
    uint64_t batch;
    struct chore chore;
};

static void keep_answer(struct keeping *keeping)
{
    struct shard *shard = keeping->shard;
    if (*shard->failed != NULL)
        shard_refuse(shard, NULL, keeping->request, REQUEST_E_UNAVAILABLE, NULL,
                     "the log has failed");
    else
        shard_reply(shard, keeping->request);
    free(keeping);
}

void compaction_answer(struct shard *shard)
{
    struct keeping *keeping = shard->keeping, *next;
    shard->keeping = NULL;
    for (; keeping != NULL; keeping = next) {
        next = keeping->next;
        if (log_synced(shard->log) >= keeping->batch || *shard->failed != NULL) {
            keep_answer(keeping);
        } else {
            keeping->next = shard->keeping;
            shard->keeping = keeping;
        }
    }
}

static enum chore_result keep_run(struct chore *chore, int64_t until_ns)
{
    struct keeping *keeping = chore->owner;
    struct shard *shard = keeping->shard;
    struct request *request = keeping->request;
    while (keeping->at < request->lives_n) {
        struct compact_life *life = request->lives[keeping->at++];
        life->verdict = verdict_of(shard, life, request->expired);
        if (keeping->at % KEEP_STEPS == 0 && shard_clock_ns(shard) > until_ns)
            return CHORE_MORE;
    }
    keeping->batch = shard->dirty;
    keeping->next = shard->keeping;
    shard->keeping = keeping;
    compaction_answer(shard);
    return CHORE_DONE;
}

void upkeep_keep(struct shard *shard, struct request *request)
{
    struct keeping *keeping = mem_alloc(sizeof(*keeping));
    *keeping = (struct keeping){.shard = shard, .request = request};
    keeping->chore = (struct chore){.run = keep_run, .owner = keeping};
    shard_chore(shard, &keeping->chore);
}

/* ---- what retention knows of segments */

static struct segment_age *age_of(struct upkeep *upkeep, uint32_t number, bool make)
{
    for (uint32_t i = 0; i < upkeep->ages_n; i++) {
        if (upkeep->ages[i].number == number)
            return &upkeep->ages[i];
    }
    if (!make)
        return NULL;
    if (upkeep->ages_n == upkeep->ages_cap) {
        upkeep->ages_cap = upkeep->ages_cap != 0 ? upkeep->ages_cap * 2 : 16;
        upkeep->ages = mem_realloc(upkeep->ages, upkeep->ages_cap * sizeof(*upkeep->ages));
    }
    upkeep->ages[upkeep->ages_n] = (struct segment_age){.number = number};
    return &upkeep->ages[upkeep->ages_n++];
}

/* ---- one segment after the other */

static void pass_next(struct upkeep *upkeep);

static void segment_end(struct upkeep *upkeep, int result)
{
    struct shard *shard = upkeep->shard;
    struct candidate *candidate = &upkeep->segments[upkeep->at];
    if (upkeep->survey != NULL)
        compact_survey_free(upkeep->survey);
    upkeep->survey = NULL;
    if (result == -EIO) {
        /* It stays as it is, and is left alone for a while; the others are seen to. */
        age_of(upkeep, candidate->number, true)->bad_ms = shard->now_ms + 1;
        report_tell(REPORT_ERROR, "compaction_failed", (int)shard->number, (struct str){0},
                    "a segment cannot be compacted: %s", upkeep->error);
    } else if (result != 0 && result != -ENOENT) {
        upkeep->incomplete = true;
        if (result != -EEXIST && result != -ECANCELED)
            report_tell(REPORT_WARN, "compaction_failed", (int)shard->number, (struct str){0},
                        "a segment could not be compacted: %s", upkeep->error);
    } else if (candidate->expired) {
        age_of(upkeep, candidate->number, true)->done_ms = shard->now_ms + 1;
    }
    upkeep->at++;
    pass_next(upkeep);
}

static int rewrite_run(struct io_job *job)
{
    struct upkeep *upkeep = job->owner;
    struct shard *shard = upkeep->shard;
    return compact_rewrite(shard->dir, upkeep->survey, shard->settings.compact_bytes_per_s,
                           &upkeep->stop, &upkeep->result, upkeep->error, sizeof(upkeep->error));
}

static void rewrite_done(struct io_job *job, int result)
{
    struct upkeep *upkeep = job->owner;
    struct shard *shard = upkeep->shard;
    if (result == 0 && !upkeep->result.unchanged) {
        shard->stats.compactions++;
        shard->stats.compacted_bytes += upkeep->result.read_bytes - upkeep->result.kept_bytes;
    }
    segment_end(upkeep, result);
}

static void slow_job(struct upkeep *upkeep, int (*run)(struct io_job *),
                     void (*done)(struct io_job *, int))
{
    struct io *io = upkeep->shard->io;
    upkeep->job = (struct io_job){.run = run, .done = done, .owner = upkeep, .slow = true};
    io->ops->job(io, &upkeep->job);
}

static void verdict_done(void *owner, struct request *request)
{
    struct upkeep *upkeep = owner;
    if (request->error != 0)
        upkeep->refused = true;
    free(request->lives);
    request_free(request);
    if (--upkeep->answers != 0)
        return;
    if (upkeep->refused)
        segment_end(upkeep, -ECANCELED); /* a verdict is missing: nothing may go */
    else
        slow_job(upkeep, rewrite_run, rewrite_done);
}

/* Asks the owner of each life; the lives are lent to them until they answer. */
static void ask_owners(struct upkeep *upkeep)
{
    struct shard *shard = upkeep->shard;
    struct compact_survey *survey = upkeep->survey;
    unsigned shards = datadir_shards(shard->dir);
    struct request *requests[DATADIR_SHARDS_MAX] = {0};
    for (uint32_t i = 0; i < survey->lives_n; i++) {
        unsigned owner = (unsigned)(entry_hash(shard, survey->lives[i].session) % shards);
        struct request *request = requests[owner];
        if (request == NULL) {
            request = requests[owner] = request_new();
            request->kind = REQUEST_KEEP;
            request->shard = (uint16_t)owner;
            request->lives = mem_alloc(survey->lives_n * sizeof(struct compact_life *));
            request->expired = upkeep->segments[upkeep->at].expired;
            request->errand = verdict_done;
            request->errand_owner = upkeep;
        }
        request->lives[request->lives_n++] = &survey->lives[i];
    }
    upkeep->refused = false;
    upkeep->answers = 1;
    for (unsigned owner = 0; owner < shards; owner++) {
        if (requests[owner] == NULL)
            continue;
        upkeep->answers++;
        mailbox_errand(shard->mailbox, requests[owner]);
    }
    if (--upkeep->answers == 0) /* there was nothing in it but what never stays */
        slow_job(upkeep, rewrite_run, rewrite_done);
}

static int survey_run(struct io_job *job)
{
    struct upkeep *upkeep = job->owner;
    return compact_survey(upkeep->shard->dir, upkeep->segments[upkeep->at].number, &upkeep->survey,
                          upkeep->error, sizeof(upkeep->error));
}

/* Whether the segment's newest record is older than what is promised to be kept. */
static bool is_too_old(const struct upkeep *upkeep, int64_t newest_ts_ms)
{
    const struct shard *shard = upkeep->shard;
    return shard->settings.retain_ms != 0 &&
           newest_ts_ms < shard->wall_ms - shard->settings.retain_ms;
}

static void survey_done(struct io_job *job, int result)
{
    struct upkeep *upkeep = job->owner;
    struct candidate *candidate = &upkeep->segments[upkeep->at];
    if (result != 0) {
        segment_end(upkeep, result);
        return;
    }
    struct segment_age *age = age_of(upkeep, candidate->number, true);
    age->newest_ts_ms = upkeep->survey->newest_ts_ms;
    age->bad_ms = 0;
    if (!candidate->expired)
        candidate->expired = is_too_old(upkeep, upkeep->survey->newest_ts_ms);
    ask_owners(upkeep);
}

/* ---- a pass */

static void pass_end(struct upkeep *upkeep)
{
    struct shard *shard = upkeep->shard;
    upkeep->running = false;
    free(upkeep->segments);
    upkeep->segments = NULL;
    upkeep->segments_n = 0;
    if (upkeep->incomplete)
        upkeep->again_ms = shard->now_ms + UPKEEP_AGAIN_MS;
    garbage_settle_taken(shard, !upkeep->incomplete);
}

static void pass_next(struct upkeep *upkeep)
{
    if (upkeep->at == upkeep->segments_n || upkeep->shard->stopping != STOP_NOT ||
        *upkeep->shard->failed != NULL) {
        upkeep->incomplete = upkeep->incomplete || upkeep->at != upkeep->segments_n;
        pass_end(upkeep);
        return;
    }
    slow_job(upkeep, survey_run, survey_done);
}

/* Whether a recovery will never look into it. */
static bool may_be_compacted(const struct shard *shard, const struct datadir_segment *segment)
{
    if (segment->generation != datadir_generation(shard->dir))
        return true;
    return segment->shard == shard->number && segment->number < shard->checkpoint_from.segment &&
           segment->number != log_busy_segment(shard->log);
}

/* It would be compacted, were it not being synced yet. */
static bool is_busy(const struct shard *shard, const struct datadir_segment *segment)
{
    return segment->number == log_busy_segment(shard->log) &&
           segment->number < shard->checkpoint_from.segment;
}

static bool is_ours(const struct shard *shard, const struct datadir_segment *segment)
{
    if (segment->generation == datadir_generation(shard->dir))
        return segment->shard == shard->number;
    return segment->number % datadir_shards(shard->dir) == shard->number;
}

/* Whether something is due, of what one pass looks at. */
static bool is_something_due(struct shard *shard)
{
    struct garbage *garbage;
    uint32_t looked = 0;
    RB_FOREACH(garbage, garbage_tree, &shard->garbage.tree)
    {
        if (++looked > GARBAGE_A_PASS)
            break;
        if (garbage_is_due(shard, garbage))
            return true;
    }
    return false;
}

/* Where something is due, takes all that lies where it can be compacted: what would be due soon
 * goes along, so that a pass comes at most every compact_after_ms. *later: the last segment of what
 * lies where it cannot. How many it has taken. */
static uint32_t take_due(struct upkeep *upkeep, uint32_t *later)
{
    struct shard *shard = upkeep->shard;
    struct garbage *garbage;
    uint32_t n = 0, looked = 0;
    *later = 0;
    if (!is_something_due(shard))
        return 0;
    RB_FOREACH(garbage, garbage_tree, &shard->garbage.tree)
    {
        uint32_t last = (uint32_t)(garbage->last >> 32);
        if (++looked > GARBAGE_A_PASS)
            break;
        if (shard->now_ms < garbage->again_ms)
            continue;
        if (last < shard->checkpoint_from.segment || last < upkeep->first_segment) {
            garbage->taken = true;
            n++;
        } else if (garbage_is_due(shard, garbage) && last > *later) {
            *later = last;
        }
    }
    return n;
}

/* For each segment number whether something that was taken may lie there: +1 where a range begins,
 * -1 behind its end. */
static int32_t *mark_taken(struct shard *shard, uint32_t numbers)
{
    int32_t *marks = mem_zeroed(numbers + 2, sizeof(*marks));
    struct garbage *garbage;
    RB_FOREACH(garbage, garbage_tree, &shard->garbage.tree)
    {
        uint64_t first = garbage->first >> 32, last = garbage->last >> 32;
        if (!garbage->taken || first > numbers)
            continue;
        marks[first]++;
        marks[(last < numbers ? last : numbers) + 1]--;
    }
    for (uint32_t i = 1; i <= numbers; i++)
        marks[i] += marks[i - 1];
    return marks;
}

/* Of segments that are ours: whether their history is too old, or too much. Those that were seen to
 * lately are not looked at again so soon: what stays of them is needed. */
static bool wants_retention(struct upkeep *upkeep, const struct datadir_segment *segment,
                            uint64_t bytes_before_newest)
{
    struct shard *shard = upkeep->shard;
    const struct segment_age *age = age_of(upkeep, segment->number, false);
    if (age != NULL && age->done_ms != 0 &&
        shard->now_ms - age->done_ms < shard->settings.compact_after_ms)
        return false;
    if (shard->settings.retain_bytes != 0 && bytes_before_newest > shard->settings.retain_bytes)
        return true;
    return shard->settings.retain_ms != 0 && (age == NULL || is_too_old(upkeep, age->newest_ts_ms));
}

static bool is_bad(struct upkeep *upkeep, uint32_t number)
{
    const struct segment_age *age = age_of(upkeep, number, false);
    return age != NULL && age->bad_ms != 0 &&
           upkeep->shard->now_ms - age->bad_ms < UNREADABLE_AGAIN_MS;
}

static void add_candidate(struct upkeep *upkeep, uint32_t number, bool expired)
{
    upkeep->segments[upkeep->segments_n++] = (struct candidate){number, expired};
}

/* The segments of this pass, the oldest first. */
static void choose(struct upkeep *upkeep, bool retention)
{
    struct shard *shard = upkeep->shard;
    size_t n = datadir_segments(shard->dir, 0, 0, NULL, 0);
    struct datadir_segment *all = mem_alloc((n + 1) * sizeof(*all));
    size_t got = datadir_segments(shard->dir, 0, 0, all, n);
    n = got < n ? got : n;
    upkeep->segments = mem_alloc((n + 1) * sizeof(*upkeep->segments));
    uint64_t bytes = 0;
    uint32_t newest = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += is_ours(shard, &all[i]) ? all[i].bytes : 0;
        newest = all[i].number > newest ? all[i].number : newest;
    }
    int32_t *marks = mark_taken(shard, newest);
    for (size_t i = 0; i < n; i++) {
        bool ours = is_ours(shard, &all[i]);
        bool too_much = shard->settings.retain_bytes != 0 && bytes > shard->settings.retain_bytes;
        if (may_be_compacted(shard, &all[i]) && !is_bad(upkeep, all[i].number)) {
            if (retention && ours && wants_retention(upkeep, &all[i], bytes))
                add_candidate(upkeep, all[i].number, too_much);
            else if (marks[all[i].number] != 0)
                add_candidate(upkeep, all[i].number, false);
        } else if (is_busy(shard, &all[i]) && marks[all[i].number] != 0) {
            upkeep->incomplete = true;
        }
        bytes -= ours ? all[i].bytes : 0;
    }
    free(marks);
    free(all);
}

/* Due garbage lies where it cannot be compacted yet: the log moves on, and a checkpoint makes what
 * is before it compactable. */
static void make_compactable(struct upkeep *upkeep, uint32_t last)
{
    struct shard *shard = upkeep->shard;
    int rolled = last >= log_segment(shard->log) ? log_roll(shard->log) : 0;
    if (rolled == 0 && shard->checkpoint == NULL)
        checkpoint_begin(shard);
    if (rolled != -EAGAIN) /* else the next segment is being prepared */
        upkeep->roll_ms = shard->now_ms + UPKEEP_AGAIN_MS;
}

static bool retention_is_due(struct upkeep *upkeep)
{
    const struct shard_settings *settings = &upkeep->shard->settings;
    return (settings->retain_ms != 0 || settings->retain_bytes != 0) &&
           upkeep->shard->now_ms >= upkeep->retention_ms;
}

/* The first segment of this generation: all before it can be compacted. */
static uint32_t first_segment(const struct shard *shard)
{
    struct datadir_segment first;
    size_t n =
        datadir_segments(shard->dir, datadir_generation(shard->dir), shard->number, &first, 1);
    return n != 0 ? first.number : 0;
}

void compaction_turn(struct shard *shard)
{
    struct upkeep *upkeep = upkeep_of(shard);
    if (upkeep->running || shard->now_ms < upkeep->again_ms || shard->now_ms < upkeep->look_ms)
        return;
    bool retention = retention_is_due(upkeep);
    if (shard->garbage.n == 0 && !retention)
        return;
    upkeep->look_ms = shard->now_ms + GARBAGE_LOOK_MS;
    uint32_t later;
    upkeep->first_segment = first_segment(shard);
    uint32_t due_n = take_due(upkeep, &later);
    if (later != 0 && shard->now_ms >= upkeep->roll_ms)
        make_compactable(upkeep, later);
    if (due_n == 0 && !retention)
        return;
    if (retention)
        upkeep->retention_ms = shard->now_ms + RETENTION_LOOK_MS;
    upkeep->running = true;
    upkeep->incomplete = false;
    upkeep->at = 0;
    choose(upkeep, retention);
    pass_next(upkeep);
}

int compaction_tick(struct shard *shard)
{
    struct upkeep *upkeep = upkeep_of(shard);
    const struct shard_settings *settings = &shard->settings;
    int64_t until = INT64_MAX;
    for (const struct keeping *keeping = shard->keeping; keeping != NULL; keeping = keeping->next) {
        if (log_synced(shard->log) >= keeping->batch)
            return 0; /* it has been synced since this turn looked */
    }
    if (upkeep->running || shard->stopping != STOP_NOT || *shard->failed != NULL)
        return -1; /* a completion goes on with it, or nothing does */
    const struct garbage *first = RB_MIN(garbage_tree, &shard->garbage.tree);
    if (first != NULL)
        until = first->since_ms + settings->compact_after_ms - shard->wall_ms;
    if (settings->retain_ms != 0 || settings->retain_bytes != 0) {
        int64_t look = upkeep->retention_ms - shard->now_ms;
        until = look < until ? look : until;
    }
    if (until == INT64_MAX)
        return -1;
    int64_t least = upkeep->look_ms > upkeep->again_ms ? upkeep->look_ms : upkeep->again_ms;
    if (least - shard->now_ms > until)
        until = least - shard->now_ms;
    return until < 1 ? 1 : until > 60 * 1000 ? 60 * 1000 : (int)until;
}

bool compaction_busy(const struct shard *shard)
{
    struct upkeep *upkeep = shard->upkeep;
    return upkeep != NULL && upkeep->running;
}

void compaction_stop(struct shard *shard)
{
    if (shard->upkeep != NULL)
        atomic_store(&shard->upkeep->stop, true);
}

void compaction_free(struct shard *shard)
{
    struct upkeep *upkeep = shard->upkeep;
    struct garbage *garbage;
    while ((garbage = RB_MIN(garbage_tree, &shard->garbage.tree)) != NULL)
        garbage_remove(shard, garbage);
    if (upkeep == NULL)
        return;
    if (upkeep->survey != NULL)
        compact_survey_free(upkeep->survey);
    free(upkeep->segments);
    free(upkeep->ages);
    free(upkeep);
}
