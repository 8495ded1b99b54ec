/*
 * Counts: how large a session is, for summaries. Worked out over its threads when asked for: a
 * counter would have to be undone, kept and checked like any other part of the state.
 */
#include "core/internal.h"

struct core_counts core_session_counts(const struct core_session *s)
{
    struct core_counts counts = {.agents = s->agents.live, .threads = s->threads.live};
    const struct thread *thread;
    for (uint32_t at = 0; (thread = table_next(&s->threads, &at)) != NULL;)
        counts.messages += thread->window.older + thread->window.count;
    return counts;
}
