# VMThunder. `make help` lists what there is.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := bin
# A Go that is new enough, wherever packages.sh has found or put it.
GO   = eval "$$(devstack/packages.sh -g)"; go
TEST = $(GO) test -count=1

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: demo
demo: packages ## Show the whole line on this machine: image, 100 volumes, VMs that boot (KEEP=1 leaves it standing)
	$(GO) run ./cmd/vmthunder-demo

.PHONY: test
test: packages peer vet test-unit test-client test-rabbit test-kernel ## All tests but tempest and libvirt; what CI runs
	@$(CLIENTS_PACKAGES)
	@$(MAKE) --no-print-directory -j2 test-lab test-clients-short # two laboratories, each of which mostly waits

.PHONY: packages
packages: ## Install what building, testing and the laboratory need (Debian 12, root)
	@devstack/packages.sh

.PHONY: peer
peer: ## Install the real Cinder, which some tests run beside ours
	@devstack/packages.sh peer

.PHONY: build
build: ## Build the programs into bin/
	@devstack/packages.sh build
	CGO_ENABLED=0 $(SHELL) -c '$(GO) build -trimpath -o $(BIN)/ ./cmd/...'

.PHONY: vet
vet: ## go vet with every build tag, and formatting
	$(GO) vet ./... && go vet -tags lab ./devstack/... && go vet -tags kernel ./driver/... && go vet -tags rabbit ./api/rpc/...
	@eval "$$(devstack/packages.sh -g)"; f=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$f" ] || { echo "gofmt would change: $$f"; exit 1; }

.PHONY: modules
modules: # what is built inside the laboratory is built without a network
	$(GO) mod download

.PHONY: test-unit
test-unit: ## Unit and Postgres tests, with the race detector, in random order
	$(TEST) -race -shuffle=on ./...

.PHONY: test-client
test-client: ## The extension of the openstack command
	cd cmd/python-vmthunderclient && env -u PYTHONPATH -u PYTHONHOME /usr/bin/python3 -m unittest discover

.PHONY: test-rabbit
test-rabbit: ## The message bus on a real RabbitMQ, and against oslo.messaging
	$(TEST) -tags rabbit ./api/rpc/...

.PHONY: test-kernel
test-kernel: modules ## The drivers on a real kernel, each in a node of its own
	$(TEST) -tags lab -timeout 15m -parallel 2 ./devstack/kernel

.PHONY: test-lab
test-lab: modules ## The whole product in the laboratory
	$(TEST) -tags lab -timeout 15m ./devstack/lab/...
	$(TEST) -tags lab -timeout 45m -v ./devstack/e2e | grep --line-buffered -vE '^(=== |    --- PASS)'

.PHONY: test-faults
test-faults: modules ## Schedules of faults under load in the laboratory, each from a seed (SEED=1, SCHEDULES=20; about a minute each)
	$(TEST) -tags lab -timeout 10h -v -run 'TestFaultSchedules$$' ./devstack/e2e -faults.seed $(or $(SEED),1) -faults.schedules $(or $(SCHEDULES),20)

CLIENTS_PACKAGES = devstack/packages.sh build lab postgres rabbit openstack image nova libvirt clients peer
CLIENTS = $(CLIENTS_PACKAGES); \
	export VMT_ARTEFACTS=$(CURDIR)/$(BIN)/clients; $(TEST) -tags lab -timeout 80m -v ./devstack/clients

.PHONY: test-clients
test-clients: modules ## The API with real clients: recorded Cinder, tempest, Nova (also with libvirt and QEMU), the openstack command, Horizon (about 40 minutes)
	@$(CLIENTS) | grep --line-buffered -vE '^(=== |    --- PASS)'

.PHONY: test-clients-short
test-clients-short: modules ## The same without tempest and QEMU (about 8 minutes)
	@$(CLIENTS) -short | grep --line-buffered -vE '^(=== |    --- PASS)'

.PHONY: bench
bench: packages peer ## Measure the product, and peers in turn, in the laboratory; table, bench/bench.json, bench/bench.md (RUNS=5, CASES=all)
	$(GO) run ./cmd/vmthunder-bench -runs $(or $(RUNS),5) $(CASES)

.PHONY: lint
lint: ## golangci-lint as configured in .golangci.yml
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0 run ./...

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN)
