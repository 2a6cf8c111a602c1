#!/usr/bin/env bash
# What a message costs that crosses from one shard to another, against one that does not:
# scripts/perf/crossing.sh [RUNS] [ARGUMENTS...], 24 runs without; arguments as for `perf run`.
#
# Each run has a fresh broker with two shards, one on CPU 0, one on CPU 1, and one pair of clients.
# The key by which clients are spread over the shards is drawn at each start, so publisher and
# subscriber meet on one shard in about half of the runs, and otherwise not: the time that each
# shard's thread was on a CPU (schedstat, in ns) says which it was. The rate is fixed and leaves
# both shards idle most of the time, so that the generator, which has to live on one of the two
# CPUs, takes no time from them. Messages come in waves of 5 ms; wake-ups do not show.
# CULEX names another broker.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/perf/lib.sh
runs=${1:-24}
shift $(($# < 1 ? $# : 1))
[ -n "${CULEX:-}" ] || build_all
mkdir -p target/perf
work=$(mktemp -d target/perf/work.XXXXXX)
trap 'stop_broker; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
broker_cpu=${BROKER_CPU:-0,1}
SHARDS=2

for run in $(seq "$runs"); do
    port=$(free_port)
    start_broker culex "$port" "$culex_binary" "$work"
    # What a start prepares on the disk in the background is over then.
    sleep 0.7
    before=("$(shard_ns 0)" "$(shard_ns 1)")
    generate --scenario perf/scenarios/sparse.toml --publishers 1 --rate 400000 --tick-us 5000 \
        --warm-s 0 --measured-s 1 --json --address "127.0.0.1:$port" "$@" >"$work/run.json"
    after=("$(shard_ns 0)" "$(shard_ns 1)")
    stop_broker
    echo "$run $((after[0] - before[0])) $((after[1] - before[1])) $(delivered "$work/run.json")"
done | awk '
    {
        shard[0] = $2 / $4; shard[1] = $3 / $4; total = shard[0] + shard[1]
        least = shard[0] < shard[1] ? shard[0] : shard[1]
        kind = least < total / 6 ? "local" : "crossing"
        printf "run %d, %s: %.0f ns per message, shard 0 %.0f, shard 1 %.0f\n", \
            $1, kind, total, shard[0], shard[1]
        count[kind]++
        all[kind, count[kind]] = total
    }
    function median(kind,    i, j, n, swap) {
        n = count[kind]
        for (i = 1; i < n; i++) for (j = n; j > i; j--) if (all[kind, j] < all[kind, j - 1]) {
            swap = all[kind, j]; all[kind, j] = all[kind, j - 1]; all[kind, j - 1] = swap
        }
        return n % 2 ? all[kind, (n + 1) / 2] : (all[kind, n / 2] + all[kind, n / 2 + 1]) / 2
    }
    END {
        if (count["local"] && count["crossing"]) {
            local_ns = median("local"); crossing_ns = median("crossing")
            printf "local %.0f ns (%d runs), crossing %.0f ns (%d runs), ratio %.2f\n", \
                local_ns, count["local"], crossing_ns, count["crossing"], crossing_ns / local_ns
        } else {
            print "all runs were of one kind; more runs are needed"
        }
    }'
