/*
 * run: see run.h. What a seed has in store (how many shards, how large the segments, which faults,
 * who asks what how often) is drawn first, so that each seed leans to something (swarm testing:
 * Groce et al., 2012).
 *
 * One process: start, audit (everything the model knows is asked for and compared), traffic, end.
 * A crash point may be set at any operation on the disk, in any of these.
 */
#include "tests/sim/run.h"

#include "shards/backup.h"
#include "shards/verify.h"
#include "tests/sim/clients.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { SETTLE_TURNS = 30000, START_TRIES = 12, PAGE = 50 };

enum ending { END_CRASH, END_STOP, END_SETTLE, ENDINGS };

struct profile {
    struct world_options world;
    struct core_limits limits;
    struct client_habits habits;
    struct disk_faults faults;
    unsigned lives, steps;
    uint32_t crash_percent, stop_percent, start_crash_percent, rot_percent, full_percent;
    uint32_t deaf_percent, jump_percent, power_percent, resize_percent;
    uint32_t ttl_percent, backup_percent;
    uint32_t leap_percent;  /* that seconds go by at once, in ten thousand steps */
    uint32_t break_percent; /* that a command is to break an invariant, in a thousand */
    bool history_may_go;
    bool attended; /* there are leases and wake targets */
};

enum { REACHED_MAX = 256 };

/* The newest message that an agent was told of. */
struct reached {
    char session[CORE_ID_BYTES + 1], epoch[CORE_EPOCH_BYTES + 1], agent[CORE_ID_BYTES + 1];
    uint64_t seq;
};

struct run {
    struct rng chance, disk_rng, client_rng;
    struct profile profile;
    struct disk *disk;
    struct sim_clock clock;
    struct model *model;
    struct clients clients;
    struct world *world;
    struct disk_rot rot;
    bool rotten;
    unsigned jobs_left;     /* until the crash point is set into one (each counts at every step) */
    uint64_t faults_before; /* when this process began */
    struct reached reached[REACHED_MAX]; /* by this process */
    unsigned reached_n;
    struct run_figures *figures;
};

/* ---- what a seed has in store */

static uint32_t sometimes(struct rng *rng, uint32_t percent, uint32_t most)
{
    return rng_percent(rng, percent) ? rng_between(rng, 1, most) : 0;
}

static void draw_habits(struct rng *rng, struct client_habits *habits)
{
    *habits = (struct client_habits){
        .sessions = rng_between(rng, 1, 6),
        .forks = rng_percent(rng, 60) ? rng_between(rng, 1, 3) : 0,
        .command = rng_between(rng, 10, 60),
        .batch = sometimes(rng, 70, 20),
        .again = sometimes(rng, 70, 20),
        .delete = sometimes(rng, 70, 5),
        .view = rng_between(rng, 1, 8),
        .past = sometimes(rng, 60, 8),
        .diff = sometimes(rng, 30, 4),
        .proof = sometimes(rng, 50, 5),
        .events = sometimes(rng, 70, 8),
        .messages = sometimes(rng, 40, 5),
        .inbox = sometimes(rng, 60, 8),
        .list = sometimes(rng, 40, 3),
        .follow = sometimes(rng, 60, 6),
        .status = sometimes(rng, 20, 2),
        .key_percent = sometimes(rng, 80, 90),
        .expected_percent = sometimes(rng, 40, 40),
        .outstanding_max = rng_between(rng, 1, 40),
    };
    habits->fork = habits->forks != 0 ? rng_between(rng, 1, 8) : 0;
}

static void draw_settings(struct rng *rng, struct profile *profile)
{
    static const int64_t idle_ms[] = {0, 5, 50, 500};
    struct shard_settings *settings = &profile->world.settings;
    *settings = shard_settings_default;
    settings->idle_passivate_ms = idle_ms[rng_below(rng, 4)];
    settings->memory_bytes = rng_percent(rng, 30) ? rng_between(rng, 1000, 60000) : 1u << 30;
    settings->snapshot_bytes = rng_between(rng, 200, 4000);
    settings->checkpoint_bytes = rng_between(rng, 1000, 40000);
    settings->compact_after_ms = rng_percent(rng, 70) ? rng_between(rng, 1, 500) : 3600000;
    settings->compact_bytes_per_s = 0;
    settings->retain_ms = 0;
    settings->retain_bytes = 0;
    profile->history_may_go = rng_percent(rng, 15);
    if (profile->history_may_go && rng_percent(rng, 60))
        settings->retain_ms = rng_between(rng, 10, 2000);
    else if (profile->history_may_go)
        settings->retain_bytes = rng_between(rng, 20000, 120000);
}

