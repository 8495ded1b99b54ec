#include "samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t samples_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void samples_add(struct samples *samples, uint64_t ns)
{
    if (samples->n == samples->room) {
        samples->room = samples->room != 0 ? 2 * samples->room : 65536;
        samples->ns = realloc(samples->ns, samples->room * sizeof(samples->ns[0]));
        if (samples->ns == NULL) {
            fprintf(stderr, "out of memory\n");
            exit(1);
        }
    }
    samples->ns[samples->n++] = ns;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const struct samples *samples, double percent)
{
    size_t at = (size_t)((double)samples->n * percent / 100);
    return (double)samples->ns[at < samples->n ? at : samples->n - 1] / 1e3;
}

void samples_print(struct samples *samples, const char *name)
{
    printf(" %s_n=%zu", name, samples->n);
    if (samples->n == 0)
        return;
    qsort(samples->ns, samples->n, sizeof(samples->ns[0]), by_time);
    printf(" %s_p50_us=%.1f %s_p99_us=%.1f %s_max_us=%.1f", name, percentile_us(samples, 50), name,
           percentile_us(samples, 99), name, percentile_us(samples, 100));
}

void samples_free(struct samples *samples)
{
    free(samples->ns);
    *samples = (struct samples){0};
}

double samples_cpu_s(uint64_t pid)
{
    char path[64], text[1024];
    unsigned long long user = 0, system = 0;

    snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
    FILE *file = pid != 0 ? fopen(path, "r") : NULL;
    if (file == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    if (p == NULL || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                            &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}
