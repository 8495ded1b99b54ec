/*
 * The file of a checkpoint: refused in words, or items that are written as the same bytes again.
 *
 * The input is blocks, each with a size of 2 bytes before it; they are sealed, unless the size has
 * its highest bit set: then the block stands there as it is, header and all.
 */
#include "shards/checkpoint.h"
#include "tests/fuzz/directory.h"

enum { AS_IT_IS = 0x8000 };

struct shown {
    struct buf items;
    uint64_t n;
    bool ended;
};

static int show(void *ctx, const struct checkpoint_item *item)
{
    struct shown *shown = ctx;
    assert(!shown->ended);
    shown->n++;
    shown->ended = item->type == CHECKPOINT_END;
    assert(shown->ended || core_session_id_valid(item->id));
    checkpoint_item_add(&shown->items, item);
    return 0;
}

static void build(struct datadir *dir, struct str in, struct buf *file)
{
    char head[CHECKPOINT_HEAD_BYTES];
    checkpoint_head_write(dir, 0, head);
    buf_add(file, head, sizeof(head));
    while (in.n != 0) {
        uint32_t size = take_u16(&in);
        struct str items = take_bytes(&in, size & (AS_IT_IS - 1));
        struct buf block = {0};
        if (size & AS_IT_IS) {
            buf_add_str(file, items);
            continue;
        }
        checkpoint_block_begin(&block);
        buf_add_str(&block, items);
        checkpoint_block_seal(dir, &block, file->n);
        buf_add_str(file, buf_str(&block));
        buf_free(&block);
    }
}

/* The items that were shown make a file that shows the same. */
static void check_again(struct datadir *dir, struct memory_files *files, struct shown *shown)
{
    struct datadir_checkpoint checkpoint = {.number = 1};
    struct buf *file = memory_file(files, "checkpoint-00000001.dat"), all = {0};
    struct shown again = {0};
    char error[FUZZ_ERROR_BYTES];

    buf_add_byte(&all, (char)(shown->items.n & 0xff));
    buf_add_byte(&all, (char)(shown->items.n >> 8));
    buf_add_str(&all, buf_str(&shown->items));
    if (shown->items.n < AS_IT_IS) {
        file->n = 0;
        build(dir, buf_str(&all), file);
        checkpoint.bytes = file->n;
        assert(checkpoint_visit_file(dir, &checkpoint, show, &again, NULL, error, sizeof(error)) ==
               0);
        assert(buf_equal(&again.items, &shown->items) && again.n == shown->n);
    }
    buf_free(&again.items);
    buf_free(&all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory_files files = {0};
    struct manifest manifest = fuzz_manifest(0);
    struct datadir *dir = NULL;
    struct datadir_checkpoint checkpoint = {.number = 1};
    struct shown shown = {0};
    char error[FUZZ_ERROR_BYTES];

    fuzz_write_manifest(&files, &manifest);
    assert(fuzz_open(&files, true, &dir, error) == 0);
    struct buf *file = memory_file(&files, "checkpoint-00000001.dat");
    build(dir, input_of(data, size), file);
    checkpoint.bytes = file->n;
    int result = checkpoint_visit_file(dir, &checkpoint, show, &shown, NULL, error, sizeof(error));
    if (result != 0)
        check_sentence(error, sizeof(error));
    else
        check_again(dir, &files, &shown);
    buf_free(&shown.items);
    datadir_close(dir, false);
    manifest_free(&manifest);
    memory_files_free(&files);
    return 0;
}