static void draw_faults(struct rng *rng, struct profile *profile)
{
    if (rng_percent(rng, 65))
        return;
    profile->faults = (struct disk_faults){
        .sync_fails = sometimes(rng, 60, 150),
        .write_fails = sometimes(rng, 40, 300),
        .read_fails = sometimes(rng, 40, 200),
        .directory_sync_fails = sometimes(rng, 40, 30),
    };
}

static void draw_profile(struct rng *rng, struct profile *profile)
{
    *profile = (struct profile){.limits = core_limits_default};
    profile->limits.max[CORE_LIMIT_WINDOW_MESSAGES] = rng_between(rng, 2, 12);
    profile->limits.max[CORE_LIMIT_WINDOW_BYTES] = rng_between(rng, 200, 4000);
    profile->limits.hash_seed = rng_next(rng);
    profile->world = (struct world_options){
        .shards = rng_between(rng, 1, WORLD_SHARDS_MAX),
        .segment_bytes = UINT64_C(16384) << rng_below(rng, 3),
        .durability = LOG_COMMIT,
    };
    draw_settings(rng, profile);
    draw_habits(rng, &profile->habits);
    draw_faults(rng, profile);
    profile->lives = rng_between(rng, 3, 12);
    profile->steps = rng_between(rng, 50, 1200);
    profile->crash_percent = rng_between(rng, 20, 90);
    profile->stop_percent = rng_between(rng, 0, 60);
    profile->start_crash_percent = sometimes(rng, 60, 60);
    profile->rot_percent = sometimes(rng, 25, 70);
    profile->full_percent = sometimes(rng, 20, 60);
    profile->deaf_percent = sometimes(rng, 30, 20);
    profile->jump_percent = sometimes(rng, 40, 10);
    profile->power_percent = rng_between(rng, 40, 100);
    profile->ttl_percent = sometimes(rng, 15, 50);
    profile->backup_percent = sometimes(rng, 25, 50);
    if (rng_percent(rng, 8)) { /* then nothing is promised after a loss of power */
        profile->world.durability = LOG_RELAXED;
        profile->power_percent = 0;
        profile->faults.sync_fails = 0;
        profile->rot_percent = 0; /* the last batches that were not synced are no torn tail */
    }
    profile->resize_percent = sometimes(rng, 60, 60);
    profile->attended = rng_percent(rng, 50);
    if (profile->attended) {
        profile->leap_percent = rng_between(rng, 0, 200);
        profile->habits.touch = sometimes(rng, 50, 4);
    }
    profile->break_percent = sometimes(rng, 25, 30);
}

/* ---- time */

static void advance(struct run *run, uint64_t ns)
{
    run->clock.now_ns += ns;
    run->clock.wall_ms += (int64_t)(ns / 1000000);
    if (run->clock.wall_ms > run->clients.latest_wall_ms)
        run->clients.latest_wall_ms = run->clock.wall_ms;
}

/* The wall clock is set: an hour this way or that, seldom more than a day ahead. */
static void set_clock(struct run *run)
{
    struct rng *rng = &run->chance;
    int64_t by_ms = (int64_t)rng_below(rng, 7200000) - 3600000;
    if (rng_percent(rng, 5))
        by_ms = INT64_C(90000000);
    run->clock.wall_ms += by_ms;
    advance(run, 0);
    clients_expire_keys(&run->clients);
}

/* ---- one process at work */

static bool is_over(const struct run *run)
{
    return disk_is_dead(run->disk) || atomic_load(&run->world->failed) != NULL;
}

/* A log may only fail because the disk did. */
static void check_failure(const struct run *run)
{
    const char *failed = atomic_load(&run->world->failed);
    if (failed != NULL && !disk_is_dead(run->disk) && !run->rotten &&
        disk_faults_n(run->disk) == run->faults_before)
        sim_violation("refused", "nothing is wrong with the disk, but: %s", failed);
}

/* The next command of this type to some session breaks an invariant. */
static void plant_break(struct run *run, const struct shard *shard)
{
    static const enum core_type types[] = {CORE_MESSAGE_SEND, CORE_AGENT_REGISTER,
                                           CORE_AGENT_UPDATE, CORE_THREAD_CREATE};
    uint32_t at = shard->active != 0 ? rng_below(&run->chance, shard->active) : 0;
    struct session *session;
    TAILQ_FOREACH(session, &shard->by_use, by_use)
    {
        if (at-- != 0)
            continue;
        if (session->core != NULL && !session->busy)
            core_break_invariant_for_test(session->core, types[rng_below(&run->chance, 4)]);
        return;
    }
}

