/*
 * disk: how fast this file system makes one small write durable, the yardstick for latency.
 *
 *   disk FILE [--seconds N] [--bytes N] [--direct] [--json FILE]
 *
 * FILE gets the form of a segment of Atoll's log: 64 MiB, allocated, written with zeros and synced,
 * so that a later write only replaces what is there and the file never grows. Then one write of
 * --bytes (default 256, about what one message of 130 bytes takes there) follows the other, each
 * with an fdatasync of its own, and from the end on again from the beginning.
 *
 * With --direct it goes past the page cache (O_DIRECT), as Atoll's log does where the file system
 * can: each write is of the whole blocks of 4 KiB that its bytes are in, and is synced when it
 * answers (RWF_DSYNC), so that there is one system call instead of two.
 *
 * Normal path: runs for --seconds (default 3) and tells how long it took until a write was durable.
 * A failed write or sync ends it with status 1 and the reason, also where the file system knows no
 * direct writes; FILE is left for the caller. Wrong options: status 2.
 *
 * Thread: one.
 */
#include "process.h"
#include "report.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SEGMENT_BYTES = 64 << 20,
    ZEROS_BYTES = 1 << 20,
    WRITE_MAX_BYTES = 1 << 20,
    BLOCK_BYTES = 4096, /* of a direct write, its memory and its place */
};

struct disk {
    const char *path, *json;
    double seconds;
    size_t bytes;
    bool direct;
};

static void fail(const char *what)
{
    fprintf(stderr, "disk: ");
    perror(what);
    exit(1);
}

static void write_at(int fd, char *data, size_t size, off_t at, int flags)
{
    struct iovec piece = {.iov_base = data, .iov_len = size};

    if (pwritev2(fd, &piece, 1, at, flags) != (ssize_t)size)
        fail("write");
}

static int make_segment(const struct disk *disk)
{
    static char zeros[ZEROS_BYTES] __attribute__((aligned(BLOCK_BYTES)));
    int direct = disk->direct ? O_DIRECT : 0;
    int fd = open(disk->path, O_CREAT | O_WRONLY | O_CLOEXEC | direct, 0600);

    if (fd < 0)
        fail(disk->path);
    (void)fallocate(fd, 0, 0, SEGMENT_BYTES); /* as one piece, where the file system can */
    for (off_t at = 0; at < SEGMENT_BYTES; at += ZEROS_BYTES)
        write_at(fd, zeros, ZEROS_BYTES, at, 0);
    if (fsync(fd) != 0)
        fail("fsync");
    return fd;
}

/* One write, durable afterwards. What else is in the blocks of a direct one is replaced too. */
static void append(const struct disk *disk, int fd, char *data, off_t at)
{
    if (disk->direct) {
        off_t lead = at % BLOCK_BYTES;
        size_t blocks = ((size_t)lead + disk->bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
        write_at(fd, data, blocks * BLOCK_BYTES, at - lead, RWF_DSYNC);
        return;
    }
    write_at(fd, data, disk->bytes, at, 0);
    if (fdatasync(fd) != 0)
        fail("fdatasync");
}

static double append_on(const struct disk *disk, int fd, struct histogram *took)
{
    static char data[WRITE_MAX_BYTES + BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
    uint64_t began_ns = process_now_ns(), now_ns = began_ns;
    uint64_t end_ns = began_ns + (uint64_t)(disk->seconds * 1e9);
    off_t at = 0;

    while (now_ns < end_ns) {
        uint64_t start_ns = now_ns;
        memset(data, (int)(took->n % 255 + 1), disk->bytes);
        append(disk, fd, data, at);
        now_ns = process_now_ns();
        histogram_add(took, now_ns - start_ns);
        at += (off_t)disk->bytes;
        if (at + (off_t)disk->bytes > SEGMENT_BYTES)
            at = 0;
    }
    return (double)(now_ns - began_ns) / 1e9;
}

static void usage(void)
{
    fprintf(stderr,
            "usage: disk FILE [--seconds 0.1…3600] [--bytes 1…%d] [--direct] [--json FILE]\n",
            WRITE_MAX_BYTES);
    exit(2);
}

static void parse_options(struct disk *disk, int argc, char **argv)
{
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
                                            {"bytes", required_argument, NULL, 'b'},
                                            {"direct", no_argument, NULL, 'd'},
                                            {"json", required_argument, NULL, 'j'},
                                            {0}};
    int option;
    char *end = "";

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            disk->seconds = strtod(optarg, &end);
        else if (option == 'b')
            disk->bytes = strtoul(optarg, &end, 10);
        else if (option == 'd')
            disk->direct = true;
        else if (option == 'j')
            disk->json = optarg;
        else
            usage();
        if (*end != '\0')
            usage();
    }
    if (optind + 1 != argc || !(disk->seconds >= 0.1 && disk->seconds <= 3600) || disk->bytes < 1 ||
        disk->bytes > WRITE_MAX_BYTES)
        usage();
    disk->path = argv[optind];
}

int main(int argc, char **argv)
{
    static struct histogram took;
    struct disk disk = {.seconds = 3, .bytes = 256};

    parse_options(&disk, argc, argv);
    int fd = make_segment(&disk);
    struct process_usage before = process_usage(0);
    double seconds = append_on(&disk, fd, &took);
    struct process_usage after = process_usage(0);
    double cpu_s = after.user_s + after.system_s - before.user_s - before.system_s;

    close(fd);
    struct report *report = report_new("disk", "file", true);
    report_option(report, "bytes", "%zu", disk.bytes);
    report_option(report, "direct", "%s", disk.direct ? "yes" : "no");
    report_option(report, "seconds", "%g", disk.seconds);
    report_figure(report, "operations", (double)took.n, "writes, each synced by itself");
    report_figure(report, "per_s", (double)took.n / seconds, "of them a second");
    report_figure(report, "seconds", seconds, "measured");
    report_figure(report, "load_cpu_percent", cpu_s / seconds * 100, "of a core, this process");
    report_latency(report, "answer", &took, "from the write until it is durable");
    return report_finish(report, disk.json, NULL);
}
