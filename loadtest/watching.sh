#!/usr/bin/env bash
# Repeats the measurements of watching: loadtest/watching.sh [--rounds N] [--seconds N] [--scale F]
#     [--dir DIR] [--build DIR] [--no-build] [--atoll-option OPTION]... [PART]...
#
# Parts, all of them by default:
#   fanout    1 000 watchers of one session without merging: against a bare loop of send() and nchan
#   merged    the same with writers that do not wait: patches merged for who is slow
#   latency   50 patches/s to 1 000 watchers: from sending a command to the last that read it
#   stopped   900 watchers, beside 100 that never read, and without these
#   idle      memory of 15 000 idle streams: of one session, and of 1 500
#   resume    1 000 watchers that come back at once after kill -9
#   socket    commands pipelined over one WebSocket
#
# Normal path: build the server and the programs of this folder (release, in build/), and for each
# part start a server on an empty directory, measure, and print rows of a markdown table with the
# goals, the server's counters of slow watchers, and how busy both sides were. What is compared is
# measured in alternating rounds (default 5 of 5 s), and rows are medians. The server has one shard
# on core 0, as have nchan's worker and the bare loop; atoll-load, which both reads all streams and
# writes, has the last core. Data lies in DIR/watching.* (default build/) and is removed at the end,
# however it ends.
#
# Everything that watchers are told is checked: no gap, no repetition, and at the end all of it; and
# what was written is read back.
# --scale 0.05 makes the numbers of watchers and events that much smaller: a try-out, whose figures
# say nothing about the goals.
# Exit status: 0, 1 when a check or a program fails (at once), 3 when only a goal is missed.
# shellcheck disable=SC2015,SC2059,SC2317
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
# shellcheck source=loadtest/measure.sh
source "$root/loadtest/measure.sh"

seconds=5
read_options "fanout merged latency stopped idle resume socket" "$@"

need_machine "16000"
need_packages "${atoll_packages[@]}" libcurl4-openssl-dev libjansson-dev curl util-linux
build_programs atoll atoll-load sendloop

