/*
 * feeds: followers. Each goes on from where it stands, over lost frames, restarts and new lives,
 * and folds the patches it gets; the fold must be the view at every seq.
 */
#include "tests/sim/clients_internal.h"
#include "tests/sim/patch.h"

#include <stdlib.h>

struct feed_state *feed_find(struct clients *clients, uint64_t token)
{
    for (unsigned i = 0; i < CLIENTS_FEEDS; i++) {
        if (clients->feeds[i].used && clients->feeds[i].token == token)
            return &clients->feeds[i];
    }
    return NULL;
}

static void feed_forget_early(struct feed_state *feed)
{
    for (unsigned i = 0; i < feed->early_n; i++)
        frame_release(feed->early[i]);
    feed->early_n = 0;
}

/* ---- asking */

static void feed_ask(struct clients *clients, struct feed_state *feed, uint64_t until)
{
    struct request *request = request_new();
    request->kind = REQUEST_FOLLOW;
    request->token = request->feed = feed->token;
    request->session = arena_copy(&request->arena, sim_str(feed->id->text));
    request->wants = feed->wants;
    request->has_after = feed->has_told;
    request->after = feed->told;
    request->until = feed->until = until;
    if (feed->has_told)
        request->after_epoch = arena_copy(&request->arena, sim_str(feed->epoch));
    feed->asking = mailbox_send(&clients->world->mailboxes[feed->frontend], request) == 0;
    feed->live = false;
    if (!feed->asking) {
        request_free(request);
        return;
    }
    feed->asked_life = model_current(feed->id);
    feed->asked_least = feed->asked_life != NULL ? feed->asked_life->acknowledged : 0;
    clients->outstanding++;
}

static bool is_taken(const struct clients *clients, const struct id *id, unsigned frontend)
{
    for (unsigned i = 0; i < CLIENTS_FEEDS; i++) {
        const struct feed_state *feed = &clients->feeds[i];
        if (feed->used && feed->id == id && feed->frontend == frontend)
            return true;
    }
    return false;
}

static struct feed_state *feed_new(struct clients *clients)
{
    for (unsigned i = 0; i < CLIENTS_FEEDS; i++) {
        struct feed_state *feed = &clients->feeds[i];
        if (feed->used)
            continue;
        struct id *id =
            model_nth_id(clients->model, rng_below(clients->rng, model_ids(clients->model)));
        unsigned frontend = rng_below(clients->rng, clients->world->n);
        if (model_current(id) == NULL || is_taken(clients, id, frontend))
            return NULL;
        *feed = (struct feed_state){.id = id, .frontend = frontend, .used = true};
        feed->token = ++clients->tokens;
        feed->wants = rng_percent(clients->rng, 30) ? WANTS_EVENTS : WANTS_EVENTS | WANTS_PATCHES;
        return feed;
    }
    return NULL;
}

static void feed_leave(struct clients *clients, struct feed_state *feed)
{
    struct request *request = request_new();
    request->kind = REQUEST_UNFOLLOW;
    request->token = request->feed = feed->token;
    request->session = arena_copy(&request->arena, sim_str(feed->id->text));
    if (mailbox_send(&clients->world->mailboxes[feed->frontend], request) != 0) {
        request_free(request);
        return;
    }
    feed->asking = true;
    feed->live = false;
    clients->outstanding++;
}

void feeds_act(struct clients *clients)
{
    struct feed_state *feed = &clients->feeds[rng_below(clients->rng, CLIENTS_FEEDS)];
    if (model_ids(clients->model) == 0)
        return;
    if (!feed->used) {
        feed = feed_new(clients);
        if (feed != NULL)
            feed_ask(clients, feed, 0);
    } else if (!feed->asking && !feed->live) {
        feed_ask(clients, feed, 0);
    } else if (feed->live && rng_percent(clients->rng, 10)) {
        feed_leave(clients, feed);
    }
}

