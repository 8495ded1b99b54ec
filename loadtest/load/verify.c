#include "verify.h"

#include "ask.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { WRITER_AT = MARKER_RUN_BYTES, WRITER_DIGITS = 5 };
enum { COUNTER_AT = WRITER_AT + WRITER_DIGITS + 1, COUNTER_DIGITS = 12 };
enum { NAME_BYTES = LOAD_PREFIX_BYTES + 16, NEXT_BYTES = 128 };
enum { PAGE_EVENTS = 1000, MISSING_MAX = 4096, READ_MAX = 1000 * 1000 };

_Static_assert(COUNTER_AT + COUNTER_DIGITS == MARKER_BYTES, "the counter stands last");
_Static_assert(LOAD_CONNECTIONS_MAX <= 1 << 4 * WRITER_DIGITS, "a connection's number fits");

struct verify_doubt {
    unsigned writer;
    uint64_t from, to;
};

/* What can be wrong with a message. */
enum fault { LOST, REPEATED, REORDERED, STRANGE, MISPLACED, ALTERED, FAULTS };
static const char *const fault_texts[FAULTS] = {
    [LOST] = "acknowledged and not there",
    [REPEATED] = "there more than once",
    [REORDERED] = "behind later ones of the same connection",
    [STRANGE] = "there, and nobody has sent them",
    [MISPLACED] = "in a session that they were not sent to",
    [ALTERED] = "there with another content",
};

struct missing {
    unsigned writer;
    uint64_t counter;
};

/* What is known of a writer in the session that is read. */
struct track {
    uint64_t next; /* the counter to come */
    bool sure;     /* it is the next; else that or a later one, as some pages were left out */
};

/* One reading of all. */
struct reading {
    struct verify *verify;
    unsigned session;
    struct track *tracks; /* of each writer */
    /* Counters of this session that were passed over. */
    struct missing missing[MISSING_MAX];
    size_t missing_n;
    uint64_t faults[FAULTS];
    char firsts[FAULTS][96];
    uint64_t lost_before; /* this session */
    uint64_t good;        /* messages */
    unsigned sound;       /* sessions in which nothing is missing */
};

/* ---- markers */

static void put_hex(char *out, unsigned digits, uint64_t value)
{
    static const char hex[] = "0123456789abcdef";

    while (digits-- > 0) {
        out[digits] = hex[value & 15];
        value >>= 4;
    }
}

/* False: it is not all lower-case hexadecimal. */
static bool take_hex(const char *p, unsigned digits, uint64_t *value)
{
    for (*value = 0; digits-- > 0; p++) {
        if (*p >= '0' && *p <= '9')
            *value = *value << 4 | (unsigned)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            *value = *value << 4 | (unsigned)(*p - 'a' + 10);
        else
            return false;
    }
    return true;
}

void marker_count(char *out, uint64_t counter)
{
    put_hex(out + COUNTER_AT, COUNTER_DIGITS, counter);
}

void marker_put(char *out, const struct verify *verify, unsigned writer, uint64_t counter)
{
    memcpy(out, verify->run, MARKER_RUN_BYTES);
    put_hex(out + WRITER_AT, WRITER_DIGITS, writer);
    out[COUNTER_AT - 1] = '-';
    marker_count(out, counter);
}

/* ---- the rule */

/* The inverse of `number` modulo `modulus`, by Euclid; 0: they share a factor. */
static uint64_t inverse_of(uint64_t number, uint64_t modulus)
{
    int64_t rest = (int64_t)modulus, next = (int64_t)(number % modulus), a = 0, b = 1;

    while (next != 0) {
        int64_t times = rest / next, keep = next;
        next = rest - times * next;
        rest = keep;
        keep = b;
        b = a - times * b;
        a = keep;
    }
    return rest != 1 ? 0 : (uint64_t)(a < 0 ? a + (int64_t)modulus : a);
}

/* The next number from the golden section of all sessions on that has an inverse. */
static void choose_steps(struct verify *verify)
{
    uint64_t sessions = verify->sessions;

    verify->distance = sessions > verify->writers_n ? sessions / verify->writers_n : 1;
    verify->step = (uint64_t)((double)sessions * 0.618) + 1;
    while (sessions != 1 && inverse_of(verify->step, sessions) == 0)
        verify->step++;
    verify->step_inverse = sessions != 1 ? inverse_of(verify->step, sessions) : 0;
}