atoll=$build/atoll programs=$build/loadtest last_core=$(($(nproc) - 1))
tmp=$(mktemp -d "${dir:-$build}/watching.XXXXXX")
data=$tmp/data pid="" url="" other_pid="" other_url=""
cleanup() {
    { [[ -z $pid ]] || kill -KILL "$pid"; } 2>/dev/null || true
    # nginx ends its worker itself, if it is asked to.
    { [[ -z $other_pid ]] || kill -TERM "$other_pid"; } 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- the server, and what it is compared with

# until_it_listens NAME PID: waits for the URL that a program prints; sets found.
until_it_listens() {
    local tries=0
    until found=$(grep -m1 -o 'http://[^ ]*' "$tmp/$1.out"); do
        kill -0 "$2" 2>/dev/null && ((++tries < 6000)) ||
            fail "$1 did not start: $(tail -n 3 "$tmp/$1.err")"
        sleep 0.01
    done
}

# start OPTION...: a server on $data; sets pid, url, start_s (until it says its URL).
start() {
    local began=$EPOCHREALTIME
    : >"$tmp/atoll.out"
    taskset -c 0 "$atoll" serve --shards 1 --durability commit --listen 127.0.0.1:0 \
        --data "$data" --max-connections 20000 "$@" ${atoll_options[@]+"${atoll_options[@]}"} \
        >"$tmp/atoll.out" 2>>"$tmp/atoll.err" &
    pid=$!
    until_it_listens atoll "$pid"
    url=$found
    start_s=$(calc "$EPOCHREALTIME - $began")
}

# crash: kill -9.
crash() {
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    pid=""
}

# begin PART OPTION...: a server on an empty directory.
begin() {
    note "$1"
    rm -rf "$data"
    start "${@:2}"
}

# finish PART: a row for each counter of slow watchers that is not 0, and the server stops.
finish() {
    local name value
    while read -r name value; do
        ((value == 0)) || row "$1: \"$name\" of all that, by /v1/status" "$value" "" ""
    done < <(counters)
    kill -TERM "$pid"
    wait "$pid" || fail "the server stopped with status $?: $(tail -n 3 "$tmp/atoll.err")"
    pid=""
}

# counters: those of /v1/status that say how streams are doing, summed over reactors and shards.
counters() {
    curl -sf "$url/v1/status" | grep -oE '"[a-z0-9_]+":[0-9]+' | tr -d '"' |
        grep -E 'stream|watch|merge|reset|snapshots_|lag|cut|slow|unread|feed|composed|socket' |
        awk -F: '{ sum[$1] += $2 } END { for (name in sum) print name, sum[name] }' | sort
}

start_sendloop() {
    taskset -c 0 "$programs/sendloop" --listen 127.0.0.1:0 --watchers "$1" --frames "${2:-1}" \
        >"$tmp/sendloop.out" 2>"$tmp/sendloop.err" &
    other_pid=$!
    until_it_listens sendloop "$other_pid"
    other_url=$found
}

nchan_module=/usr/lib/nginx/modules/ngx_nchan_module.so

start_nchan() {
    local port tries=0
    port=$(free_port)
    rm -rf "$tmp/nchan"
    mkdir "$tmp/nchan"
    sed "s|@MODULE@|$nchan_module|; s|@ADDRESS@|127.0.0.1:$port|" "$root/loadtest/rivals/nchan.conf" \
        >"$tmp/nchan/nginx.conf"
    taskset -c 0 nginx -p "$tmp/nchan" -c "$tmp/nchan/nginx.conf" -e "$tmp/nchan/error.log" \
        >"$tmp/nchan.out" 2>"$tmp/nchan.err" &
    other_pid=$!
    other_url=http://127.0.0.1:$port
    until curl -s -o "$tmp/answer" "$other_url/subscribe"; do
        kill -0 "$other_pid" 2>/dev/null && ((++tries < 1000)) ||
            fail "nginx did not start: $(tail -n 3 "$tmp/nchan.err")"
        sleep 0.01
    done
    nchan_worker=$(tr -d ' ' <"/proc/$other_pid/task/$other_pid/children")
    [[ -d /proc/$nchan_worker ]] || fail "nginx has not one worker"
}

stop_other() {
    kill -TERM "$other_pid" 2>/dev/null || true
    wait "$other_pid" 2>/dev/null || true
    other_pid=""
}

# ---- load

# load MODE URL OPTION...: one run of atoll-load, which has to find nothing wrong; sets out, its
# report, of which field NAME gives a figure, or, with NAME.p99 and the like, a latency in us.
load() {
    out=$(taskset -c "$last_core" "$programs/atoll-load" "$1" --url "$2" --quiet --json - "${@:3}") ||
        fail "atoll-load $* has failed: $out"
}

# watch URL OPTION...: the same, of which a line is told.
watch() {
    local name
    load watch "$@"
    for name in events_per_s patches_per_s messages_per_s bytes_each a_read merged resets \
        server_cpu_percent load_cpu_percent answer.p50 answer.p99 last.p99; do
        printf '%s=%s ' "$name" "$(value "$name")"
    done | note_line
}

# on_atoll OPTION...: watch, of the server that was started.
on_atoll() {
    watch "$url" --pid "$pid" --prefix w --seconds "$seconds" "$@"
}

# value NAME: a field of the last run; nothing where it has none of that name.
value() {
    case $1 in
    *.*) sed -nE "s/^ *\"${1%.*}_us\": .*\"${1#*.}\": ([^,}]*).*/\1/p" <<<"$out" ;;
    *) sed -nE "s/^ *\"$1\": (-?[0-9.]+(e-?[0-9]+)?),?\$/\1/p" <<<"$out" ;;
    esac
}

field() {
    value "$1" | grep . || fail "no $1 in: $out"
}

rounded() {
    printf '%.0f' "$(field "$1")"
}

note_line() {
    note "    $(cat)"
}

# keep_fields KEY NAME...: KEY.NAME becomes another sample for each.
keep_fields() {
    local name
    for name in "${@:2}"; do
        keep "$1.$name" "$(field "$name")"
    done
}

unmerged() {
    (($(field merged) + $(field resets) == 0)) ||
        fail "$(field merged) merged patches, $(field resets) resets where none were expected: $out"
}

same_frame() {
    awk "BEGIN { exit !($(field bytes_each) > 212 && $(field bytes_each) < 228) }" ||
        fail "a frame has $(field bytes_each) bytes, not about 220"
}