static void step(struct run *run)
{
    struct rng *rng = &run->chance;
    struct world *world = run->world;
    unsigned at = rng_below(rng, world->n);
    run->clients.was_full = run->clients.was_full || disk_was_full(run->disk);
    switch (rng_below(rng, 8)) {
    case 0:
    case 1:
        clients_act(&run->clients);
        break;
    case 2:
    case 3:
        world_turn(world, at);
        break;
    case 4:
    case 5:
        world_step_io(world, at);
        break;
    case 6:
        if (!run->clients.deaf[at])
            clients_drain(&run->clients, at, rng_between(rng, 1, 64));
        break;
    default:
        advance(run, (uint64_t)rng_below(rng, 2000000));
        break;
    }
    if (rng_once_in(rng, 6))
        world_step_courier(world);
    if (rng_below(rng, 10000) < run->profile.leap_percent)
        advance(run, UINT64_C(1000000) * rng_between(rng, 50, 3000));
    if (rng_below(rng, 1000) < run->profile.deaf_percent)
        run->clients.deaf[at] = !run->clients.deaf[at];
    if (rng_below(rng, 5000) < run->profile.jump_percent)
        set_clock(run);
    if (rng_below(rng, 1000) < run->profile.break_percent)
        plant_break(run, world->shards[at]);
}

/* Everything goes on, nothing new comes, until nothing is left to do. False: the process is over.
 */
static bool settle(struct run *run)
{
    struct world *world = run->world;
    clients_cancel_waits(&run->clients);
    for (unsigned turns = 0; turns < SETTLE_TURNS; turns++) {
        bool more = false;
        for (unsigned i = 0; i < world->n; i++) {
            more = world_turn(world, i) || more;
            while (world_step_io(world, i))
                more = true;
            more = clients_drain(&run->clients, i, 1000) != 0 || more;
        }
        more = world_step_courier(world) || more;
        if (is_over(run))
            return false;
        run->clients.was_full = run->clients.was_full || disk_was_full(run->disk);
        if (!more && run->clients.outstanding == 0 && world_idle(world))
            return true;
        advance(run, 200000);
    }
    clients_trace_outstanding(&run->clients);
    sim_violation("refused", "it does not come to rest: %u requests are out",
                  run->clients.outstanding);
}

/* ---- auditing: everything that the model knows is asked for */

static bool await(struct run *run, const struct op *op)
{
    struct world *world = run->world;
    for (unsigned turns = 0; turns < SETTLE_TURNS; turns++) {
        for (unsigned i = 0; i < world->n; i++) {
            world_turn(world, i);
            while (world_step_io(world, i))
                ;
            clients_drain(&run->clients, i, 1000);
        }
        if (op->answered)
            return true;
        if (is_over(run))
            return false;
        advance(run, 200000);
    }
    sim_violation("refused", "a request about %s is never answered",
                  op->id != NULL ? op->id->text : "all sessions");
}

static struct op *ask(struct run *run, enum request_kind kind, struct id *id, clients_fill *fill,
                      uint64_t from, uint64_t to)
{
    struct op *op = clients_ask(&run->clients, kind, id, fill, from, to);
    if (op == NULL)
        sim_violation("refused", "no room for the only request there is");
    return await(run, op) ? op : NULL;
}

/* An answer that rot may keep from being given. */
static bool is_good(const struct run *run, const struct op *op)
{
    (void)run;
    return op->error == 0;
}

/* False: the process is over. */
static bool audit_events(struct run *run, struct id *id, struct life *life, uint64_t seq)
{
    while (life->n < seq && !life->unknown_before) {
        uint64_t before = life->n;
        struct op *op = ask(run, REQUEST_EVENTS, id, clients_fill_events, life->n, PAGE);
        if (op == NULL)
            return false;
        if (op->gone && run->profile.history_may_go)
            life->unknown_before = true;
        if (!is_good(run, op))
            return true;
        if (life->n == before)
            sim_violation("gap", "%s-%s stands at %llu, but has no event %llu", id->text,
                          life->epoch, (unsigned long long)seq, (unsigned long long)before + 1);
    }
    return true;
}

static bool audit_past(struct run *run, struct id *id, struct life *life)
{
    struct rng *rng = &run->chance;
    for (unsigned i = 0; i < 3 && life->n != 0; i++) {
        uint64_t at = 1 + rng_below(rng, life->n);
        bool view = rng_percent(rng, 50);
        struct op *op = view ? ask(run, REQUEST_VIEW, id, clients_fill_view, at, 0)
                             : ask(run, REQUEST_PROOF, id, clients_fill_proof, at, 0);
        if (op == NULL)
            return false;
    }
    uint64_t from = rng_below(rng, life->n + 1);
    return ask(run, REQUEST_EVENTS, id, clients_fill_events, from, PAGE) != NULL;
}

