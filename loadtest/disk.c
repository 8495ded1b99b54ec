/*
 * disk: how fast this file system makes one small write durable, the yardstick for latency.
 *
 *   disk FILE [SECONDS]
 *
 * Normal path: fills FILE with 64 MiB of zeros and syncs it, so that every later write goes into
 * written space and the file never grows, then for SECONDS (default 3) writes the next 4 KiB and
 * calls fdatasync, round and round. Prints one line, times in microseconds:
 *   writes=30000 p50_us=87 p99_us=120
 * A failed write or sync ends it with status 1 and the reason; FILE is left for the caller.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_BYTES = 4096, FILE_BLOCKS = 16384, SAMPLES_MAX = 1 << 20 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void write_block(int fd, const char *block, size_t index)
{
    if (pwrite(fd, block, BLOCK_BYTES, (off_t)(index % FILE_BLOCKS) * BLOCK_BYTES) != BLOCK_BYTES)
        fail("disk: write");
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static uint64_t samples_ns[SAMPLES_MAX];
    static char block[BLOCK_BYTES];
    size_t count = 0;
    double seconds = argc == 3 ? strtod(argv[2], NULL) : 3;

    if (argc < 2 || argc > 3 || seconds <= 0) {
        fprintf(stderr, "usage: disk FILE [SECONDS]\n");
        return 2;
    }
    int fd = open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        fail(argv[1]);
    for (size_t i = 0; i < FILE_BLOCKS; i++)
        write_block(fd, block, i);
    if (fsync(fd) != 0)
        fail("disk: fsync");

    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    for (uint64_t start_ns = now_ns(); start_ns < end_ns && count < SAMPLES_MAX; count++) {
        memset(block, (int)(count & 0xff), sizeof(block));
        write_block(fd, block, count);
        if (fdatasync(fd) != 0)
            fail("disk: fdatasync");
        uint64_t done_ns = now_ns();
        samples_ns[count] = done_ns - start_ns;
        start_ns = done_ns;
    }
    qsort(samples_ns, count, sizeof(samples_ns[0]), by_time);
    uint64_t p50_ns = samples_ns[count / 2], p99_ns = samples_ns[count * 99 / 100];
    printf("writes=%zu p50_us=%.0f p99_us=%.0f\n", count, (double)p50_ns / 1e3,
           (double)p99_ns / 1e3);
    close(fd);
    return 0;
}
