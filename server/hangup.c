#include "server/hangup.h"

#include "server/exchange.h"

#include <sys/epoll.h>

enum { HANGUPS_AT_ONCE = 64 };

int hangup_open(struct frontend *frontend)
{
    frontend->hangups = epoll_create1(EPOLL_CLOEXEC);
    return frontend->hangups;
}

void hangup_add(struct frontend *frontend, int fd, uint64_t token)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = token};
    (void)epoll_ctl(frontend->hangups, EPOLL_CTL_ADD, fd, &event);
}

void hangup_remove(struct frontend *frontend, int fd)
{
    struct epoll_event event = {0};
    (void)epoll_ctl(frontend->hangups, EPOLL_CTL_DEL, fd, &event);
}

void hangup_run(struct frontend *frontend)
{
    struct epoll_event events[HANGUPS_AT_ONCE];
    int n = epoll_wait(frontend->hangups, events, HANGUPS_AT_ONCE, 0);

    for (int i = 0; i < n; i++) {
        struct exchange *exchange = slots_find(&frontend->exchanges, events[i].data.u64);
        if (exchange != NULL)
            exchange_gone(exchange);
    }
}
