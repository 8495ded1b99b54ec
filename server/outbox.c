#include "server/outbox.h"

static int outbox_try(struct mailbox *mailbox, struct request *request)
{
    if (request->session.p == NULL)
        return mailbox_send_to(mailbox, request, request->shard);
    return mailbox_send(mailbox, request);
}

void outbox_send(struct outbox *outbox, struct mailbox *mailbox, struct request *request)
{
    if (outbox->closed) {
        request_free(request);
        return;
    }
    if (outbox_flush(outbox, mailbox) && outbox_try(mailbox, request) == 0)
        return;
    request->next = NULL;
    if (outbox->first == NULL)
        outbox->first = request;
    else
        outbox->last->next = request;
    outbox->last = request;
}

bool outbox_flush(struct outbox *outbox, struct mailbox *mailbox)
{
    while (outbox->first != NULL) {
        struct request *request = outbox->first;
        struct request *next = request->next;
        if (outbox_try(mailbox, request) != 0)
            return false;
        outbox->first = next;
    }
    return true;
}

void outbox_close(struct outbox *outbox)
{
    outbox->closed = true;
    while (outbox->first != NULL) {
        struct request *request = outbox->first;
        outbox->first = request->next;
        request_free(request);
    }
}
