/*
 * Export and import: a session as lines, and a session made of them, by requests.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

#include <openssl/evp.h>

enum { LINES_MAX = 4000 };

static int open_two(void **state)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 2);
    stage->settings.idle_passivate_ms = 1000;
    stage->settings.compact_after_ms = 1000;
    stage_start(stage);
    *state = stage;
    return 0;
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

struct file {
    char *head;
    char *lines[LINES_MAX]; /* by seq - 1 */
    unsigned n;
};

static char *copy_line(const char *at, const char *end)
{
    char *line = strndup(at, (size_t)(end - at));
    assert_non_null(line);
    return line;
}

static void file_export(struct stage *stage, struct file *file, const char *session)
{
    *file = (struct file){0};
    uint64_t end = 0;
    char epoch[CORE_EPOCH_BYTES + 1] = "";
    for (bool more = true; more;) {
        struct request *request = request_for(REQUEST_EXPORT, session);
        request->after = file->n;
        if (file->n != 0)
            request->at = (struct request_at){
                .epoch = request_text(request, epoch), .seq = end, .given = true};
        stage_ask_well(stage, request);
        if (file->n == 0) {
            end = request->seq;
            snprintf(epoch, sizeof(epoch), "%s", request->epoch);
        }
        const char *at = stage_text(request);
        for (const char *line_end; (line_end = strchr(at, '\n')) != NULL; at = line_end + 1) {
            char *line = copy_line(at, line_end);
            if (file->head == NULL)
                file->head = line;
            else
                file->lines[file->n++] = line;
        }
        assert_int_equal(request->upto, file->n);
        more = request->more;
        request_free(request);
    }
    assert_int_equal(file->n, end);
}

static void file_free(struct file *file)
{
    free(file->head);
    for (unsigned i = 0; i < file->n; i++)
        free(file->lines[i]);
}

static struct str part_of(struct request *request, const char *line, const char *from,
                          const char *to)
{
    const char *begin = strstr(line, from) + strlen(from);
    const char *end = strstr(begin, to);
    assert_non_null(end);
    return arena_copy(&request->arena, (struct str){begin, (size_t)(end - begin)});
}

/* As the face does it: decoded, and otherwise as it stands in the file. */
static void add_import(struct request *request, struct request_import *item, const char *line,
                       uint64_t number)
{
    item->line = number;
    item->json = part_of(request, line, "\"event\":", ",\"bytes\":\"");
    struct str text = part_of(request, line, ",\"bytes\":\"", "\"");
    struct str chain = part_of(request, line, ",\"chain\":\"", "\"");
    char *bytes = arena_alloc(&request->arena, text.n + 1);
    int n = EVP_DecodeBlock((unsigned char *)bytes, (const unsigned char *)text.p, (int)text.n);
    assert_true(n > 0);
    while (text.n != 0 && text.p[--text.n] == '=')
        n--;
    item->bytes = (struct str){bytes, (size_t)n};
    assert_int_equal(chain.n, 2 * sizeof(item->chain.bytes));
    for (size_t i = 0; i < sizeof(item->chain.bytes); i++) {
        unsigned value;
        assert_int_equal(sscanf(chain.p + 2 * i, "%2x", &value), 1);
        item->chain.bytes[i] = (uint8_t)value;
    }
}

static struct request *import_request(const struct file *file, const char *session, unsigned after,
                                      unsigned n, bool more)
{
    struct request *request = request_for(REQUEST_IMPORT, session);
    request->after = after;
    request->imports_n = n;
    request->imports =
        arena_alloc(&request->arena, (n + 1) * sizeof(*request->imports)); /* + a copy */
    for (unsigned i = 0; i < n; i++)
        add_import(request, &request->imports[i], file->lines[after + i], after + i + 2);
    request->import_more = more;
    return request;
}

