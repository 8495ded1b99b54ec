#!/usr/bin/env bash
# Repeats the measurements that Atoll is held to: loadtest/bench.sh [--rounds N] [--seconds N]
#
# Normal path: build the server and the programs of this folder (release, in build/), start what is
# compared side by side, load one after the other in alternating rounds (default 5 of 5 s) and
# print the medians as a markdown table with the goals. Servers are pinned to core 0 and wrk to
# core 1, except in the rows "all cores", where the system places them. Data is written to
# build/bench.*, so on the disk that holds the checkout, and removed at the end, however it ends.
#
# Every run of wrk is checked: no answer other than 2xx, no broken connection, and afterwards the
# sessions' seqs have grown by what was acknowledged, or by what was under way at the end besides.
# Exit status: 0, 1 when a check or a program fails (at once), 3 when only a goal is missed.
# shellcheck disable=SC2015,SC2059,SC2317
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
# shellcheck source=loadtest/measure.sh
source "$root/loadtest/measure.sh"

rounds=5 seconds=5 sessions=256
while (($#)); do
    case $1 in
    --rounds) rounds=${2:?} && shift 2 ;;
    --seconds) seconds=${2:?} && shift 2 ;;
    *) echo "usage: loadtest/bench.sh [--rounds N] [--seconds N]" >&2 && exit 2 ;;
    esac
done

(($(nproc) >= 2)) || fail "needs two cores, one for the server and one for the load"
need_packages "${atoll_packages[@]}" libcurl4-openssl-dev libjansson-dev curl wrk util-linux
note "Building"
for target in atoll loadtest-programs; do
    build_tree "$root/build" "$target" -DCMAKE_BUILD_TYPE=Release -DATOLL_LOADTEST=ON
done

