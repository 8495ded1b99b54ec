#include "server/patch_text.h"

#include "server/scan.h"

static struct str rest_from(struct str text, size_t at)
{
    assert(at <= text.n);
    return (struct str){text.p + at, text.n - at};
}

bool patch_next_op(struct str *ops, struct op_text *op)
{
    static const struct str begin = {"{\"op\":\"", 7}, path = {"\",\"path\":", 9},
                            value = {",\"value\":", 9};
    struct str at = *ops;
    if (at.n != 0 && at.p[0] == ',')
        at = rest_from(at, 1);
    if (at.n == 0)
        return false;
    op->text.p = at.p;
    at = rest_from(at, begin.n);
    op->op = at.p[0] == 'a' ? 'a' : at.p[2] == 'm' ? 'r' : 'p';
    at = rest_from(at, op->op == 'a' ? 3 : op->op == 'r' ? 6 : 7);
    assert(at.n > path.n && memcmp(at.p, path.p, path.n) == 0);
    at = rest_from(at, path.n);
    struct str quoted = scan_value(at);
    op->path = scan_id(quoted);
    at = rest_from(at, quoted.n);
    op->value = (struct str){0};
    if (at.n != 0 && at.p[0] == ',') {
        at = rest_from(at, value.n);
        op->value = scan_value(at);
        at = rest_from(at, op->value.n);
    }
    assert(at.n != 0 && at.p[0] == '}');
    *ops = rest_from(at, 1);
    op->text.n = (size_t)(ops->p - op->text.p);
    return true;
}

struct patch_text patch_cut(struct str patch)
{
    static const struct str ts = {",\"ts\":", 6}, ops = {",\"ops\":[", 8};
    struct patch_text cut;
    const char *end = patch.p + patch.n - 2; /* of ]} */
    cut.head.p = memchr(patch.p, ',', patch.n);
    assert(cut.head.p != NULL && memcmp(cut.head.p, ts.p, ts.n) == 0);
    const char *time = cut.head.p + ts.n;
    cut.ts = scan_value((struct str){time, (size_t)(end - time)});
    /* Nothing between needs escaping: a type, and an id or null. */
    const char *at = memmem(cut.head.p, (size_t)(end - cut.head.p), ops.p, ops.n);
    assert(at != NULL);
    cut.head.n = (size_t)(at - cut.head.p);
    cut.ops = (struct str){at + ops.n, (size_t)(end - at) - ops.n};
    return cut;
}
