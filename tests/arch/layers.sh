#!/usr/bin/env bash
# The architecture's arrows point down only: server/ -> shards/ -> core/. What breaks that is
# listed here, each line a rule; and a few things that must hold in every source file.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
broken=0

# rule TEXT PATTERN PATH...: no line of these files matches.
rule() {
    local text=$1 pattern=$2 hits
    shift 2
    hits=$(grep -rnE --include='*.c' --include='*.h' --include='*.cpp' -- "$pattern" "$@")
    [[ -z $hits ]] && return
    printf 'BROKEN: %s\n%s\n\n' "$text" "$hits"
    broken=1
}

rule "core/ includes nothing of the floors above" \
    '#include *["<](shards|server)/' core
rule "core/ reaches for no h2o, ring, thread, clock, file or socket" \
    '#include *<(h2o|liburing|pthread|threads|time|unistd|fcntl|errno|signal|poll|sys/|arpa/|netinet/)' core
rule "core/ knows neither clock nor randomness" \
    '\b(time|clock_gettime|gettimeofday|rand|random|getrandom|srand)\(' core
rule "shards/ includes nothing of server/" '#include *["<]server/' shards
rule "shards/ knows no HTTP" '#include *<h2o|h2o_|HTTP/1' shards
rule "only the io_uring backend speaks io_uring" 'io_uring_(prep|submit|queue|get_sqe)' \
    $(ls shards/*.[ch] | grep -v io_uring.c) server core
rule "server/ touches no session's state" \
    '\bcore_(session_new|session_free|decide|apply|begin|keep|undo|view|view_thread|snapshot_[a-z]+|inbox_[a-z]+)\(' server
rule "server/ knows of shards/ only what crosses the rings" \
    '#include "shards/(shard|log|datadir|heap|io_internal|log_format)\.h"' server
rule "server/ has rings of its own in the logger alone" \
    '#include "shards/ring\.h"' $(ls server/*.[ch] server/*/*.[ch] | grep -v '^server/logger\.c$')
rule "no line is longer than 100 columns" '^.{101,}$' core shards server tests/unit tests/property loadtest
rule "no tabs and no blanks at the end of a line" $'\t|[ ]+$' core shards server tests/unit tests/property
rule "asserts stay on" 'define +NDEBUG' core shards server

((broken == 0)) && echo "every arrow points down"
exit $broken
