# What one does in this checkout. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Where rustup and Debian put what a bare path may lack.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:/usr/sbin:/sbin

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto
TARGET := $(or $(CARGO_TARGET_DIR),target)
FAILSOFT := $(TARGET)/debug/failsoft

.PHONY: help demo build test lint unit suite-test differential drivers-test compose-test bench fuzz

help: ## list the targets
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## the whole tale in under a minute: private servers, the master lost, and back
	@scripts/setup.sh demo
	@$(MAKE) build
	$(FAILSOFT) demo --story

build: ## target/debug/failsoft
	$(CARGO) build --workspace --bin failsoft

test: ## everything that CI checks
	scripts/setup.sh test
	$(MAKE) lint
	$(MAKE) unit
	$(MAKE) compose-test

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; fi

# The tests run the executable, so it is built first.
unit: build ## tests of the workspace, end to end against real servers included
	$(CARGO) test --workspace

suite-test: build ## every one of MariaDB's own tests through failsoft, which takes half an hour
	scripts/setup.sh test
	$(CARGO) test -p failsoft-tests --test suite -- --ignored --nocapture

differential: build ## SESSIONS=10000 random sessions of each kind, directly and through failsoft; SEED=1 to repeat
	FAILSOFT_SESSIONS=$(or $(SESSIONS),10000) FAILSOFT_SEED=$(or $(SEED),$$(date +%s)) \
		$(CARGO) test -p failsoft-tests --test differential -- --include-ignored --nocapture

drivers-test: ## what drivers make of a lost master; DRIVERS=all for Go and Java too; FAILSOFT_WRITE_DOCS=1 writes docs/drivers.md
	@scripts/setup.sh $(if $(filter all,$(DRIVERS)),all-drivers,drivers)
	@$(MAKE) build
	FAILSOFT_TEST_DRIVERS=$(or $(DRIVERS),light) $(CARGO) test -p failsoft-tests --test drivers

compose-test: ## the compose stack loses its master and gets it back; needs a docker engine
	@tests/compose/run.sh

bench: ## point selects through failsoft and HAProxy and directly, as ratios; BENCH='--rounds 3' passes options
	@scripts/setup.sh test
	$(CARGO) build --release -p failsoft -p failsoft-bench
	$(TARGET)/release/failsoft-bench $(BENCH)

# cargo-fuzz asks for a compiler that has sanitizers; a stable one that is told so has them.
SECONDS_EACH ?= 60
fuzz: ## bytes that nobody would send, for SECONDS_EACH=60 seconds a target; needs cargo-fuzz
	command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	for target in statement reply handshake compressed; do \
	  mkdir -p fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(SECONDS_EACH) -max_len=4096 -print_final_stats=1; \
	done
