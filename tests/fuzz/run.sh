#!/usr/bin/env bash
# Runs the fuzzing targets: tests/fuzz/run.sh [--minutes N | --runs N] [--jobs N] [--build DIR]
#     [TARGET...]
#
#   --minutes N  N minutes of each core's time for all targets together (5)
#   --runs N     instead: the seeds, what was found before, and N inputs of each target
#   --jobs N     how many at a time: one a core
#   --build DIR  the build tree (build-fuzz), with all that is learnt and found
#   TARGET       those alone (commands, ws, ...); else all
#
# Normal path: builds the targets (clang; address and undefined behaviour sanitizers),
# makes the seeds, runs each target in its share of the time. What a target learns stays in
# corpus/TARGET of the build tree and helps the next run. A table says at the end how many inputs
# there were, how many edges of the code they have covered, and how much processor time that took.
# Failure: an input that a target does not survive is kept in found/ of the build tree, shown with
# what was said of it, and the exit status is 1. To see one again: fuzz_TARGET FILE, in tests/fuzz
# of that tree.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
cd "$root" || exit 1

usage() {
    echo "usage: tests/fuzz/run.sh [--minutes N | --runs N] [--jobs N] [--build DIR]" \
        "[TARGET...]" >&2
    exit 2
}

build=build-fuzz minutes=5 runs='' jobs=$(nproc) targets=()
while (($#)); do
    case $1 in
    --minutes | --runs | --jobs)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage
        declare "${1#--}=$2"
        shift
        ;;
    --build)
        build=${2:?}
        shift
        ;;
    -*) usage ;;
    *) targets+=("$1") ;;
    esac
    shift
done

need_packages "${atoll_packages[@]}" clang libclang-rt-dev libcmocka-dev libjansson-dev || exit 1
build_tree "$build" fuzz -DCMAKE_BUILD_TYPE=RelWithDebInfo -DATOLL_FUZZ=ON -DATOLL_DASHBOARD=OFF \
    -DATOLL_SANITIZE=address,undefined,fuzzer-no-link \
    "-DCMAKE_C_COMPILER=$(command -v clang)" "-DCMAKE_CXX_COMPILER=$(command -v clang++)" || exit 1
programs=$build/tests/fuzz
"$programs/fuzz_seeds" "$build/seeds" || exit 1

all=()
for program in "$programs"/fuzz_*; do
    [[ $program == */fuzz_seeds || ! -x $program || -d $program ]] || all+=("${program##*/fuzz_}")
done
((${#targets[@]})) || targets=("${all[@]}")
for target in "${targets[@]}"; do
    [[ " ${all[*]} " == *" $target "* ]] || {
        echo "There is no target $target; there are: ${all[*]}" >&2
        exit 2
    }
done

# One that is slower than this with a sanitizer lets a client keep a core busy.
options=(-timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1)
if [[ -n $runs ]]; then
    options+=("-runs=$runs" -seed=1)
else
    options+=("-max_total_time=$((minutes * 60 * jobs / ${#targets[@]} + 1))")
fi
export ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# With a fixed number of inputs nothing learnt is used or kept: each such run does the same.
learnt=$build/corpus
[[ -z $runs ]] || {
    learnt=$(mktemp -d)
    trap 'rm -rf "$learnt"' EXIT
}
mkdir -p "$build/found" "$build/logs"
rm -f "$build"/logs/*

# run_target TARGET: what it says goes to its log; its last line is its status.
run_target() {
    local target=$1 folders=("$learnt/$1") folder dictionary=tests/fuzz/text.dict
    mkdir -p "${folders[0]}" # which libFuzzer adds to; the others it only reads
    for folder in "tests/fuzz/corpus/$target" "$build/seeds/$target"; do
        [[ ! -d $folder ]] || folders+=("$folder")
    done
    [[ ! -f tests/fuzz/$target.dict ]] || dictionary=tests/fuzz/$target.dict
    {
        time "$programs/fuzz_$target" "${options[@]}" "-dict=$dictionary" \
            "-artifact_prefix=$build/found/$target-" "${folders[@]}"
    } >"$build/logs/$target" 2>&1
    echo "status $?" >>"$build/logs/$target"
}

TIMEFORMAT='processor %U'
began=$SECONDS
for target in "${targets[@]}"; do
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
    run_target "$target" &
done
wait

status=0
printf '%-12s %12s %8s %8s %10s\n' target inputs edges corpus 'cpu s'
for target in "${targets[@]}"; do
    log=$build/logs/$target
    awk -v target="$target" '
        /stat::number_of_executed_units/ { inputs = $2 }
        match($0, /cov: [0-9]+/) { edges = substr($0, RSTART + 5, RLENGTH - 5) }
        match($0, /corp: [0-9]+/) { corpus = substr($0, RSTART + 6, RLENGTH - 6) }
        /^processor/ { cpu = $2 }
        END { printf "%-12s %12d %8d %8d %10.1f\n", target, inputs, edges, corpus, cpu }' "$log"
    [[ $(tail -n 1 "$log") == "status 0" ]] || status=1
done
for target in "${targets[@]}"; do
    [[ $(tail -n 1 "$build/logs/$target") != "status 0" ]] || continue
    printf '\n%s failed:\n' "$target"
    grep -v '^#[0-9]*[[:space:]]\(NEW\|REDUCE\|pulse\|INITED\|RELOAD\)' "$build/logs/$target" |
        tail -n 60
done
printf '%d targets in %d s' ${#targets[@]} $((SECONDS - began))
((status == 0)) && echo ', nothing found' || echo ', FOUND: see above'
exit $status
