/*
 * sim: the simulator's command line.
 *
 *     atoll_sim --seed N                one run, exactly as it always is
 *     atoll_sim --seeds FIRST:COUNT     so many, from FIRST on
 *     atoll_sim --fresh COUNT           so many, from a seed made of the clock
 *     … --bug NAME                      with one bug planted (names: --bugs)
 *     … -v                              says what happens
 *     … -j N                            processes side by side (default: 2)
 *     … -f N                            ends after N failures (default: 10)
 *
 * Each seed runs in a process of its own, so that an assert, a sanitizer or an endless loop is only
 * that seed's, and memory needs no tidying after a simulated crash. A failing seed is told with
 * what was violated and the command that repeats it; then the exit status is 1.
 */
#include "tests/sim/sim.h"
#include "shards/sim_bug.h"
#include "tests/sim/run.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_MAX = 64, FAILURES = 10, PATIENCE_S = 60 };

bool sim_verbose;

/* Shared by all processes. */
struct totals {
    struct run_figures figures;
    uint64_t seeds, failures;
};

struct options {
    uint64_t first, count;
    uint64_t failures; /* enough */
    unsigned jobs;
    const char *program;
};

static struct totals *totals;

void sim_violation(const char *check, const char *format, ...)
{
    va_list arguments;
    fprintf(stdout, "VIOLATED %s: ", check);
    va_start(arguments, format);
    vfprintf(stdout, format, arguments);
    va_end(arguments);
    fprintf(stdout, "\n");
    fflush(stdout);
    _exit(SIM_EXIT_VIOLATION);
}