static void file_import(struct stage *stage, const struct file *file, const char *session,
                        unsigned page)
{
    for (unsigned after = 0; after < file->n; after += page) {
        unsigned n = file->n - after < page ? file->n - after : page;
        struct request *request = import_request(file, session, after, n, after + n < file->n);
        stage_ask_well(stage, request);
        assert_int_equal(request->seq, after + n);
        request_free(request);
    }
}

static void expect_same_file(const struct file *a, const struct file *b)
{
    assert_int_equal(a->n, b->n);
    for (unsigned i = 0; i < a->n; i++)
        assert_string_equal(a->lines[i], b->lines[i]);
    json_t *heads[2] = {json_of(a->head), json_of(b->head)};
    static const char *const same[] = {"session", "seq", "chain"};
    for (int i = 0; i < 3; i++)
        assert_true(
            json_equal(json_object_get(heads[0], same[i]), json_object_get(heads[1], same[i])));
    json_decref(heads[0]);
    json_decref(heads[1]);
}

static void make_session(struct stage *stage)
{
    stage_populate(stage, "s1");
    stage_talk(stage, "s1", 150, 60);
    stage_do(stage, "s1", "session.update labels=a:b");
    stage_do(stage, "s1", "agent.update agent=ada status=working note=import-marker");
}

static void what_was_exported_can_be_imported_with_its_hash(void **state)
{
    struct stage *stage = *state;
    struct file file, again;
    make_session(stage);
    file_export(stage, &file, "s1");
    for (unsigned page = 1; page < 400; page = page * 6 + 1) {
        stage_delete(stage, "s1");
        file_import(stage, &file, "s1", page);
        file_export(stage, &again, "s1");
        expect_same_file(&file, &again);
        file_free(&again);
        stage_expect_whole(stage, "s1", 10);
        stage_passivate(stage);
        stage_expect_whole(stage, "s1", 5);
        stage_restart(stage, 3 - stage->n, STAGE_KILL);
        stage_expect_whole(stage, "s1", 5);
        assert_int_equal(stage_do(stage, "s1", "agent.register agent=zoe"), file.n + 1);
    }
    file_free(&file);
}

static void a_fork_is_exported_and_imported_with_all_its_history(void **state)
{
    struct stage *stage = *state;
    struct file file, again;
    make_session(stage);
    stage_fork(stage, "s1", 100, "f1");
    stage_talk(stage, "f1", 30, 60);
    file_export(stage, &file, "f1");
    assert_int_equal(file.n, 131);
    stage_delete(stage, "f1");
    stage_delete(stage, "s1");
    stage_settle(stage);
    assert_int_equal(stage_figure(stage, "pins"), 0);
    file_import(stage, &file, "f1", 50);
    file_export(stage, &again, "f1");
    expect_same_file(&file, &again);
    stage_restart(stage, 3, STAGE_KILL);
    stage_expect_whole(stage, "f1", 10);
    assert_int_equal(stage_figure(stage, "forks"), 0); /* it has its history itself */
    assert_int_equal(stage_figure(stage, "pins"), 0);
    file_free(&file);
    file_free(&again);
}

/* Refused, naming the line; and nothing of it is there. */
static void expect_refused_at(struct stage *stage, struct request *request, unsigned line)
{
    char expected[32];
    snprintf(expected, sizeof(expected), "line %u:", line);
    stage_ask(stage, request);
    assert_int_equal(request->error, CORE_E_MALFORMED);
    if (strstr(request->refusal.detail, expected) == NULL)
        fail_msg("\"%s\" does not name %s", request->refusal.detail, expected);
    request_free(request);
    assert_null(stage_view(stage, "s1"));
    assert_int_equal(stage_figure(stage, "sessions"), 0);
}

