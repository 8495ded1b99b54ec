#include "server/courier.h"

#include "core/core.h"
#include "server/courier_rules.h"
#include "shards/cluster.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    POLL_MS = 60000, /* between two looks where nothing happens; any order ends it */
    HEADER_BYTES = 512,
    BUFFER_BYTES = 16384, /* of a transfer: it has little to say and to hear */
    STATUS_NONE = 0,
};

/* One order under way. */
struct call {
    struct courier *courier;
    struct wake_order *order;
    struct call *previous, *next;
    CURL *easy;
    CURLU *url;
    char *host; /* of the URL, curl's own */
    struct curl_slist *headers;
    struct buf body;
    size_t heard_bytes;             /* of the answer */
    bool opened;                    /* an address was good to go to */
    char refused[INET6_ADDRSTRLEN]; /* the last one that was not; "": none */
};

struct courier {
    struct wake_courier wake;
    struct wake_rings *rings;
    struct courier_rules rules;
    struct courier_start start;
    CURLM *multi;
    pthread_t thread;
    atomic_bool stop;
    bool started;
    struct call *calls;
    unsigned calls_n;
};

/* ---- what is sent */

static void write_body(const struct wake_order *order, struct buf *out)
{
    buf_add_literal(out, "{\"type\":\"agent.wake\",\"session\":");
    json_add_string(out, order->session);
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, order->epoch);
    buf_add_literal(out, ",\"agent\":");
    json_add_string(out, order->agent);
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, order->seq);
    buf_add_literal(out, ",\"unread\":");
    buf_add_u64(out, order->unread);
    buf_add_str(out, order->mentioned ? STR(",\"mentioned\":true") : STR(",\"mentioned\":false"));
    buf_add_literal(out, ",\"cursor\":");
    json_add_string(out, order->cursor);
    buf_add_byte(out, '}');
}

__attribute__((format(printf, 2, 3))) static void add_header(struct call *call, const char *format,
                                                             ...)
{
    char text[HEADER_BYTES];
    va_list arguments;

    va_start(arguments, format);
    int n = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    assert(n > 0 && n < (int)sizeof(text));
    call->headers = curl_slist_append(call->headers, text);
    assert(call->headers != NULL);
}

static void add_signature(struct call *call, struct str secret, struct str signed_text)
{
    uint8_t mac[SHA256_DIGEST_LENGTH];
    char text[4 * ((SHA256_DIGEST_LENGTH + 2) / 3) + 1];
    unsigned n = 0;

    const uint8_t *done = HMAC(EVP_sha256(), secret.p, (int)secret.n,
                               (const uint8_t *)signed_text.p, signed_text.n, mac, &n);
    assert(done != NULL && n == sizeof(mac));
    EVP_EncodeBlock((uint8_t *)text, mac, (int)sizeof(mac));
    add_header(call, "webhook-signature: v1,%s", text);
}

/* False: its secret cannot be opened. */
static bool sign(struct call *call, struct str id, int64_t now_s)
{
    struct wake_order *order = call->order;
    struct buf text = {0};

    if (order->sealed.n == 0)
        return true;
    struct str secret = seal_open(&call->courier->start.seal, order->session, order->agent,
                                  order->sealed, &order->arena);
    if (secret.p == NULL)
        return false;
    buf_add_str(&text, id);
    buf_add_byte(&text, '.');
    buf_add_i64(&text, now_s);
    buf_add_byte(&text, '.');
    buf_add_str(&text, buf_str(&call->body));
    add_signature(call, secret, buf_str(&text));
    OPENSSL_cleanse((char *)(uintptr_t)secret.p, secret.n);
    buf_free(&text);
    return true;
}

static bool write_headers(struct call *call)
{
    const struct wake_order *order = call->order;
    struct buf id = {0};
    int64_t now_s = (int64_t)time(NULL);

    /* Of ids and an epoch, which have no colons. */
    buf_add_literal(&id, "wake:");
    buf_add_str(&id, order->session);
    buf_add_byte(&id, ':');
    buf_add_str(&id, order->epoch);
    buf_add_byte(&id, ':');
    buf_add_str(&id, order->agent);
    buf_add_byte(&id, ':');
    buf_add_u64(&id, order->seq);
    add_header(call, "Content-Type: application/json");
    add_header(call, "Expect:"); /* no asking first */
    add_header(call, "webhook-id: %.*s", (int)id.n, id.p);
    add_header(call, "webhook-timestamp: %lld", (long long)now_s);
    bool good = sign(call, buf_str(&id), now_s);
    buf_free(&id);
    return good;
}