atoll=$root/build/atoll programs=$root/build/loadtest
declare -A pid=() url=() seq=()
tmp=$(mktemp -d "$root/build/bench.XXXXXX")
cleanup() {
    { ((${#pid[@]} == 0)) || kill -KILL "${pid[@]}" && wait; } 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# start NAME COMMAND...: runs a server that prints its URL when it is ready.
start() {
    local name=$1 tries=0
    shift
    "$@" >"$tmp/$name.out" 2>"$tmp/$name.err" &
    pid[$name]=$!
    until url[$name]=$(grep -m1 -o 'http://[^ ]*' "$tmp/$name.out"); do
        kill -0 "${pid[$name]}" 2>/dev/null && ((++tries < 200)) ||
            fail "$name did not start: $(tail -n 3 "$tmp/$name.err")"
        sleep 0.05
    done
}

# to_sessions NAME CURL-OPTION... PATH: the same request to every session; fails unless all are 2xx.
to_sessions() {
    local name=$1 path=${*: -1} good
    good=$(curl -s -o /dev/null -w '%{http_code}\n' -H 'Content-Type: application/json' \
        "${@:2:$#-2}" "${url[$name]}/v1/sessions/bench[0-$((sessions - 1))]$path" | grep -c '^2') ||
        true
    [[ $good == "$sessions" ]] || fail "$name: only $good of $sessions sessions could be prepared"
}

# sum_seqs NAME: the sum of all sessions' seqs, from their ETags.
sum_seqs() {
    curl -s -o /dev/null -w '%header{etag}\n' \
        "${url[$1]}/v1/sessions/bench[0-$((sessions - 1))]" | tr -d '"' |
        awk -F- '{ sum += $NF } END { printf "%.0f\n", sum }'
}

prepare() {
    to_sessions "$1" -X PUT -d '{}' ''
    to_sessions "$1" -d '[{"type":"agent.register","agent":"a1"},{"type":"thread.create",
        "thread":"work","creator":"a1","name":"work","participants":[]}]' /commands
    seq[$1]=$(sum_seqs "$1")
}

# load NAME CORES CONNECTIONS SCRIPT [SESSIONS]: one checked run of wrk; sets per_s, cpu_us, p50_us.
load() {
    local name=$1 cores=$2 connections=$3 script=$4 each=1 before after out requests us bad grown
    [[ $script != batch ]] || each=100
    before=$(cpu_ms "${pid[$name]}")
    out=$(taskset -c "$cores" wrk -t1 -c"$connections" -d"$seconds" \
        -s "$root/loadtest/$script.lua" "${url[$name]}" -- "${@:5}") || fail "wrk: $out"
    after=$(cpu_ms "${pid[$name]}")
    read -r requests us bad p50_us < <(sed -n 's/^bench //p' <<<"$out" | sed 's/[a-z0-9_]*=//g')
    ((requests > 0 && bad == 0)) ||
        fail "$name, $script.lua: $requests answers, $bad bad"$'\n'"$out"
    per_s=$(calc "$requests * $each * 1e6 / $us")
    cpu_us=$(calc "($after - $before) * 1000 / $requests")
    [[ -n ${seq[$name]:-} ]] || return 0
    sleep 0.3
    after=$(sum_seqs "$name")
    grown=$((after - seq[$name])) seq[$name]=$after
    ((grown >= requests * each && grown <= (requests + connections) * each)) ||
        fail "$name, $script.lua: $((requests * each)) commands acknowledged, seqs grew by $grown"
}

idle_ns() {
    cat /proc/"${pid[$1]}"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

serve=("$atoll" serve --durability commit --listen 127.0.0.1:0)
last_core=$(($(nproc) - 1))

note "Start and idle, 10 s"
start all-cores "${serve[@]}" --data "$tmp/all-cores"
rss_mb=$(awk '/^VmRSS/ { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/${pid[all-cores]}/status")
sleep 1
idle=$(idle_ns all-cores)
sleep 10
idle_percent=$(calc "($(idle_ns all-cores) - $idle) / 1e10 * 100")

start one-core taskset -c 0 "${serve[@]}" --shards 1 --data "$tmp/one-core"
prepare one-core
prepare all-cores
curl -s -f -o "$tmp/answer" -H 'Content-Type: application/json' -d '{"type":"message.send",
    "thread":"work","sender":"a1","content":"'"$(printf 'x%.0s' {1..64})"'"}' \
    "${url[one-core]}/v1/sessions/bench0/commands" || fail "a single message.send was refused"
seq[one-core]=$((seq[one-core] + 1))
answer_bytes=$(wc -c <"$tmp/answer")
baseline=("$programs/baseline-h2o" --listen 127.0.0.1:0 --answer-bytes "$answer_bytes")
start one-core-h2o taskset -c 0 "${baseline[@]}"
start all-cores-h2o "${baseline[@]}" --threads "$(nproc)"

for ((round = 0; round <= rounds; round++)); do
    note "Single commands, round $round of $rounds (0 is to warm up)"
    for name in one-core one-core-h2o all-cores all-cores-h2o; do
        cores=1
        [[ $name == one-core* ]] || cores=0-$last_core
        load "$name" "$cores" 64 post "$sessions"
        ((round > 0)) || continue
        keep "$name.per_s" "$per_s"
        keep "$name.cpu_us" "$cpu_us"
    done
done
for ((round = 1; round <= rounds; round++)); do
    note "Batches, latency and disk, round $round of $rounds"
    load one-core 1 16 batch
    keep batch.per_s "$per_s"
    load one-core 1 1 post 1
    keep latency.p50_us "$p50_us"
    keep disk.p50_us "$(taskset -c 0 "$programs/disk" "$tmp/disk" "$seconds" |
        sed 's/.*p50_us=\([0-9]*\).*/\1/')"
done

integer() {
    printf '%.0f' "$(median "$1")"
}

# pair WHAT NAME KEY FORMAT GOAL: one row that compares Atoll with h2o.
pair() {
    row "$1" "$(printf "$4" "$(median "$2.$3")")" "$(printf "$4" "$(median "$2-h2o.$3")")" "$5"
}

cat <<EOT
$(machine), medians of $rounds rounds of $seconds s, answers of $answer_bytes bytes

EOT
printf "$line" What Atoll Yardstick Ratio Goal Met --- --: --: --: --- ---
pair "requests/s, one core (h2o alone)" one-core per_s %.0f ">= 0.38"
pair "server CPU us/request, one core (h2o)" one-core cpu_us %.1f "<= 2.0"
pair "requests/s, all cores (h2o alone)" all-cores per_s %.0f ""
pair "server CPU us/request, all cores (h2o)" all-cores cpu_us %.1f ""
row "p50 us, one durable command (4 KiB synced)" "$(integer latency.p50_us)" \
    "$(integer disk.p50_us)" "<= 4"
row "commands/s, batches of 100, one session" "$(integer batch.per_s)" "" ">= 400000"
row "idle, % of a core" "$idle_percent" "" "< 0.2"
row "RSS at start, MB" "$rss_mb" "" "< 25"
exit $missed
