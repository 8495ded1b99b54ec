/*
 * problem: the table of the face-only errors, and the whole JSON of a problem. Nothing here can
 * fail.
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

void problem_write(struct buf *out, unsigned error, const struct core_refusal *why,
                   int retry_after_s)
{
    assert(error != CORE_OK);
    json_begin_problem(out, problem_status(error), problem_name(error), problem_title(error), why);
    if (retry_after_s > 0) {
        buf_add_literal(out, ",\"retry_after\":");
        buf_add_i64(out, retry_after_s);
    }
    buf_add_byte(out, '}');
}
