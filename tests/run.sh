#!/usr/bin/env bash
# Runs the tests: tests/run.sh [PART...], by default all parts in this order:
#   unit       ctest in build-asan/ (clang, address and undefined behaviour sanitizers)
#   http       Node's tests in tests/http against that build's server
#   deploy     Node's tests in tests/deploy: what deploy/ has for containers, by schema, and against
#              that build's server
#   mcp        Node's tests in tests/mcp: the protocol's conformance suite against that build's server
#              with the suite's fixtures; and in tests/examples: agents that use it
#   loadtest   Node's tests in tests/loadtest: the load generator, with sanitizers too, against that
#              server and against one that does not keep its word
#   crash      Node's tests in tests/crash against the release server in build/, and build-asan/'s
#   browser    Node's tests in tests/browser: the dashboard in Chromium against the release server;
#              its pictures go to build/screenshots
#   instructions  how many instructions a command takes in the release build, against the table in
#              loadtest/RESULTS.md
#   sim        2 000 fresh seeds of the simulator, of the release build (unit runs some with sanitizers)
#   fuzz       each target of tests/fuzz with some thousand inputs, in build-fuzz/
#   tsan       ctest in build-tsan/ (clang, thread sanitizer)
#   clang      everything compiles without a warning in build-clang/
#   http-tsan  tests/http, mcp, examples and crash against the thread sanitizer's server; left out,
#              and said so, when the parts before have taken more than 5 minutes
#
# Normal path: install the Debian packages that are missing (through sudo if not root), then for
# each part build what it needs and run it, showing the closing lines and the seconds it took.
# Builds and npm's packages are kept, so a second run only does what has changed. A part that fails
# shows its whole output and does not keep the others from running; then the exit status is 1. A
# report of a sanitizer from a server under test is a failure, whatever the test itself thinks.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
cd "$root" || exit 1
unset "${!ATOLL_@}" # they would be settings of the servers under test
export LC_ALL=C.UTF-8

