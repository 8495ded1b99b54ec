/*
 * budgets: how much one session may have, and how fast, so that none takes what others need.
 *
 * Events and bytes of the log are looked at before an event is applied: what finds no room is
 * refused with 409, which names the budget, and the rest of its batch goes on. A session that has
 * used one up can still be read, watched, closed and deleted. (Agents and threads have bounds of
 * their own in the core.)
 *
 * The rate is a token bucket in the form of GCRA: `rate_ns` is when the bucket would be full again.
 * A request passes as a whole where there is room for one command, and is then counted by all that
 * it holds: a batch is never refused for its size, it only keeps the next one waiting longer.
 *
 * Memory is the one thing that all sessions share: where the process has too much of it in use
 * (pressure.h) none is made any more, and then nothing is written. Companions still are made
 * before that: agents come back to the sessions that there are.
 *
 * Otherwise companions have no bound, and what the shard itself has to say has none at all.
 *
 * Thread: the shard's.
 */
#include "shards/shard.h"

#include <stdio.h>

static bool refuse(struct core_refusal *why, const char *of, const char *option, uint64_t bound)
{
    *why = (struct core_refusal){.code = CORE_E_REFUSED};
    snprintf(why->detail, sizeof(why->detail),
             "The session has used up its budget of %s (%s: %llu).", of, option,
             (unsigned long long)bound);
    return false;
}

bool budget_allows(const struct shard *shard, const struct session *session, enum core_type type,
                   size_t bytes, struct core_refusal *why)
{
    const struct shard_settings *settings = &shard->settings;
    if (entry_is_companion(session->entry) || type == CORE_SESSION_CLOSE)
        return true;
    if (settings->session_events != 0 &&
        core_session_seq(session->core) >= settings->session_events)
        return refuse(why, "events", "max-session-events", settings->session_events);
    if (settings->session_log_bytes != 0 &&
        session->log_bytes + bytes >= settings->session_log_bytes)
        return refuse(why, "bytes in the log", "max-session-bytes", settings->session_log_bytes);
    return true;
}

bool budget_refuses_memory(struct shard *shard, const struct entry *entry, struct request *request)
{
    enum { AGAIN_MS = 1000 };
    bool writes = request->kind == REQUEST_COMMANDS || request->kind == REQUEST_FORK ||
                  request->kind == REQUEST_IMPORT;
    bool there = entry != NULL && (entry->flags & (ENTRY_ALIVE | ENTRY_ACTIVE)) != 0;
    bool companion = request->session.n != 0 && request->session.p[0] == '~';
    bool critical = pressure_level(shard->pressure) == PRESSURE_CRITICAL;
    if (!writes || request->errand != NULL || ((there || companion) && !critical))
        return false;
    /* Only these make one; what else is asked of one that is not there is told so. */
    if (!there && request->kind == REQUEST_COMMANDS && !commands_create(request))
        return false;
    shard->stats.memory_refused++;
    request->retry_ms = AGAIN_MS;
    shard_refuse(shard, NULL, request, REQUEST_E_UNAVAILABLE, NULL, "%s",
                 critical ? "nearly all memory is in use: nothing is written until some is free"
                          : "too much memory is in use for another session");
    return true;
}

bool budget_rate_allows(struct shard *shard, struct session *session, struct request *request)
{
    const struct shard_settings *settings = &shard->settings;
    /* `waited`: it has been counted, and was only put off since. */
    if (request->errand != NULL || request->waited || entry_is_companion(session->entry))
        return true;
    int64_t now_ns = shard->now_ms * 1000000;
    int64_t each_ns = (int64_t)(settings->rate_ms * 1000000 / settings->rate_commands);
    int64_t full_ns = session->rate_ns > now_ns ? session->rate_ns : now_ns;
    int64_t wait_ns = full_ns + each_ns - (int64_t)settings->rate_burst * each_ns - now_ns;
    if (wait_ns > 0) {
        shard->stats.rate_limited++;
        request->retry_ms = (uint32_t)((wait_ns + 999999) / 1000000);
        shard_refuse(shard, NULL, request, REQUEST_E_TOO_MANY, NULL,
                     "This session takes %llu commands in %llu ms (rate-session); try again in "
                     "%u ms.",
                     (unsigned long long)settings->rate_commands,
                     (unsigned long long)settings->rate_ms, request->retry_ms);
        return false;
    }
    session->rate_ns = full_ns + each_ns * (int64_t)request->commands_n;
    request->waited = true;
    return true;
}
