#!/usr/bin/env bash
# Flame graph of the broker under a load: scripts/perf/profile.sh [CASE] [SECONDS], by default qos0
# for 5 seconds. Needs the kernel's perf (Debian: linux-perf) and leaves target/perf/CASE.svg.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/perf/lib.sh

case=${1:-qos0}
seconds=${2:-5}
[ -e "perf/scenarios/$case.toml" ] || { echo "there is no perf/scenarios/$case.toml" >&2; exit 64; }

# The generator is called perf as well, so the kernel's tool is taken from the system's folders.
sampler=
for candidate in /usr/bin/perf /usr/local/bin/perf; do
    if [ -z "$sampler" ] && [ -x "$candidate" ]; then
        sampler=$candidate
    fi
done
if [ -z "$sampler" ]; then
    echo "no perf found: on Debian, apt-get install linux-perf" >&2
    exit 1
fi

mkdir -p target/perf
work=$(mktemp -d target/perf/work.XXXXXX)
trap 'stop_broker; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

if ! "$sampler" record -q -e cpu-clock -o "$work/probe" -- true >"$work/probe.log" 2>&1; then
    echo "the kernel does not allow perf here:" >&2
    grep -v '^$' "$work/probe.log" | head -3 >&2
    echo "As root: sysctl kernel.perf_event_paranoid=1; containers need CAP_PERFMON." >&2
    exit 1
fi

build_all
tools=target/tools/bin
if [ ! -x "$tools/inferno-flamegraph" ]; then
    "${CARGO:-cargo}" install --quiet --locked --root target/tools inferno
fi

ulimit -n "$(ulimit -Hn)"
port=$(free_port)
transport=$(case_value "$case" transport)
start_broker culex "$port" "$culex_binary" "$work" "${transport:-tcp}"
timeout 150 "$perf_binary" run --scenario "perf/scenarios/$case.toml" --cpu "$generator_cpu" \
    --address "127.0.0.1:$port" --pid "$broker_pid" --warm-s 1 --measured-s "$((seconds + 2))" \
    --case "$case" --broker culex >"$work/report" &
load=$!
sleep 2
# Hardware counters are missing in virtual machines; the clock is everywhere.
"$sampler" record -q -e cpu-clock -F 499 --call-graph dwarf,8192 -p "$broker_pid" \
    -o "$work/samples" -- sleep "$seconds" 2>"$work/record.log" || cat "$work/record.log" >&2
wait "$load" || true
cat "$work/report"
"$sampler" script -i "$work/samples" 2>/dev/null | "$tools/inferno-collapse-perf" >"$work/folded"
"$tools/inferno-flamegraph" --title "Culex, $case" "$work/folded" >"target/perf/$case.svg"
echo "target/perf/$case.svg"
