#include "prepare.h"

#include "drive.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_BYTES = 512 + HTTP_HOST_BYTES, CONNECTIONS = 256 };

struct making {
    const struct load_options *options;
    struct report *report;
    uint64_t *seqs;
    unsigned next;                  /* session */
    unsigned sessions[CONNECTIONS]; /* of each lane, which is under way */
    char requests[CONNECTIONS][REQUEST_BYTES];
    unsigned failed;
};

static struct drive_request make_session(void *context, struct drive_lane *lane)
{
    static const char body[] =
        "[{\"type\":\"session.create\"},{\"type\":\"agent.register\",\"agent\":\"a1\"},"
        "{\"type\":\"thread.create\",\"thread\":\"work\",\"creator\":\"a1\",\"name\":\"work\","
        "\"participants\":[]}]";
    struct making *making = context;
    char *request = making->requests[lane->number];

    if (making->next == making->options->sessions)
        return (struct drive_request){NULL, 0};
    making->sessions[lane->number] = making->next;
    int n = snprintf(request, REQUEST_BYTES,
                     "POST /v1/sessions/%s%u/commands HTTP/1.1\r\n%s"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     making->options->prefix, making->next, http_host, sizeof(body) - 1, body);
    making->next++;
    return (struct drive_request){request, (size_t)n};
}

/* The answer ends with the session's seq, whether it was made or was there. */
static unsigned session_made(void *context, struct drive_lane *lane)
{
    struct making *making = context;
    unsigned session = making->sessions[lane->number];
    const char *seq = NULL, *found = lane->http.tail;

    while ((found = strstr(found, "\"seq\":")) != NULL)
        seq = found += sizeof("\"seq\":") - 1;
    if (lane->http.status == 200 && seq != NULL) {
        making->seqs[session] = strtoull(seq, NULL, 10);
        return 1;
    }
    if (making->failed++ == 0)
        report_problem(making->report, "session %s%u could not be made: %d …%s",
                       making->options->prefix, session, lane->http.status, lane->http.tail);
    return 0;
}

bool prepare_sessions(const struct load_options *options, struct report *report, uint64_t *seqs)
{
    struct load_options few = *options;
    struct making *making = calloc(1, sizeof(*making));

    if (making == NULL)
        option_refuse("out of memory");
    few.connections = few.sessions < CONNECTIONS ? few.sessions : CONNECTIONS;
    making->options = options;
    making->report = report;
    making->seqs = seqs;
    struct drive_work work = {.context = making,
                              .next = make_session,
                              .judge = session_made,
                              .go_on = http_go_on,
                              .operations = 1};
    bool good = drive_run(&few, report, &work) && making->failed == 0 &&
                making->next == options->sessions && !load_stopped;
    free(making);
    return good;
}
