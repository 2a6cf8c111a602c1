# The one entry for people and CI. `make` alone lists what there is.

SHELL := bash
CARGO ?= cargo
ARGS ?=
FOR ?= 60
TARGET ?=

# rustup puts cargo on the PATH of login shells only.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help deps run test check conformance mutants perf perf-compare perf-profile perf-results \
	differential sim crash crash-soak crash-points corrupt-soak fuzz loom asan abuse-soak clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the Debian packages that building and testing need (or say which are missing)
	@scripts/deps.sh

run: ## build and start a broker on 127.0.0.1:1883 (ARGS="--shards 2 -v" adds flags)
	@scripts/deps.sh build
	$(CARGO) run --release --locked --bin culex -- serve $(ARGS)

test: deps ## run every test, foreign clients too
	$(CARGO) test --workspace --locked --no-fail-fast

differential: ## compare with Mosquitto on random scripts (RUNS=1000, SEED=7 or SCRIPT=file)
	CULEX_DIFF_RUNS=$(or $(RUNS),1000) \
	  $(if $(SEED),CULEX_DIFF_SEED=$(SEED)) $(if $(SCRIPT),CULEX_DIFF_SCRIPT=$(SCRIPT)) \
	  $(CARGO) test --locked --test differential -- --nocapture

check: ## formatting, lints as errors, and the rules of tests/tidy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --locked --test tidy --test conformance

conformance: ## write docs/conformance.md from the statements, the tests that cite them, and the exceptions
	UPDATE=1 $(CARGO) test --quiet --locked --test conformance document_is_current

mutants: ## remove rules one by one and see that their tests fail (ARGS=PATTERN takes some of them)
	scripts/mutate.sh $(ARGS)

perf: ## broker CPU per message, rate, latency: the headline table (5 minutes; CASE=churn: one case)
	$(if $(CASE),scripts/perf/run.sh $(CASE) $(ARGS),scripts/perf/headline.sh)

perf-compare: ## the same against Debian's Mosquitto, alternately (ROUNDS=5, CASES="qos0 qos1")
	scripts/perf/against-mosquitto.sh

perf-profile: ## flame graph of the broker under CASE=qos0
	scripts/perf/profile.sh $(or $(CASE),qos0)

perf-results: ## measure everything and write perf/RESULTS.md with its plots (10 minutes)
	scripts/perf/results.sh $(ARGS)

fuzz: ## run every fuzz target, or TARGET, FOR=60 seconds each
	@scripts/deps.sh fuzz
	scripts/fuzz.sh $(FOR) $(TARGET)

loom: ## check the doorbell between shards in all orders of its steps
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom $(CARGO) test -p shards --lib --locked

# The sanitizer needs an unstable flag; nothing else may use it, so it has a target folder of its
# own. Its libraries ask for the target to be named. It keeps freed memory, so the tests that measure
# memory are left out.
asan: ## run the tests on real sockets with AddressSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address --cfg asan" CARGO_TARGET_DIR=target/asan \
		$(CARGO) test --locked --target x86_64-unknown-linux-gnu --test wire -- \
		--skip connection_cycles --skip who_never_reads_slows_nobody

abuse-soak: ## the abuse tests at full length and with strict times; nothing else should run
	CULEX_ABUSE=soak $(CARGO) test --release --locked --test abuse -- --test-threads 1 --nocapture

sim: ## simulate RUNS=10000 seeds from FROM=0 on, or one with its trace: SEED=17
	SIM_SEED=$(SEED) SIM_RUNS=$(or $(RUNS),10000) SIM_FROM=$(FROM) RUST_BACKTRACE=0 \
	$(CARGO) test --release --locked --test sim seeds_pass -- --nocapture

# CRASH_SEED, CRASH_SHARDS, CRASH_DURABILITY, CRASH_CYCLES and CRASH_CUTS reach the tests as they are.
crash: ## kill the broker, cut its power, fill its disk under load (as root: a loop device is mounted)
	$(CARGO) test --locked --test crash -- --nocapture --test-threads 1

crash-soak: ## the same with 1,000 kills, 200 power cuts of each kind, each named point 10 times
	CRASH_CYCLES=$(or $(CRASH_CYCLES),1000) CRASH_CUTS=$(or $(CRASH_CUTS),200) \
	  CRASH_POINTS=$(or $(CRASH_POINTS),10) \
	  $(CARGO) test --locked --test crash -- --nocapture --test-threads 1

crash-points: ## end the broker at each named point, before and after each thing that must be durable
	CRASH_POINTS=$(or $(CRASH_POINTS),2) \
	  $(CARGO) test --locked --test crash points:: -- --nocapture --test-threads 1

corrupt-soak: ## change files of a stopped broker 100,000 times (CHANGES=n) and start it
	CRASH_ROT=$(or $(CHANGES),100000) \
	  $(CARGO) test --locked --test crash rot:: -- --nocapture

clean: ## remove everything that was built or downloaded
	$(CARGO) clean
