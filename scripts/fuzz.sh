#!/usr/bin/env bash
# Runs fuzz targets for some seconds each: `fuzz.sh SECONDS [TARGET...]`, all of them by default.
# A finding ends the script; its input lies in fuzz/artifacts/TARGET/. With CULEX_FUZZ_SHOW=1 and
# that file as argument of `cargo fuzz run -s none session_sequence` the story is told.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=$1
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  targets=(decode_v31 decode_v311 decode_v5 properties topic_filter session_sequence config_toml
    mosquitto_conf cli_format record_decode log_scan proxy_header websocket tls_records acl
    login_password_file login_token login_scram login_answer)
fi

cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz

# Without a sanitizer the stable toolchain is enough, and there is no unsafe code to sanitize.
cargo fuzz run -s none seeds -- -runs=0 2>/dev/null
for target in "${targets[@]}"; do
  echo "== $target, $seconds s"
  length=()
  if [ "$target" = session_sequence ]; then
    length=(-max_len=1024 -len_control=0)
  fi
  cargo fuzz run -s none "$target" -- -max_total_time="$seconds" -dict=fuzz/mqtt.dict \
    -timeout=10 -print_final_stats=1 "${length[@]}" 2>fuzz/target/"$target".log || {
    grep -E -A 3 'panicked|ERROR|SUMMARY|Test unit' fuzz/target/"$target".log >&2
    exit 1
  }
  grep -E 'DONE|average_exec_per_sec' fuzz/target/"$target".log
done