unsigned verify_session(const struct verify *verify, unsigned writer, uint64_t counter)
{
    uint64_t sessions = verify->sessions, steps = counter / verify->batch % sessions;

    if (verify->fixed)
        return writer % sessions;
    return (unsigned)((writer * verify->distance + steps * verify->step) % sessions);
}

/* The first counter of the writer, not below `from`, that is for the session; UINT64_MAX: none. */
static uint64_t next_for(const struct verify *verify, unsigned writer, unsigned session,
                         uint64_t from)
{
    uint64_t sessions = verify->sessions, steps = from / verify->batch;

    if (verify->fixed)
        return writer % sessions == session ? from : UINT64_MAX;
    uint64_t apart = (session + sessions - verify_session(verify, writer, from)) % sessions;
    uint64_t wait = apart * verify->step_inverse % sessions;
    return wait == 0 ? from : (steps + wait) * verify->batch;
}

/* How many of counters 0..below-1 of the writer are for the session. */
static uint64_t count_for(const struct verify *verify, unsigned writer, unsigned session,
                          uint64_t below)
{
    uint64_t first = next_for(verify, writer, session, 0);

    if (first >= below)
        return 0;
    if (verify->fixed)
        return below;
    uint64_t round = (uint64_t)verify->sessions * verify->batch;
    uint64_t whole = (below - first) / round, rest = (below - first) % round;
    return whole * verify->batch + (rest < verify->batch ? rest : verify->batch);
}

/* ---- what was not acknowledged */

void verify_doubt(struct verify *verify, unsigned writer, uint64_t from, uint64_t to)
{
    if (verify->doubts_n == verify->doubts_room) {
        verify->doubts_room = verify->doubts_room != 0 ? 2 * verify->doubts_room : 256;
        verify->doubts = realloc(verify->doubts, verify->doubts_room * sizeof(verify->doubts[0]));
        if (verify->doubts == NULL)
            option_refuse("out of memory");
    }
    verify->doubts[verify->doubts_n++] = (struct verify_doubt){writer, from, to};
}

