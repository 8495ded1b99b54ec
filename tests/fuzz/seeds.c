/*
 * Seeds of the targets whose inputs are bytes of ours: fuzz_seeds DIRECTORY writes them into
 * DIRECTORY/<target>/. They are made anew for each build, so that they are never those of an older
 * format. Seeds that are text, and inputs that once found something, stand in corpus/.
 */
#include "shards/checkpoint.h"
#include "shards/manifest.h"
#include "shards/record.h"
#include "tests/fuzz/session.h"

#include <errno.h>
#include <sys/stat.h>

static const char *root;

static void make_directory(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        perror(path);
        exit(1);
    }
}

static void save(const char *target, const char *name, struct str bytes)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", root, target);
    make_directory(path);
    snprintf(path, sizeof(path), "%s/%s/%s", root, target, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes.p, 1, bytes.n, file) != bytes.n || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void save_buf(const char *target, const char *name, struct buf *bytes)
{
    save(target, name, buf_str(bytes));
    buf_free(bytes);
}

/* What may follow the session's beginning, one seed for each. */
static const char *const more[] = {
    "session.update labels=team:null,new:x",
    "session.close summary=over",
    "agent.register agent=dan description=d",
    "agent.update agent=ada status=question note=why priority=-3 labels=b:null",
    "agent.leave agent=bob",
    "thread.create creator=cy name=n participants=ada,bob thread=w",
    "thread.add thread=x agent=cy by=ada history=true",
    "thread.remove thread=x agent=bob by=ada",
    "thread.close thread=z by=ada summary=s",
    "message.send thread=x sender=ada content=text mentions=bob reply_to=m7 data={\"a\":1}",
    "thread.read thread=x agent=bob upto=10",
};

static void seed_events(void)
{
    struct buf all = {0};
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        struct world w;
        struct buf one = {0}, record = {0};
        char name[32];
        session_open(&w);
        if (decide_line(&w, more[i]) == CORE_EVENT) {
            snprintf(name, sizeof(name), "event-%zu", i);
            core_event_encode(&w.event, &one);
            buf_add_str(&all, buf_str(&one));
            buf_add(&record, "\1\0\1\0", 4); /* type, flags, one event; no key */
            buf_add_str(&record, buf_str(&one));
            save_buf("event", name, &one);
            save_buf("record", name, &record);
        }
        world_close(&w);
    }
    save_buf("event", "all", &all);
}

static void seed_snapshots(void)
{
    struct world w;
    struct buf state = {0}, record = {0};
    struct key_entry placed = {.flags = KEY_PLACED, .seq = 3, .ts_ms = 5, .position = 9};
    struct key_entry batch = {.flags = KEY_BATCH, .seq = 4, .ts_ms = 5};
    struct record_snapshot snapshot = {.first = 1, .ordinal = 3, .skips_n = 1};

    snapshot.skips[0] = (struct record_skip){.seq = 2, .ts_ms = 5, .position = 7};
    session_open(&w);
    core_snapshot_encode(w.s, &state);
    buf_add(&record, "\3\0\0", 3); /* type, flags, no events */
    record_add_count(&record, 2);
    record_add_key(&record, &placed, (struct str){0});
    record_add_key(&record, &batch, STR("{\"seq\":4}"));
    record_add_snapshot(&record, &snapshot);
    buf_add_str(&record, buf_str(&state));
    save_buf("record", "snapshot", &record);
    save_buf("snapshot", "populated", &state);
    world_close(&w);

    world_open(&w, &fuzz_limits);
    core_snapshot_encode(w.s, &state);
    save_buf("snapshot", "empty", &state);
    world_close(&w);
}

/* A step of fuzz_log: a batch of one record of the session "s1". */
static void add_batch(struct buf *steps, uint8_t how, const char *extra, struct str body)
{
    buf_add_byte(steps, 0);
    buf_add_byte(steps, (char)how);
    buf_add(steps, "\1\1", 2); /* events, a session of two bytes */
    buf_add_byte(steps, (char)(body.n & 0xff));
    buf_add_byte(steps, (char)(body.n >> 8));
    buf_add_literal(steps, "s1");
    buf_add_str(steps, body);
    buf_add_str(steps, text_of(extra));
}

static void seed_logs(void)
{
    struct buf steps = {0};
    add_batch(&steps, 0, "", STR("\0"));
    add_batch(&steps, 0, "", STR("\0body"));
    save("log", "two-batches", buf_str(&steps));
    buf_add_byte(&steps, 1); /* the next segment */
    add_batch(&steps, 0, "", STR("\0more"));
    save("log", "two-segments", buf_str(&steps));
    add_batch(&steps, 4, "\x20\x01\x01", STR("\0torn")); /* damaged */
    save("log", "torn", buf_str(&steps));
    add_batch(&steps, 0, "", STR("\0later"));
    save("log", "corrupt", buf_str(&steps));
    buf_add(&steps, "\3\4\2\10BTCHBTCH", 12); /* a gap, and bytes */
    save_buf("log", "gap", &steps);
}

static void seed_checkpoints(void)
{
    static const struct checkpoint_item items[] = {
        {.type = CHECKPOINT_SESSION, .id = {"s1", 2}, .epoch = 5, .head = 99, .labels = 7},
        {.type = CHECKPOINT_EXPIRY, .id = {"s1", 2}, .epoch = 5, .ms = 1700000000000},
        {.type = CHECKPOINT_PIN, .id = {"s1", 2}, .epoch = 5, .other = {"f", 1}, .at = 3},
        {.type = CHECKPOINT_FORK, .id = {"f", 1}, .epoch = 6, .other = {"s1", 2}, .at = 3},
        {.type = CHECKPOINT_GARBAGE, .id = {"~c", 2}, .epoch = 5, .head = 99, .at = 300},
        {.type = CHECKPOINT_END, .at = 5},
    };
    struct buf block = {0}, file = {0};
    for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++)
        checkpoint_item_add(&block, &items[i]);
    buf_add_byte(&file, (char)block.n);
    buf_add_byte(&file, 0);
    buf_add_str(&file, buf_str(&block));
    buf_free(&block);
    save_buf("checkpoint", "one-block", &file);
}

static void seed_manifests(void)
{
    struct manifest m = {.generation = 1, .shards = 2, .starts = 3, .next_segment = 3, .boot = "-"};
    struct datadir_segment segment = {.number = 1, .generation = 1, .bytes = 65536, .fd = -1};
    struct datadir_checkpoint checkpoint = {.number = 2, .bytes = 81920};
    struct buf text = {0};

    checkpoint.from = (struct datadir_end){.segment = 1, .offset = 8192, .batch = 12};
    manifest_add_segment(&m, &segment);
    manifest_set_checkpoint(&m, 1, 0, &checkpoint);
    m.clean = true;
    manifest_set_end(&m, 1, 0, &checkpoint.from);
    manifest_format(&m, &text);
    save("manifest", "whole", buf_str(&text));
    const char *last = memmem(text.p, text.n, "checksum", 8);
    save("manifest", "to-be-sealed", (struct str){text.p, (size_t)(last - text.p)});
    buf_free(&text);
    manifest_free(&m);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds DIRECTORY\n");
        return 2;
    }
    root = argv[1];
    make_directory(root);
    fuzz_limits_make();
    seed_events();
    seed_snapshots();
    seed_logs();
    seed_checkpoints();
    seed_manifests();
    return 0;
}
