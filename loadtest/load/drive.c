#include "drive.h"

#include "options.h"
#include "process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 256, SECOND_NS = 1000000000, ANSWER_TIMEOUT_S = 30 };

struct drive {
    const struct load_options *options;
    struct report *report;
    const struct drive_work *work;
    struct meter meter;
    int epoll_fd;
    unsigned lanes_n, alive, under_way;
    struct drive_lane *lanes;
    uint64_t sent;
    bool over; /* the measured part: nothing new is begun, but for what an open loop has planned */
    /* Of an open loop: */
    double period_ns;          /* 0: closed */
    uint64_t plan_begin_ns;    /* of request 0 */
    uint64_t planned, stop_ns; /* how many have gone out; from stop_ns on none is planned */
    struct drive_lane **idle;  /* a ring of lanes_n, the longest idle first */
    unsigned idle_at, idle_n;
};

/* The report borrows it. */
static struct histogram answer;

/* ---- sending */

static void fail_lane(struct drive *drive, struct drive_lane *lane)
{
    if (!drive->work->may_fail)
        report_problem(drive->report, "connection %u: %s", lane->number, lane->http.error);
    if (drive->work->lost != NULL)
        drive->work->lost(drive->work->context, lane);
    http_close(&lane->http);
    lane->busy = false;
    drive->under_way--;
    drive->alive--;
}

static bool wants_more(const struct drive *drive)
{
    return drive->work->count == 0 || drive->sent < drive->work->count;
}

/* False: it has nothing to send. */
static bool send_next(struct drive *drive, struct drive_lane *lane, uint64_t began_ns)
{
    struct drive_request request = drive->work->next(drive->work->context, lane);

    if (request.bytes == NULL)
        return false;
    lane->busy = true;
    lane->began_ns = began_ns;
    drive->under_way++;
    drive->sent++;
    if (http_send(&lane->http, request.bytes, request.size) == HTTP_FAILED)
        fail_lane(drive, lane);
    return true;
}

/* ---- the plan of an open loop */

static uint64_t plan_ns(const struct drive *drive)
{
    return drive->plan_begin_ns + (uint64_t)((double)drive->planned * drive->period_ns);
}

static void put_idle(struct drive *drive, struct drive_lane *lane)
{
    drive->idle[(drive->idle_at + drive->idle_n++) % drive->lanes_n] = lane;
}

static struct drive_lane *take_idle(struct drive *drive)
{
    struct drive_lane *lane = drive->idle[drive->idle_at];

    drive->idle_at = (drive->idle_at + 1) % drive->lanes_n;
    drive->idle_n--;
    return lane;
}

/* Whether a request is planned, sent or not. */
static bool is_planned(const struct drive *drive)
{
    return drive->period_ns != 0 && plan_ns(drive) < drive->stop_ns && wants_more(drive);
}

/* Sends what is due, as far as connections are idle. Returns when to look again; UINT64_MAX: when
 * an answer has come. */
static uint64_t send_due(struct drive *drive, uint64_t now)
{
    while (drive->idle_n != 0 && is_planned(drive)) {
        uint64_t due = plan_ns(drive);
        if (due > now && due > (now = process_now_ns()))
            return due;
        drive->planned++;
        send_next(drive, take_idle(drive), due);
    }
    return UINT64_MAX;
}

/* ---- answers */

static void take_answer(struct drive *drive, struct drive_lane *lane, uint64_t now)
{
    uint64_t took_ns = now > lane->began_ns ? now - lane->began_ns : 0;
    unsigned operations = drive->work->judge(drive->work->context, lane);

    lane->busy = false;
    drive->under_way--;
    if (operations == 0 || drive->work->what == NULL)
        return;
    meter_count(&drive->meter, operations, took_ns);
    if (meter_takes(&drive->meter, lane->began_ns))
        histogram_add(&answer, took_ns);
}

static void lane_go_on(struct drive *drive, struct drive_lane *lane, uint64_t now)
{
    enum http_result result = drive->work->go_on(&lane->http);

    if (result == HTTP_MORE)
        return;
    if (result == HTTP_FAILED) {
        fail_lane(drive, lane);
        return;
    }
    take_answer(drive, lane, now);
    if (drive->period_ns != 0)
        put_idle(drive, lane);
    else if (!drive->over && wants_more(drive))
        send_next(drive, lane, process_now_ns());
}

/* Waits for answers, or until `until_ns`. */
static void turn(struct drive *drive, uint64_t until_ns)
{
    struct epoll_event ready[EVENTS_AT_ONCE];
    uint64_t now = process_now_ns(), wait_ns = until_ns > now ? until_ns - now : 0;
    struct timespec wait = {(time_t)(wait_ns / SECOND_NS), (long)(wait_ns % SECOND_NS)};
    int n = epoll_pwait2(drive->epoll_fd, ready, EVENTS_AT_ONCE, &wait, NULL);

    if (n < 0 && errno == ENOSYS) /* it sleeps whole milliseconds, and looks again for the rest */
        n = epoll_wait(drive->epoll_fd, ready, EVENTS_AT_ONCE, (int)(wait_ns / 1000000));
    if (n < 0 && errno != EINTR)
        option_refuse("waiting for answers: %s", strerror(errno));
    now = process_now_ns();
    for (int i = 0; i < n; i++) {
        struct drive_lane *lane = ready[i].data.ptr;
        if (lane->busy)
            lane_go_on(drive, lane, now);
    }
}