/* ---- what a transfer asks */

static curl_socket_t on_open(void *p, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct call *call = p;
    const struct sockaddr *to = &address->addr;
    struct str host = {call->host, strlen(call->host)};

    if (purpose != CURLSOCKTYPE_IPCXN || !courier_may_reach(&call->courier->rules, host, to)) {
        const void *bytes = &((const struct sockaddr_in *)(const void *)to)->sin_addr;
        if (to->sa_family == AF_INET6)
            bytes = &((const struct sockaddr_in6 *)(const void *)to)->sin6_addr;
        if (inet_ntop(to->sa_family, bytes, call->refused, sizeof(call->refused)) == NULL)
            snprintf(call->refused, sizeof(call->refused), "?");
        return CURL_SOCKET_BAD;
    }
    call->opened = true;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Of the answer only its status counts; what is more than COURIER_ANSWER_MAX ends the transfer. */
static size_t on_hear(char *bytes, size_t size, size_t n, void *p)
{
    struct call *call = p;
    (void)bytes;
    call->heard_bytes += size * n;
    return call->heard_bytes <= COURIER_ANSWER_MAX ? size * n : 0;
}

/* ---- calls */

static void call_free(struct call *call)
{
    struct courier *courier = call->courier;

    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        courier->calls = call->next;
    if (call->next != NULL)
        call->next->previous = call->previous;
    courier->calls_n--;
    if (call->easy != NULL) {
        curl_multi_remove_handle(courier->multi, call->easy);
        curl_easy_cleanup(call->easy);
    }
    curl_free(call->host);
    curl_url_cleanup(call->url);
    curl_slist_free_all(call->headers);
    buf_free(&call->body);
    free(call);
}

__attribute__((format(printf, 3, 4))) static void
call_end(struct call *call, enum wake_outcome outcome, const char *format, ...)
{
    struct courier *courier = call->courier;
    struct wake_order *order = call->order;
    unsigned shard = order->shard;
    va_list arguments;

    order->outcome = outcome;
    va_start(arguments, format);
    vsnprintf(order->why, sizeof(order->why), format, arguments);
    va_end(arguments);
    call_free(call);
    wake_rings_return(courier->rings, order);
    courier->start.nudge(courier->start.ctx, shard);
}

static void set_options(struct call *call)
{
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_CURLU, call->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* A resolver that hangs must not hold up the other calls when this one is given up. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)COURIER_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)COURIER_CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_hear);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_hear);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "atoll/" ATOLL_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body.p);
}

static bool take_url(struct call *call)
{
    char *text = strndup(call->order->url.p, call->order->url.n);
    call->url = curl_url();
    assert(text != NULL && call->url != NULL);
    bool good = curl_url_set(call->url, CURLUPART_URL, text, CURLU_DISALLOW_USER) == CURLUE_OK &&
                curl_url_get(call->url, CURLUPART_HOST, &call->host, 0) == CURLUE_OK;
    free(text);
    return good;
}

static void call_begin(struct courier *courier, struct wake_order *order)
{
    struct call *call = mem_alloc(sizeof(*call));
    *call = (struct call){.courier = courier, .order = order, .next = courier->calls};
    if (call->next != NULL)
        call->next->previous = call;
    courier->calls = call;
    courier->calls_n++;

    order->status = STATUS_NONE;
    write_body(order, &call->body);
    if (!take_url(call)) {
        call_end(call, WAKE_REFUSED, "Its URL cannot be read.");
        return;
    }
    if (!write_headers(call)) {
        call_end(call, WAKE_REFUSED,
                 "Its secret was sealed for another session or data directory: set it anew.");
        return;
    }
    call->easy = curl_easy_init();
    assert(call->easy != NULL);
    set_options(call);
    curl_multi_add_handle(courier->multi, call->easy);
}

/* Whether the URL has the address in it. If not, it is for our resolver alone to know: whoever sets
 * targets is not to learn internal addresses by asking for names. */
static bool names_itself(struct str url, const char *address)
{
    return memmem(url.p, url.n, address, strlen(address)) != NULL;
}

