# The one entry for people and CI. `make` alone lists what there is.

SHELL := bash
CARGO ?= cargo
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help deps run test check sim perf clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the Debian packages that building and testing need (or say which are missing)
	@scripts/deps.sh

run: ## build and start a broker on 127.0.0.1:1883 (ARGS="--shards 2 -v" adds flags)
	@scripts/deps.sh build
	$(CARGO) run --release --locked --bin culex -- serve $(ARGS)

test: deps ## run every test, foreign clients too
	$(CARGO) test --workspace --locked

check: ## formatting, lints as errors, and the rules of tests/tidy.rs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --locked --test tidy

sim: ## simulate RUNS=10000 seeds from FROM=0 on, or one with its trace: SEED=17
	SIM_SEED=$(SEED) SIM_RUNS=$(or $(RUNS),10000) SIM_FROM=$(FROM) RUST_BACKTRACE=0 \
	$(CARGO) test --release --locked --test sim seeds_pass -- --nocapture

perf: ## load generator, release build (ARGS="--help" lists its options)
	$(CARGO) run --release --locked -p perf -- $(ARGS)

clean: ## remove everything that was built or downloaded
	$(CARGO) clean
