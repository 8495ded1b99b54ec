/*
 * cli: the command line.
 *
 * Normal path: argv[1] picks a row of `commands`, which gets the rest of the arguments. Help is
 * generated from that table and from config_options, so it cannot fall behind them.
 * Failure: one line on stderr and exit status 2; nothing has been started by then.
 */
#include "server/cli.h"

#include "server/cli_directory.h"
#include "server/cli_token.h"
#include "server/cli_transfer.h"
#include "server/config.h"
#include "server/live.h"
#include "server/serve.h"

#include <cyaml/cyaml.h>
#include <h2o/version.h>
#include <stdio.h>
#include <string.h>

#ifndef ATOLL_VERSION
#error "the build defines ATOLL_VERSION, a string such as \"0.1.0\""
#endif

enum { EXIT_OK = 0, EXIT_USAGE = 2 };

struct command {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(int argc, char **argv); /* the arguments behind the command's name */
};

static int run_serve(int argc, char **argv);
static int run_check_config(int argc, char **argv);
static int run_version(int argc, char **argv);
static int run_help(int argc, char **argv);

static const struct command commands[] = {
    {"serve", "[OPTION]...", "run the server", run_serve},
    {"check-config", "FILE", "check a configuration file and the files it names, and start nothing",
     run_check_config},
    {"verify", "DATA_DIR", "check every byte of a data directory that no server is using",
     cli_verify},
    {"backup", "DEST [--data DIR]", "copy a data directory, also while a server is using it",
     cli_backup},
    {"export", "SID", "write a session as NDJSON to --output FILE, or to standard output",
     cli_export},
    {"import", "FILE", "make a session of such a file", cli_import},
    {"health", "[URL]", "ask a server whether it is ready; status 0 if it is", cli_health},
    {"token", "[OPTION]...", "print a token for a server that has the key", cli_token},
    {"version", "", "print the version and those of the libraries", run_version},
    {"help", "[COMMAND]", "explain a command", run_help},
};
static const size_t command_count = sizeof(commands) / sizeof(commands[0]);

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < command_count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

const char *cli_take_option(int argc, char **argv, int *i, const char *name)
{
    const char *argument = argv[*i];
    size_t n = strlen(name);

    if (strncmp(argument, name, n) != 0)
        return NULL;
    if (argument[n] == '=')
        return argument + n + 1;
    if (argument[n] != '\0' || *i + 1 == argc)
        return NULL;
    return argv[++*i];
}

static bool is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static void print_commands(FILE *out)
{
    fputs("usage: atoll COMMAND [ARGUMENT]...\n\n", out);
    for (size_t i = 0; i < command_count; i++)
        fprintf(out, "  %-13s %-17s %s\n", commands[i].name, commands[i].arguments,
                commands[i].help);
}

static void print_option(const struct config_option *option)
{
    static const char *const operands[] = {
        [CONFIG_STRING] = "TEXT", [CONFIG_LIST] = "TEXT (repeatable)", [CONFIG_COUNT] = "N",
        [CONFIG_SIZE] = "SIZE",   [CONFIG_DURATION] = "DURATION",      [CONFIG_FLAG] = "",
        [CONFIG_RATE] = "RATE",
    };
    char allowed[256];
    char env[64];

    config_write_allowed(option, allowed, sizeof(allowed));
    config_write_env_name(option, env, sizeof(env));
    printf("\n  --%s %s\n      %s\n", option->name,
           option->kind == CONFIG_ENUM ? option->allowed : operands[option->kind], option->help);
    printf("      default: %s\n", option->initial[0] != '\0' ? option->initial : "none");
    printf("      allowed: %s\n      environment: %s\n", allowed, env);
}

