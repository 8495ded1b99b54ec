#!/usr/bin/env bash
# Measures what safety costs, and what it is good for: loadtest/safety.sh [--rounds N] [--seconds N]
#     [--scale F] [--dir DIR] [--build DIR] [--no-build] [--atoll-option OPTION]... [PART]...
#
# Parts, all of them by default:
#   auth   messages a second with a token, and without keys, in turns
#   flood  one token that posts as fast as it is answered, held by --rate-token: how long another
#          token's messages take meanwhile
#   slow   messages a second while 5 000 connections say the head of a request, a byte a second each
#
# Normal path: build the server and atoll-load (release, in build/); for each round of a part
# servers on empty directories, on core 0, and atoll-load on the last core; rows of a markdown table, with
# medians of the rounds (default 5) and the goals. atoll-load reads all back and finds fault.
# Whoever disturbs runs on the last core too, but only while the one that measures sleeps: so what
# is measured is what the server does, and not how two clients share a core.
# Data lies in DIR/safety.* (default build/) and is removed at the end, however it ends.
#
# --scale 0.05 makes the number of slow connections that much smaller: a try-out.
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
read_options "auth flood slow" "$@"

crowd_size=$(scaled 5000)
need_machine "$((crowd_size + 1000))"
need_packages "${atoll_packages[@]}" libcurl4-openssl-dev libjansson-dev util-linux
build_programs atoll atoll-load

atoll=$build/atoll load=$build/loadtest/atoll-load last_core=$(($(nproc) - 1))
tmp=$(mktemp -d "${dir:-$build}/safety.XXXXXX")
data=$tmp/data pid="" url="" crowd="" token="" other=""
cleanup() {
    { [[ -z $crowd ]] || kill -KILL "$crowd"; } 2>/dev/null || true
    { [[ -z $pid ]] || kill -KILL "$pid"; } 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

head -c 48 /dev/urandom >"$tmp/key"
make_token() {
    "$atoll" token --key "$tmp/key" --sub a1 --sid '*' --scope read,write --ttl 1h
}
token=$(make_token) other=$(make_token)
[[ $token != "$other" ]] || fail "two tokens are one"

# ---- the server

# start OPTION...
start() {
    local tries=0
    rm -rf "$data"
    : >"$tmp/atoll.out"
    taskset -c 0 "$atoll" serve --shards 1 --durability commit --listen 127.0.0.1:0 \
        --data "$data" --max-connections 20000 "$@" ${atoll_options[@]+"${atoll_options[@]}"} \
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

# figures PREFIX FILE: keeps those of a report as PREFIX.NAME.
figures() {
    local name value
    while read -r name value; do
        keep "$1.$name" "$value"
    done < <(node -e '
        const report = JSON.parse(require("fs").readFileSync(0, "utf8"));
        for (const [name, value] of Object.entries(report.figures)) console.log(name, value);
        for (const [name, latency] of Object.entries(report.latency ?? {}))
            for (const part of ["p50", "p99", "max"]) console.log(`${name}.${part}`, latency[part]);
        ' <"$2")
}

# measure PREFIX OPTION...: messages posted to the server that runs.
measure() {
    local name
    taskset -c "$last_core" "$load" post --url "$url" --pid "$pid" --quiet --json - \
        --seconds "$seconds" "${@:2}" >"$tmp/report" ||
        fail "atoll-load post ${*:2} has failed: $(cat "$tmp/report")"
    figures "$1" "$tmp/report"
    note "$1: $(for name in per_s server_cpu_us answer_us.p99 load_cpu_percent; do
        printf '%s=%s ' "$name" "$(tail -n 1 "$tmp/$1.$name.samples")"
    done)"
}

# gather OPTION...: a crowd, until it is sent away.
gather() {
    local tries=0
    : >"$tmp/crowd.err"
    chrt --idle 0 taskset -c "$last_core" "$load" crowd --url "$url" --quiet --json - "$@" \
        >"$tmp/crowd" 2>"$tmp/crowd.err" &
    crowd=$!
    until grep -q begun "$tmp/crowd.err"; do
        kill -0 "$crowd" 2>/dev/null && ((++tries < 6000)) ||
            fail "the crowd did not come: $(cat "$tmp/crowd.err")"
        sleep 0.01
    done
}

# send_away PREFIX
send_away() {
    kill -TERM "$crowd"
    wait "$crowd" || fail "the crowd ended with status $?: $(cat "$tmp/crowd" "$tmp/crowd.err")"
    crowd=""
    figures "$1" "$tmp/crowd"
}

figure() {
    printf '%.1f' "$(median "$1")"
}

# ---- the parts

# Which of the two goes first changes with each round: what the machine does meanwhile meets both.
part_auth() {
    local round form forms
    for ((round = 1; round <= rounds; round++)); do
        note "auth: round $round of $rounds"
        forms=(open token)
        ((round % 2)) || forms=(token open)
        for form in "${forms[@]}"; do
            if [[ $form == open ]]; then
                start
                measure auth.open
            else
                start --auth-key "$tmp/key"
                measure auth.token --token "$token"
            fi
            stop
        done
    done
    row "messages/s with a token, and without keys" "$(figure auth.token.per_s)" \
        "$(figure auth.open.per_s)" ">= 0.95"
    row "us of the server's CPU for each, the same two" \
        "$(figure auth.token.server_cpu_us)" "$(figure auth.open.server_cpu_us)" "<= 1.05"
}

part_flood() {
    local round name
    for ((round = 1; round <= rounds; round++)); do
        note "flood: round $round of $rounds"
        start --auth-key "$tmp/key" --rate-token 2000/s
        measure flood.calm --token "$token" --rate 1000
        gather --kind flood --token "$other" # into a session that the calm run has made
        measure flood.beside --token "$token" --rate 1000 --prefix beside
        send_away flood.crowd
        note "flood.crowd: $(for name in answers_per_s good limited busy other; do
            printf '%s=%s ' "$name" "$(tail -n 1 "$tmp/flood.crowd.$name.samples")"
        done)"
        stop
    done
    row "us until a message is answered, p99, beside a flood, and without" \
        "$(figure flood.beside.answer_us.p99)" "$(figure flood.calm.answer_us.p99)" ""
    row "the first of these in ms" "$(calc "$(median flood.beside.answer_us.p99) / 1000")" "" "< 10"
    row "answers/s that the flood was given" "$(figure flood.crowd.answers_per_s)" "" ""
}

part_slow() {
    local round
    for ((round = 1; round <= rounds; round++)); do
        note "slow: round $round of $rounds"
        start
        measure slow.alone
        gather --kind slow --connections "$crowd_size"
        measure slow.beside --prefix beside
        send_away slow.crowd
        stop
    done
    row "messages/s beside $crowd_size slow connections, and without" \
        "$(figure slow.beside.per_s)" "$(figure slow.alone.per_s)" "> 0.8"
    row "of them opened again, as the server had closed them" \
        "$(calc "$(median slow.crowd.opened) - $crowd_size")" "" ""
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
