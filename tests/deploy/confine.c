/*
 * confine PROFILE PROGRAM [ARGUMENT]...: runs a program under a seccomp profile as container
 * engines read them (deploy/seccomp.json), to see that it can.
 *
 * Normal path: the profile becomes a filter of libseccomp, with which the program is executed, as
 * with no-new-privileges. Failure: one line on stderr and status 125. Names that this machine does
 * not know are passed over, as engines do.
 */
#include <errno.h>
#include <jansson.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILED = 125 };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "confine: %s: %s\n", what, why);
    exit(FAILED);
}

static uint32_t action_of(const json_t *object, const char *key, const char *errno_key)
{
    const char *name = json_string_value(json_object_get(object, key));
    const json_t *number = json_object_get(object, errno_key);

    if (name != NULL && strcmp(name, "SCMP_ACT_ALLOW") == 0)
        return SCMP_ACT_ALLOW;
    if (name == NULL || strcmp(name, "SCMP_ACT_ERRNO") != 0)
        fail(key, name != NULL ? name : "is missing");
    return SCMP_ACT_ERRNO(number != NULL ? (uint32_t)json_integer_value(number) : EPERM);
}

/* Of the only comparison that profiles of ours use. */
static struct scmp_arg_cmp comparison_of(const json_t *object)
{
    const char *op = json_string_value(json_object_get(object, "op"));
    if (op == NULL || strcmp(op, "SCMP_CMP_MASKED_EQ") != 0)
        fail("op", op != NULL ? op : "is missing");
    return (struct scmp_arg_cmp){
        .arg = (unsigned)json_integer_value(json_object_get(object, "index")),
        .op = SCMP_CMP_MASKED_EQ,
        .datum_a = (scmp_datum_t)json_integer_value(json_object_get(object, "value")),
        .datum_b = (scmp_datum_t)json_integer_value(json_object_get(object, "valueTwo")),
    };
}

static void add_rule(scmp_filter_ctx filter, const json_t *rule)
{
    const json_t *args = json_object_get(rule, "args");
    uint32_t action = action_of(rule, "action", "errnoRet");
    struct scmp_arg_cmp comparisons[6];
    unsigned comparisons_n = 0;
    const json_t *item;
    size_t i;

    json_array_foreach (args, i, item) {
        if (comparisons_n == 6)
            fail("args", "more than 6");
        comparisons[comparisons_n++] = comparison_of(item);
    }
    json_array_foreach (json_object_get(rule, "names"), i, item) {
        int number = seccomp_syscall_resolve_name(json_string_value(item));
        if (number == __NR_SCMP_ERROR)
            fail("no system call", json_string_value(item));
        int rc = number < 0
                     ? 0
                     : seccomp_rule_add_array(filter, action, number, comparisons_n, comparisons);
        if (rc != 0)
            fail(json_string_value(item), strerror(-rc));
    }
}

int main(int argc, char **argv)
{
    json_error_t error;
    const json_t *rule;
    size_t i;

    if (argc < 3)
        fail("usage", "confine PROFILE PROGRAM [ARGUMENT]...");
    json_t *profile = json_load_file(argv[1], 0, &error);
    if (profile == NULL)
        fail(argv[1], error.text);
    scmp_filter_ctx filter = seccomp_init(action_of(profile, "defaultAction", "defaultErrnoRet"));
    if (filter == NULL)
        fail("seccomp_init", "failed");
    json_array_foreach (json_object_get(profile, "syscalls"), i, rule)
        add_rule(filter, rule);
    int rc = seccomp_load(filter);
    if (rc != 0)
        fail("seccomp_load", strerror(-rc));
    execvp(argv[2], argv + 2);
    fail(argv[2], strerror(errno));
}
