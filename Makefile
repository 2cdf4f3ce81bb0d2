# refit: see README.md. "make" alone lists what there is.
SHELL      := /bin/bash
GO         ?= go
BIN        := bin
STATIC     := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w'
# The lab tests, with the seconds of each at the end.
LAB_RUN     = set -o pipefail; REFIT_LAB=1 $(GO) test -count=1 -p 1 -v -run Lab $(1) ./hosts/lab ./cmd/lab | tee $(BIN)/lab-tests.log; rc=$$?; .ci/seconds $(BIN)/lab-tests.log; exit $$rc
# Lab tests need root on Linux. In CI they must run: there they fail, never skip.
LAB_TESTS  := $(shell [ "$$(id -u)" = 0 ] && [ "$$(uname -s)" = Linux ] && echo 1)

.DEFAULT_GOAL := help
.PHONY: help build demo test test-unit s3-server test-lab test-full test-actions lint bench bench-bytes bench-go package package-tools lab-up lab-down tools

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

build: tools ## build bin/refit and bin/lab
	$(STATIC) -o $(BIN)/refit ./cmd/refit
	$(STATIC) -o $(BIN)/lab ./cmd/lab

tools:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or newer is needed: https://go.dev/dl/"; exit 1; }
	@mkdir -p $(BIN)

demo: build ## a real upgrade of a lab fleet under load, watched live (Linux, root)
	$(BIN)/lab demo

test: test-unit test-lab ## all tests that fit in about 30 minutes, lab tests included

s3-server: tools ## build the S3 server that the store is tested against (versitygw; a few minutes, once)
	cd testdata/s3server && $(GO) build -o ../../$(BIN)/versitygw github.com/versity/versitygw/cmd/versitygw

test-unit: tools s3-server
	@command -v gcc >/dev/null || { echo "gcc is needed for -race: apt-get install gcc libc6-dev"; exit 1; }
	REFIT_UNIT=1 REFIT_S3_SERVER=$(CURDIR)/$(BIN)/versitygw $(GO) test -race ./...
	$(GO) test ./pipeline ./stages ./hosts/keeper ./hosts/github ./hosts/git # walks of every course, and months of polls, which the race detector would slow down

test-lab: build
ifeq ($(LAB_TESTS),1)
	$(BIN)/lab check --install
	@$(call LAB_RUN,-timeout 60m)
else ifeq ($(CI),true)
	@echo "the lab tests need root on Linux, and in CI they must run"; exit 1
else
	@echo "the lab tests were left out: they need root on Linux (sudo make test-lab)"
endif

test-full: test ## all tests, and those that last for hours: kills at every mark, every cell of docs/faults.md; run by hand
	@export REFIT_FULL=1; $(call LAB_RUN,-timeout 6h)

test-actions: build ## the workflows of a config repository by nektos/act, a runner on this machine, against the lab (Linux, root)
	$(BIN)/lab check --install
	GOBIN=$(CURDIR)/bin/tools $(GO) install github.com/nektos/act@v0.2.89
	REFIT_LAB=1 REFIT_ACT=$(CURDIR)/bin/tools/act $(GO) test -count=1 -run '^TestLabTheWorkflows' -timeout 20m -v ./cmd/lab

lint: tools ## gofumpt, go vet, staticcheck, govulncheck where it can run
	.ci/lint

bench: build ## roll a lab fleet by refit, by hand, by Capistrano and by Ansible, and compare (Linux, root, an hour; BENCH="--kind patch --rounds 1")
	$(GO) test -run '^$$' -bench Status -benchtime 3x ./cmd/refit
	$(BIN)/lab bench $(BENCH)

bench-bytes: build ## ways to bring a release to a node, compared: make bench-bytes FROM=releases/v4.5.14 TO=releases/v4.5.15 (needs rsync and zstd, and no lab)
	$(BIN)/lab bytes --from $(FROM) --to $(TO) $(BENCH)

bench-go: tools ## the benchmarks of what runs on a node, of the engine and of refit status over 1,000 hosts
	$(GO) test -run '^$$' -bench . -benchmem ./...

package: tools package-tools ## build archives, checksums, bills of materials and .debs as a release has them, into bin/dist; publishes nothing
	PATH="$(CURDIR)/bin/tools:$$PATH" goreleaser release --snapshot --clean -f .github/goreleaser.yml
	.ci/package-check

package-tools: tools # pinned, by Go's checksum database; goreleaser's later versions need a later Go
	GOBIN=$(CURDIR)/bin/tools $(GO) install github.com/goreleaser/goreleaser/v2@v2.15.4
	GOBIN=$(CURDIR)/bin/tools $(GO) install github.com/anchore/syft/cmd/syft@v1.57.0

lab-up: build ## boot the lab fleet
	$(BIN)/lab up

lab-down: build ## end the lab fleet; keeps its cached image
	$(BIN)/lab down