# busy KEY: both sides' load, for the name of a row.
busy() {
    printf 'server %.0f %%, reader %.0f %% of a core, %.1f frames a read' \
        "$(median "$1.server_cpu_percent")" "$(median "$1.load_cpu_percent")" \
        "$(median "$1.a_read")"
}

# ---- the parts

# fanout_round: each of the three once.
fanout_round() {
    local watchers=$1 ahead
    local figures=(patches_per_s server_cpu_percent load_cpu_percent a_read)
    for ahead in 4 32; do
        on_atoll --watchers "$watchers" --writers 16 --ahead "$ahead"
        unmerged
        same_frame
        keep_fields "fanout.atoll$ahead" "${figures[@]}" events_per_s
    done
    start_sendloop "$watchers"
    watch "$other_url" --target sendloop --pid "$other_pid" --seconds "$seconds" \
        --watchers "$watchers"
    same_frame
    keep_fields fanout.sendloop "${figures[@]}"
    stop_other
    for ahead in 4 32; do
        start_nchan
        watch "$other_url" --target nchan --pid "$nchan_worker" --seconds "$seconds" \
            --watchers "$watchers" --writers 16 --ahead "$ahead"
        same_frame
        keep_fields "fanout.nchan$ahead" "${figures[@]}" events_per_s
        stop_other
    done
}

part_fanout() {
    local watchers round key
    watchers=$(scaled 1000)
    need_packages nginx-light libnginx-mod-nchan
    begin fanout
    for ((round = 0; round <= rounds; round++)); do
        note "fanout: round $round of $rounds (0 is to warm up)"
        fanout_round "$watchers"
        ((round > 0)) || rm -f "$tmp"/fanout.*.samples
    done
    for key in atoll32 atoll4 sendloop nchan32 nchan4; do
        note "fanout.$key: $(busy "fanout.$key")"
    done
    fanout_row() {
        row "deliveries/s, $watchers watchers, $1: Atoll ($(busy "fanout.$2")), $4 \
($(busy "fanout.$3"))" "$(whole "fanout.$2.patches_per_s")" "$(whole "fanout.$3.patches_per_s")" "$5"
    }
    fanout_row "up to 32 events on the way" atoll32 sendloop "a bare loop of send()" ">= 0.8"
    fanout_row "up to 32 events on the way" atoll32 nchan32 nchan ">= 1.3"
    fanout_row "up to 4 events on the way" atoll4 sendloop "a bare loop of send()" ""
    fanout_row "up to 4 events on the way" atoll4 nchan4 nchan ""
    start_sendloop "$watchers" 64
    watch "$other_url" --target sendloop --pid "$other_pid" --seconds "$seconds" \
        --watchers "$watchers"
    stop_other
    row "deliveries/s that the reader can take: 64 frames a send (reader $(rounded \
        load_cpu_percent) %)" "$(rounded patches_per_s)" "" ""
    finish fanout
}

# whole KEY: a median without its decimals.
whole() {
    printf '%.0f' "$(median "$1")"
}

part_merged() {
    local watchers round
    local figures=(patches_per_s messages_per_s events_per_s server_cpu_percent load_cpu_percent
        a_read)
    watchers=$(scaled 1000)
    begin merged
    for ((round = 0; round <= rounds; round++)); do
        note "merged: round $round of $rounds (0 is to warm up)"
        on_atoll --watchers "$watchers" --writers 8 --batch 100
        keep_fields merged.note "${figures[@]}"
        on_atoll --watchers "$watchers" --writers 8 --batch 100 --write message --payload 64
        keep_fields merged.message "${figures[@]}"
        on_atoll --watchers "$watchers" --writers 64
        keep_fields merged.single "${figures[@]}"
        ((round > 0)) || rm -f "$tmp"/merged.*.samples
    done
    merged_row() {
        row "patches/s, $watchers watchers, $2: $(whole "merged.$1.events_per_s") \
events/s as $(whole "merged.$1.messages_per_s") messages/s ($(busy "merged.$1"))" \
            "$(whole "merged.$1.patches_per_s")" "" ">= 2e6"
    }
    merged_row note "8 writers of an agent's note, batches of 100"
    merged_row message "8 writers of 64-byte messages, batches of 100"
    merged_row single "64 writers of an agent's note, single commands"
    finish merged
}

