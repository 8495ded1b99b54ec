#!/usr/bin/env bash
# Repeats the measurements of history: loadtest/history.sh [--only PARTS] [--scale F] [--rounds N]
#     [--seconds N] [--dir DIR] [--build DIR] [--no-build] [--atoll-option OPTION]...
#
# Parts, all of them by default, or some, separated by commas:
#   recovery    starts after kill -9 and after a clean stop, 10 million events in 10 000 sessions
#   idle        1 million idle sessions: start and memory; memory of a small active one
#   command     commands to a session with 5 million events, against a fresh one
#   past        ?at= at 200 random places of a session with 1 million events
#   compaction  appending while a compaction rewrites, against appending alone
#   neighbour   commands to one session while the long history of others on its shard is read
#
# Normal path: build the server and the programs of this folder (release, in build/), and for each
# part start a server on an empty directory, fill it through the API, measure, and print rows of a
# markdown table with the goals. Every part also says how many turns of a reactor took longer than
# 2 ms, from /v1/status; "preempted" is how often the kernel took a core from a reactor meanwhile.
# Data lies in DIR/history.* (default build/), 12 GB at most, and is removed at the end, however it
# ends. One server runs at a time. "One shard" is a server with --shards 1, whose reactor has core 0,
# against a load on the last one; else both have all cores.
#
# Answers are checked: status, seqs, number of sessions. --scale 0.01 makes everything that much
# smaller: a try-out, whose figures say nothing about the goals.
# Exit status: 0, 1 when a check or a program fails (at once), 3 when only a goal is missed.
# shellcheck disable=SC2015,SC2059,SC2317
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
# shellcheck source=loadtest/measure.sh
source "$root/loadtest/measure.sh"

all_parts=recovery,idle,command,past,compaction,neighbour
rounds=5 seconds=5 scale=1 build=$root/build dir="" parts=$all_parts must_build=yes atoll_options=()
while (($#)); do
    case $1 in
    --only) parts=${2:?} && shift 2 ;;
    --scale) scale=${2:?} && shift 2 ;;
    --rounds) rounds=${2:?} && shift 2 ;;
    --seconds) seconds=${2:?} && shift 2 ;;
    --dir) dir=${2:?} && shift 2 ;;
    --build) build=${2:?} && shift 2 ;;
    --no-build) must_build="" && shift ;;
    --atoll-option) atoll_options+=("${2:?}") && shift 2 ;;
    *)
        echo "usage: loadtest/history.sh [--only $all_parts] [--scale F] [--rounds N]" \
            "[--seconds N] [--dir DIR] [--build DIR] [--no-build]" \
            "[--atoll-option OPTION]..." >&2
        exit 2
        ;;
    esac