static void a_changed_file_is_refused_by_its_line(void **state)
{
    struct stage *stage = *state;
    struct file file;
    make_session(stage);
    file_export(stage, &file, "s1");
    stage_delete(stage, "s1");
    for (unsigned at = 0; at < file.n; at += 29) {
        for (int what = 0; what < 5; what++) {
            struct request *request = import_request(&file, "s1", 0, file.n, false);
            struct request_import *item = &request->imports[at];
            unsigned line = at + 2;
            if (what == 0) { /* what it says to readers */
                ((char *)(uintptr_t)item->json.p)[item->json.n / 2] ^= 1;
            } else if (what == 1) { /* what is stored */
                ((char *)(uintptr_t)item->bytes.p)[item->bytes.n - 1] ^= 1;
            } else if (what == 2) {
                item->chain.bytes[3] ^= 1;
            } else if (what == 3) { /* a line is missing */
                if (at + 1 == file.n) {
                    request_free(request);
                    continue;
                }
                memmove(item, item + 1, (file.n - at - 1) * sizeof(*item));
                request->imports_n--;
                line++;
            } else { /* there twice */
                request->imports_n = at + 2;
                item[1] = item[0];
            }
            expect_refused_at(stage, request, line);
        }
    }
    /* On a later page: what the pages before it have written is ended with it. */
    request_free(stage_ask_well(stage, import_request(&file, "s1", 0, 100, true)));
    struct request *later = import_request(&file, "s1", 100, 40, true);
    later->imports[7].chain.bytes[0] ^= 1;
    expect_refused_at(stage, later, 109);
    file_import(stage, &file, "s1", 100);
    stage_expect_whole(stage, "s1", 5);
    file_free(&file);
}

/* Its lines can be had, by those who may; but nobody brings one in. */
static void a_companion_is_not_imported(void **state)
{
    struct stage *stage = *state;
    struct file file;
    stage_do(stage, "~c1", "session.create");
    stage_do(stage, "~c1", "session.update labels=a:b");
    file_export(stage, &file, "~c1");
    stage_expect_refused(stage, import_request(&file, "s1", 0, file.n, false), CORE_E_MALFORMED);
    stage_delete(stage, "~c1");
    stage_expect_refused(stage, import_request(&file, "~c1", 0, file.n, false), CORE_E_MALFORMED);
    assert_int_equal(stage_figure(stage, "sessions") + stage_figure(stage, "companions"), 0);
    file_free(&file);
}

static void a_file_of_another_session_is_refused(void **state)
{
    struct stage *stage = *state;
    struct file file;
    make_session(stage);
    file_export(stage, &file, "s1");
    stage_expect_refused(stage, import_request(&file, "s2", 0, file.n, false), CORE_E_MALFORMED);
    assert_null(stage_view(stage, "s2"));
    stage_expect_refused(stage, import_request(&file, "s1", 0, file.n, false), CORE_E_REFUSED);
    stage_expect_refused(stage, import_request(&file, "s1", 3, 5, false), CORE_E_REFUSED);
    stage_expect_refused(stage, import_request(&file, "s2", 3, 5, false), CORE_E_UNKNOWN_SESSION);
    stage_expect_refused(stage, import_request(&file, "s2", 0, 0, false), CORE_E_MALFORMED);
    stage_expect_whole(stage, "s1", 5);
    assert_int_equal(stage_figure(stage, "sessions"), 1);
    file_free(&file);
}

