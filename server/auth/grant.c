#include "server/auth/grant.h"

#include "server/frontend.h"
#include "server/redact.h"

#define XXH_INLINE_ALL
#include <stdlib.h>
#include <xxhash.h>

enum { BUCKETS = 4096 };

static struct grants *grants_of(const struct grant *grant)
{
    return &grant->frontend->grants;
}

static int64_t wall_ms(const struct frontend *frontend)
{
    return reactor_wall_ms(frontend->reactor);
}

void grants_init(struct grants *grants, uint64_t seed)
{
    size_t bytes = BUCKETS * sizeof(*grants->buckets);
    grants->buckets = mem_alloc(bytes);
    memset((void *)grants->buckets, 0, bytes);
    grants->seed = seed;
    TAILQ_INIT(&grants->idle);
}

static void free_grant(struct grant *grant)
{
    timers_clear(&grant->frontend->timers, &grant->timer);
    redaction_free(grant->redaction);
    token_claims_free(&grant->claims);
    explicit_bzero((void *)(uintptr_t)grant->token.p, grant->token.n);
    free((void *)(uintptr_t)grant->token.p);
    free(grant);
}

static void forget_idle(struct grants *grants, struct grant *grant)
{
    TAILQ_REMOVE(&grants->idle, grant, idle);
    grants->idle_n--;
    LIST_REMOVE(grant, in_bucket);
    free_grant(grant);
}

void grants_free(struct frontend *frontend)
{
    struct grants *grants = &frontend->grants;
    struct grant *grant;
    while ((grant = TAILQ_FIRST(&grants->idle)) != NULL)
        forget_idle(grants, grant);
    free(grants->buckets);
    grants->buckets = NULL;
}

/* ---- endings */

/* Whoever holds it finds it ended; nobody gets it any more. */
static void end(struct grant *grant)
{
    struct outlet *outlet, *next;

    if (grant->references == 0) {
        forget_idle(grants_of(grant), grant);
        return;
    }
    grant->ended = true;
    grant->references++; /* its last outlet may go */
    LIST_REMOVE(grant, in_bucket);
    timers_clear(&grant->frontend->timers, &grant->timer);
    for (outlet = LIST_FIRST(&grant->outlets); outlet != NULL; outlet = next) {
        next = LIST_NEXT(outlet, of_grant);
        outlet_expire(outlet);
    }
    grant_release(grant);
}

static int64_t expires_ms(const struct grant *grant)
{
    return grant->claims.expires_s * 1000;
}

bool grant_is_over(const struct grant *grant)
{
    return grant->ended ||
           (grant->claims.expires_s != 0 && wall_ms(grant->frontend) >= expires_ms(grant));
}

int64_t grant_lasts_ms(const struct grant *grant, int64_t ms)
{
    if (grant == NULL || grant->claims.expires_s == 0)
        return ms;
    int64_t left_ms = expires_ms(grant) - wall_ms(grant->frontend);
    return left_ms < 0 ? 0 : left_ms < ms ? left_ms : ms;
}

/* The wall clock may have been set meanwhile: it is looked at at least each hour. */
static void set_timer(struct grant *grant)
{
    enum { LOOK_MS = 3600 * 1000 };
    struct frontend *frontend = grant->frontend;
    int64_t left_ms = expires_ms(grant) - wall_ms(frontend);

    timers_set(&frontend->timers, &grant->timer,
               frontend_now_ms(frontend) + (left_ms < LOOK_MS ? left_ms : LOOK_MS));
}

static void on_expiry(struct timer *timer)
{
    struct grant *grant = (struct grant *)((char *)timer - offsetof(struct grant, timer));
    if (grant_is_over(grant))
        end(grant);
    else
        set_timer(grant);
}

/* ---- making */

static enum token_error verify(const struct frontend *frontend, struct str token,
                               struct auth_claims *claims)
{
    const struct config *config = frontend->live->config;
    struct str issuer = {config->auth_issuer, strlen(config->auth_issuer)};
    struct str audience = {config->auth_audience, strlen(config->auth_audience)};
    return token_verify(frontend->live->keys, issuer, audience, token, wall_ms(frontend) / 1000,
                        claims);
}

/* NULL: what it is to hide cannot be understood. The claims are the grant's, or gone. */
static struct grant *make(struct frontend *frontend, struct str token, uint64_t hash,
                          struct auth_claims *claims)
{
    struct redaction *redaction =
        claims->redact_n != 0 ? redaction_new(claims->redact, claims->redact_n) : NULL;
    if (redaction == NULL && claims->redact_n != 0) {
        token_claims_free(claims);
        return NULL;
    }
    struct grant *grant = mem_alloc(sizeof(*grant));
    char *copy = mem_alloc(token.n);