static int print_command(const struct command *command)
{
    printf("usage: atoll %s %s\n\n%s\n", command->name, command->arguments, command->help);
    if (command->run == cli_health)
        puts("\n  URL: http://HOST:PORT, https://... or unix:PATH; without one " TRANSFER_SERVER);
    if (command->run == cli_export || command->run == cli_import)
        puts("\n  --server URL\n      where the server is: http://HOST:PORT, https://... or "
             "unix:PATH\n"
             "      default: " TRANSFER_SERVER
             "\n\n  --token-file FILE\n      whose first line is a token\n"
             "      default: what the environment's ATOLL_TOKEN holds, if it is set");
    if (command->run == cli_token)
        cli_token_help();
    if (command->run != run_serve)
        return EXIT_OK;
    puts("\nEvery option is also a key of the configuration file, with _ for -. Of several\n"
         "sources the first of these counts: flag, environment, file, default.");
    for (size_t i = 0; i < config_option_count; i++)
        print_option(&config_options[i]);
    return EXIT_OK;
}

static int refuse_command(const char *name)
{
    fprintf(stderr, "atoll: unknown command \"%s\"\n", name);
    print_commands(stderr);
    return EXIT_USAGE;
}

static int refuse_arguments(const char *command)
{
    fprintf(stderr, "atoll: usage: atoll %s %s\n", command, find_command(command)->arguments);
    return EXIT_USAGE;
}

static int run_serve(int argc, char **argv)
{
    struct config config;
    char error[CONFIG_ERROR_SIZE];

    if (config_load(&config, argc, argv, error, sizeof(error)) != 0) {
        fprintf(stderr, "atoll: %s\n", error);
        return EXIT_USAGE;
    }
    int status = serve_run(&config, argc, argv);
    config_free(&config);
    return status;
}

/* What would be in force, where no flag and no environment says otherwise. */
static void print_config(const struct config *config)
{
    static char value[CONFIG_LIST_MAX * (CONFIG_STRING_MAX + 1)];
    char key[64];

    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].not_in_file)
            continue;
        config_write_key(&config_options[i], key, sizeof(key));
        config_write_value(config, &config_options[i], value, sizeof(value));
        printf("%s: %s\n", key, value);
    }
}

static int run_check_config(int argc, char **argv)
{
    struct config config;
    struct live *live;
    char error[CONFIG_ERROR_SIZE];

    if (argc != 1)
        return refuse_arguments("check-config");
    if (config_load_file(&config, argv[0], error, sizeof(error)) != 0 ||
        live_make(&config, NULL, 0, &live, error, sizeof(error)) != 0) {
        fprintf(stderr, "atoll: %s\n", error);
        return EXIT_USAGE;
    }
    print_config(live->config);
    live_release(live);
    printf("%s: ok\n", argv[0]);
    return EXIT_OK;
}

static int run_version(int argc, char **argv)
{
    (void)argv;
    if (argc != 0)
        return refuse_arguments("version");
    printf("atoll %s\n", ATOLL_VERSION);
    printf("h2o %s, libcyaml %s", H2O_VERSION, cyaml_version_str);
#ifdef ATOLL_LIBURING_VERSION
    printf(", liburing %s", ATOLL_LIBURING_VERSION);
#endif
    putchar('\n');
    return EXIT_OK;
}

static int run_help(int argc, char **argv)
{
    if (argc > 1)
        return refuse_arguments("help");
    if (argc == 0) {
        print_commands(stdout);
        return EXIT_OK;
    }
    const struct command *command = find_command(argv[0]);
    return command != NULL ? print_command(command) : refuse_command(argv[0]);
}

int cli_run(int argc, char **argv)
{
    if (argc < 2) {
        print_commands(stderr);
        return EXIT_USAGE;
    }
    if (is_help(argv[1]))
        return run_help(argc - 2, argv + 2);
    if (strcmp(argv[1], "--version") == 0)
        return run_version(argc - 2, argv + 2);
    const struct command *command = find_command(argv[1]);
    if (command == NULL)
        return refuse_command(argv[1]);
    for (int i = 2; i < argc; i++)
        if (is_help(argv[i]))
            return print_command(command);
    return command->run(argc - 2, argv + 2);
}
