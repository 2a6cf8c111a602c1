# Starting and ending brokers for measurements; sourced by the scripts beside it.
# A broker runs on CPU 0 and the generator on CPU 1, so that neither takes time from the other.
# Everything listens on loopback only, and only processes that were started here are ended.

broker_cpu=${BROKER_CPU:-0}
generator_cpu=${GENERATOR_CPU:-1}
perf_binary=${PERF:-target/release/perf}
relay_binary=${RELAY:-target/release/relay}
culex_binary=${CULEX:-target/release/culex}
mosquitto_binary=${MOSQUITTO:-}
broker_pid=

for candidate in /usr/sbin/mosquitto /usr/local/sbin/mosquitto; do
    if [ -z "$mosquitto_binary" ] && [ -x "$candidate" ]; then
        mosquitto_binary=$candidate
    fi
done

# build_all: release builds of the broker and of the generator.
build_all() {
    export PATH="$PATH:${HOME:-}/.cargo/bin"
    "${CARGO:-cargo}" build --release --locked --quiet --package culex --package perf --bins
}

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

# case_value CASE KEY: what perf/scenarios/CASE.toml says about it.
case_value() {
    sed -n "s/^$2 = \"\\{0,1\\}\\([^\"]*\\)\"\\{0,1\\}\$/\\1/p" "perf/scenarios/$1.toml"
}

# can_relay CASE: is it something that the relay can do.
can_relay() {
    local kind transport
    kind=$(case_value "$1" kind)
    transport=$(case_value "$1" transport)
    case $kind in
    pairs | fanout | fanin | shared | latency | roundtrip | idle | connect) ;;
    *) return 1 ;;
    esac
    [ "${transport:-tcp}" = tcp ] && [ "$(case_value "$1" durable)" != true ]
}

# make_certificate WORK: a key and a certificate that it signs itself.
make_certificate() {
    if [ ! -e "$1/broker.crt" ]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
            -keyout "$1/broker.key" -out "$1/broker.crt" 2>/dev/null
        chmod 600 "$1/broker.key"
    fi
}

# culex_settings PORT WORK TRANSPORT DURABILITY: one shard, limits that no case reaches.
culex_settings() {
    local port=$1 work=$2 transport=$3 durability=$4
    cat <<CONF
shards = ${SHARDS:-1}
durability = "$durability"
data_dir = "$work/data"
sys_interval_s = 0
[[listener]]
address = "127.0.0.1:$port"
CONF
    case $transport in ws | wss) echo 'protocol = "websocket"' ;; esac
    case $transport in
    tls | wss)
        cat <<CONF
[listener.tls]
cert_file = "$work/broker.crt"
key_file = "$work/broker.key"
CONF
        ;;
    esac
    cat <<CONF
[limits]
subscriptions_per_session_max = 1000000
queue_messages_max = 1000000
queue_bytes_max = 1073741824
[process]
dumpable = true
systemd = false
CONF
}

# mosquitto_settings PORT WORK TRANSPORT: unlimited queues and window, nothing on disk.
mosquitto_settings() {
    local port=$1 work=$2 transport=$3
    echo "listener $port 127.0.0.1"
    case $transport in ws | wss) echo "protocol websockets" ;; esac
    case $transport in
    tls | wss) printf 'certfile %s/broker.crt\nkeyfile %s/broker.key\n' "$work" "$work" ;;
    esac
    cat <<CONF
allow_anonymous true
persistence false
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
log_type error
CONF
    # Started as root it would become a user who cannot read the key.
    if [ "$(id -u)" -eq 0 ]; then
        echo "user root"
    fi
}

