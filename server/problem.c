/*
 * problem: the table of the face-only errors, and the JSON of a problem, member by member in the
 * order of RFC 9457. Nothing here can fail.
 */
#include "server/problem.h"

struct problem_row {
    int status;
    const char *name;
    const char *title;
};

static const struct problem_row *problem_row(unsigned error)
{
    static const struct problem_row rows[] = {
#define X(code, status, name, title) {status, name, title},
        PROBLEM_ERRORS(X)
#undef X
    };
    assert(error > PROBLEM_E_FIRST && error < PROBLEM_ERROR_COUNT);
    return &rows[error - PROBLEM_E_FIRST - 1];
}

int problem_status(unsigned error)
{
    return error <= PROBLEM_E_FIRST ? request_error_status(error) : problem_row(error)->status;
}

const char *problem_name(unsigned error)
{
    return error <= PROBLEM_E_FIRST ? request_error_name(error) : problem_row(error)->name;
}

const char *problem_title(unsigned error)
{
    return error <= PROBLEM_E_FIRST ? request_error_title(error) : problem_row(error)->title;
}

static void add_text(struct buf *out, const char *text)
{
    json_add_string(out, (struct str){text, strlen(text)});
}

static void add_refusal(struct buf *out, const struct core_refusal *why, int status)
{
    if (why->detail[0] != '\0') {
        buf_add_literal(out, ",\"detail\":");
        add_text(out, why->detail);
    }
    if (why->field != NULL) {
        buf_add_literal(out, ",\"field\":");
        add_text(out, why->field);
    }
    if ((status == 409 || status == 412) && why->seq != 0) {
        buf_add_literal(out, ",\"seq\":");
        buf_add_u64(out, why->seq);
    }
}

void problem_write(struct buf *out, unsigned error, const struct core_refusal *why,
                   int retry_after_s)
{
    const char *name = problem_name(error);
    int status = problem_status(error);
    assert(error != CORE_OK);
    buf_add_literal(out, "{\"type\":\"/problems/");
    buf_add(out, name, strlen(name));
    buf_add_literal(out, "\",\"title\":");
    add_text(out, problem_title(error));
    buf_add_literal(out, ",\"status\":");
    buf_add_i64(out, status);
    if (why != NULL)
        add_refusal(out, why, status);
    if (retry_after_s > 0) {
        buf_add_literal(out, ",\"retry_after\":");
        buf_add_i64(out, retry_after_s);
    }
    buf_add_byte(out, '}');
}