    memcpy(copy, token.p, token.n);
    *grant = (struct grant){.frontend = frontend,
                            .references = 1,
                            .hash = hash,
                            .token = {copy, token.n},
                            .claims = *claims,
                            .redaction = redaction,
                            .timer.fire = on_expiry};
    for (unsigned i = 0; i < claims->sessions_n; i++)
        grant->all_sessions |= str_equal(claims->sessions[i], STR("*"));
    LIST_INIT(&grant->outlets);
    LIST_INSERT_HEAD(&frontend->grants.buckets[hash % BUCKETS], grant, in_bucket);
    if (claims->expires_s != 0)
        set_timer(grant);
    return grant;
}

static struct grant *find(struct grants *grants, struct str token, uint64_t hash)
{
    struct grant *grant;
    LIST_FOREACH(grant, &grants->buckets[hash % BUCKETS], in_bucket)
    if (grant->hash == hash && str_equal(grant->token, token))
        return grant;
    return NULL;
}

struct grant *grants_take(struct frontend *frontend, struct str token, enum token_error *error)
{
    struct grants *grants = &frontend->grants;
    struct auth_claims claims;

    *error = TOKEN_MALFORMED;
    if (token.n == 0 || token.n > TOKEN_BYTES_MAX)
        return NULL;
    uint64_t hash = XXH3_64bits_withSeed(token.p, token.n, grants->seed);
    struct grant *grant = find(grants, token, hash);
    if (grant != NULL && !grant_is_over(grant))
        return grant_hold(grant);
    *error = verify(frontend, token, &claims);
    if (*error != TOKEN_OK) {
        figure_add(&frontend->figures->tokens_refused[*error], 1);
        return NULL;
    }
    grant = make(frontend, token, hash, &claims);
    if (grant == NULL)
        *error = TOKEN_MALFORMED;
    return grant;
}

struct grant *grant_hold(struct grant *grant)
{
    if (grant != NULL && grant->references++ == 0) {
        TAILQ_REMOVE(&grants_of(grant)->idle, grant, idle);
        grants_of(grant)->idle_n--;
    }
    return grant;
}

void grant_release(struct grant *grant)
{
    if (grant == NULL || --grant->references != 0)
        return;
    if (grant->ended) {
        free_grant(grant);
        return;
    }
    struct grants *grants = grants_of(grant);
    TAILQ_INSERT_TAIL(&grants->idle, grant, idle);
    if (++grants->idle_n > GRANTS_IDLE_MAX)
        forget_idle(grants, TAILQ_FIRST(&grants->idle));
}

/* What its key has verified before is so still. Else a reload would verify thousands in a turn. */
static bool still_good(const struct grant *grant, const struct live *old, const struct live *live)
{
    return strcmp(old->config->auth_issuer, live->config->auth_issuer) == 0 &&
           strcmp(old->config->auth_audience, live->config->auth_audience) == 0 &&
           auth_keys_share(old->keys, live->keys, grant->claims.kid);
}

void grants_adopt(struct frontend *frontend, const struct live *old)
{
    struct grants *grants = &frontend->grants;
    struct auth_claims claims;

    for (unsigned i = 0; i < BUCKETS; i++) {
        struct grant *grant = LIST_FIRST(&grants->buckets[i]), *next;
        for (; grant != NULL; grant = next) {
            next = LIST_NEXT(grant, in_bucket);
            if (still_good(grant, old, frontend->live))
                continue;
            if (verify(frontend, grant->token, &claims) == TOKEN_OK)
                token_claims_free(&claims);
            else
                end(grant);
        }
    }
}

/* ---- outlets */

void grant_bind(struct grant *grant, struct outlet *outlet)
{
    outlet->grant = grant_hold(grant);
    if (grant != NULL)
        LIST_INSERT_HEAD(&grant->outlets, outlet, of_grant);
}

void grant_unbind(struct outlet *outlet)
{
    if (outlet->grant == NULL)
        return;
    LIST_REMOVE(outlet, of_grant);
    grant_release(outlet->grant);
    outlet->grant = NULL;
}

/* ---- what it allows */

static bool matches(struct str pattern, struct str session)
{
    if (pattern.n == 0 || pattern.p[pattern.n - 1] != '*')
        return str_equal(pattern, session);
    return session.n >= pattern.n - 1 && memcmp(session.p, pattern.p, pattern.n - 1) == 0;
}

bool grant_has_session(const struct grant *grant, struct str session)
{
    if (grant->all_sessions)
        return true;
    for (unsigned i = 0; i < grant->claims.sessions_n; i++)
        if (matches(grant->claims.sessions[i], session))
            return true;
    return false;
}

bool grant_speaks_for(const struct grant *grant, struct str agent)
{
    return grant_has_scope(grant, AUTH_ADMIN) ||
           (grant->claims.sub.p != NULL && str_equal(grant->claims.sub, agent));
}
