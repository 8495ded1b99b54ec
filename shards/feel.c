/*
 * feel: how the shard and its log are, for who looks after the server (health.h).
 *
 * Once a turn a few counters are compared with what they were: what has gone wrong since is
 * remembered for a while, as one overflow, or one slow commit, is over when somebody looks. While
 * something is, the shard wakes up when its time is over.
 *
 * A failed log is told by shard_fail, at once and for good.
 */
#include "shards/mailbox_internal.h"
#include "shards/shard.h"

#include <stdio.h>

enum {
    CROWDED_MS = 10 * 1000,
    SLOW_MS = 60 * 1000,
    PRESSED_LOOK_MS = 1000,
    SLOW_BUCKET = 20, /* of a commit's microseconds: longer than 1.05 s is slow */
};

static uint64_t overflows(const struct shard *shard)
{
    uint64_t n = shard->stats.ring_full + shard->stats.frames_lost;
    if (shard->mailbox != NULL)
        for (unsigned lane = 0; lane < LANES; lane++)
            n += shard->mailbox->full[lane];
    return n;
}

static uint64_t slow_commits(const struct shard *shard)
{
    const struct log_stats *log = log_stats(shard->log);
    uint64_t n = 0;
    for (unsigned i = SLOW_BUCKET + 1; i < HISTOGRAM_BUCKETS; i++)
        n += log->commit_us.counts[i] + log->sync_us.counts[i];
    return n;
}

static void look_at_shard(struct shard *shard, bool crowded)
{
    char why[HEALTH_WHY_BYTES];
    struct health_cell *cell = &shard->health->shard;
    enum pressure_level pressure = pressure_level(shard->pressure);
    shard->feels.pressed = pressure != PRESSURE_NONE;
    if (pressure == PRESSURE_CRITICAL) {
        health_set(cell, HEALTH_FAILING, shard->wall_ms,
                   "nearly all memory is in use: commands are refused");
        return;
    }
    if (shard->quarantined != 0)
        snprintf(why, sizeof(why), "%u session%s in quarantine", shard->quarantined,
                 shard->quarantined == 1 ? " is" : "s are");
    else if (pressure == PRESSURE_HIGH)
        snprintf(why, sizeof(why), "memory is short: no session is made");
    else if (shard->checkpoint_failed)
        snprintf(why, sizeof(why), "the last checkpoint could not be written");
    else if (crowded)
        snprintf(why, sizeof(why), "more comes than it can take: a ring was full");
    else
        why[0] = '\0';
    health_set(cell, why[0] != '\0' ? HEALTH_DEGRADED : HEALTH_HEALTHY, shard->wall_ms,
               why[0] != '\0' ? why : NULL);
}

static void look_at_log(struct shard *shard, bool slow)
{
    struct health_cell *cell = &shard->health->log;
    if (shard->is_full)
        health_set(cell, HEALTH_FAILING, shard->wall_ms,
                   "the disk is full: sessions can be read, not changed");
    else if (slow)
        health_set(cell, HEALTH_DEGRADED, shard->wall_ms, "a commit took more than a second");
    else
        health_set(cell, HEALTH_HEALTHY, shard->wall_ms, NULL);
}

void feel_turn(struct shard *shard)
{
    struct feelings *feels = &shard->feels;
    uint64_t full = overflows(shard), slow = slow_commits(shard);
    if (full != feels->overflows)
        feels->crowded_until_ms = shard->now_ms + CROWDED_MS;
    if (slow != feels->slow_commits)
        feels->slow_until_ms = shard->now_ms + SLOW_MS;
    feels->overflows = full;
    feels->slow_commits = slow;
    if (*shard->failed == NULL) {
        look_at_shard(shard, shard->now_ms < feels->crowded_until_ms);
        look_at_log(shard, shard->now_ms < feels->slow_until_ms);
    }
}

/* Milliseconds until what is remembered is over, or memory may be there again; -1: all is well. */
int feel_tick(const struct shard *shard)
{
    const struct feelings *feels = &shard->feels;
    int64_t left_ms = feels->pressed ? PRESSED_LOOK_MS : -1,
            untils[] = {feels->crowded_until_ms, feels->slow_until_ms};
    for (unsigned i = 0; i < 2; i++)
        if (untils[i] > shard->now_ms && (left_ms < 0 || untils[i] - shard->now_ms < left_ms))
            left_ms = untils[i] - shard->now_ms;
    return (int)left_ms;
}
