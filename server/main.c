/* The program: everything it does is in cli.c. */
#include "server/cli.h"

int main(int argc, char **argv)
{
    return cli_run(argc, argv);
}
