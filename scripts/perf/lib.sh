# Starting and ending brokers for measurements; sourced by the scripts beside it.
# A broker runs on CPU 0 and the generator on CPU 1, so that neither takes time from the other.

broker_cpu=${BROKER_CPU:-0}
generator_cpu=${GENERATOR_CPU:-1}
perf_binary=${PERF:-target/release/perf}
broker_pid=

# listens PORT: does anybody accept connections there.
listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# free_port: prints a port below the ephemeral ones on which nobody listens.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        if ! listens "$port"; then
            echo "$port"
            return 0
        fi
    done
}

# start_broker NAME PORT CULEX WORK: leaves the process in $broker_pid.
start_broker() {
    local name=$1 port=$2 culex=$3 work=$4
    case $name in
    mosquitto)
        cat >"$work/mosquitto.conf" <<CONF
listener $port 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
log_type error
CONF
        taskset -c "$broker_cpu" "${MOSQUITTO:-/usr/sbin/mosquitto}" -c "$work/mosquitto.conf" \
            >"$work/$name.log" 2>&1 &
        ;;
    *)
        taskset -c "$broker_cpu" "$culex" serve -p "$port" --shards 1 >"$work/$name.log" 2>&1 &
        ;;
    esac
    broker_pid=$!
    wait_for_port "$port" "$work/$name.log"
}

# wait_for_port PORT LOG: until somebody listens, at most 10 s.
wait_for_port() {
    local port=$1 log=$2 attempt
    for attempt in $(seq 100); do
        if ! kill -0 "$broker_pid" 2>/dev/null; then
            break
        fi
        if listens "$port"; then
            return 0
        fi
        sleep 0.1
    done
    echo "the broker does not listen on port $port (attempt $attempt):" >&2
    cat "$log" >&2
    return 1
}

# stop_broker: ends the process that start_broker started.
stop_broker() {
    if [ -n "$broker_pid" ]; then
        kill "$broker_pid" 2>/dev/null || true
        wait "$broker_pid" 2>/dev/null || true
        broker_pid=
    fi
}

# generate ARGUMENTS...: runs the generator on its CPU.
generate() {
    taskset -c "$generator_cpu" "$perf_binary" run "$@"
}
