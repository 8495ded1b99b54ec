#include "histogram.h"

enum {
    FLAT_BITS = 8, /* below 2^8 each value has a bucket of its own */
    PART_BITS = 7, /* each power of two above is cut into 2^7 */
    TOP_BIT = 39,  /* of the longest time that has a bucket, 2^40 - 1 ns */
};

_Static_assert(HISTOGRAM_BUCKETS == (1 << FLAT_BITS) + ((TOP_BIT - FLAT_BITS + 1) << PART_BITS),
               "the last bucket ends at 2^(TOP_BIT + 1) - 1");

static unsigned bucket_of(uint64_t ns)
{
    if (ns < 1u << FLAT_BITS)
        return (unsigned)ns;
    unsigned bit = 63 - (unsigned)__builtin_clzll(ns);
    if (bit > TOP_BIT)
        return HISTOGRAM_BUCKETS - 1;
    unsigned part = (unsigned)(ns >> (bit - PART_BITS)) & ((1u << PART_BITS) - 1);
    return (1u << FLAT_BITS) + ((bit - FLAT_BITS) << PART_BITS) + part;
}

static uint64_t lowest_of(unsigned bucket)
{
    if (bucket < 1u << FLAT_BITS)
        return bucket;
    bucket -= 1u << FLAT_BITS;
    unsigned bit = FLAT_BITS + (bucket >> PART_BITS);
    uint64_t part = bucket & ((1u << PART_BITS) - 1);
    return ((UINT64_C(1) << PART_BITS) + part) << (bit - PART_BITS);
}

static uint64_t highest_of(unsigned bucket)
{
    return lowest_of(bucket + 1) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->buckets[bucket_of(ns)]++;
    histogram->n++;
    histogram->sum_ns += (double)ns;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

void histogram_merge(struct histogram *histogram, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        histogram->buckets[i] += from->buckets[i];
    histogram->n += from->n;
    histogram->sum_ns += from->sum_ns;
    if (from->max_ns > histogram->max_ns)
        histogram->max_ns = from->max_ns;
}

uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
    /* How many have to lie at or below it: rounded up, and the first at least. The small step down
     * keeps a product such as 0.99 * 100, which is above 99 in binary, from rounding up to 100. */
    double wanted = share * (double)histogram->n - 1e-6;
    uint64_t seen = 0;

    if (histogram->n == 0)
        return 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        seen += histogram->buckets[i];
        if (seen != 0 && (double)seen >= wanted)
            return highest_of(i) < histogram->max_ns ? highest_of(i) : histogram->max_ns;
    }
    return histogram->max_ns; /* the last bucket has no end */
}

double histogram_mean_ns(const struct histogram *histogram)
{
    return histogram->n != 0 ? histogram->sum_ns / (double)histogram->n : 0;
}

void histogram_each(const struct histogram *histogram,
                    void (*each)(void *context, uint64_t low_ns, uint64_t high_ns, uint64_t n),
                    void *context)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t high = i == HISTOGRAM_BUCKETS - 1 ? histogram->max_ns : highest_of(i);
        if (histogram->buckets[i] != 0)
            each(context, lowest_of(i), high, histogram->buckets[i]);
    }
}
