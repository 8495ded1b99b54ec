#include "loop.h"

#include "process.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 256, SECOND_NS = 1000000000, PATIENCE_S = 30 };

bool loop_open(struct loop *loop)
{
    *loop = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    return loop->epoll_fd >= 0;
}

void loop_close(struct loop *loop)
{
    close(loop->epoll_fd);
}

void loop_add(struct loop *loop, int fd, uint32_t events, struct loop_source *source)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};

    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        loop_fail(loop, "a connection cannot be waited for: %s", strerror(errno));
}

void loop_fail(struct loop *loop, const char *format, ...)
{
    va_list arguments;

    if (loop->error != NULL)
        return;
    va_start(arguments, format);
    vsnprintf(loop->why, sizeof(loop->why), format, arguments);
    va_end(arguments);
    loop->error = loop->why;
}

void loop_turn(struct loop *loop, uint64_t until_ns)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    struct timespec wait = {0};
    uint64_t now_ns = process_now_ns(), due_ns = until_ns;

    if (loop->before != NULL && loop->error == NULL) {
        due_ns = loop->before(loop->context, now_ns);
        due_ns = due_ns < until_ns ? due_ns : until_ns;
    }
    if (due_ns > now_ns) {
        wait.tv_sec = (time_t)((due_ns - now_ns) / SECOND_NS);
        wait.tv_nsec = (long)((due_ns - now_ns) % SECOND_NS);
    }
    int n =
        loop->error == NULL ? epoll_pwait2(loop->epoll_fd, events, EVENTS_AT_ONCE, &wait, NULL) : 0;
    if (n < 0 && errno != EINTR)
        loop_fail(loop, "waiting failed: %s", strerror(errno));
    for (int i = 0; i < n && loop->error == NULL; i++) {
        struct loop_source *source = events[i].data.ptr;
        source->ready(source, events[i].events);
    }
}

void loop_until(struct loop *loop, bool (*met)(const void *context), const void *context,
                const char *what)
{
    uint64_t until_ns = process_now_ns() + (uint64_t)PATIENCE_S * SECOND_NS;

    while (loop->error == NULL && !met(context)) {
        if (process_now_ns() > until_ns)
            loop_fail(loop, "waited in vain until %s", what);
        else
            loop_turn(loop, until_ns);
    }
}