static void call_finish(struct call *call, CURLcode code)
{
    long status = STATUS_NONE;
    curl_off_t sent_us = 0;

    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(call->easy, CURLINFO_PRETRANSFER_TIME_T, &sent_us);
    call->order->status = (int)status;
    if (status >= 200 && status < 300)
        call_end(call, WAKE_DELIVERED, "%s", "");
    else if (status >= 300 && status < 400)
        call_end(call, WAKE_FAILED, "It answered %ld, and redirects are not followed.", status);
    else if (status >= 400)
        call_end(call, WAKE_FAILED, "It answered %ld.", status);
    else if (!call->opened && call->refused[0] != '\0')
        call_end(call, WAKE_REFUSED,
                 "The address %s is not public, and no --allow-wake-to names it.",
                 names_itself(call->order->url, call->refused) ? call->refused : "of its host");
    else if (code == CURLE_OPERATION_TIMEDOUT)
        call_end(call, WAKE_FAILED,
                 sent_us != 0 ? "It did not answer within %d s." : "No connection within %d s.",
                 (sent_us != 0 ? COURIER_TIMEOUT_MS : COURIER_CONNECT_MS) / 1000);
    else /* curl's own words for a code name neither host nor URL */
        call_end(call, WAKE_FAILED, "It cannot be called: %s.", curl_easy_strerror(code));
}

/* ---- the thread */

static void take_orders(struct courier *courier)
{
    while (courier->calls_n < COURIER_CALLS_MAX) {
        struct wake_order *order = wake_rings_take(courier->rings);
        if (order == NULL)
            return;
        call_begin(courier, order);
    }
}

static void finish_calls(struct courier *courier)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(courier->multi, &left)) != NULL) {
        struct call *call = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result; /* gone with the handle */
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        call_finish(call, code);
    }
}

/* Orders are looked for before each wait, which a wake-up that came since then ends at once, and so
 * does a new call. */
static void *run(void *p)
{
    struct courier *courier = p;
    int running;

    while (!atomic_load(&courier->stop)) {
        curl_multi_perform(courier->multi, &running);
        finish_calls(courier);
        take_orders(courier);
        curl_multi_poll(courier->multi, NULL, 0, POLL_MS, NULL);
    }
    while (courier->calls != NULL) {
        struct wake_order *order = courier->calls->order;
        call_free(courier->calls);
        wake_order_free(order);
    }
    return NULL;
}

static bool post(void *ctx, struct wake_order *order)
{
    struct courier *courier = ctx;
    if (!wake_rings_post(courier->rings, order))
        return false;
    curl_multi_wakeup(courier->multi);
    return true;
}

static struct wake_order *done(void *ctx, unsigned shard)
{
    struct courier *courier = ctx;
    return wake_rings_done(courier->rings, shard);
}

void courier_make_key(const struct cluster *cluster, struct seal_key *key)
{
    uint8_t secret[CLUSTER_KEY_BYTES];
    _Static_assert(sizeof(secret) == SEAL_KEY_BYTES, "one makes the other");

    cluster_derive_key(cluster, "secrets of wake targets", secret);
    seal_key_init(key, secret);
    OPENSSL_cleanse(secret, sizeof(secret));
}

struct courier *courier_new(unsigned shards, const struct config_list *allowed)
{
    struct courier *courier = mem_alloc(sizeof(*courier));

    memset(courier, 0, sizeof(*courier));
    curl_global_init(CURL_GLOBAL_DEFAULT);
    courier->wake = (struct wake_courier){.ctx = courier, .post = post, .done = done};
    courier->rings = wake_rings_new(shards);
    courier_rules_make(&courier->rules, allowed);
    courier->multi = curl_multi_init();
    assert(courier->multi != NULL);
    curl_multi_setopt(courier->multi, CURLMOPT_MAXCONNECTS, (long)COURIER_CALLS_MAX);
    return courier;
}

const struct wake_courier *courier_wake(const struct courier *courier)
{
    return &courier->wake;
}

void courier_start(struct courier *courier, const struct courier_start *start)
{
    courier->start = *start;
    int failed = pthread_create(&courier->thread, NULL, run, courier);
    assert(failed == 0);
    courier->started = true;
}

void courier_stop(struct courier *courier)
{
    if (!courier->started)
        return;
    atomic_store(&courier->stop, true);
    curl_multi_wakeup(courier->multi);
    pthread_join(courier->thread, NULL);
    courier->started = false;
}

void courier_free(struct courier *courier)
{
    assert(!courier->started);
    curl_multi_cleanup(courier->multi);
    wake_rings_free(courier->rings);
    OPENSSL_cleanse(&courier->start.seal, sizeof(courier->start.seal));
    free(courier);
    curl_global_cleanup();
}
