/*
 * The text of a manifest: refused in words, or written as the same text again. Where the input does
 * not end with a checksum line it gets the right one.
 */
#include "shards/manifest.h"
#include "shards/log_format.h"
#include "tests/fuzz/fuzz.h"

static void check_same(const struct manifest *m)
{
    struct manifest again = {0};
    struct buf once = {0}, twice = {0};
    char what[256];
    manifest_format(m, &once);
    assert(manifest_parse(&again, buf_str(&once), what, sizeof(what)) == 0);
    manifest_format(&again, &twice);
    assert(buf_equal(&once, &twice));
    manifest_free(&again);
    buf_free(&once);
    buf_free(&twice);
}

static bool has_checksum(struct str text)
{
    static const char word[] = "checksum ";
    return text.n != 0 && memmem(text.p, text.n, word, sizeof(word) - 1) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size);
    struct manifest m = {0};
    struct buf text = {0};
    char what[256], line[32];

    buf_add_str(&text, in);
    if (!has_checksum(in)) {
        int n = snprintf(line, sizeof(line), "checksum %016llx\n",
                         (unsigned long long)log_checksum(in.p, in.n, 0));
        buf_add(&text, line, (size_t)n);
    }
    char *exact = exact_copy(buf_str(&text));
    if (manifest_parse(&m, (struct str){exact, text.n}, what, sizeof(what)) != 0) {
        check_sentence(what, sizeof(what));
    } else {
        check_same(&m);
        manifest_free(&m);
    }
    free(exact);
    buf_free(&text);
    return 0;
}