/* A session with a ttl ends when it has not changed for so long. */
static bool may_have_expired(const struct run *run, const struct life *life)
{
    if (!life->may_expire || life->n == 0 || life->ttl_s == 0)
        return life->may_expire;
    int64_t last_ms = life->events[life->n - 1].ts_ms;
    return run->clients.latest_wall_ms >= last_ms + (int64_t)life->ttl_s * 1000;
}

static void audit_ended(struct run *run, struct id *id, const struct op *op)
{
    for (unsigned i = 0; i < id->lives_n; i++) {
        struct life *life = id->lives[i];
        bool is_this = op->error == 0 && op->answer_life == life;
        if (is_this && life->state == LIFE_ENDED)
            sim_violation("life", "%s-%s was deleted, and is there again", id->text, life->epoch);
        if (is_this || life->state == LIFE_ENDED)
            continue;
        if (id->deletes_open == 0 && !may_have_expired(run, life) && life->shown != 0)
            sim_violation("shown", "%s-%s stood at %llu, and is gone", id->text, life->epoch,
                          (unsigned long long)life->shown);
        model_ended(run->model, life);
    }
}

/* What the shard itself had to say may come while it is asked: the view behind that. NULL: the
 * process is over. */
static struct op *catch_up(struct run *run, struct id *id, const struct life *life, struct op *op)
{
    while (op != NULL && op->error == 0 && life->n > op->seq && model_is_own(life, op->seq + 1))
        op = ask(run, REQUEST_VIEW, id, NULL, 0, 0);
    return op;
}

static bool audit_id(struct run *run, struct id *id)
{
    struct op *op = ask(run, REQUEST_VIEW, id, NULL, 0, 0);
    if (op == NULL)
        return false;
    if (op->error != 0 && op->error != CORE_E_UNKNOWN_SESSION)
        return true; /* rot; the client has judged */
    audit_ended(run, id, op);
    if (op->error != 0)
        return true;
    struct life *life = op->answer_life;
    op = catch_up(run, id, life, op);
    if (op == NULL || op->error != 0)
        return op != NULL;
    if (op->seq < life->shown)
        sim_violation("shown", "%s-%s stands at %llu, and stood at %llu", id->text, life->epoch,
                      (unsigned long long)op->seq, (unsigned long long)life->shown);
    if (!audit_events(run, id, life, op->seq))
        return false;
    op = catch_up(run, id, life, op);
    if (op == NULL || op->error != 0)
        return op != NULL;
    if (life->n > op->seq)
        sim_violation("shown", "%s-%s stands at %llu, and has had %llu events", id->text,
                      life->epoch, (unsigned long long)op->seq, (unsigned long long)life->n);
    if (life->n < op->seq)
        return true; /* gone, or rotten */
    if (life->pending != NULL)
        sim_violation("shown", "%s-%s was shown at %llu, which it has not reached", id->text,
                      life->epoch, (unsigned long long)life->pending->seq);
    op = ask(run, REQUEST_PROOF, id, clients_fill_proof, 0, 0);
    return op != NULL && audit_past(run, id, life);
}

static bool audit_lists(struct run *run)
{
    unsigned listed = 0, living = 0, expiring = 0;
    for (unsigned i = 0; i < run->world->n; i++) {
        struct op *op = ask(run, REQUEST_LIST, NULL, NULL, i, 0);
        if (op == NULL)
            return false;
        if (op->error != 0)
            return true;
        listed += op->n;
    }
    for (unsigned i = 0; i < model_ids(run->model); i++) {
        const struct life *life = model_current(model_nth_id(run->model, i));
        living += life != NULL;
        expiring += life != NULL && may_have_expired(run, life);
    }
    if ((listed > living || listed + expiring < living) && !run->rotten)
        sim_violation("list", "%u sessions are listed, and there are %u", listed, living);
    return true;
}

/* Only after a start, when nothing of the sort is under way. */
static void audit_pins(const struct run *run)
{
    unsigned pins = 0;
    for (unsigned i = 0; i < run->world->n; i++)
        pins += run->world->shards[i]->pins_n;
    if (pins != model_pins(run->model))
        sim_violation("pins", "%u pins are held, and %u forks need one", pins,
                      model_pins(run->model));
}