/* ---- what it is told */

static void feed_snapshot(struct clients *clients, struct feed_state *feed, struct life *life,
                          struct request *request)
{
    struct str body = buf_str(&request->body);
    model_show_view(clients->model, life, request->attached, body);
    json_t *envelope = patch_parse(body);
    if (feed->view != NULL)
        json_decref(feed->view);
    feed->view = json_incref(json_object_get(envelope, "state"));
    json_decref(envelope);
    if (feed->view == NULL)
        sim_violation("patch", "a snapshot of %s holds no state: %.*s", feed->id->text,
                      SIM_STR(body));
    feed->told = request->attached;
}

static void feed_check_view(const struct feed_state *feed, const struct life *life, uint64_t seq)
{
    if (seq > life->n)
        return;
    json_t *view = patch_parse(life->events[seq - 1].view);
    if (!json_equal(view, feed->view))
        sim_violation("patch", "patches of %s-%s fold at %llu to\n  %s\nand not to\n  %.*s",
                      life->id->text, life->epoch, (unsigned long long)seq,
                      json_dumps(feed->view, JSON_COMPACT), SIM_STR(life->events[seq - 1].view));
    json_decref(view);
}

static void feed_patch(struct feed_state *feed, const struct life *life, struct str text,
                       uint64_t seq)
{
    json_t *patch = patch_parse(text);
    if (patch == NULL || !patch_apply(feed->view, json_object_get(patch, "ops")))
        sim_violation("patch", "the patch of %s-%s at %llu cannot be applied: %.*s", life->id->text,
                      life->epoch, (unsigned long long)seq, SIM_STR(text));
    json_decref(patch);
    feed_check_view(feed, life, seq);
}

static void feed_take(struct clients *clients, struct feed_state *feed, const struct frame *frame)
{
    struct life *life = model_life(clients->model, feed->id, feed->epoch);
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        struct str event = {frame->bytes + item->event_offset, item->event_size};
        struct str patch = {frame->bytes + item->patch_offset, item->patch_size};
        if (item->seq <= feed->told)
            continue;
        if (item->seq != feed->told + 1)
            sim_violation("gap", "a follower of %s-%s goes from %llu to %llu", feed->id->text,
                          feed->epoch, (unsigned long long)feed->told,
                          (unsigned long long)item->seq);
        feed->told = item->seq;
        if (event.n == 0 || ((feed->wants & WANTS_PATCHES) && patch.n == 0))
            sim_violation("patch", "a frame of %s-%s lacks what was asked for at %llu",
                          feed->id->text, feed->epoch, (unsigned long long)item->seq);
        model_learn(clients->model, life, event);
        clients->events_seen++;
        if (feed->view != NULL && (feed->wants & WANTS_PATCHES))
            feed_patch(feed, life, patch, item->seq);
    }
}

static void feed_join(struct clients *clients, struct feed_state *feed)
{
    feed->asking = false;
    if (feed->detached) {
        feed->detached = false;
        feed_forget_early(feed);
        feed_ask(clients, feed, 0);
        return;
    }
    for (unsigned i = 0; i < feed->early_n; i++) {
        if (feed->early[i]->last_seq > feed->target)
            feed_take(clients, feed, feed->early[i]);
    }
    feed_forget_early(feed);
    feed->live = true;
}

static void feed_drop_view(struct feed_state *feed)
{
    if (feed->view != NULL)
        json_decref(feed->view);
    feed->view = NULL;
}

static void feed_over(struct feed_state *feed)
{
    feed_forget_early(feed);
    feed_drop_view(feed);
    *feed = (struct feed_state){0};
}