all_parts=(unit http deploy mcp loadtest crash browser instructions sim fuzz tsan clang http-tsan)
parts=("$@")
((${#parts[@]})) || parts=("${all_parts[@]}")
for part in "${parts[@]}"; do
    [[ " ${all_parts[*]} " == *" $part "* ]] || {
        echo "usage: tests/run.sh [${all_parts[*]}]" >&2
        exit 2
    }
done

packages=("${atoll_packages[@]}" clang libclang-rt-dev llvm libcmocka-dev libwslay-dev curl
    libcurl4-openssl-dev libjansson-dev util-linux valgrind)
need_packages "${packages[@]}" || exit 1
node -e 'const [a, b] = process.versions.node.split(".").map(Number);
    process.exit(a > 18 || (a === 18 && b >= 19) ? 0 : 1)' || {
    echo "Node $(node --version) is too old for the tests: 18.19 or newer, please" >&2
    exit 1
}

# The sanitizers of gcc 12 need address space layouts with at most 28 random bits; only root may
# read how many there are.
fixed_layout=()
(($(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 32) <= 28)) ||
    ! setarch -R true 2>/dev/null ||
    fixed_layout=(setarch -R)

# suppressions NAME: the option that names tests/NAME.supp, if there is one.
suppressions() {
    [[ ! -f tests/$1.supp ]] || printf ':suppressions=%s' "$root/tests/$1.supp"
}
export ASAN_OPTIONS="strict_string_checks=1:detect_stack_use_after_return=1"
LSAN_OPTIONS="print_suppressions=0$(suppressions lsan)"
UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1$(suppressions ubsan)"
TSAN_OPTIONS="second_deadlock_stack=1$(suppressions tsan)"
export LSAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS

# closing LOG LINES COMMAND...: runs it, shows the last lines, or on failure what it said.
closing() {
    local log=$1 lines=$2 status
    shift 2
    "$@" >"$log" 2>&1
    status=$?
    ((status == 0)) || lines=400
    tail -n "$lines" "$log"
    return $status
}

with_clang=("-DCMAKE_C_COMPILER=$(command -v clang)" "-DCMAKE_CXX_COMPILER=$(command -v clang++)")

# build_asan [OPTION...]
# By clang, as gcc's two runtimes do not share log_path: what UBSan says would not be seen.
build_asan() {
    build_tree build-asan all -DCMAKE_BUILD_TYPE=RelWithDebInfo -DATOLL_TESTS=ON \
        -DATOLL_SANITIZE=address,undefined "${with_clang[@]}" "$@"
}

build_tsan() {
    build_tree build-tsan all -DCMAKE_BUILD_TYPE=RelWithDebInfo -DATOLL_TESTS=ON \
        -DATOLL_SANITIZE=thread "${with_clang[@]}"
}

# run_ctest TREE [OPTION...]
run_ctest() {
    closing "$1/ctest.log" 12 "${fixed_layout[@]}" ctest --test-dir "$1" -j2 --timeout 120 \
        --output-on-failure --no-tests=error "${@:2}"
}

# npm_packages FOLDER LOG: those that its lockfile names, where they are not there yet.
npm_packages() {
    [[ $1/node_modules/.package-lock.json -nt $1/package-lock.json ]] ||
        closing "$2" 1 npm --prefix "$1" ci --ignore-scripts
}

# run_node TREE FOLDER: the Node tests of tests/FOLDER against the server of TREE.
run_node() {
    local report=$root/$1/sanitizer-report files status=0
    npm_packages tests/http "$1/npm.log" || return 1
    files=$(cd tests/http && compgen -G "../$2/*.test.mjs") || {
        echo "tests/$2 holds no *.test.mjs"
        return 1
    }
    rm -f "$report".*
    # shellcheck disable=SC2086
    (
        cd tests/http || exit 1
        export ATOLL_BIN=$root/$1/atoll
        export ASAN_OPTIONS=$ASAN_OPTIONS:log_path=$report
        export TSAN_OPTIONS=$TSAN_OPTIONS:log_path=$report
        export UBSAN_OPTIONS=$UBSAN_OPTIONS:log_path=$report
        closing "$root/$1/node-$2.log" 9 "${fixed_layout[@]}" timeout -k 10 400 \
            node --test --test-concurrency=2 --test-reporter=spec $files
    ) || status=1
    if compgen -G "$report.*" >/dev/null; then
        echo "The server under test was reported by a sanitizer:"
        head -n 120 "$report".*
        status=1
    fi
    return $status
}

part_unit() {
    build_asan && run_ctest build-asan
}

http_packages=(haproxy nginx-light systemd)

part_http() {
    need_packages "${http_packages[@]}" && build_asan && run_node build-asan http
}

part_deploy() {
    need_packages libseccomp-dev && build_asan &&
        npm_packages tests/deploy build-asan/npm.log && run_node build-asan deploy
}

# What passed is shown with the result.
run_mcp() {
    local status=0
    npm_packages tests/mcp "$1/npm.log" && npm_packages tests/examples "$1/npm.log" || return 1
    run_node "$1" mcp || status=1
    run_node "$1" examples || status=1
    grep -o 'conformance .* scenarios pass.*' "$1/node-mcp.log" | sort -u
    return $status
}

part_mcp() {
    build_asan && run_mcp build-asan
}

part_loadtest() {
    build_asan -DATOLL_LOADTEST=ON && run_node build-asan loadtest
}

# build_release TARGET: no more than is needed, as linking with LTO takes its time.
build_release() {
    build_tree build "$1" -DCMAKE_BUILD_TYPE=Release -DATOLL_TESTS=ON
}

part_crash() {
    build_release atoll && build_asan &&
        run_node build crash && run_node build-asan crash
}

# What was measured is shown with the result; loadtest/dashboard.mjs measures on a quiet machine.
part_browser() {
    local status=0
    need_packages chromium &&
        build_release atoll &&
        npm_packages tests/browser build/npm.log && npm_packages web build/npm.log &&
        closing build/types.log 0 web/node_modules/.bin/tsc --project web || return 1
    export ATOLL_SCREENSHOTS=$root/build/screenshots
    run_node build browser || status=1
    unset ATOLL_SCREENSHOTS
    awk '/frames\/s|first view/ && !told[$0]++' build/node-browser.log
    return $status
}

# One that has grown is named, with both figures; and then that this would be seen. 77: there is
# nothing to compare with here, which is said.
part_instructions() {
    local status=0
    build_release instructions || return 1
    node tests/instructions/check.mjs >build/instructions.log 2>&1 || status=$?
    tail -n 100 build/instructions.log
    ((status != 77)) || return 0
    ((status == 0)) &&
        closing build/check.log 9 node --test --test-reporter=spec tests/instructions/check.test.mjs
}

# A seed that fails says how to repeat it.
part_sim() {
    build_release sim &&
        closing build/sim.log 3 build/tests/atoll_sim --fresh 2000 -j 2
}

# What has to be is asked of few inputs here; tests/fuzz/run.sh --minutes looks for more.
part_fuzz() {
    mkdir -p build-fuzz && closing build-fuzz/run.log 18 tests/fuzz/run.sh --runs 5000
}

part_tsan() {
    build_tsan && run_ctest build-tsan
}

part_clang() {
    build_tree build-clang all -DCMAKE_BUILD_TYPE=Debug -DATOLL_TESTS=ON -DATOLL_LOADTEST=ON \
        "${with_clang[@]}" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON && echo "no warnings"
}

part_http-tsan() {
    if ((SECONDS > 300 && ${#parts[@]} > 1)); then
        echo "left out: $SECONDS s have gone by; run it alone with: tests/run.sh http-tsan"
        return
    fi
    need_packages "${http_packages[@]}" && build_tsan && run_node build-tsan http && run_mcp build-tsan &&
        run_node build-tsan crash
}

failed=()
SECONDS=0
for part in "${parts[@]}"; do
    began=$SECONDS result=passed
    printf '\n== %s\n' "$part"
    "part_$part" || {
        failed+=("$part")
        result=FAILED
    }
    printf -- '-- %s %s, %d s\n' "$part" "$result" $((SECONDS - began))
done
printf '\n%d parts in %d s' ${#parts[@]} "$SECONDS"
((${#failed[@]} == 0)) || {
    printf ', FAILED: %s\n' "${failed[*]}"
    exit 1
}
printf ', all passed\n'