/* What was planted and broke nothing breaks nothing any more, and those that are in quarantine, by
 * that or because they could not be read, come back: beside the others, to which it does nothing.
 * False: the process is over. */
static bool rebuild_all(struct run *run)
{
    bool any = false;
    for (unsigned i = 0; i < run->world->n; i++) {
        const struct shard *shard = run->world->shards[i];
        struct session *session;
        TAILQ_FOREACH(session, &shard->by_use, by_use)
        {
            if (session->core != NULL)
                core_break_invariant_for_test(session->core, CORE_TYPE_NONE);
        }
        any = any || shard->quarantined != 0 || shard->stats.broken != 0;
    }
    for (unsigned i = 0; any && i < model_ids(run->model); i++) {
        if (ask(run, REQUEST_REBUILD, model_nth_id(run->model, i), NULL, 0, 0) == NULL)
            return false;
    }
    return true;
}

/* False: the process is over. */
static bool audit(struct run *run, bool after_start)
{
    if (!rebuild_all(run))
        return false;
    for (unsigned i = 0; i < model_ids(run->model); i++) {
        if (!audit_id(run, model_nth_id(run->model, i)))
            return false;
    }
    if (!settle(run) || !audit_lists(run))
        return false;
    if (!run->rotten) {
        model_check_batches(run->model);
        model_give_up_open(run->model);
        if (after_start && run->profile.ttl_percent == 0) /* a fork may have expired just now */
            audit_pins(run);
    }
    return true;
}

/* ---- leases and calls */

static struct reached *reached_find(struct run *run, struct str session, struct str epoch,
                                    struct str agent)
{
    for (unsigned i = 0; i < run->reached_n; i++) {
        struct reached *at = &run->reached[i];
        if (str_equal(sim_str(at->session), session) && str_equal(sim_str(at->epoch), epoch) &&
            str_equal(sim_str(at->agent), agent))
            return at;
    }
    return NULL;
}

/* A call speaks of what is committed: it has been shown. */
static void reached(void *ctx, const struct wake_order *order)
{
    struct run *run = ctx;
    char id_text[CORE_ID_BYTES + 1], epoch[CORE_EPOCH_BYTES + 1];
    snprintf(id_text, sizeof(id_text), "%.*s", SIM_STR(order->session));
    snprintf(epoch, sizeof(epoch), "%.*s", SIM_STR(order->epoch));
    struct id *id = model_id(run->model, id_text);
    model_shown(model_life(run->model, id, epoch), order->seq);
    struct reached *at = reached_find(run, order->session, order->epoch, order->agent);
    if (at == NULL) {
        assert(run->reached_n < REACHED_MAX);
        at = &run->reached[run->reached_n++];
        *at = (struct reached){0};
        memcpy(at->session, id_text, sizeof(id_text));
        memcpy(at->epoch, epoch, sizeof(epoch));
        snprintf(at->agent, sizeof(at->agent), "%.*s", SIM_STR(order->agent));
    }
    if (order->seq > at->seq)
        at->seq = order->seq;
    sim_trace("  %s of %s is told of %llu", at->agent, id_text, (unsigned long long)order->seq);
}

static void check_attended(struct run *run, const struct life *life,
                           const struct core_attended *agent)
{
    if (agent->lease_s != 0 && !agent->offline)
        sim_violation("lease", "%.*s of %s-%s has a lease of %llu s and is not offline",
                      SIM_STR(agent->agent), life->id->text, life->epoch,
                      (unsigned long long)agent->lease_s);
    if (agent->url.p == NULL)
        return;
    const struct reached *told =
        reached_find(run, sim_str(life->id->text), sim_str(life->epoch), agent->agent);
    if (agent->inherited && (told != NULL || !agent->open))
        sim_violation("wake", "%.*s of %s-%s has the target of another life, and %s",
                      SIM_STR(agent->agent), life->id->text, life->epoch,
                      told != NULL ? "was called" : "that is not said");
    uint64_t newest = model_newest_unread(run->model, life, agent->agent, agent->only_mentions);
    if (run->profile.history_may_go) /* and with it messages that nobody has read */
        return;
    if (!agent->inherited && newest > (told != NULL ? told->seq : 0))
        sim_violation("wake", "%.*s of %s-%s was not told of %llu, but of %llu",
                      SIM_STR(agent->agent), life->id->text, life->epoch,
                      (unsigned long long)newest,
                      (unsigned long long)(told != NULL ? told->seq : 0));
    if (!agent->inherited && newest != 0 && agent->open)
        sim_violation("wake", "the breaker of %.*s of %s-%s is open, and it was reached",
                      SIM_STR(agent->agent), life->id->text, life->epoch);
}