static void feed_error(struct clients *clients, struct feed_state *feed,
                       const struct request *request)
{
    bool excused = request->error == CORE_E_UNKNOWN_SESSION ||
                   (request->error == REQUEST_E_GONE && model_history_may_go(clients->model)) ||
                   request->error == REQUEST_E_OVERLOADED ||
                   (request->error == REQUEST_E_QUARANTINED && clients->breaks) ||
                   clients_disk_is_bad(clients);
    if (!excused)
        sim_violation("refused", "a follower of %s is answered with error %u: %s", feed->id->text,
                      request->error, request->refusal.detail);
    feed_over(feed);
}

void feed_on_reply(struct clients *clients, struct request *request)
{
    struct feed_state *feed = feed_find(clients, request->token);
    if (feed == NULL)
        return;
    feed->asking = false;
    if (request->kind == REQUEST_UNFOLLOW) {
        feed_over(feed);
        return;
    }
    if (request->error != 0) {
        feed_error(clients, feed, request);
        return;
    }
    struct life *life = model_life(clients->model, feed->id, request->epoch);
    if (feed->has_told && strcmp(feed->epoch, request->epoch) != 0 && request->body.n == 0 &&
        (feed->wants & WANTS_PATCHES))
        sim_violation("life", "a follower of %s-%s goes on in epoch %s without a snapshot",
                      feed->id->text, feed->epoch, request->epoch);
    bool first = !feed->has_told || strcmp(feed->epoch, request->epoch) != 0;
    memcpy(feed->epoch, request->epoch, sizeof(feed->epoch));
    model_shown(life, feed->until == 0 ? request->attached : request->upto);
    if (feed->until == 0) {
        feed->target = request->attached;
        if (life == feed->asked_life && request->attached < feed->asked_least)
            sim_violation("stale", "a follower of %s-%s begins at %llu, behind %llu",
                          feed->id->text, life->epoch, (unsigned long long)request->attached,
                          (unsigned long long)feed->asked_least);
    }
    if (request->body.n != 0)
        feed_snapshot(clients, feed, life, request);
    else if (request->frame != NULL)
        feed_take(clients, feed, request->frame);
    else if (first)
        feed->told = request->attached;
    feed->has_told = true;
    if (feed->told < feed->target)
        feed_ask(clients, feed, feed->target);
    else
        feed_join(clients, feed);
}

void feed_on_frame(struct clients *clients, struct feed_state *feed, struct frame *frame)
{
    if (feed == NULL || (!feed->live && !feed->asking)) {
        frame_release(frame);
    } else if (feed->live) {
        feed_take(clients, feed, frame);
        frame_release(frame);
    } else {
        assert(feed->early_n < FEED_EARLY_MAX);
        feed->early[feed->early_n++] = frame;
    }
}

void feed_on_notice(struct clients *clients, struct feed_state *feed, enum mailbox_notice notice)
{
    if (feed == NULL)
        return;
    if (notice == NOTICE_ENDED) {
        struct life *life = model_find_life(feed->id, feed->epoch);
        if (feed->live && life != NULL) {
            if (life->shown > feed->told && life->n > feed->told)
                sim_trace("  a follower of %s was told of the end at %llu", feed->id->text,
                          (unsigned long long)feed->told);
            model_ended(clients->model, life);
        }
        feed->live = false;
        return;
    }
    feed->live = false;
    if (feed->asking)
        feed->detached = true;
    else
        feed_ask(clients, feed, 0);
}

/* After a restart: each goes on from where it stands, when it is its turn. */
void feeds_forget(struct clients *clients)
{
    for (unsigned i = 0; i < CLIENTS_FEEDS; i++) {
        struct feed_state *feed = &clients->feeds[i];
        feed->early_n = 0;
        feed->asking = feed->live = feed->detached = false;
        if (feed->used && feed->frontend >= clients->world->n)
            feed_over(feed);
    }
}

void clients_unfollow(struct clients *clients)
{
    for (unsigned i = 0; i < CLIENTS_FEEDS; i++) {
        struct feed_state *feed = &clients->feeds[i];
        if (feed->used && feed->live && !feed->asking)
            feed_leave(clients, feed);
    }
}