done
for part in ${parts//,/ }; do
    [[ ,$all_parts, == *,$part,* ]] || fail "--only $part: a part is one of $all_parts"
done

(($(nproc) >= 2)) || fail "needs two cores, one for the server and one for the load"
need_packages "${atoll_packages[@]}" libcurl4-openssl-dev libjansson-dev curl util-linux
if [[ -n $must_build ]]; then # else the tree's programs are taken as they are
    note "Building"
    for target in atoll atoll-load; do
        build_tree "$build" "$target" -DCMAKE_BUILD_TYPE=Release -DATOLL_LOADTEST=ON
    done
fi

atoll=$build/atoll programs=$build/loadtest last_core=$(($(nproc) - 1))
tmp=$(mktemp -d "${dir:-$build}/history.XXXXXX")
data=$tmp/data pid="" url="" fill_per_s="" background=()
cleanup() {
    { [[ -z $pid ]] || kill -KILL "$pid"; } 2>/dev/null || true
    { ((${#background[@]} == 0)) || kill -KILL "${background[@]}"; } 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
mkfifo "$tmp/url"

need_space "$(calc "12 * $scale + 1")"

# ---- the server

# start OPTION...: a server on $data; sets pid, url, start_s (until it says its URL).
start() {
    local began=$EPOCHREALTIME
    "$atoll" serve --listen 127.0.0.1:0 --grace 1h --data "$data" "$@" \
        ${atoll_options[@]+"${atoll_options[@]}"} >"$tmp/url" 2>>"$tmp/err" &
    pid=$!
    read -r url <"$tmp/url" || fail "the server did not start: $(tail -n 3 "$tmp/err")"
    start_s=$(calc "$EPOCHREALTIME - $began")
    slow_base=0 turns_base=0 preempted_base=0
}

# stop: a clean one; sets stop_s.
stop() {
    local began=$EPOCHREALTIME status=0
    kill -TERM "$pid"
    wait "$pid" || status=$?
    pid=""
    stop_s=$(calc "$EPOCHREALTIME - $began")
    ((status == 0)) || fail "the server stopped with status $status: $(tail -n 3 "$tmp/err")"
}

crash() {
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    pid=""
}

# uncache: no file of $data stays in the page cache.
uncache() {
    local file
    for file in "$data"/*; do
        dd of="$file" oflag=nocache conv=notrunc,fdatasync count=0 status=none
    done
}

read_status() {
    status=$(curl -sf "$url/v1/status") || fail "/v1/status does not answer"
}

# figure NAME: of the status read last, the sum over all shards (or reactors).
figure() {
    grep -o "\"$1\":[0-9]*" <<<"$status" | awk -F: '{ sum += $2 } END { printf "%.0f\n", sum }'
}

rss_mb() {
    awk '/^VmRSS/ { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/$pid/status"
}

# until_is NAME COMPARISON: waits until a figure of the status compares so, ten minutes at most.
until_is() {
    local tries=0
    read_status
    until awk "BEGIN { exit !($(figure "$1") $2) }"; do
        ((++tries < 6000)) || fail "waited in vain for $1 $2"
        sleep 0.1
        read_status
    done
}

# preempted: how often the kernel took the core from a reactor.
preempted() {
    local task
    for task in "/proc/$pid/task"/*; do
        [[ $(<"$task/comm") != atoll ]] || cat "$task/status"
    done | awk '/^nonvoluntary_ctxt/ { sum += $2 } END { printf "%.0f\n", sum }'
}

# turns WHAT: a row on the turns since the last one of the same server.
turns() {
    local slow all longest preempted_now
    read_status
    slow=$(($(figure le_4096) + $(figure le_8192) + $(figure over_8192)))
    all=$(figure turns)
    longest=$(grep -o '"turn_longest_us":[0-9]*' <<<"$status" | cut -d: -f2 | sort -n | tail -n 1)
    preempted_now=$(preempted)
    row "turns over 2 ms of $((all - turns_base)), $1 (longest yet $longest us, preempted \
$((preempted_now - preempted_base)) times)" $((slow - slow_base)) "" "== 0"
    slow_base=$slow turns_base=$all preempted_base=$preempted_now
}

# ---- load

# load CORES MODE OPTION...: one run of atoll-load, which has to find nothing wrong; sets out.
load() {
    out=$(taskset -c "$1" "$programs/atoll-load" "$2" --url "$url" --quiet --json - "${@:3}") ||
        fail "atoll-load ${*:2} has failed: $out"
}

# fill OPTION...: sets fill_per_s.
fill() {
    load "0-$last_core" fill "$@"
    fill_per_s=$(field per_s)
}

# latency CORES OPTION...: requests of one kind.
latency() {
    load "$1" request "${@:2}"
}

# field NAME: a figure of the last run; p50_us, p99_us and max_us are its answers'.
field() {
    case $1 in
    p50_us | p99_us | max_us)
        sed -n "s/^ *\"answer_us\": .*\"${1%_us}\": \([^,}]*\).*/\1/p" <<<"$out"
        ;;
    *) sed -n "s/^ *\"$1\": \([0-9.]*\),*\$/\1/p" <<<"$out" ;;
    esac
}

ms() {
    calc "$(field "$1") / 1000"
}

# load_in_background OPTION...: requests from core 1, at low priority, until stop_background.
load_in_background() {
    taskset -c "$last_core" nice -n 19 "$programs/atoll-load" request --url "$url" \
        --seconds 3600 --quiet --json - "$@" >"$tmp/background.${#background[@]}" &
    background+=($!)
}

# stop_background: sets answered, the requests of all.
stop_background() {
    local i
    answered=0
    for i in "${!background[@]}"; do
        kill -TERM "${background[$i]}" && wait "${background[$i]}" ||
            fail "a load in the background has failed"
        out=$(<"$tmp/background.$i")
        answered=$((answered + $(field operations)))
    done
    background=()
}

message='{"type":"message.send","thread":"work","sender":"a1","content":"'
message=$message$(printf 'x%.0s' {1..64})'"}'
nothing='{"type":"agent.register","agent":"a1"}' # again: it changes nothing, and is not written

# sum_seqs PREFIX SESSIONS: from their ETags.
sum_seqs() {
    curl -s -o /dev/null -w '%header{etag}\n' "$url/v1/sessions/${1}[0-$(($2 - 1))]" | tr -d '"' |
        awk -F- '{ sum += $NF } END { printf "%.0f\n", sum }'
}

part_begins() {
    note "$1"
    rm -rf "$data"
}

# ---- the parts

part_recovery() {
    local sessions round what
    sessions=$(scaled 10000)
    what="$((sessions * 1000)) events in $sessions sessions"
    part_begins "recovery: filling, $what"
    start
    fill --prefix r --sessions "$sessions" --events 1000 --batch 100
    row "events/s of the fill: $what, 130 bytes each, batches of 100" "$fill_per_s" "" ""
    turns "filling"
    what="$what, $(($(figure bytes) / 1000000)) MB of log"
    crash
    mv "$data" "$tmp/crashed"
    for ((round = 1; round <= rounds; round++)); do
        note "recovery: kill -9, round $round of $rounds"
        cp -a "$tmp/crashed" "$data"
        sync "$data"/*
        start
        keep crash.s "$start_s"
        if ((round == 1)); then
            read_status
            (($(figure sessions) == sessions)) || fail "$(figure sessions) sessions recovered"
            (($(sum_seqs r "$sessions") == sessions * 1000)) || fail "events are missing"
            turns "recovering and reading every session once"
        fi
        crash
        rm -rf "$data"
        cp -a "$tmp/crashed" "$data"
        uncache
        start
        keep crash-cold.s "$start_s"
        ((round == rounds)) || { crash && rm -rf "$data"; }
    done
    rm -rf "$tmp/crashed"
    row "start after kill -9, s: $what" "$(median crash.s)" "" "< 6"
    row "the same, nothing in the page cache" "$(median crash-cold.s)" "" "< 6"
    note "recovery: clean stops"
    (($(sum_seqs r "$sessions") == sessions * 1000)) || fail "events are missing"
    turns "reading every session once"
    stop
    row "clean stop, s, all sessions in memory" "$stop_s" "" ""
    for ((round = 1; round <= rounds; round++)); do
        start
        keep clean.s "$start_s"
        stop
        uncache
        start
        keep clean-cold.s "$start_s"
        ((round == rounds)) || stop
    done
    row "start after a clean stop, s: the same sessions" "$(median clean.s)" "" "< 1"
    row "the same, nothing in the page cache" "$(median clean-cold.s)" "" "< 1"
    (($(sum_seqs r "$sessions") == sessions * 1000)) || fail "events are missing"
    stop
    recovery_without_checkpoint "$sessions"
}

# The least that a checkpoint is good for: none was ever written, so all of the log is read.
recovery_without_checkpoint() {
    local sessions=$1
    part_begins "recovery: without a checkpoint"
    start --checkpoint-bytes 64GiB
    fill --prefix r --sessions "$sessions" --events 1000 --batch 100
    crash
    start --checkpoint-bytes 64GiB
    row "start after kill -9, s: as many where no checkpoint was written, once" "$start_s" "" ""
    read_status
    (($(figure sessions) == sessions)) || fail "$(figure sessions) sessions recovered"
    stop
}

# bytes_each NAME BEFORE SESSIONS
bytes_each() {
    awk "BEGIN { printf \"%.1f\", ($(figure "$1") - $2) / $3 }"
}

part_idle() {
    local sessions small round before what
    sessions=$(scaled 1000000) small=$(scaled 10000 100)
    part_begins "idle: a small active session"
    start --idle-passivate 0ms
    read_status
    before=$(figure memory_bytes)
    fill --prefix small --sessions "$small" --agents 3 --events 15 --batch 15 --bytes 130
    read_status
    row "bytes of a small active session (3 agents, 1 thread, 10 messages of 64 bytes)" \
        "$(bytes_each memory_bytes "$before" "$small")" "" "<= 8192"
    stop

    what="$sessions idle sessions (2 events, 2 labels each)"
    part_begins "idle: $what"
    start --idle-passivate 1s
    fill --prefix i --sessions "$sessions" --events 2 --batch 2 --connections 128
    row "events/s of the fill, 2 a request" "$fill_per_s" "" ""
    until_is active "== 0"
    (($(figure sessions) == sessions)) || fail "$(figure sessions) sessions, not $sessions"
    row "bytes of an idle session, after it was active" \
        "$(bytes_each memory_bytes 0 "$sessions")" "" "<= 128"
    row "RSS, MB: $what, after all were active" "$(rss_mb)" "" "< 200"
    turns "filling and passivating"
    stop
    row "clean stop, s" "$stop_s" "" ""
    for ((round = 1; round <= rounds; round++)); do
        start
        keep idle.s "$start_s"
        read_status
        (($(figure sessions) == sessions)) || fail "$(figure sessions) sessions, not $sessions"
        keep idle.rss "$(rss_mb)"
        keep idle.bytes "$(bytes_each memory_bytes 0 "$sessions")"
        ((round < rounds)) || turns "starting with them"
        stop
    done
    uncache
    start
    row "start after a clean stop, s: $what" "$(median idle.s)" "" "< 3"
    row "the same, nothing in the page cache, once" "$start_s" "" "< 3"
    row "RSS after that start, MB" "$(median idle.rss)" "" "< 200"
    row "bytes of an idle session after that start" "$(median idle.bytes)" "" "<= 128"
    stop
}

# command_load KEY SESSION CONNECTIONS: one run; keeps p50, requests/s and CPU.
command_load() {
    latency "$last_core" --pid "$pid" --connections "$3" --seconds "$seconds" \
        "/v1/sessions/$2/commands" "$message"
    keep "$1.p50" "$(field p50_us)"
    keep "$1.per_s" "$(field per_s)"
    keep "$1.cpu" "$(field server_cpu_us)"
}

part_command() {
    local events round connections session fresh first
    events=$(scaled 5000000 1000)
    part_begins "command: a session with $events events"
    start --shards 1
    fill --prefix big --events "$events" --batch 1000
    row "events/s of the fill: one session, batches of 1000" "$fill_per_s" "" ""
    turns "filling one session"
    for ((round = 0; round <= rounds; round++)); do
        note "command: round $round of $rounds (0 is to warm up)"
        for connections in 1 64; do
            fresh=fresh$round-$connections-
            fill --prefix "$fresh" --events 3
            # Whoever is first in one round is second in the next.
            for session in $( ((round % 2)) && echo big0 "${fresh}0" || echo "${fresh}0" big0); do
                if ((round == 0)); then
                    command_load "warm-up" "$session" "$connections"
                else
                    command_load "${session%%[0-9]*}$connections" "$session" "$connections"
                fi
            done
        done
    done
    turns "taking commands"
    for connections in 1 64; do
        command_rows "$connections" "$events"
    done
    stop
    start --shards 1
    latency "$last_core" --count 1 /v1/sessions/big0/commands "$message"
    first=$(ms max_us)
    latency "$last_core" --count 1 "/v1/sessions/${fresh}0/commands" "$message"
    row "first command after a restart, ms: $events events (what was fresh)" "$first" \
        "$(ms max_us)" ""
    stop
}

# command_rows CONNECTIONS EVENTS
command_rows() {
    local name="$1 at once, one shard: $2 events (fresh)" big=big$1 fresh=fresh$1
    row "p50 us of a command, $name" "$(median "$big.p50")" "$(median "$fresh.p50")" "<= 1.10"
    row "server CPU us/command, $name" "$(median "$big.cpu")" "$(median "$fresh.cpu")" "<= 1.10"
    row "commands/s, $name" "$(median "$big.per_s")" "$(median "$fresh.per_s")" ">= 0.90"
}

# past_rows SESSION WHAT EVENTS: 200 random places, while it is in memory.
past_rows() {
    latency "$last_core" --count 200 --range "1-$3" "/v1/sessions/$1?at={}"
    row "?at= of 200 random seqs, p50 ms, $2" "$(ms p50_us)" "" ""
    row "?at= of 200 random seqs, p99 ms, $2" "$(ms p99_us)" "" ""
    row "?at= of 200 random seqs, max ms, $2" "$(ms max_us)" "" "< 20"
}

part_past() {
    local events session what
    events=$(scaled 1000000 1000)
    part_begins "past: two sessions of $events events"
    start --shards 1
    fill --prefix batches --events "$events"
    fill --prefix singles --events 3
    latency "$last_core" --connections 64 --count $((events - 3)) \
        /v1/sessions/singles0/commands "$message"
    row "commands/s, $events one by one to one session, 64 connections, one shard" \
        "$(field per_s)" "" ""
    turns "filling"
    for session in batches singles; do
        note "past: $session"
        what="$events events written as $session"
        past_rows "${session}0" "$what" "$events"
    done
    turns "answering ?at="
    for session in batches singles; do
        what="$events events written as $session"
        stop
        start --shards 1
        latency "$last_core" --count 1 --range "$((events / 2))-$((events / 2))" \
            "/v1/sessions/${session}0?at={}"
        row "first ?at= after a restart, ms, $what" "$(ms max_us)" "" "< 20"
        stop
        uncache
        start --shards 1
        past_rows "${session}0" "$what, nothing in the page cache at first" "$events"
        turns "answering them"
    done
    stop
}

# slow_jobs_io: bytes that the threads for slow jobs, which compact, have read and written.
slow_jobs_io() {
    local task
    for task in "/proc/$pid/task"/*; do
        [[ $(<"$task/comm") != atoll-slow-jobs ]] || cat "$task/io"
    done | awk '/^rchar/ { r += $2 } /^wchar/ { w += $2 } END { printf "%.0f %.0f\n", r, w }'
}

# append_load CORES KEY: single commands to 256 sessions over 64 connections.
append_load() {
    latency "$1" --connections 64 --seconds "$seconds" --range 0-255 \
        "/v1/sessions/load{}/commands" "$message"
    keep "$2" "$(field per_s)"
}

# compaction_round NAME CORES SESSIONS ROUND: without a compaction, and with one.
compaction_round() {
    local name=$1 cores=$2 sessions=$3 prefix=g$4- read0 written0 read1 written1 began took
    fill --prefix "$prefix" --sessions "$sessions" --events 1000 --bytes 1100
    append_load "$cores" "$name.alone"
    read -r read0 written0 < <(slow_jobs_io)
    curl -sf -o /dev/null -X DELETE "$url/v1/sessions/${prefix}[0-$((sessions - 1)):2]" ||
        fail "sessions could not be deleted"
    took=0
    # Only compacting reads; new segments are filled with zeros by these threads, too.
    until read -r read1 written1 < <(slow_jobs_io) && ((read1 - read0 >= 1000000)); do
        ((++took < 1200)) || fail "no compaction has begun for 60 s: $(tail -n 3 "$tmp/err")"
        sleep 0.05
    done
    read -r read0 written0 < <(slow_jobs_io)
    began=$EPOCHREALTIME
    append_load "$cores" "$name.beside"
    took=$(calc "$EPOCHREALTIME - $began")
    read -r read1 written1 < <(slow_jobs_io)
    read_status
    (($(figure deleted_waiting_bytes) > 0)) ||
        note "compaction: it was over before the load was; the round says little"
    keep "$name.through" "$(calc "($read1 - $read0) / 2 / 1e6 / $took")"
    keep "$name.written" "$(calc "($written1 - $written0) / 1e6 / $took")"
    until_is deleted_waiting "== 0"
}

# compaction_of NAME CORES OPTION...
compaction_of() {
    local name=$1 cores=$2 sessions round
    sessions=$(scaled 700 4)
    part_begins "compaction: $name"
    start --compact-after 0ms "${@:3}"
    fill --prefix load --sessions 256 --events 3
    append_load "$cores" warm-up
    turns "appending, $name"
    for ((round = 1; round <= rounds; round++)); do
        note "compaction: $name, round $round of $rounds"
        compaction_round "$name" "$cores" "$sessions" "$round"
    done
    row "commands/s while a compaction runs (without), $name" "$(median "$name.beside")" \
        "$(median "$name.alone")" ">= 0.90"
    row "MB/s of log that this compaction goes through, half of it garbage" \
        "$(median "$name.through")" "" ">= 50"
    row "MB/s that its threads write: what stays of it, and the log's next segments" \
        "$(median "$name.written")" "" ""
    turns "filling, appending, deleting and compacting, $name"
    read_status
    row "segments compacted in these $rounds rounds of $((sessions * 1100 / 1000)) MB, $name" \
        "$(figure compactions)" "" ""
    stop
}

part_compaction() {
    compaction_of "one shard" "$last_core" --shards 1
    compaction_of "all cores" "0-$last_core"
}

# neighbour_rows WHAT: one row for each kind of command to a second session, beside what runs in the
# background. The first time that is nothing, and the others are compared with it: 2 ms more at most.
neighbour_rows() {
    local what=$1 kind body goal
    for kind in "a command that writes nothing" "a message.send"; do
        body=$nothing
        [[ $kind != *send ]] || body=$message
        latency "$last_core" --seconds "$seconds" /v1/sessions/probe0/commands "$body"
        if [[ $what == idle ]]; then
            idle_max[$kind]=$(field max_us)
            idle_says[$kind]="p50 $(field p50_us), p99 $(field p99_us)"
            row "max us of $kind, idle (${idle_says[$kind]})" "$(field max_us)" "" ""
        else
            goal="<= $(calc "(${idle_max[$kind]} + 2000) / ${idle_max[$kind]}")"
            row "max us of $kind, $what (p50 $(field p50_us), p99 $(field p99_us)), idle \
(${idle_says[$kind]})" "$(field max_us)" "${idle_max[$kind]}" "$goal"
        fi
    done
    if ((${#background[@]} != 0)); then
        stop_background
        ((answered > 0)) || note "neighbour: $what: no answer was complete before the end"
        row "answers meanwhile, $what" "$answered" "" ""
    fi
    turns "$what"
}

part_neighbour() {
    local events sessions
    local -A idle_max=() idle_says=()
    events=$(scaled 1000000 1000) sessions=$(scaled 100000 100)
    part_begins "neighbour: a session of $events events, $sessions passive ones"
    start --shards 1 --idle-passivate 1s
    fill --prefix probe --events 3
    fill --prefix long --events "$events"
    fill --prefix p --sessions "$sessions" --events 10 --batch 10 --connections 128
    until_is active "== 0"
    turns "filling and passivating"
    neighbour_rows idle
    note "neighbour: pages of events"
    load_in_background --page next '/v1/sessions/long0/events?limit=1000'
    neighbour_rows "pages of 1000 events"
    note "neighbour: filtered events"
    load_in_background --page next '/v1/sessions/long0/events?limit=1000&type=session.closed'
    neighbour_rows "events of a type that is not there"
    note "neighbour: export"
    load_in_background /v1/sessions/long0/export
    neighbour_rows "export"
    note "neighbour: label search"
    load_in_background --page cursor '/v1/sessions?limit=1000&label=part:p7'
    neighbour_rows "label search"
    note "neighbour: ?at="
    load_in_background --connections 8 --range "1-$events" '/v1/sessions/long0?at={}'
    neighbour_rows "?at=, 8 at once"
    note "neighbour: all together"
    load_in_background --page next '/v1/sessions/long0/events?limit=1000'
    load_in_background /v1/sessions/long0/export
    load_in_background --page cursor '/v1/sessions?limit=1000&label=part:p7'
    load_in_background --range "1-$events" '/v1/sessions/long0?at={}'
    neighbour_rows "all together"
    stop
}

line='| %-110s | %10s | %10s | %6s | %-9s | %-3s |\n'
cat <<EOT
$(machine), medians of $rounds rounds of $seconds s, scale $scale

EOT
printf "$line" What Atoll Beside Ratio Goal Met --- --: --: --: --- ---
for part in ${parts//,/ }; do
    "part_$part"
done
exit $missed
