/*
 * Fetching ahead: what the next command of a session is likely to look at, asked for before it is
 * needed.
 *
 * A command goes from the session to a table, to an entry of it, to a thread, to its window, to a
 * message. Where many sessions are in use, none of these is in the processor's cache, and each has
 * to be waited for before the next is known. Who has commands for several sessions at hand takes
 * such a step for each of them, then the next step for each: so they are waited for together.
 *
 * The guess is that a session goes on with the thread and the agent that it was last asked for. A
 * wrong one costs a few lines of the cache; nothing here changes anything.
 */
#include "core/internal.h"

enum { LINE_BYTES = 64 };

/* For writing: most of it is. */
static inline void fetch(const void *p, size_t n)
{
    for (size_t at = 0; at < n; at += LINE_BYTES)
        __builtin_prefetch((const char *)p + at, 1);
}

static void *hinted(const struct table *t)
{
    return t->hint < t->used ? t->entries[t->hint].object : NULL;
}

static void fetch_window(const struct window *w)
{
    if (w->count == 0)
        return;
    __builtin_prefetch(&w->ring[w->head], 1);
    __builtin_prefetch(&w->ring[(w->head + w->count) & (w->cap - 1)], 1);
}

static void fetch_thread(const struct thread *t)
{
    if (t->participants.used != 0)
        fetch(t->participants.entries, LINE_BYTES);
    fetch_window(&t->window);
}

/* A few participants, and the message that may have to leave. */
static void fetch_leaves(const struct thread *t)
{
    enum { FEW = LINE_BYTES / sizeof(struct table_entry) };
    const struct window *w = &t->window;
    for (uint32_t slot = 0; slot < t->participants.used && slot < FEW; slot++)
        __builtin_prefetch(t->participants.entries[slot].object, 1);
    if (w->count != 0)
        fetch(w->ring[w->head], sizeof(struct message));
}

void core_session_fetch(const struct core_session *s, unsigned step)
{
    if (step == 0) {
        fetch(s, sizeof(*s));
        return;
    }
    if (step == 1) {
        if (s->threads.hint < s->threads.used)
            __builtin_prefetch(&s->threads.entries[s->threads.hint]);
        if (s->agents.hint < s->agents.used)
            __builtin_prefetch(&s->agents.entries[s->agents.hint]);
        return;
    }
    const struct thread *thread = hinted(&s->threads);
    const struct agent *agent = hinted(&s->agents);
    if (step == 2) {
        if (thread != NULL)
            fetch(thread, sizeof(*thread) + CORE_ID_BYTES);
        if (agent != NULL)
            fetch(agent, sizeof(*agent) + CORE_ID_BYTES);
    } else if (thread != NULL && step == 3) {
        fetch_thread(thread);
    } else if (thread != NULL && step == 4) {
        fetch_leaves(thread);
    }
}
