# What one does in this checkout. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Where rustup, Debian and scripts/setup.sh put what a bare path may lack.
CACHE := $(abspath $(or $(FAILSOFT_CACHE),$(HOME)/.cache/failsoft))
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:/usr/sbin:/sbin:$(CACHE)/mdbook

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto
export CARGO
TARGET := $(or $(CARGO_TARGET_DIR),target)
FAILSOFT := $(TARGET)/debug/failsoft

.PHONY: help demo build test lint audit unit deploy-test promote-test pages-test package package-test book \
  book-test suite-test differential soak drivers-test compose-test bench guard fuzz

help: ## list the targets
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## the whole tale in under a minute: private servers, the master lost, and back
	@scripts/setup.sh demo
	@$(MAKE) build
	$(FAILSOFT) demo --story

build: ## target/debug/failsoft
	$(CARGO) build --workspace --bin failsoft

test: ## everything that CI checks, with the drivers that are light
	scripts/setup.sh drivers
	$(MAKE) lint
	FAILSOFT_TEST_DRIVERS=present $(MAKE) unit
	$(MAKE) promote-test pages-test book-test deploy-test
	$(MAKE) guard
	$(MAKE) package-test
	$(MAKE) compose-test

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) deny --log-level error check bans licenses sources

# Apart, since what it finds changes without a change here, and it fetches a database.
audit: ## known vulnerabilities in what is built in, by RustSec's database; ADVISORIES=FOLDER where it is cloned
	command -v cargo-audit >/dev/null || $(CARGO) install cargo-audit --locked
	$(CARGO) audit $(if $(ADVISORIES),--db $(ADVISORIES) --no-fetch --stale)

# The tests run the executable, so it is built first.
unit: build ## tests of the workspace, end to end against real servers included
	scripts/unit.sh

promote-test: build ## docs/promoting.md, played on private servers of both flavours
	tests/pages/promote.py $(FAILSOFT)

pages-test: build ## the commands of all other pages, run on such servers or known to be run by another test
	tests/pages/run.py $(FAILSOFT)

deploy-test: build ## alert rules and dashboard against the metrics, Kubernetes manifests against its schemas
	deploy/prometheus/check.sh
	deploy/kubernetes/check.sh $(FAILSOFT)

# The same build as the guard's.
package: ## target/debian/failsoft_….deb; installs cargo-deb where it is missing
	@$(CARGO) build --release -p failsoft -p failsoft-bench
	@FAILSOFT_BUILT=1 deploy/debian/build.sh

package-test: ## the package in a clean container: installed, run, upgraded, purged; needs a docker engine
	@if command -v dpkg-shlibdeps >/dev/null || [ "$${CI:-}" = true ]; then \
	  deploy/debian/try.sh $$($(MAKE) --no-print-directory package | grep -v dbgsym); \
	else \
	  echo 'the Debian package is skipped: dpkg-dev is not installed'; \
	fi

book: ## the documentation as a book, in target/book, and whether its links lead somewhere
	@scripts/setup.sh book
	@cd docs && mdbook build
	@scripts/book.py check target/book

book-test: ## the same, but for a machine where scripts/setup.sh could not install mdBook
	@if command -v mdbook >/dev/null || [ "$${CI:-}" = true ]; then \
	  $(MAKE) book; \
	else \
	  echo 'the book is skipped: mdBook is not installed'; \
	fi

suite-test: build ## every one of MariaDB's own tests through failsoft, and what they send; takes an hour
	@scripts/setup.sh drivers
	$(CARGO) test --workspace --test suite -- --ignored --nocapture --test-threads=1

differential: build ## SESSIONS=10000 random sessions of each kind, directly and through failsoft; SEED=1 to repeat
	$(if $(wildcard /dev/shm),TMPDIR=/dev/shm) \
	FAILSOFT_SESSIONS=$(or $(SESSIONS),10000) FAILSOFT_SEED=$(or $(SEED),$$(date +%s)) \
		$(CARGO) test --workspace --test differential -- --nocapture --test-threads=1

soak: build ## MINUTES=60 of faults, and every write accounted for; FLAVOR=mariadb|mysql CLIENTS=6 SEED=1
	$(CARGO) build -p checker
	$(TARGET)/debug/failsoft-checker --minutes $(or $(MINUTES),10) --clients $(or $(CLIENTS),6) \
		$(if $(FLAVOR),--flavor $(FLAVOR)) $(if $(SEED),--seed $(SEED))

drivers-test: ## what drivers make of a lost master; DRIVERS=all for Go, Java and sqlx too; FAILSOFT_WRITE_DOCS=1 writes docs/drivers.md
	@scripts/setup.sh $(if $(filter all,$(DRIVERS)),all-drivers,drivers)
	@$(MAKE) build
	FAILSOFT_TEST_DRIVERS=$(or $(DRIVERS),light) $(CARGO) test --workspace --test drivers

compose-test: ## the compose stack loses its master and gets it back; needs a docker engine
	@tests/compose/run.sh

bench: ## failsoft beside HAProxy, Router and a direct connection, as ratios; BENCH='--rounds 3' passes options; PROXYSQL=FILE
	@scripts/setup.sh bench
	$(CARGO) build --release -p failsoft -p failsoft-bench
	$(TARGET)/release/failsoft-bench $(BENCH)

guard: ## instructions of failsoft per statement, compared with what they were; UPDATE=1 writes the baseline
	@scripts/setup.sh guard
	$(CARGO) build --release -p failsoft -p failsoft-bench
	$(TARGET)/release/failsoft-bench --guard benches/instructions.txt $(if $(UPDATE),--update)

# cargo-fuzz asks for a compiler that has sanitizers; a stable one that is told so has them.
SECONDS_EACH ?= 60
fuzz: ## bytes that nobody would send, for SECONDS_EACH=60 seconds a target; needs cargo-fuzz
	command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	for target in statement reply handshake compressed config proxied; do \
	  mkdir -p fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(SECONDS_EACH) -max_len=4096 -print_final_stats=1; \
	done