/* Nobody does anything any more, and hours go by; in the end every call reaches its target. */
static bool rest_for_hours(struct run *run)
{
    enum { REST_S = 2 * 60 * 60, PIECE_S = 20 };
    for (unsigned s = 0; s < REST_S; s += PIECE_S) {
        run->world->courier.reliable = s > REST_S / 2;
        advance(run, UINT64_C(1000000000) * PIECE_S);
        if (!settle(run))
            return false;
    }
    if (!audit(run, true)) /* only now: so far nobody has asked for any session */
        return false;
    for (unsigned i = 0; i < model_ids(run->model); i++) {
        const struct life *life = model_current(model_nth_id(run->model, i));
        struct core_attended agent;
        if (life == NULL || life->core == NULL || life->unknown_before ||
            core_session_closed(life->core))
            continue;
        for (uint32_t at = 0; core_attended_next(life->core, &at, &agent);)
            check_attended(run, life, &agent);
    }
    return true;
}

/* ---- starting */

static void disk_back(struct run *run, bool power)
{
    disk_restart(run->disk, power ? DISK_POWER : DISK_KILL);
    sim_trace("-- %s", power ? "power lost" : "killed");
    run->figures->crashes++;
}

static void heal(struct run *run)
{
    if (run->rotten)
        disk_heal(run->disk, &run->rot);
    run->rotten = run->clients.rotten = false;
}

static void check_start(struct run *run, int result)
{
    const struct world *world = run->world;
    sim_trace("-- start refused: %s", world->error);
    run->figures->starts_failed++;
    if (disk_faults_n(run->disk) != run->faults_before || disk_was_full(run->disk))
        return;
    if (run->rotten) {
        if (strstr(world->error, run->rot.name) == NULL)
            sim_violation("refused", "%s is rotten at %llu, but the start is refused with: %s",
                          run->rot.name, (unsigned long long)run->rot.offset, world->error);
        heal(run);
        return;
    }
    sim_violation("refused", "a start is refused: %s (%s)", world->error, strerror(-result));
}

/* Until one succeeds. */
static void start(struct run *run)
{
    struct rng *rng = &run->chance;
    struct profile *profile = &run->profile;
    if (rng_percent(rng, profile->resize_percent))
        profile->world.shards = rng_between(rng, 1, WORLD_SHARDS_MAX);
    for (unsigned tries = 0;; tries++) {
        bool calm = tries >= START_TRIES;
        run->world = mem_zeroed(1, sizeof(*run->world));
        run->faults_before = disk_faults_n(run->disk);
        disk_set_faults(run->disk, calm ? &(struct disk_faults){0} : &profile->faults);
        if (tries > 2)
            disk_set_budget(run->disk, UINT64_MAX);
        bool crashes = !calm && rng_percent(rng, profile->start_crash_percent);
        disk_arm(run->disk, crashes ? rng_between(rng, 1, 80) : 0);
        sim_trace("-- start with %u shards", profile->world.shards);
        int result = world_start(run->world, run->disk, rng, &run->clock, &profile->world);
        run->figures->lives++;
        if (result == 0 && !disk_is_dead(run->disk)) {
            uint64_t seed;
            memcpy(&seed, datadir_hash_key(run->world->dir), sizeof(seed));
            model_set_seed(run->model, seed);
            run->reached_n = 0;
            run->world->courier.reached = reached;
            run->world->courier.ctx = run;
            clients_attach(&run->clients, run->world);
            return;
        }
        if (!disk_is_dead(run->disk))
            check_start(run, result);
        disk_back(run, rng_percent(rng, profile->power_percent));
    }
}

/* ---- ending */

/* What the kernel has been given already may still happen. */
static void drop(struct run *run)
{
    struct rng *rng = &run->chance;
    for (unsigned i = 0; i < run->world->n; i++) {
        for (unsigned n = rng_below(rng, 4); n != 0 && !disk_is_dead(run->disk); n--)
            world_step_io(run->world, i);
    }
    disk_back(run, rng_percent(rng, run->profile.power_percent));
}

static void gather(struct run *run)
{
    for (unsigned i = 0; i < run->world->n; i++) {
        const struct shard *shard = run->world->shards[i];
        if (shard == NULL)
            continue;
        run->figures->snapshots += shard->stats.snapshots;
        run->figures->checkpoints += shard->stats.checkpoints;
        run->figures->compactions += shard->stats.compactions;
        run->figures->passivations += shard->stats.passivations;
        run->figures->loads += shard->stats.loads;
        run->figures->rebuilds += shard->stats.rebuilds;
    }
}

