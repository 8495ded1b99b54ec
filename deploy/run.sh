#!/usr/bin/env bash
# Builds Atoll and serves it: bash deploy/run.sh [--demo] [-- OPTIONS OF atoll serve]
#
# Normal path: install the Debian packages that are missing (through sudo if not root), build the
# server in build/, become `atoll serve`, and print its URL with three commands to try as soon as
# it is ready. With nothing to install or build this takes well under a second. The server listens
# on 127.0.0.1:8080 and keeps its data in ./atoll-data, unless OPTIONS say otherwise. With --demo
# the bundled transcripts are played into it in real time, for as long as it runs (demo/play.mjs).
#
# Since the script becomes the server, Ctrl-C and SIGTERM reach it directly and drain it, and its
# exit status is the script's. A package that cannot be had or a build that fails ends the script
# with status 1 and the reason; wrong arguments with status 2.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"

demo=
if (($#)) && [[ $1 == --demo ]]; then
    demo=yes
    shift
fi
if (($#)) && [[ $1 != -- ]]; then
    echo "usage: bash deploy/run.sh [--demo] [-- OPTIONS OF atoll serve]" >&2
    exit 2
fi
shift $(($# > 0))

# Reads what the server says; its first line is its URL. Outlives Ctrl-C, to pass on the last line.
explain() {
    trap '' INT TERM HUP
    local url curl="curl -s" json="-H 'Content-Type: application/json' -d"
    IFS= read -r url || return 0
    echo "Atoll serves $url"
    [[ -z $demo ]] || node "$root/deploy/demo/play.mjs" "$url" --server $$ </dev/null &
    [[ $url == unix:* ]] || echo "See it live: open $url in a browser"
    if [[ $url == unix:* ]]; then
        curl="curl -s --unix-socket ${url#unix:}"
        url=http://localhost
    fi
    cat <<EOT
Try, in another terminal: create a session, send a batch, watch what happens (Ctrl-C ends watching)
  $curl $url/v1/sessions $json '{"session":"demo"}'
  $curl $url/v1/sessions/demo/commands $json '[{"type":"agent.register","agent":"planner"},{"type":"thread.create","thread":"general","creator":"planner","name":"General","participants":[]},{"type":"message.send","thread":"general","sender":"planner","content":"Hello"}]'
  $curl -N $url/v1/sessions/demo/stream
EOT
    cat
}

need_packages "${atoll_packages[@]}" curl
[[ -x $root/build/atoll ]] || echo "Building Atoll in $root/build" >&2
build_tree "$root/build" atoll -DCMAKE_BUILD_TYPE=Release
exec "$root/build/atoll" serve "$@" > >(explain)
