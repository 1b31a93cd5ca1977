# bmctl: what there is to make. A machine with Go and make is enough for build,
# lab and test; race needs a C compiler too, e2e and ci a Debian and root.

SHELL       := /bin/sh
GO          ?= go
BIN         := $(CURDIR)/bin
GOLANGCI    := v2.9.0
LINTER      := $(BIN)/golangci-lint-$(GOLANGCI)
RACE        := ./power/... ./boot/... ./serve/policy/...

# No part of bmctl is C: binaries are static, and tests need no compiler.
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help build lab test race soak lint bench-peers bench-serve docs share e2e e2e-slow ci clean

help: ## list what there is to make
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

# The Go tool stamps version, commit and time from Git; bmctl version shows them.
build: ## build bin/bmctl, static
	$(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/bmctl ./cmd/bmctl

lab: build ## a whole datacentre on loopback; LAB='--machines 5' passes flags on
	$(BIN)/bmctl lab $(LAB)

test: ## all tests but the end-to-end one
	$(GO) test ./...

race: ## the tests of power, boot and the policy under the race detector
	CGO_ENABLED=1 $(GO) test -race $(RACE)

soak: ## a storm of faults over fifty machines, two minutes; SOAK='-seed 7 -for 30m' passes flags on
	$(GO) test -count=1 -timeout=0 -v -run '^TestSoak$$' ./serve/lab/soak -args -for 2m $(SOAK)

lint: $(LINTER) ## formatting and static checks
	$(LINTER) run ./...

$(LINTER):
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv $(BIN)/golangci-lint $@

docs: build ## docs/reference, from the commands themselves
	rm -rf docs/reference
	$(BIN)/bmctl docs markdown docs/reference

share: build ## man pages and completions for the packages, in bin/share
	rm -rf $(BIN)/share
	$(BIN)/bmctl docs share $(BIN)/share

# Quiet machines measure best; the load is told beside each figure.
bench-serve: build ## memory, CPU and speed of serve with many machines (20 min)
	BMCTL_BENCH_SERVE=$(BIN)/bmctl $(GO) test ./serve/lab -count=1 -timeout 2h -v -run '^Test(Weight|Rush)$$' -bench Reaction -benchtime 21x

e2e: ## machines with real firmware and a real BMC's protocol (root, Debian)
	serve/e2e/run.sh

e2e-slow: ## the same with arm64, a legacy ROM and seven machines at once; by hand
	serve/e2e/run.sh slow

bench-peers: ## how fast beside other programs; for a quiet machine (root, Debian)
	.ci/bench-peers

ci: ## everything, as continuous integration runs it (root, Debian)
	.ci/run

clean: ## remove what was built
	rm -rf $(BIN) .e2e coverage.out dist
