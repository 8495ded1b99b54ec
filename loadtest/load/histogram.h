/*
 * histogram: how often which time was seen, in a fixed space and with a fixed relative error.
 *
 * Log-linear, as HdrHistogram does it (Gil Tene, http://hdrhistogram.org): values below 2^8 ns have
 * a bucket each, and every power of two above is cut into 2^7 equal buckets, so a percentile is
 * at most 1/128 too high and never too low. Up to about 18 minutes; what is longer counts as that
 * (`max` is exact).
 *
 * Thread: anyone's; a histogram belongs to one. Zero-initialise to make one.
 */
#ifndef ATOLL_LOAD_HISTOGRAM_H
#define ATOLL_LOAD_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 4352 };

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t n, max_ns;
    double sum_ns;
};

void histogram_add(struct histogram *histogram, uint64_t ns);
/* Adds all of `from`. */
void histogram_merge(struct histogram *histogram, const struct histogram *from);
/* The least time that `share` (0 to 1) of all do not exceed, as its bucket's highest value, never
 * above the longest seen; 0 where none was. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);
double histogram_mean_ns(const struct histogram *histogram);
/* The bounds of a bucket that hold something, for drawing: calls `each` in ascending order. */
void histogram_each(const struct histogram *histogram,
                    void (*each)(void *context, uint64_t low_ns, uint64_t high_ns, uint64_t n),
                    void *context);

#endif
