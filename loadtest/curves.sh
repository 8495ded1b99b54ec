#!/usr/bin/env bash
# What a command costs, against what it may depend on: loadtest/curves.sh [--only CURVES] [--scale F]
#     [--rounds N] [--seconds N] [--dir DIR] [--out DIR] [--build DIR] [--no-build]
#     [--atoll-option OPTION]...
#
# Curves, all of them by default, or some, separated by commas; an operation is one durable
# message.send of 64 bytes, unless it says otherwise:
#   history      length of a session's history, to 5 million events
#   sessions     sessions that the commands go to, all of them in turn, to 1 million
#   watchers     watchers of the one session, to 10 000, each told each event
#   payload      bytes of the content, 100 to 256 KiB
#   connections  1 to 10 000, each with a command under way
#   batch        commands in a request, 1 to 10 000, all into one session
#   shards       1 and 2 (the default on two cores), which share the cores with the load
#
# Normal path: build (release, in build/), for each curve start a server on an empty directory, and
# measure all its points in turn, --rounds times, so that each has seen the same weather. The server has
# one shard on core 0 and atoll-load the last core, but for `shards`. Every run checks what it
# wrote, and a run that finds a problem ends the script. What was measured goes to OUT
# (default loadtest/curves): curves.json, which holds medians and extremes; an SVG for each
# curve; table.md; index.html with all of them. OUT/bends.txt explains bends; curves.mjs, which draws,
# says at which points there is one that it does not explain.
#
# Data lies in DIR/curves.* (default build/), up to 20 GB, and is removed at the end, however it ends.
# --scale 0.01 cuts all that is long or many that much shorter: a try-out, whose figures say nothing.
# Curves not measured this time stay in curves.json as they were.
# Exit status: 0; 1 when a check or a program fails (at once).
# shellcheck disable=SC2015
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
# shellcheck source=loadtest/measure.sh
source "$root/loadtest/measure.sh"

all_curves=history,sessions,watchers,payload,connections,batch,shards
rounds=5 seconds=3 scale=1 build=$root/build dir="" out=$root/loadtest/curves curves=$all_curves
must_build=yes atoll_options=()
while (($#)); do
    case $1 in
    --only) curves=${2:?} && shift 2 ;;
    --scale) scale=${2:?} && shift 2 ;;
    --rounds) rounds=${2:?} && shift 2 ;;
    --seconds) seconds=${2:?} && shift 2 ;;
    --dir) dir=${2:?} && shift 2 ;;
    --out) out=${2:?} && shift 2 ;;
    --build) build=${2:?} && shift 2 ;;
    --no-build) must_build="" && shift ;;
    --atoll-option) atoll_options+=("${2:?}") && shift 2 ;;
    *)
        echo "usage: loadtest/curves.sh [--only $all_curves] [--scale F] [--rounds N]" \
            "[--seconds N] [--dir DIR] [--out DIR] [--build DIR] [--no-build]" \
            "[--atoll-option OPTION]..." >&2
        exit 2
        ;;
    esac
