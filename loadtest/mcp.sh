#!/usr/bin/env bash
# Measures what the Model Context Protocol costs: loadtest/mcp.sh [--rounds N] [--seconds N]
#     [--scale F] [--dir DIR] [--build DIR] [--no-build] [--atoll-option OPTION]... [PART]...
#
# Parts, all of them by default:
#   rate   messages by REST and by atoll_send_message of both generations, in turns within a run
#   wait   10 000 agents that wait in atoll_wait: memory of each, and how soon a mention wakes one
#
# Normal path: build the server and atoll-load (release, in build/); for each round of a part a
# server on an empty directory, on core 0, and atoll-load on the last core; rows of a markdown table,
# with medians of the rounds (default 5) and the goals. atoll-load reads all back and finds fault.
# Data lies in DIR/mcp.* (default build/) and is removed at the end, however it ends.
#
# --scale 0.05 makes the number of agents that much smaller: a try-out, whose memory says nothing.
# Exit status: 0, 1 when a check or a program fails (at once), 3 when only a goal is missed.
# shellcheck disable=SC2015,SC2016,SC2317
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
# shellcheck source=loadtest/measure.sh
source "$root/loadtest/measure.sh"

seconds=10
read_options "rate wait" "$@"

agents=$(scaled 10000)
need_machine "$((agents + 1000))"
need_packages "${atoll_packages[@]}" libcurl4-openssl-dev libjansson-dev util-linux
build_programs atoll atoll-load

atoll=$build/atoll load=$build/loadtest/atoll-load last_core=$(($(nproc) - 1))
tmp=$(mktemp -d "${dir:-$build}/mcp.XXXXXX")
data=$tmp/data pid="" url=""
cleanup() {
    { [[ -z $pid ]] || kill -KILL "$pid"; } 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- the server

start() {
    local tries=0
    rm -rf "$data"
    : >"$tmp/atoll.out"
    taskset -c 0 "$atoll" serve --shards 1 --durability commit --listen 127.0.0.1:0 \
        --data "$data" --max-connections 20000 ${atoll_options[@]+"${atoll_options[@]}"} \
        >"$tmp/atoll.out" 2>"$tmp/atoll.err" &
    pid=$!
    until url=$(grep -m1 -o 'http://[^ ]*' "$tmp/atoll.out"); do
        kill -0 "$pid" 2>/dev/null && ((++tries < 6000)) ||
            fail "atoll did not start: $(tail -n 3 "$tmp/atoll.err")"
        sleep 0.01
    done
}

stop() {
    kill -TERM "$pid"
    wait "$pid" || fail "the server stopped with status $?: $(tail -n 3 "$tmp/atoll.err")"
    pid=""
}

# measure PREFIX MODE OPTION...: one run on a fresh server, whose figures are kept as PREFIX.NAME.
measure() {
    local prefix=$1 name value
    start
    taskset -c "$last_core" "$load" "$2" --url "$url" --pid "$pid" --quiet --json - \
        --seconds "$seconds" "${@:3}" >"$tmp/report" ||
        fail "atoll-load ${*:2} has failed: $(cat "$tmp/report")"
    stop
    while read -r name value; do
        keep "$prefix.$name" "$value"
    done < <(node -e '
        const report = JSON.parse(require("fs").readFileSync(0, "utf8"));
        for (const [name, value] of Object.entries(report.figures)) console.log(name, value);
        for (const [name, latency] of Object.entries(report.latency))
            for (const part of ["p50", "p99"]) console.log(`${name}.${part}`, latency[part]);
        ' <"$tmp/report")
    note "$prefix: $(tr '\n' ' ' < <(for name in "${told[@]}"; do
        printf '%s=%s ' "$name" "$(tail -n 1 "$tmp/$prefix.$name.samples")"
    done))"
}

figure() {
    printf '%.1f' "$(median "$1")"
}

# ---- the parts

part_rate() {
    local round form
    for ((round = 1; round <= rounds; round++)); do
        note "rate: round $round of $rounds"
        told=(rest_per_s modern_per_s older_per_s modern_ratio older_ratio load_cpu_percent)
        measure rate mcp
    done
    for form in modern older; do
        local what="atoll_send_message, MCP 2026-07-28"
        [[ $form == modern ]] || what="atoll_send_message, MCP 2025-11-25"
        row "messages/s: $what, and REST" "$(figure "rate.${form}_per_s")" \
            "$(figure rate.rest_per_s)" ">= 0.7"
        row "us of CPU each: $what, and REST" "$(figure "rate.${form}_cpu_us")" \
            "$(figure rate.rest_cpu_us)" ""
    done
}

part_wait() {
    local round revision
    for ((round = 1; round <= rounds; round++)); do
        note "wait: round $round of $rounds"
        told=(agent_bytes woken_us.p50 woken_us.p99 after_answer_us.p50 load_cpu_percent)
        for revision in modern older; do
            measure "wait.$revision" mcp-wait --agents "$agents" --revision "$revision"
        done
    done
    for revision in modern older; do
        row "bytes for each of $agents that wait, $revision" \
            "$(figure "wait.$revision.agent_bytes")" "" "<= 12288"
        row "us from a mention's sending until it is there, median, $revision" \
            "$(figure "wait.$revision.woken_us.p50")" "" "< 2000"
        row "the same, p99" "$(figure "wait.$revision.woken_us.p99")" "" ""
        row "us from its writer's answer, median" \
            "$(figure "wait.$revision.after_answer_us.p50")" "" ""
    done
}

line='| %-66s | %9s | %9s | %6s | %-8s | %-3s |\n'
printf '%s; %s rounds of %s s.\n\n' "$(machine)" "$rounds" "$seconds"
# shellcheck disable=SC2059
printf "$line" "What" "Atoll" "beside" "ratio" "goal" "met"
printf '|---|--:|--:|--:|---|---|\n'
for part in "${parts[@]}"; do
    "part_$part"
done
exit "$missed"