part_latency() {
    local watchers round name
    watchers=$(scaled 1000)
    begin latency
    for ((round = 0; round <= rounds; round++)); do
        note "latency: round $round of $rounds (0 is to warm up)"
        on_atoll --watchers "$watchers" --writers 1 --rate 50 --seconds "$(calc "4 * $seconds")"
        unmerged
        keep_fields latency late {answer,delivery,last,last_send}.{p50,p99,max}
        ((round > 0)) || rm -f "$tmp"/latency.*.samples
    done
    latency_row() {
        row "us, $watchers watchers, 50 patches/s, $1: p50 $(whole "latency.$2.p50"), max \
$(whole "latency.$2.max"); p99" "$(whole "latency.$2.p99")" "" "$3"
    }
    latency_row "from sending the command to its answer" answer ""
    latency_row "from its answer until a watcher has read it" delivery "<= 20000"
    latency_row "from its answer until the last has read it" last "<= 20000"
    latency_row "from sending the command until the last has read it" last_send "<= 20000"
    finish latency
}

# stopped_round NAME OPTION...: with and without; who is first changes.
stopped_round() {
    local name=$1 with stopped
    stopped=$(scaled 100)
    for with in $( ((round % 2)) && echo "0 $stopped" || echo "$stopped 0"); do
        on_atoll --watchers "$(scaled 900)" --warmup 3 --stopped "$with" "${@:2}"
        ((with == 0)) || (($(field stopped_merged) + $(field stopped_resets) > 0)) ||
            note "stopped: nobody was left behind; the round says little"
        keep_fields "stopped.$name.$((with > 0))" patches_per_s events_per_s answer.p50 \
            answer.p99 server_cpu_percent load_cpu_percent a_read
    done
}

part_stopped() {
    local round
    begin stopped
    for ((round = 0; round <= rounds; round++)); do
        note "stopped: round $round of $rounds (0 is to warm up)"
        stopped_round steady --writers 1 --rate 100
        stopped_round paced --writers 16 --ahead 32
        stopped_round fast --writers 8 --batch 100
        ((round > 0)) || rm -f "$tmp"/stopped.*.samples
    done
    stopped_row() {
        row "$3, $2, beside $(scaled 100) stopped ones (without)" \
            "$(printf %.1f "$(median "stopped.$1.1.$4")")" \
            "$(printf %.1f "$(median "stopped.$1.0.$4")")" "$5"
    }
    local name what
    for name in steady paced fast; do
        case $name in
        steady) what="one writer, 100 commands/s" ;;
        paced) what="16 writers, up to 32 events on the way" ;;
        fast) what="8 writers, batches of 100, merged" ;;
        esac
        [[ $name == steady ]] ||
            stopped_row "$name" "$what" "events/s of the writers" events_per_s ">= 0.95"
        [[ $name == steady ]] ||
            stopped_row "$name" "$what" "patches/s to $(scaled 900) watchers" patches_per_s ">= 0.95"
        stopped_row "$name" "$what" "p50 us of an answer" answer.p50 "<= 1.10"
        stopped_row "$name" "$what" "p99 us of an answer" answer.p99 ""
        [[ $name != steady ]] || stopped_row "$name" "$what" "server CPU, %" server_cpu_percent ""
    done
    finish stopped
}

# idle_streams SESSIONS
idle_streams() {
    local sessions=$1 streams
    streams=$(scaled 15000)
    begin "idle, $sessions sessions"
    load idle "$url" --pid "$pid" --prefix w --streams "$streams" --sessions "$sessions" \
        --warmup 20 --seconds 10
    row "bytes of the server for each of $streams idle streams, $sessions session(s), as they begin" \
        "$(rounded stream_bytes)" "" "<= 10240"
    row "the same 30 s later, when each has had a heartbeat" "$(rounded rested_bytes)" "" "<= 10240"
    row "bytes of the kernel's slabs for each, both ends of the connection" \
        "$(rounded kernel_bytes)" "" ""
    row "server CPU, % of a core, idle for 10 s" "$(field server_cpu_percent)" "" ""
    row "us until the last of all had the one event that was written then" "$(rounded last.max)" "" ""
    finish "idle, $sessions session(s)"
}