done
for curve in ${curves//,/ }; do
    [[ ,$all_curves, == *,$curve,* ]] || {
        echo "curves.sh: --only $curve: a curve is one of $all_curves" >&2
        exit 2
    }
done

(($(nproc) >= 2)) || fail "needs two cores, one for the server and one for the load"
(($(ulimit -Hn) >= 12000)) || fail "a process may open only $(ulimit -Hn) files, not 12000"
ulimit -n "$(ulimit -Hn)"
need_packages "${atoll_packages[@]}" libjansson-dev curl util-linux
if [[ -n $must_build ]]; then # else the tree's programs are taken as they are
    note "Building"
    for target in atoll atoll-load; do
        build_tree "$build" "$target" -DCMAKE_BUILD_TYPE=Release -DATOLL_LOADTEST=ON
    done
fi

last_core=$(($(nproc) - 1))
mkdir -p "$out"
tmp=$(mktemp -d "${dir:-$build}/curves.XXXXXX")
data=$tmp/data runs=$tmp/runs pid="" url=""
mkdir "$runs"
cleanup() {
    { [[ -z $pid ]] || kill -KILL "$pid"; } 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
mkfifo "$tmp/url"

need_space "$(calc "20 * $scale + 2")"

# ---- the server and the load

# start CORES SHARDS: a server on an empty directory.
start() {
    rm -rf "$data"
    taskset -c "$1" "$build/atoll" serve --listen 127.0.0.1:0 --data "$data" --shards "$2" \
        --max-connections 20000 ${atoll_options[@]+"${atoll_options[@]}"} \
        >"$tmp/url" 2>>"$tmp/err" &
    pid=$!
    read -r url <"$tmp/url" || fail "the server did not start: $(tail -n 3 "$tmp/err")"
}

stop() {
    local status=0
    kill -TERM "$pid"
    wait "$pid" || status=$?
    pid=""
    ((status == 0)) || fail "the server stopped with status $status: $(tail -n 3 "$tmp/err")"
}

load() {
    taskset -c "$last_core" "$build/loadtest/atoll-load" "$1" --url "$url" --quiet "${@:2}" ||
        fail "atoll-load ${*:1} has failed"
}

fill() {
    load fill --connections 16 --json "$tmp/fill.json" "$@" >/dev/null
}

# point CURVE X MODE OPTION...: one run, for the point at X.
point() {
    local run=$runs/$1.$2.$round.json
    load "$3" --pid "$pid" --seconds "$seconds" --warmup 0.5 --json "$run" "${@:4}" >/dev/null
    note "    $1 at $2, round $round:" \
        "$(grep -o '"\(per_s\|server_cpu_us\|server_cpu_us_event\)": [0-9.e+]*' "$run" |
            tr -d '"' | tr '\n' ' ')"
}

# ---- the curves

# length PREFIX: of the first session's history.
length() {
    curl -sf "$url/v1/sessions/${1}0/events?limit=1&order=desc" | grep -o '"seq":[0-9]*' | tr -dc 0-9
}

# A run makes the sessions longer. So that this is not much, there are many of short histories; and
# the point is drawn at the length halfway through.
curve_history() {
    local length sessions events prefix before
    start 0 1
    for ((round = 1; round <= rounds; round++)); do
        for length in 10 100 1000 10000 100000 1000000 5000000; do
            events=$(scaled "$length" 3)
            sessions=$(awk "BEGIN { n = int(200000 * $scale / $events)
                print (n < 1 ? 1 : n > 4000 ? 4000 : n) }")
            prefix=h$length-$round-
            ((length < 1000000)) || prefix=h$length-
            [[ -e $tmp/$prefix ]] ||
                fill --prefix "$prefix" --sessions "$sessions" --events "$events"
            : >"$tmp/$prefix"
            before=$(length "$prefix")
            point history "$length" post --prefix "$prefix" --sessions "$sessions"
            calc "($before + $(length "$prefix")) / 2" >"$runs/history.$length.$round.at"
        done
    done
    stop
}

curve_sessions() {
    local n
    start 0 1
    for n in 1 10 100 1000 10000 100000 1000000; do
        fill --prefix "n$n-" --sessions "$(scaled "$n")" --events 3 --connections 512
    done
    for ((round = 1; round <= rounds; round++)); do
        for n in 1 10 100 1000 10000 100000 1000000; do
            point sessions "$n" post --prefix "n$n-" --sessions "$(scaled "$n")"
        done
    done
    stop
}

curve_watchers() {
    local n
    start 0 1
    for ((round = 1; round <= rounds; round++)); do
        point watchers 0 post --sessions 1 --prefix w0- --connections 16
        for n in 1 10 100 1000 10000; do
            fill --prefix "w$n-$round-" --sessions 1 --events 3
            point watchers "$n" watch --prefix "w$n-$round-" --sessions 1 --write message \
                --writers 16 --ahead 32 --watchers "$(scaled "$n")"
        done
    done
    stop
}

curve_payload() {
    local bytes
    start 0 1
    for ((round = 1; round <= rounds; round++)); do
        for bytes in 100 300 1000 3000 10000 30000 100000 262144; do
            point payload "$bytes" post --payload "$bytes" --prefix "p$bytes-" \
                --read-max "$((400000000 / bytes))"
        done
    done
    stop
}

curve_connections() {
    local n
    start 0 1
    for ((round = 1; round <= rounds; round++)); do
        for n in 1 3 10 30 100 300 1000 3000 10000; do
            point connections "$n" post --connections "$(scaled "$n")"
        done
    done
    stop
}

curve_batch() {
    local n
    start 0 1
    for ((round = 1; round <= rounds; round++)); do
        for n in 1 3 10 30 100 300 1000 3000 10000; do
            point batch "$n" batch --batch "$(scaled "$n")" --prefix "b$n-"
        done
    done
    stop
}

curve_shards() {
    local n
    for ((round = 1; round <= rounds; round++)); do
        for n in 1 2; do
            start "0$( ((n == 1)) || printf ',%s' "$last_core")" "$n"
            point shards "$n" post --connections 256
            stop
        done
    done
}

for curve in ${curves//,/ }; do
    note "$curve"
    "curve_$curve"
done
node "$root/loadtest/curves.mjs" --runs "$runs" --out "$out" \
    --about "$(machine); medians of $rounds rounds of $seconds s, scale $scale" >&2