static int by_writer(const void *a, const void *b)
{
    const struct verify_doubt *x = a, *y = b;
    if (x->writer != y->writer)
        return x->writer < y->writer ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

static int holds(const void *key, const void *element)
{
    const struct missing *at = key;
    const struct verify_doubt *doubt = element;
    if (at->writer != doubt->writer)
        return at->writer < doubt->writer ? -1 : 1;
    return at->counter < doubt->from ? -1 : at->counter >= doubt->to;
}

/* It has to be there. */
static bool is_acknowledged(const struct verify *verify, unsigned writer, uint64_t counter)
{
    struct missing at = {writer, counter};
    return counter < verify->writers[writer].acknowledged &&
           (verify->doubts_n == 0 || bsearch(&at, verify->doubts, verify->doubts_n,
                                             sizeof(verify->doubts[0]), holds) == NULL);
}

/* ---- one event */

static void fault(struct reading *reading, enum fault fault, uint64_t writer, uint64_t counter)
{
    if (reading->faults[fault]++ == 0)
        snprintf(reading->firsts[fault], sizeof(reading->firsts[fault]),
                 "number %llu of connection %llu, session %s%u", (unsigned long long)counter,
                 (unsigned long long)writer, reading->verify->options->prefix, reading->session);
}

/* The writer's counters from..to-1 of this session were passed over. */
static void miss(struct reading *reading, unsigned writer, uint64_t from, uint64_t to)
{
    const struct verify *verify = reading->verify;

    for (uint64_t n = from; n < to; n = next_for(verify, writer, reading->session, n + 1)) {
        if (!is_acknowledged(verify, writer, n))
            continue;
        if (reading->missing_n < MISSING_MAX)
            reading->missing[reading->missing_n++] = (struct missing){writer, n};
        else
            fault(reading, LOST, writer, n);
    }
}

/* A counter below the one to come: late, or there for a second time. */
static void see_again(struct reading *reading, unsigned writer, uint64_t counter)
{
    for (size_t i = 0; i < reading->missing_n; i++) {
        if (reading->missing[i].writer == writer && reading->missing[i].counter == counter) {
            reading->missing[i] = reading->missing[--reading->missing_n];
            fault(reading, REORDERED, writer, counter);
            return;
        }
    }
    fault(reading, REPEATED, writer, counter);
}

/* Whether it is there for the first time, where and when it should be. */
static bool see(struct reading *reading, uint64_t writer, uint64_t counter)
{
    const struct verify *verify = reading->verify;

    if (writer >= verify->writers_n || counter >= verify->writers[writer].sent) {
        fault(reading, STRANGE, writer, counter);
        return false;
    }
    if (verify_session(verify, (unsigned)writer, counter) != reading->session) {
        fault(reading, MISPLACED, writer, counter);
        return false;
    }
    struct track *track = &reading->tracks[writer];
    if (counter < track->next) {
        see_again(reading, (unsigned)writer, counter);
        return false;
    }
    if (track->sure)
        miss(reading, (unsigned)writer, track->next, counter);
    track->next = next_for(verify, (unsigned)writer, reading->session, counter + 1);
    track->sure = true;
    return true;
}

/* All markers of this run in a page. */
static void see_page(struct reading *reading, const char *body, size_t size)
{
    const struct verify *verify = reading->verify;
    const char *p = body, *end = body + size;

    while ((p = memmem(p, (size_t)(end - p), verify->run, MARKER_RUN_BYTES)) != NULL &&
           end - p >= MARKER_BYTES) {
        uint64_t writer, counter;
        bool whole = take_hex(p + WRITER_AT, WRITER_DIGITS, &writer) &&
                     take_hex(p + COUNTER_AT, COUNTER_DIGITS, &counter) && p[COUNTER_AT - 1] == '-';
        p += MARKER_BYTES;
        if (!whole) {
            fault(reading, ALTERED, 0, 0);
            continue;
        }
        whole = verify->behind_n == 0 || ((size_t)(end - p) >= verify->behind_n &&
                                          memcmp(p, verify->behind, verify->behind_n) == 0);
        if (!whole)
            fault(reading, ALTERED, writer, counter);
        if (see(reading, writer, counter) && whole)
            reading->good++;
    }
}

/* ---- pages */

/* Takes `"next":VALUE}` from the end of a page; "" where it is null. */
static void take_next(const struct http *http, char *next, size_t size)
{
    const char *at = NULL, *found = http->tail;
    size_t n = 0;

    while ((found = strstr(found, "\"next\":")) != NULL)
        at = found += sizeof("\"next\":") - 1;
    if (at != NULL && strncmp(at, "null", 4) != 0) {
        at += *at == '"';
        n = strcspn(at, "\"}, ");
        n = n < size ? n : size - 1;
        memcpy(next, at, n);
    }
    next[n] = '\0';
}

static void name_session(const struct verify *verify, unsigned session, char *name)
{
    snprintf(name, NAME_BYTES, "%s%u", verify->options->prefix, session);
}

static void atoll_first(const struct verify *verify, unsigned session, char *next, size_t size)
{
    snprintf(next, size, "%llu", (unsigned long long)verify->base[session]);
}

static const char *atoll_page(const struct verify *verify, struct asker *asker, unsigned session,
                              char *next, size_t size)
{
    uint64_t after = strtoull(next, NULL, 10);

    ask_get(&asker->request, "/v1/sessions/%s%u/events?limit=%d&cursor=%s", verify->options->prefix,
            session, PAGE_EVENTS, next);
    const char *wrong = asker_ask(asker);
    take_next(&asker->http, next, size);
    /* seq has no gaps, so a page that goes less far is not full. */
    if (strtoull(next, NULL, 10) < after + PAGE_EVENTS)
        next[0] = '\0';
    return wrong;
}

static const struct verify_source atoll_source = {atoll_first, atoll_page, .whole = false};

/* ---- one session */

/* False: nothing was sent to it. */
static bool begin_session(struct reading *reading, unsigned session)
{
    const struct verify *verify = reading->verify;
    bool used = false;

    reading->session = session;
    reading->missing_n = 0;
    reading->lost_before = reading->faults[LOST];
    for (unsigned w = 0; w < verify->writers_n; w++) {
        reading->tracks[w] = (struct track){next_for(verify, w, session, 0), true};
        used |= reading->tracks[w].next < verify->writers[w].sent;
    }
    return used;
}

/* All that is still missing is lost. */
static void end_session(struct reading *reading)
{
    struct verify *verify = reading->verify;

    for (unsigned w = 0; w < verify->writers_n; w++)
        miss(reading, w, reading->tracks[w].next, verify->writers[w].acknowledged);
    for (size_t i = 0; i < reading->missing_n; i++)
        fault(reading, LOST, reading->missing[i].writer, reading->missing[i].counter);
    reading->sound += reading->faults[LOST] == reading->lost_before;
}

static const char *read_page(struct reading *reading, struct asker *asker, char *next)
{
    const struct verify *verify = reading->verify;
    const char *wrong = verify->source->page(verify, asker, reading->session, next, NEXT_BYTES);

    if (wrong == NULL)
        see_page(reading, asker->http.body, asker->http.body_size);
    return wrong;
}

static const char *read_whole(struct reading *reading, struct asker *asker)
{
    const char *wrong = NULL;
    char next[NEXT_BYTES];

    reading->verify->source->first(reading->verify, reading->session, next, sizeof(next));
    while (wrong == NULL && next[0] != '\0')
        wrong = read_page(reading, asker, next);
    if (wrong == NULL)
        end_session(reading);
    return wrong;
}

/* The seq of a session's last event. */
static const char *read_last(struct asker *asker, const char *name, uint64_t *last)
{
    ask_get(&asker->request, "/v1/sessions/%s/events?limit=1&order=desc", name);
    const char *wrong = asker_ask(asker);
    if (wrong != NULL)
        return wrong;
    const char *seq =
        find_member(asker->http.body, asker->http.body + asker->http.body_size, "seq");
    *last = seq != NULL ? strtoull(seq, NULL, 10) : 0;
    return NULL;
}

/* How many the session has to have got at least, and at most. */
static void count_expected(const struct verify *verify, unsigned session, uint64_t *least,
                           uint64_t *most)
{
    *least = *most = 0;
    for (unsigned w = 0; w < verify->writers_n; w++) {
        *least += count_for(verify, w, session, verify->writers[w].acknowledged);
        *most += count_for(verify, w, session, verify->writers[w].sent);
    }
    for (size_t i = 0; i < verify->doubts_n; i++) {
        const struct verify_doubt *doubt = &verify->doubts[i];
        uint64_t below = verify->writers[doubt->writer].acknowledged;
        if (doubt->to <= below)
            *least -= count_for(verify, doubt->writer, session, doubt->to) -
                      count_for(verify, doubt->writer, session, doubt->from);
    }
}

/* Every `stride`th page, and by the seq of the last event, whether as many are there as were
 * acknowledged. */
static const char *read_some(struct reading *reading, struct asker *asker, uint64_t stride)
{
    struct verify *verify = reading->verify;
    uint64_t base = verify->base[reading->session], last = 0, least, most;
    char name[NAME_BYTES], next[NEXT_BYTES];

    name_session(verify, reading->session, name);
    const char *wrong = read_last(asker, name, &last);
    if (wrong != NULL)
        return wrong;
    count_expected(verify, reading->session, &least, &most);
    if (last < base || last - base < least || last - base > most)
        report_problem(verify->report,
                       "session %s has seq %llu, was at %llu before, and %llu to %llu were sent",
                       name, (unsigned long long)last, (unsigned long long)base,
                       (unsigned long long)least, (unsigned long long)most);
    else
        reading->sound++;
    for (uint64_t at = base; at < last; at += stride * PAGE_EVENTS) {
        snprintf(next, sizeof(next), "%llu", (unsigned long long)at);
        wrong = read_page(reading, asker, next);
        if (wrong != NULL)
            return wrong;
        for (unsigned w = 0; w < verify->writers_n; w++)
            reading->tracks[w].sure = false;
    }
    for (size_t i = 0; i < reading->missing_n; i++)
        fault(reading, LOST, reading->missing[i].writer, reading->missing[i].counter);
    return NULL;
}

/* ---- all */

/* `whole`: every page of each session was read; `all`: of all sessions, too. */
static void tell(struct reading *reading, bool whole, bool all)
{
    struct report *report = reading->verify->report;
    uint64_t repeated = reading->faults[REPEATED];

    for (unsigned i = 0; i < FAULTS; i++) {
        if (reading->faults[i] != 0)
            report_problem(report, "%llu messages are %s: the first is %s",
                           (unsigned long long)reading->faults[i], fault_texts[i],
                           reading->firsts[i]);
    }
    report_checked(report,
                   all ? "messages read back: there once, whole, in the order of their connection"
                       : "messages read back, a part spread over all: there once, whole, in the "
                         "order of their connection",
                   reading->good > repeated ? reading->good - repeated : 0);
    report_checked(report,
                   all     ? "sessions read back: nothing acknowledged is missing in them"
                   : whole ? "sessions read back, spread over all: nothing acknowledged is missing "
                             "in them"
                           : "sessions whose seq is what was acknowledged",
                   reading->sound);
}

bool verify_read(struct verify *verify)
{
    struct reading *reading = calloc(1, sizeof(*reading));
    struct asker asker;
    uint64_t all = 0, session_stride = 1, page_stride = 1;
    const char *wrong = NULL;

    for (unsigned w = 0; w < verify->writers_n; w++)
        all += verify->writers[w].acknowledged;
    /* What is too much is thinned out by sessions, or, where each is long, by pages of each. */
    uint64_t stride = verify->source->whole ? 1 : (all + verify->read_max - 1) / verify->read_max;
    if (stride > 1 && all / verify->sessions < 2 * PAGE_EVENTS)
        session_stride = stride;
    else if (stride > 1)
        page_stride = stride;
    if (verify->doubts_n != 0)
        qsort(verify->doubts, verify->doubts_n, sizeof(verify->doubts[0]), by_writer);
    if (reading == NULL || !asker_open(&asker, verify->options)) {
        report_problem(verify->report, "nothing could be read back");
        free(reading);
        return false;
    }
    reading->verify = verify;
    reading->tracks = calloc(verify->writers_n, sizeof(reading->tracks[0]));
    if (reading->tracks == NULL)
        option_refuse("out of memory");
    for (uint64_t s = 0; s < verify->sessions && wrong == NULL; s += session_stride) {
        if (!begin_session(reading, (unsigned)s))
            continue;
        wrong = page_stride == 1 ? read_whole(reading, &asker)
                                 : read_some(reading, &asker, page_stride);
    }
    if (wrong != NULL)
        report_problem(verify->report, "session %s%u could not be read back: %s",
                       verify->options->prefix, reading->session, wrong);
    tell(reading, page_stride == 1, page_stride == 1 && session_stride == 1);
    asker_close(&asker);
    free(reading->tracks);
    free(reading);
    return wrong == NULL;
}

/* ---- open and close */

void verify_open(struct verify *verify, const struct load_options *options, struct report *report,
                 unsigned writers, unsigned sessions, unsigned batch)
{
    uint32_t run;

    if (getrandom(&run, sizeof(run), 0) != sizeof(run))
        option_refuse("no random bytes for the name of the run");
    *verify = (struct verify){.options = options,
                              .report = report,
                              .source = &atoll_source,
                              .sessions = sessions,
                              .batch = batch,
                              .writers_n = writers,
                              .read_max = READ_MAX};
    choose_steps(verify);
    snprintf(verify->run, sizeof(verify->run), "@%06x-", run & 0xffffff);
    verify->base = calloc(sessions, sizeof(verify->base[0]));
    verify->writers = calloc(writers, sizeof(verify->writers[0]));
    if (verify->base == NULL || verify->writers == NULL)
        option_refuse("out of memory");
}

void verify_close(struct verify *verify)
{
    free(verify->base);
    free(verify->writers);
    free(verify->doubts);
}