/* ---- from beginning to end */

static bool begin(struct drive *drive)
{
    drive->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    drive->lanes = calloc(drive->lanes_n, sizeof(*drive->lanes));
    drive->idle = calloc(drive->lanes_n, sizeof(drive->idle[0]));
    if (drive->epoll_fd < 0 || drive->lanes == NULL || drive->idle == NULL)
        option_refuse("%s", strerror(errno));
    for (unsigned i = 0; i < drive->lanes_n; i++)
        drive->lanes[i].http.fd = -1;
    for (unsigned i = 0; i < drive->lanes_n; i++) {
        struct drive_lane *lane = &drive->lanes[i];
        if (!http_connect(&lane->http, &drive->options->address) ||
            !http_watch(&lane->http, drive->epoll_fd)) {
            fprintf(stderr, "atoll-load: connection %u to %s: %s\n", i, drive->options->url,
                    strerror(errno));
            return false;
        }
        lane->number = i;
        drive->alive++;
    }
    return true;
}

static void first_requests(struct drive *drive)
{
    for (unsigned i = 0; i < drive->lanes_n; i++) {
        if (drive->period_ns != 0)
            put_idle(drive, &drive->lanes[i]);
        else if (wants_more(drive))
            send_next(drive, &drive->lanes[i], process_now_ns());
    }
}

static bool has_work(const struct drive *drive)
{
    return drive->alive != 0 && !load_stopped && (drive->under_way != 0 || is_planned(drive));
}

/* What is measured, and what goes before. */
static void measured_part(struct drive *drive)
{
    uint64_t now = process_now_ns();

    while (has_work(drive) && (drive->work->what == NULL || meter_turn(&drive->meter, now))) {
        uint64_t due = send_due(drive, now);
        uint64_t look = drive->work->what != NULL ? meter_due(&drive->meter) : now + SECOND_NS;
        turn(drive, due < look ? due : look);
        now = process_now_ns();
    }
    drive->over = true;
    drive->stop_ns = now;
    if (drive->work->what != NULL)
        meter_end(&drive->meter, now, drive->work->what);
}

/* What an open loop has planned and could not send yet. */
static void send_late(struct drive *drive)
{
    uint64_t end = process_now_ns() + (uint64_t)(drive->options->seconds * SECOND_NS);

    while (has_work(drive) && is_planned(drive) && process_now_ns() < end) {
        send_due(drive, process_now_ns());
        turn(drive, end);
    }
    if (is_planned(drive) && !load_stopped)
        report_problem(drive->report,
                       "of what was planned %.0f requests could not be sent: the rate is too high",
                       (double)(drive->stop_ns - plan_ns(drive)) / drive->period_ns + 1);
    drive->stop_ns = 0;
}

/* Answers that are still to come. */
static void drain(struct drive *drive)
{
    uint64_t end = process_now_ns() + (uint64_t)ANSWER_TIMEOUT_S * SECOND_NS;

    while (has_work(drive) && process_now_ns() < end)
        turn(drive, end);
    if (drive->under_way != 0 && !load_stopped)
        report_problem(drive->report, "%u requests had no answer after %d s", drive->under_way,
                       ANSWER_TIMEOUT_S);
    for (unsigned i = 0; i < drive->lanes_n; i++) {
        if (drive->lanes[i].busy && drive->work->lost != NULL)
            drive->work->lost(drive->work->context, &drive->lanes[i]);
    }
}

static void end(struct drive *drive)
{
    for (unsigned i = 0; i < drive->lanes_n; i++)
        http_close(&drive->lanes[i].http);
    free(drive->lanes);
    free(drive->idle);
    close(drive->epoll_fd);
}

bool drive_run(const struct load_options *options, struct report *report,
               const struct drive_work *work)
{
    struct drive drive = {.options = options,
                          .report = report,
                          .work = work,
                          .lanes_n = options->connections,
                          .stop_ns = UINT64_MAX};
    bool connected = begin(&drive);

    if (connected) {
        prctl(PR_SET_TIMERSLACK, 1); /* planned times to the microsecond */
        if (work->what != NULL) {
            drive.period_ns = options->rate != 0 ? 1e9 * work->operations / options->rate : 0;
            meter_begin(&drive.meter, options, report, work->count != 0);
        }
        drive.plan_begin_ns = process_now_ns();
        first_requests(&drive);
        measured_part(&drive);
        send_late(&drive);
        drain(&drive);
        if (work->what != NULL)
            report_latency(report, "answer", &answer,
                           options->rate != 0 ? "from the planned time of sending to the answer"
                                              : "from sending to the answer");
    }
    end(&drive);
    return connected;
}