/* False: the process did not get that far. */
static bool stop(struct run *run)
{
    clients_unfollow(&run->clients);
    if (!settle(run))
        return false;
    if (rng_percent(&run->chance, 50)) { /* what is due by now, a compaction say, is begun */
        advance(run, 1000000ull * rng_between(&run->chance, 1, 15000));
        for (unsigned i = 0; i < run->world->n; i++)
            world_turn(run->world, i);
    }
    sim_trace("-- stop");
    for (unsigned turns = 0; !world_stop_turn(run->world); turns++) {
        for (unsigned i = 0; i < run->world->n; i++) {
            /* Not all at once: a pass is to meet the last snapshots' commit in flight. */
            for (uint64_t n = rng_below(&run->chance, 3); n != 0; n--)
                world_step_io(run->world, i);
            clients_drain(&run->clients, i, 1000);
        }
        if (is_over(run))
            return false;
        if (turns == SETTLE_TURNS)
            sim_violation("refused", "it does not stop");
        advance(run, 200000);
    }
    gather(run);
    world_close(run->world);
    run->world = NULL;
    if (disk_is_dead(run->disk)) {
        disk_back(run, rng_percent(&run->chance, run->profile.power_percent));
        return true;
    }
    if (disk_open_files(run->disk) != 0)
        sim_violation("refused", "%u files are open after a clean stop",
                      disk_open_files(run->disk));
    run->figures->stops++;
    return true;
}

/* ---- reading the directory while no process has it */

/* What `atoll verify` says. Where it finds nothing, nothing may be refused later, rot or not. */
static void verify(struct run *run, struct disk *disk, const char *what)
{
    struct verify_report report;
    char error[1024] = "";
    struct fs *fs = disk_fs_new(disk, NULL, NULL);
    int result = verify_run(fs, &(struct verify_options){0}, &report, error, sizeof(error));
    fs->ops->free(fs);
    sim_trace("-- verify: %s", result == 0 ? "well" : error);
    run->figures->verified++;
    if (result != 0 && !(run->rotten && disk == run->disk))
        sim_violation("verify", "%s is found faulty: %s (%s)", what, error, strerror(-result));
    if (result == 0 && disk == run->disk)
        run->rotten = run->clients.rotten = false;
}

/* A copy of the directory under the running process must be whole. */
static void backup(struct run *run)
{
    struct disk *copy = disk_new(&run->disk_rng);
    struct fs *from = disk_fs_new(run->disk, NULL, NULL);
    struct fs *to = disk_fs_new(copy, NULL, NULL);
    struct backup_report report;
    char error[1024] = "";
    uint64_t faults = disk_faults_n(run->disk);
    int result = backup_run(from, to, &report, error, sizeof(error));
    from->ops->free(from);
    to->ops->free(to);
    bool excused = run->rotten || disk_is_dead(run->disk) || disk_faults_n(run->disk) != faults;
    if (result != 0 && !excused)
        sim_violation("verify", "a backup fails: %s (%s)", error, strerror(-result));
    if (result == 0 && !run->rotten)
        verify(run, copy, "a backup");
    disk_free(copy);
}

/* ---- one process after the other */

static void rot(struct run *run)
{
    static const char *const prefixes[] = {"segment", "segment", "checkpoint", "manifest"};
    if (!disk_rot(run->disk, prefixes[rng_below(&run->chance, 4)], &run->rot))
        return;
    run->rotten = run->clients.rotten = true;
    run->figures->rots++;
    sim_trace("-- %s rots at %llu", run->rot.name, (unsigned long long)run->rot.offset);
}

static bool has_job(const struct run *run)
{
    for (unsigned i = 0; i < run->world->n; i++) {
        if (simio_has_job(run->world->ios[i]))
            return true;
    }
    return false;
}

static void traffic(struct run *run, unsigned steps)
{
    struct rng *rng = &run->chance;
    bool full = rng_percent(rng, run->profile.full_percent);
    if (full)
        disk_set_budget(run->disk, disk_used(run->disk) + rng_below(rng, 200000));
    unsigned copied = rng_percent(rng, run->profile.backup_percent) ? rng_below(rng, steps) : steps;
    for (unsigned i = 0; i < steps && !is_over(run); i++) {
        if (run->jobs_left != 0 && has_job(run) && --run->jobs_left == 0)
            disk_arm(run->disk, rng_between(rng, 1, 30));
        step(run);
        if (i == copied && !is_over(run))
            backup(run);
    }
    if (full && !is_over(run)) {
        disk_set_budget(run->disk, UINT64_MAX);
        advance(run, UINT64_C(2000000000));
    }
}

