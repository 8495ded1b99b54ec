/*
 * cli_token: `atoll token`, which makes a token for a server that has the key, or its public part:
 *
 *   atoll token --key FILE --sub planner --sid 'team-*' --scope read,write --ttl 1h
 *
 * prints the JWT alone. 0; or 2, with a sentence on stderr, where an argument is not right; or 1,
 * where it cannot be printed.
 */
#ifndef ATOLL_SERVER_CLI_TOKEN_H
#define ATOLL_SERVER_CLI_TOKEN_H

int cli_token(int argc, char **argv);
/* Its options, for `atoll help token`. */
void cli_token_help(void);

#endif
