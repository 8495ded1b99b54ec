#include "server/etag.h"

#include "server/framing.h"
#include "server/router.h"

struct str etag_write(char out[ETAG_BYTES], struct str epoch, uint64_t seq)
{
    char digits[20];
    size_t n = 0, at = sizeof(digits);

    assert(epoch.n <= CORE_EPOCH_BYTES);
    out[n++] = '"';
    memcpy(out + n, epoch.p, epoch.n);
    n += epoch.n;
    out[n++] = '-';
    do {
        digits[--at] = (char)('0' + seq % 10);
        seq /= 10;
    } while (seq != 0);
    memcpy(out + n, digits + at, sizeof(digits) - at);
    n += sizeof(digits) - at;
    out[n++] = '"';
    return (struct str){out, n};
}

/* Takes "-<view>" (framing.h) off the end; a number there is a seq. */
static struct str without_view(struct str text)
{
    uint64_t number;
    const char *dash = memrchr(text.p, '-', text.n);
    struct str version = STR(FRAMING_VIEW_VERSION);
    if (dash == NULL)
        return text;
    struct str last = {dash + 1, (size_t)(text.p + text.n - dash) - 1};
    bool view = last.n > version.n && memcmp(last.p, version.p, version.n) == 0 &&
                !query_number(last, &number);
    return view ? (struct str){text.p, (size_t)(dash - text.p)} : text;
}

bool etag_read(struct str text, struct str *epoch, uint64_t *seq)
{
    if (text.n < 5 || text.p[0] != '"' || text.p[text.n - 1] != '"')
        return false;
    text = without_view((struct str){text.p + 1, text.n - 2});
    const char *dash = memrchr(text.p, '-', text.n);
    if (dash == NULL || dash == text.p || dash - text.p > CORE_EPOCH_BYTES)
        return false;
    *epoch = (struct str){text.p, (size_t)(dash - text.p)};
    for (size_t i = 0; i < epoch->n; i++)
        if ((unsigned char)epoch->p[i] <= ' ' || epoch->p[i] >= 0x7f || epoch->p[i] == '"')
            return false;
    return query_number((struct str){dash + 1, text.n - epoch->n - 1}, seq);
}

bool etag_listed(struct str list, struct str etag)
{
    while (list.n != 0) {
        const char *comma = memchr(list.p, ',', list.n);
        struct str item = {list.p, comma != NULL ? (size_t)(comma - list.p) : list.n};
        size_t used = item.n + (comma != NULL);

        list = (struct str){list.p + used, list.n - used};
        while (item.n != 0 && (item.p[0] == ' ' || item.p[0] == '\t'))
            item = (struct str){item.p + 1, item.n - 1};
        while (item.n != 0 && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
            item.n--;
        if (item.n > 2 && item.p[0] == 'W' && item.p[1] == '/')
            item = (struct str){item.p + 2, item.n - 2};
        if (str_equal(item, etag) || str_equal(item, STR("*")))
            return true;
    }
    return false;
}
