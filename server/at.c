/*
 * at: reading "42", "k3x9-42" and "2025-03-01T09:30:00.250+01:00". The three cannot be mixed up:
 * only a time has a colon, only a seq has nothing but digits.
 *
 * A time may have any number of decimals, a lower-case t or z, and a leap second, which counts as
 * the second behind it. Where an offset has a blank for its sign it was a + that the query turned
 * into one.
 */
#include "server/at.h"

#include "server/router.h"

enum { DATE_AND_TIME = 19 /* bytes of 2025-03-01T09:30:00 */ };

/* The number of `n` digits at `p`, or -1. */
static int digits(const char *p, unsigned n)
{
    int value = 0;
    for (unsigned i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value;
}

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* Days from 1970-01-01: years begin in March here, so that a leap day is the last of its year. */
static int64_t days_since_epoch(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* YYYY-MM-DDTHH:MM:SS, in seconds since 1970. */
static bool read_seconds(const char *p, int64_t *seconds)
{
    int year = digits(p, 4), month = digits(p + 5, 2), day = digits(p + 8, 2);
    int hour = digits(p + 11, 2), minute = digits(p + 14, 2), second = digits(p + 17, 2);

    if (p[4] != '-' || p[7] != '-' || (p[10] | 0x20) != 't' || p[13] != ':' || p[16] != ':')
        return false;
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > days_of(year, month))
        return false;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    *seconds = days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return true;
}

/* What stands behind the seconds: .250, or nothing. Returns where it ends, NULL: not well formed.
 */
static const char *read_fraction(const char *p, const char *end, int64_t *ms, bool *behind)
{
    unsigned n = 0;

    *ms = 0;
    *behind = false;
    if (p == end || *p != '.')
        return p;
    for (p++; p != end && *p >= '0' && *p <= '9'; p++, n++) {
        if (n < 3)
            *ms = *ms * 10 + (*p - '0');
        else
            *behind |= *p != '0';
    }
    for (unsigned i = n; i < 3; i++)
        *ms *= 10;
    return n != 0 ? p : NULL;
}

/* Z or ±HH:MM, all that is left. */
static bool read_offset(struct str text, int64_t *seconds)
{
    *seconds = 0;
    if (text.n == 1)
        return (text.p[0] | 0x20) == 'z';
    if (text.n != 6 || text.p[3] != ':')
        return false;
    int hour = digits(text.p + 1, 2), minute = digits(text.p + 4, 2);
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59)
        return false;
    *seconds = hour * 3600 + minute * 60;
    if (text.p[0] == '-')
        *seconds = -*seconds;
    return text.p[0] == '-' || text.p[0] == '+' || text.p[0] == ' ';
}

bool at_read_time(struct str text, int64_t *ts_ms, bool *behind)
{
    int64_t seconds, ms, offset;
    const char *end = text.p + text.n;

    if (text.n <= DATE_AND_TIME || !read_seconds(text.p, &seconds))
        return false;
    const char *zone = read_fraction(text.p + DATE_AND_TIME, end, &ms, behind);
    if (zone == NULL || !read_offset((struct str){zone, (size_t)(end - zone)}, &offset))
        return false;
    *ts_ms = (seconds - offset) * 1000 + ms;
    return true;
}

/* What may stand in an epoch: as much as an ETag takes. */
static bool is_epoch(struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] <= ' ' || (unsigned char)text.p[i] >= 0x7f ||
            text.p[i] == '"' || text.p[i] == ':')
            return false;
    return text.n != 0 && text.n <= CORE_EPOCH_BYTES;
}

static bool read_etag(struct str text, struct request_at *at)
{
    const char *dash = text.n != 0 ? memrchr(text.p, '-', text.n) : NULL;

    if (dash == NULL)
        return false;
    at->epoch = (struct str){text.p, (size_t)(dash - text.p)};
    return is_epoch(at->epoch) &&
           query_number((struct str){dash + 1, text.n - at->epoch.n - 1}, &at->seq);
}

bool at_read(struct str text, struct request_at *at)
{
    bool behind;

    *at = (struct request_at){.given = true};
    if (query_number(text, &at->seq) || read_etag(text, at))
        return true;
    *at = (struct request_at){.given = true, .by_time = true};
    return at_read_time(text, &at->ts_ms, &behind);
}

struct request_at at_copy(struct arena *arena, const struct request_at *at)
{
    struct request_at copy = *at;
    copy.epoch = arena_copy(arena, at->epoch);
    return copy;
}