void sim_trace(const char *format, ...)
{
    if (!sim_verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* ---- bugs */

static const char *const bug_names[] = {[SIM_BUG_NONE] = "none",
#define X(code, name, what) [SIM_BUG_##code] = (name),
                                        SIM_BUGS(X)
#undef X
};

static enum sim_bug planted;

bool sim_bug(enum sim_bug bug)
{
    return bug == planted;
}

static int plant(const char *name)
{
    for (unsigned i = 0; i < sizeof(bug_names) / sizeof(bug_names[0]); i++) {
        if (strcmp(bug_names[i], name) == 0) {
            planted = (enum sim_bug)i;
            return 0;
        }
    }
    fprintf(stderr, "atoll_sim: there is no bug \"%s\"; --bugs lists them\n", name);
    return 2;
}

static int list_bugs(void)
{
#define X(code, name, what) printf("%-24s %s\n", name, what);
    SIM_BUGS(X)
#undef X
    return 0;
}

/* ---- one seed */

static void add(struct run_figures *to, const struct run_figures *from)
{
    const uint64_t *figures = (const uint64_t *)from;
    _Static_assert(sizeof(*from) % sizeof(uint64_t) == 0, "all of them are counts");
    for (unsigned i = 0; i < sizeof(*from) / sizeof(uint64_t); i++)
        __atomic_fetch_add(&((uint64_t *)to)[i], figures[i], __ATOMIC_RELAXED);
}

_Noreturn static void run_here(uint64_t seed)
{
    struct run_figures figures;
    if (!sim_verbose && freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
    alarm(PATIENCE_S);
    run_seed(seed, &figures);
    add(&totals->figures, &figures);
    sim_trace("disk %016llx", (unsigned long long)figures.digest);
    fflush(stdout);
    _exit(0);
}

static void tell_failure(const struct options *options, uint64_t seed, int status)
{
    if (WIFSIGNALED(status))
        printf("ENDED by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != SIM_EXIT_VIOLATION)
        printf("ENDED with exit status %d\n", WEXITSTATUS(status));
    printf("seed %llu: repeat with: %s --seed %llu%s%s -v\n", (unsigned long long)seed,
           options->program, (unsigned long long)seed, planted != SIM_BUG_NONE ? " --bug " : "",
           planted != SIM_BUG_NONE ? bug_names[planted] : "");
    fflush(stdout);
}

/* ---- many seeds */

struct job {
    pid_t pid;
    uint64_t seed;
};

static void begin(struct job *job, uint64_t seed)
{
    fflush(stdout);
    job->seed = seed;
    job->pid = fork();
    if (job->pid == 0)
        run_here(seed);
    if (job->pid < 0) {
        perror("atoll_sim: fork");
        exit(2);
    }
}

static void finished(const struct options *options, struct job *jobs, pid_t pid, int status)
{
    for (unsigned i = 0; i < options->jobs; i++) {
        if (jobs[i].pid != pid)
            continue;
        totals->seeds++;
        if (status != 0) {
            totals->failures++;
            tell_failure(options, jobs[i].seed, status);
        }
        jobs[i].pid = 0;
    }
}

static void tell_totals(double seconds)
{
    const struct run_figures *all = &totals->figures;
    printf(
        "%llu seeds in %.1f s, %llu failed: %llu processes, %llu crashes, %llu starts refused, "
        "%llu clean stops, %llu disk faults, %llu bits of rot, %llu directories verified, %llu "
        "requests, %llu events shown, "
        "%llu snapshots, %llu checkpoints, %llu compactions, %llu passivations, %llu loads, %llu "
        "sessions made anew\n",
        (unsigned long long)totals->seeds, seconds, (unsigned long long)totals->failures,
        (unsigned long long)all->lives, (unsigned long long)all->crashes,
        (unsigned long long)all->starts_failed, (unsigned long long)all->stops,
        (unsigned long long)all->faults, (unsigned long long)all->rots,
        (unsigned long long)all->verified, (unsigned long long)all->requests,
        (unsigned long long)all->events, (unsigned long long)all->snapshots,
        (unsigned long long)all->checkpoints, (unsigned long long)all->compactions,
        (unsigned long long)all->passivations, (unsigned long long)all->loads,
        (unsigned long long)all->rebuilds);
}

static double now_s(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_all(const struct options *options)
{
    struct job jobs[JOBS_MAX] = {{0}};
    uint64_t next = options->first, end = options->first + options->count;
    unsigned running = 0;
    double began = now_s();
    while (running != 0 || (next != end && totals->failures < options->failures)) {
        for (unsigned i = 0; i < options->jobs; i++) {
            if (jobs[i].pid == 0 && next != end && totals->failures < options->failures) {
                begin(&jobs[i], next++);
                running++;
            }
        }
        int status;
        pid_t pid = wait(&status);
        if (pid < 0)
            break;
        finished(options, jobs, pid, status);
        running--;
    }
    tell_totals(now_s() - began);
    return totals->failures != 0;
}

/* ---- the command line */

static int usage(void)
{
    fputs("usage: atoll_sim --seed N | --seeds FIRST:COUNT | --fresh COUNT [--bug NAME] [-v] [-j "
          "N] [-f N]\n"
          "       atoll_sim --bugs\n",
          stderr);
    return 2;
}

static int read_option(struct options *options, int argc, char **argv, int *at)
{
    const char *name = argv[*at];
    const char *value = *at + 1 < argc ? argv[*at + 1] : NULL;
    char *end = NULL;
    if (strcmp(name, "-v") == 0) {
        sim_verbose = true;
        return 0;
    }
    if (value == NULL)
        return usage();
    ++*at;
    if (strcmp(name, "--bug") == 0)
        return plant(value);
    if (strcmp(name, "--seed") == 0)
        options->count = 1;
    if (strcmp(name, "--seed") == 0 || strcmp(name, "--seeds") == 0)
        options->first = strtoull(value, &end, 10);
    if (strcmp(name, "--seeds") == 0 && *end == ':')
        options->count = strtoull(end + 1, &end, 10);
    else if (strcmp(name, "--fresh") == 0)
        options->count = strtoull(value, &end, 10);
    else if (strcmp(name, "-j") == 0)
        options->jobs = (unsigned)strtoul(value, &end, 10);
    else if (strcmp(name, "-f") == 0)
        options->failures = strtoull(value, &end, 10);
    if (strcmp(name, "--fresh") == 0)
        options->first = (uint64_t)(now_s() * 1000) * 1000;
    return end == NULL || end == value || *end != '\0' ? usage() : 0;
}

int main(int argc, char **argv)
{
    struct options options = {.jobs = 2, .failures = FAILURES, .program = argv[0]};
    if (argc == 2 && strcmp(argv[1], "--bugs") == 0)
        return list_bugs();
    for (int i = 1; i < argc; i++) {
        int result = read_option(&options, argc, argv, &i);
        if (result != 0)
            return result;
    }
    if (options.count == 0 || options.jobs == 0 || options.jobs > JOBS_MAX)
        return usage();
    totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (totals == MAP_FAILED)
        return 2;
    if (options.count > 1)
        printf("seeds from %llu on\n", (unsigned long long)options.first);
    return run_all(&options);
}