/* After a full disk has got room again, commands are taken again. */
static bool probe(struct run *run)
{
    struct id *id = model_id(run->model, "s0");
    for (unsigned tries = 0; tries < 5; tries++) {
        const struct op *op = clients_probe(&run->clients, id);
        if (op == NULL || !await(run, op))
            return false;
        if (op->error != REQUEST_E_NO_SPACE)
            return true;
        advance(run, UINT64_C(2000000000));
    }
    sim_violation("refused", "there is room on the disk again, but not for commands");
}

/* The end of a process that goes on to the end of its traffic. False: it did not. */
static bool finish(struct run *run)
{
    struct rng *rng = &run->chance;
    disk_set_budget(run->disk, UINT64_MAX);
    memset(run->clients.deaf, 0, sizeof(run->clients.deaf));
    if (!settle(run))
        return false;
    disk_set_faults(run->disk, &(struct disk_faults){0});
    if (!run->rotten && (!rebuild_all(run) || !probe(run) || !audit(run, false)))
        return false;
    if (rng_percent(rng, run->profile.stop_percent)) {
        if (rng_percent(rng, 20))
            disk_arm(run->disk, rng_between(rng, 1, 60));
        return stop(run);
    }
    return false;
}

static void live(struct run *run)
{
    struct rng *rng = &run->chance;
    struct profile *profile = &run->profile;
    start(run);
    run->clients.read_faults = profile->faults.read_fails != 0;
    run->clients.was_full = disk_was_full(run->disk);
    run->clients.breaks = profile->break_percent != 0;
    disk_set_faults(run->disk, &(struct disk_faults){0});
    bool over = !audit(run, true);
    if (!over) {
        disk_set_faults(run->disk, &profile->faults);
        bool crashes = rng_percent(rng, profile->crash_percent);
        run->jobs_left = 0;
        if (crashes && rng_percent(rng, 40))
            disk_arm(run->disk, rng_between(rng, 1, rng_percent(rng, 50) ? 100 : 600));
        else if (crashes && rng_percent(rng, 60))
            run->jobs_left = rng_between(rng, 1, 40);
        traffic(run, rng_between(rng, 1, profile->steps));
        over = is_over(run) || crashes || !finish(run);
    }
    if (over) {
        check_failure(run);
        gather(run);
        drop(run);
    }
    heal(run);
    if (rng_percent(rng, profile->rot_percent))
        rot(run);
    disk_set_faults(run->disk, &(struct disk_faults){0});
    disk_arm(run->disk, 0);
    if (rng_percent(rng, 30))
        verify(run, run->disk, "the directory");
}

void run_seed(uint64_t seed, struct run_figures *figures)
{
    struct run *run = mem_zeroed(1, sizeof(*run));
    *figures = (struct run_figures){0};
    run->figures = figures;
    rng_seed(&run->chance, seed, 1);
    rng_seed(&run->disk_rng, seed, 2);
    rng_seed(&run->client_rng, seed, 3);
    draw_profile(&run->chance, &run->profile);
    run->profile.world.limits = &run->profile.limits;
    run->disk = disk_new(&run->disk_rng);
    run->clock = (struct sim_clock){.now_ns = 1000000000, .wall_ms = INT64_C(1767323045678)};
    run->model = model_new(&(struct model_limits){run->profile.limits, run->profile.history_may_go,
                                                  run->profile.ttl_percent != 0});
    run->clients = (struct clients){
        .model = run->model,
        .rng = &run->client_rng,
        .clock = &run->clock,
        .habits = run->profile.habits,
        .generator = {.rng = &run->client_rng,
                      .arena = model_arena(run->model),
                      .ttl_percent = run->profile.ttl_percent,
                      .attended = run->profile.attended,
                      .content_bytes = rng_percent(&run->chance, 70) ? 300 : 3000},
        .latest_wall_ms = run->clock.wall_ms,
    };
    for (unsigned i = 0; i < run->profile.lives; i++)
        live(run);
    heal(run);
    run->profile.start_crash_percent = 0;
    run->profile.faults = (struct disk_faults){0};
    disk_set_budget(run->disk, UINT64_MAX);
    start(run);
    run->clients.read_faults = run->clients.was_full = run->clients.breaks = false;
    if (!(run->profile.attended ? rest_for_hours(run) : audit(run, true)) || !stop(run))
        sim_violation("refused", "the last process does not stop cleanly");
    figures->faults = disk_faults_n(run->disk);
    figures->digest = disk_digest(run->disk);
    figures->events = run->clients.events_seen;
    figures->requests = run->clients.sent;
}