/* Until its last page nobody sees it. */
static void an_unfinished_import_is_not_there(void **state)
{
    struct stage *stage = *state;
    struct file file;
    make_session(stage);
    file_export(stage, &file, "s1");
    stage_delete(stage, "s1");
    stage_settle(stage);
    assert_true(stage_finds(stage, "import-marker"));
    static const enum stage_end ends[] = {STAGE_KILL, STAGE_CLEAN, STAGE_CRASH};
    for (int i = 0; i < 3; i++) {
        request_free(stage_ask_well(stage, import_request(&file, "s1", 0, 100, true)));
        assert_null(stage_view(stage, "s1"));
        stage_expect_refused(stage, stage_command("s1", "agent.register agent=x"),
                             CORE_E_UNKNOWN_SESSION);
        stage_expect_refused(stage, stage_fork_request("s1", 3, "f1"), CORE_E_UNKNOWN_SESSION);
        for (unsigned shard = 0; shard < stage->n; shard++) {
            struct request *list = request_for(REQUEST_LIST, NULL);
            list->shard = (uint16_t)shard;
            list->limit = 10;
            stage_ask_well(stage, list);
            assert_int_equal(list->count, 0);
            request_free(list);
        }
        stage_restart(stage, i == 1 ? 3 - stage->n : stage->n, ends[i]);
        assert_null(stage_view(stage, "s1"));
        assert_int_equal(stage_figure(stage, "sessions"), 0);
        stage_expect_refused(stage, import_request(&file, "s1", 100, 10, false),
                             CORE_E_UNKNOWN_SESSION);
    }
    file_import(stage, &file, "s1", 100);
    stage_expect_whole(stage, "s1", 5);
    stage_delete(stage, "s1");
    for (int i = 0; i < 5; i++)
        stage_pass(stage, 11 * 1000);
    assert_int_equal(stage_figure(stage, "deleted_waiting"), 0);
    assert_false(stage_finds(stage, "import-marker"));
    file_free(&file);
}

static void an_import_whose_next_page_never_comes_is_given_up(void **state)
{
    struct stage *stage = *state;
    struct file file;
    make_session(stage);
    file_export(stage, &file, "s1");
    stage_delete(stage, "s1");
    request_free(stage_ask_well(stage, import_request(&file, "s1", 0, 100, true)));
    stage_pass(stage, 500);
    request_free(stage_ask_well(stage, import_request(&file, "s1", 100, 10, true)));
    stage_pass(stage, 1000);
    stage_pass(stage, 1000);
    assert_int_equal(stage_figure(stage, "sessions"), 0);
    assert_int_equal(stage_figure(stage, "active"), 0);
    stage_expect_refused(stage, import_request(&file, "s1", 110, 10, true), CORE_E_UNKNOWN_SESSION);
    /* Begun again in the midst of another: that one is over. */
    request_free(stage_ask_well(stage, import_request(&file, "s1", 0, 100, true)));
    file_import(stage, &file, "s1", 60);
    stage_expect_whole(stage, "s1", 5);
    file_free(&file);
}

/* What comes while it is exported is not in it, and a page of another life is none. */
static void an_export_ends_where_it_began(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    stage_talk(stage, "s1", 60, 10000);
    struct request *first = stage_ask_well(stage, request_for(REQUEST_EXPORT, "s1"));
    assert_true(first->more);
    stage_do(stage, "s1", "agent.register agent=late");
    uint64_t after = first->upto, end = first->seq;
    for (bool more = true; more;) {
        struct request *request = request_for(REQUEST_EXPORT, "s1");
        request->after = after;
        request->at = (struct request_at){
            .epoch = request_text(request, first->epoch), .seq = end, .given = true};
        stage_ask_well(stage, request);
        assert_null(strstr(stage_text(request), "\"late\""));
        after = request->upto;
        more = request->more;
        request_free(request);
    }
    assert_int_equal(after, end);
    stage_delete(stage, "s1");
    stage_populate(stage, "s1");
    struct request *other = request_for(REQUEST_EXPORT, "s1");
    other->after = 2;
    other->at =
        (struct request_at){.epoch = request_text(other, first->epoch), .seq = 4, .given = true};
    stage_expect_refused(stage, other, REQUEST_E_GONE);
    request_free(first);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_two, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_exported_can_be_imported_with_its_hash),
        TEST(a_fork_is_exported_and_imported_with_all_its_history),
        TEST(a_changed_file_is_refused_by_its_line),
        TEST(a_companion_is_not_imported),
        TEST(a_file_of_another_session_is_refused),
        TEST(an_unfinished_import_is_not_there),
        TEST(an_import_whose_next_page_never_comes_is_given_up),
        TEST(an_export_ends_where_it_began),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