# start_broker NAME PORT BINARY WORK [TRANSPORT] [DURABILITY] [KIND]: leaves the process in
# $broker_pid.
start_broker() {
    local name=$1 port=$2 binary=$3 work=$4 transport=${5:-tcp} durability=${6:-fsync} kind=${7:-}
    work=$(realpath "$work")
    case $transport in tls | wss) make_certificate "$work" ;; esac
    case $name in
    mosquitto)
        mosquitto_settings "$port" "$work" "$transport" >"$work/mosquitto.conf"
        taskset -c "$broker_cpu" "$mosquitto_binary" -c "$work/mosquitto.conf" \
            >"$work/$name.log" 2>&1 &
        ;;
    relay)
        # Only where many publishers meet in one subscriber do frames have to stay whole.
        taskset -c "$broker_cpu" "$relay_binary" "127.0.0.1:$port" \
            $([ "$kind" = fanin ] && echo --whole-frames) ${RELAY_ARGS:-} \
            >"$work/$name.log" 2>&1 &
        ;;
    *)
        rm -rf "$work/data"
        culex_settings "$port" "$work" "$transport" "$durability" >"$work/culex.toml"
        taskset -c "$broker_cpu" "$binary" serve -c "$work/culex.toml" >"$work/$name.log" 2>&1 &
        ;;
    esac
    broker_pid=$!
    wait_for_port "$port" "$work/$name.log"
}

# wait_for_port PORT LOG: until somebody listens, at most 10 s.
wait_for_port() {
    local port=$1 log=$2 attempt
    for attempt in $(seq 200); do
        if ! kill -0 "$broker_pid" 2>/dev/null; then
            break
        fi
        if listens "$port"; then
            return 0
        fi
        sleep 0.05
    done
    echo "the broker does not listen on port $port (attempt $attempt):" >&2
    cat "$log" >&2
    return 1
}

# stop_broker: ends the process that start_broker started, after 5 s by force.
stop_broker() {
    local attempt
    if [ -n "$broker_pid" ]; then
        kill "$broker_pid" 2>/dev/null || true
        for attempt in $(seq 100); do
            kill -0 "$broker_pid" 2>/dev/null || break
            [ "$attempt" -lt 100 ] || kill -KILL "$broker_pid" 2>/dev/null || true
            sleep 0.05
        done
        wait "$broker_pid" 2>/dev/null || true
        broker_pid=
    fi
}

# generate ARGUMENTS...: runs the generator on its CPU, at most 150 s.
generate() {
    timeout 150 "$perf_binary" run --cpu "$generator_cpu" "$@"
}

# measure OUT WORK BROKER CASE [DURABILITY] [ARGUMENTS...]: one run with a fresh broker, NAME or
# NAME=BINARY; its JSON line goes to the file OUT. Fails if a promise was broken or the run failed.
measure() {
    local out=$1 work=$2 broker=$3 case=$4 durability=${5:-fsync}
    local name=${broker%%=*} binary=$culex_binary port transport status=0
    shift $(($# < 5 ? $# : 5))
    case $broker in *=*) binary=${broker#*=} ;; esac
    transport=$(case_value "$case" transport)
    port=$(free_port)
    start_broker "$name" "$port" "$binary" "$work" "${transport:-tcp}" "$durability" \
        "$(case_value "$case" kind)" || return 1
    generate --scenario "perf/scenarios/$case.toml" --json --broker "$name" \
        --address "127.0.0.1:$port" --pid "$broker_pid" "$@" >"$work/run.json" || status=$?
    cat "$work/run.json" >>"$out"
    stop_broker
    return "$status"
}

# shard_ns NUMBER: how long this shard has run, with the threads that it started.
shard_ns() {
    local task
    for task in "/proc/$broker_pid/task"/*; do
        if [ "$(cat "$task/comm")" = "shard-$1" ]; then
            cat "$task/schedstat"
        fi
    done | awk '{ ns += $1 } END { printf "%d", ns }'
}

# delivered FILE: messages that reached their receivers in a whole run, from its JSON.
delivered() {
    sed 's/.*"tally":{[^}]*"delivered":\([0-9]*\).*/\1/' "$1"
}
