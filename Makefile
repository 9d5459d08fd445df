# Everything here needs Go, a C compiler and nothing else; `make lint` fetches its linter as a Go module. Tests that need a
# PostgreSQL server start their own, and are skipped where its programs are missing; `make postgres` installs them on Debian.

GO       ?= go
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Flags for one's own use: make test TESTFLAGS='-run Plan', make bench BENCHFLAGS='-scale 0.01 -only plan'.
TESTFLAGS  ?=
BENCHFLAGS ?=

.PHONY: help build test test-postgres carried test-carried test-sql race race-all lint fmt golden bench docs demo check clean postgres

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the binary, in bin/dray
	CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o bin/dray ./cmd/dray

test: ## all tests; ends with what was skipped, and why
	@$(GO) run ./internal/testsum -timeout 20m $(TESTFLAGS) ./...

test-postgres: ## the tests of models and syncs on a PostgreSQL of their own
	@$(GO) run ./internal/pgtest/with $(GO) run ./internal/testsum -timeout 20m -short $(TESTFLAGS) ./connectors/warehouse/... ./models/build ./models/identity ./models/profile ./models/segment ./sync/run

carried: ## the transpiler by which tests run a cloud's SQL on DuckDB, from npm; Node 20 or newer
	cd connectors/warehouse/carried/node && npm ci --ignore-scripts --no-audit --no-fund

CARRIED ?= bigquery
CORPUS  := $(CURDIR)/.corpus/$(CARRIED)

test-carried: ## the tests of models and syncs in BigQuery's SQL (CARRIED=snowflake: Snowflake's), carried over to DuckDB; keeps statements for test-sql
	@test -d connectors/warehouse/carried/node/node_modules || $(MAKE) carried
	@rm -rf $(CORPUS)
	@DRAY_TEST_CARRIED=$(CARRIED) DRAY_SQL_CORPUS=$(CORPUS) $(GO) run ./internal/testsum -timeout 30m -short -p 1 -count 1 $(TESTFLAGS) ./connectors/warehouse/conformance ./models/build ./models/identity ./models/profile ./models/segment ./sync/run

test-sql: ## BigQuery's own analyzer reads every statement that test-carried kept; its first build takes minutes and some GB
	@test -d $(CORPUS) || $(MAKE) test-carried
	cd internal/sqlcheck && DRAY_SQL_CORPUS=$(CORPUS) $(GO) test -count 1 -v -timeout 30m ./...

postgres: ## the PostgreSQL server that tests start, from Debian's package, where it is missing
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
		sudo=$$(test $$(id -u) = 0 || echo sudo); \
		$$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql; }

# What starts goroutines. Of sync/run it takes a part: the model check and what is about processes, leases and connections.
CONCURRENT = ./sync/schedule ./sync/deliver ./sync/state ./sync/alert ./connectors/httpx ./models/build ./config ./connectors/warehouse/duckdb

race: ## what starts goroutines, under the race detector (some minutes); make race-all for everything
	@$(GO) run ./internal/testsum -race -short -timeout 20m $(TESTFLAGS) $(CONCURRENT)
	@$(GO) run ./internal/testsum -race -short -timeout 20m -run 'Model|Async|Machine|LateSends|Renewal|OneRunOfASync|Deadline|GivesWay|Interrupted|KilledBetween|HookURL|WarehouseFails' $(TESTFLAGS) ./sync/run

race-all: ## all tests under the race detector
	@$(GO) run ./internal/testsum -race -timeout 60m $(TESTFLAGS) ./...

lint: ## golangci-lint with gofumpt, at a pinned version (the first run builds it: some minutes)
	$(GO) run $(GOLANGCI) run ./...

fmt: ## gofumpt everything
	$(GO) run $(GOLANGCI) fmt ./...

golden: ## rewrite the golden files; read the difference before committing it
	$(GO) test $$(grep -rl --include='*_test.go' 'dray/internal/golden"' . | xargs -n1 dirname | sort -u) -update

bench: ## the ratios of our work to the best hand-written equivalent
	$(GO) run ./internal/bench $(BENCHFLAGS)

docs: ## write docs/connectors and docs/reference from the code
	$(GO) test ./config -run TestReferencePage -update
	$(GO) test ./connectors/registry -run TestPagesAreUpToDate -update
	$(GO) test ./cmd/cli -run TestCommandsPage -update

demo: ## the main job on an embedded DuckDB against local stand-ins: load, nothing to send, only what changed
	@$(GO) run ./examples/demo

check: lint race-all docs ## what must be green before a change is proposed
	git diff --exit-code -- docs/connectors docs/reference

clean: ## remove what was built
	rm -rf bin
