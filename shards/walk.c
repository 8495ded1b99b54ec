/*
 * walk: see walk.h. A file is read through a window of a megabyte that moves as it is asked for
 * what lies outside, so that a file that cannot be read is an error and no signal.
 */
#include "shards/walk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    WINDOW_BYTES = 1 << 20,
    MANIFEST_MAX_BYTES = 1 << 28, /* a larger file is none */
};

/* The manifest. */

__attribute__((format(printf, 5, 6))) static int
refuse(const struct fs *fs, int result, char *error, size_t error_size, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    snprintf(error, error_size, "%s/%s %s", fs->path, MANIFEST_NAME, what);
    return result;
}

static int read_text(struct fs *fs, int file, struct buf *text, char *error, size_t error_size)
{
    int64_t size = fs->ops->size(fs, file);
    if (size >= 0 && size <= MANIFEST_MAX_BYTES) {
        int64_t got = fs->ops->read(fs, file, buf_reserve(text, (size_t)size + 1), (size_t)size, 0);
        text->n = got > 0 ? (size_t)got : 0;
        size = got < 0 ? got : size;
    } else if (size > 0) {
        return refuse(fs, -EIO, error, error_size, "is no manifest of Atoll");
    }
    if (size < 0)
        return refuse(fs, (int)size, error, error_size, "cannot be read: %s", strerror((int)-size));
    return 0;
}

int walk_read_manifest(struct fs *fs, struct buf *text, struct manifest *manifest, char *error,
                       size_t error_size)
{
    char what[256];
    int file = fs->ops->open(fs, MANIFEST_NAME, FS_READ);
    if (file == -ENOENT) {
        snprintf(error, error_size, "%s is no data directory: it has no manifest", fs->path);
        return file;
    }
    if (file < 0)
        return refuse(fs, file, error, error_size, "cannot be opened: %s", strerror(-file));
    int result = read_text(fs, file, text, error, error_size);
    fs->ops->close(fs, file);
    if (result != 0)
        return result;
    result = manifest_parse(manifest, buf_str(text), what, sizeof(what));
    return result != 0 ? refuse(fs, result, error, error_size, "%s", what) : 0;
}

/* Files. */

void walk_begin(struct walk *walk, struct fs *fs, const struct datadir_segment *segment,
                const uint8_t *hash_key)
{
    *walk = (struct walk){
        .fs = fs,
        .file = segment->fd,
        .bytes = segment->bytes,
        .seed = log_segment_seed(hash_key, segment->number),
    };
}

void walk_end(struct walk *walk)
{
    buf_free(&walk->window);
}

void walk_forget(struct walk *walk)
{
    walk->window.n = 0;
}

const char *walk_view(struct walk *walk, uint64_t offset, size_t n, int *result)
{
    struct buf *window = &walk->window;
    if (offset >= walk->window_from && offset + n <= walk->window_from + window->n)
        return window->p + (offset - walk->window_from);
    uint64_t left = walk->bytes > offset ? walk->bytes - offset : 0;
    size_t wanted = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
    if (wanted < n)
        wanted = n;
    window->n = 0;
    walk->window_from = offset;
    int64_t got =
        walk->fs->ops->read(walk->fs, walk->file, buf_reserve(window, wanted + 1), wanted, offset);
    if (got > 0)
        window->n = (size_t)got;
    if (window->n >= n)
        return window->p;
    *result = got < 0 ? (int)got : -EIO;
    return NULL;
}

int walk_batch(struct walk *walk, uint64_t offset, struct log_batch_header *header,
               const char **batch)
{
    int result = 0;
    uint64_t room = walk->bytes > offset ? walk->bytes - offset : 0;
    if (room < sizeof(*header))
        return 0;
    const char *p = walk_view(walk, offset, sizeof(*header), &result);
    if (p == NULL)
        return result;
    memcpy(header, p, sizeof(*header));
    if (!log_batch_header_check(header, room, walk->seed + offset))
        return 0;
    p = walk_view(walk, offset, header->bytes, &result);
    if (p == NULL)
        return result;
    *batch = p;
    return log_batch_check(p, header, walk->seed + offset) ? 1 : 0;
}
