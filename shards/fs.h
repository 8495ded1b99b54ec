/*
 * fs: what start, segment preparation, checkpoints and compaction ask of one directory, behind one
 * replaceable table. All of it blocks: it is for the main thread, and for jobs on an io's helper
 * thread. What a shard asks while it runs goes through io.h, on the same file handles.
 *
 * Two implementations: fs_posix.c, and a simulated disk in tests/sim.
 *
 * Names are plain file names in the directory. Results are 0 or more, or a negative errno.
 * Durability is as POSIX has it: bytes are on disk after `sync` of their file, names (made, moved,
 * removed) after `sync_directory`.
 *
 * Thread: any, as long as nobody closes a file that another uses.
 */
#ifndef ATOLL_SHARDS_FS_H
#define ATOLL_SHARDS_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fs;

enum fs_open {
    FS_READ,
    FS_WRITE,
    FS_CREATE, /* for reading and writing; -EEXIST if there */
    FS_DIRECT, /* past the page cache: memory, sizes and offsets are multiples of IO_BLOCK_BYTES.
                  -EINVAL, here or at the first use: this file system cannot */
};

/* 0: go on; else stops and is returned. */
typedef int fs_visit(void *ctx, const char *name);

struct fs_ops {
    int (*open)(struct fs *fs, const char *name, enum fs_open how); /* the handle, an fd */
    void (*close)(struct fs *fs, int file);
    /* Short only at the end of the file. */
    int64_t (*read)(struct fs *fs, int file, void *buf, size_t n, uint64_t offset);
    int (*write)(struct fs *fs, int file, const void *buf, size_t n, uint64_t offset); /* all */
    int (*sync)(struct fs *fs, int file);      /* fsync */
    int (*data_sync)(struct fs *fs, int file); /* fdatasync */
    /* Starts and awaits the writing of a range, so that a later sync is short. No promise. */
    int (*write_out)(struct fs *fs, int file, uint64_t offset, uint64_t n);
    int (*allocate)(struct fs *fs, int file, uint64_t n); /* room for n bytes; -EOPNOTSUPP */
    int64_t (*size)(struct fs *fs, int file);
    int (*truncate)(struct fs *fs, int file, uint64_t n);
    /* Drops what the page cache holds of it: what is read next comes from the disk. No promise. */
    void (*forget)(struct fs *fs, int file);
    int (*rename)(struct fs *fs, const char *from, const char *to); /* replaces */
    int (*remove)(struct fs *fs, const char *name);
    int (*sync_directory)(struct fs *fs);
    int (*list)(struct fs *fs, fs_visit *visit, void *ctx);
    /* Exclusive, held until the fs is freed: 0 or -EWOULDBLOCK. */
    int (*lock)(struct fs *fs, const char *name);
    int (*random)(struct fs *fs, void *p, size_t n);
    void (*boot_id)(struct fs *fs, char *text, size_t size); /* of the machine; "": not known */
    void (*pause_ms)(struct fs *fs, unsigned ms);
    void (*free)(struct fs *fs);
};

/* First member of each implementation. */
struct fs {
    const struct fs_ops *ops;
    const char *path; /* for messages */
};

/* The directory at `path`, made (with its parents' last part only) where `make`. `error` gets a
 * sentence where it fails. */
int fs_posix_open(const char *path, bool make, struct fs **fs, char *error, size_t error_size);

#endif