part_idle() {
    idle_streams 1
    idle_streams "$(scaled 1500)"
}

# stream_id: that of the session's state as it is now.
stream_id() {
    local line="" fd reader
    exec {fd}< <(exec curl -sN "$url/v1/sessions/w0/stream")
    reader=$!
    until [[ $line == id:* ]]; do
        read -r line <&"$fd" || fail "a stream without an id"
    done
    kill "$reader"
    exec {fd}<&-
    printf '%s\n' "${line#id: }"
}

# resume_round EVENTS: that many are missed, the server is killed, and all come back at once.
resume_round() {
    local missed=$1 id seq head
    rm -rf "$data"
    start
    load fill "$url" --prefix w --events 10000 --batch 100 --bytes 220
    id=$(stream_id)
    seq=$(cut -d- -f2 <<<"$id")
    load request "$url" --connections 16 --count "$missed" /v1/sessions/w0/commands "$message"
    head=$(stream_id | cut -d- -f2)
    ((head == seq + missed)) || fail "the session stands at $head, not at $((seq + missed))"
    crash
    start
    load watch "$url" --prefix w --watchers "$(scaled 1000)" --from "$seq" --last-event-id "$id" \
        --until "$head"
    (($(field resets) == 0)) || fail "$(field resets) watchers began anew instead of going on"
    keep_fields "resume$missed" first_ms level_ms mb
    keep "resume$missed.all_ms" "$(calc "$start_s * 1000 + $(field level_ms)")"
}

part_resume() {
    local round missed what message
    message=$(printf '{"type":"message.send","thread":"work","sender":"a1","content":"%0100d"}' 0)
    note resume
    for ((round = 1; round <= rounds; round++)); do
        for missed in 100 1000; do
            note "resume: round $round of $rounds, $missed events missed"
            resume_round "$missed"
            ((round == rounds && missed == 1000)) || crash
        done
    done
    for missed in 100 1000; do
        what="$(scaled 1000) watchers come back after kill -9, $missed events missed"
        row "ms until the last has its first patch, $what" "$(median "resume$missed.first_ms")" \
            "" "< 2000"
        row "ms until the last is level ($(median "resume$missed.mb") MB to all)" \
            "$(median "resume$missed.level_ms")" "" "< 2000"
        row "the same with the server's start" "$(median "resume$missed.all_ms")" "" "< 2000"
    done
    finish resume
}

# socket_run KEY OPTION...
socket_run() {
    load ws "$url" --pid "$pid" --prefix w --payload 128 --seconds "$seconds" "${@:2}"
    note "    $1: $(field per_s) commands/s"
    keep_fields "socket.$1" per_s server_cpu_percent load_cpu_percent answer.p50 answer.p99
}

part_socket() {
    local round window
    begin socket
    for ((round = 0; round <= rounds; round++)); do
        note "socket: round $round of $rounds (0 is to warm up)"
        for window in 256 1024 4096; do
            socket_run "all$window" --window "$window"
            socket_run "none$window" --window "$window" --path "/v1/sessions/w0/ws?path=/labels"
        done
        ((round > 0)) || rm -f "$tmp"/socket.*.samples
    done
    socket_row() {
        row "commands/s over one WebSocket, $2 unanswered, $3 (p50 $(whole \
            "socket.$1$2.answer.p50"), p99 $(whole "socket.$1$2.answer.p99") us; server \
$(whole "socket.$1$2.server_cpu_percent") %, client \
$(whole "socket.$1$2.load_cpu_percent") % of a core)" \
            "$(whole "socket.$1$2.per_s")" "" "$4"
    }
    for window in 256 1024 4096; do
        socket_row all "$window" "which also tells the session" \
            "$( ((window < 4096)) || echo '>= 300000')"
        socket_row none "$window" "which tells nothing else (path=/labels)" ""
    done
    finish socket
}

line='| %-120s | %10s | %10s | %6s | %-9s | %-3s |\n'
cat <<EOT
$(machine), medians of $rounds rounds of $seconds s, scale $scale

EOT
printf "$line" What Atoll Beside Ratio Goal Met --- --: --: --: --- ---
for part in "${parts[@]}"; do
    "part_$part"
done
exit "$missed"
