# Two commands are enough on a fresh Debian 12 machine with Swift: `make demo` and `make test`.
SHELL := /bin/bash

# One debug build serves cmcplan and the tests; only the agent, which moves the data, is built optimized (and static).
PRODUCT := .build-product
SWIFT_BUILD := swift build
SWIFT_TEST := swift test
FORMAT := swift format
SOURCES := Sources Tests Package.swift

.DEFAULT_GOAL := help

help: ## Show these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install the system packages that are missing (apt-get, as root or by sudo)
	@.ci/setup

build: setup static ## Build cmcplan and the static cmcagent into .build-product
	@$(SWIFT_BUILD) --product cmcplan
	@mkdir -p $(PRODUCT)
	@install -m 755 "$$($(SWIFT_BUILD) --show-bin-path)/cmcplan" $(PRODUCT)/cmcplan.new && mv $(PRODUCT)/cmcplan.new $(PRODUCT)/cmcplan
	@echo "built $(PRODUCT)/cmcplan and $(PRODUCT)/cmcagent"

static: setup ## Build cmcagent as one fully static, stripped binary
	@$(SWIFT_BUILD) -c release --product cmcagent -Xswiftc -static-executable --scratch-path .build-static
	@mkdir -p $(PRODUCT)
	@strip -o $(PRODUCT)/cmcagent.new "$$($(SWIFT_BUILD) -c release --scratch-path .build-static --show-bin-path)/cmcagent"
	@mv $(PRODUCT)/cmcagent.new $(PRODUCT)/cmcagent

man: build ## Write the manual's pages into .build-product/man, and completions for bash, zsh and fish beside them
	@$(SWIFT_BUILD) --product generate-manual
	@rm -rf $(PRODUCT)/man $(PRODUCT)/completions && mkdir -p $(PRODUCT)/man $(PRODUCT)/completions
	@"$$($(SWIFT_BUILD) --show-bin-path)/generate-manual" $(PRODUCT)/cmcplan --multi-page --output-directory $(PRODUCT)/man
	@# As `man cmcplan apply` looks for it.
	@cd $(PRODUCT)/man && for page in *.*.1; do name=$${page%.1}; mv "$$page" "$${name//./-}.1"; done
	@for shell in bash zsh fish; do $(PRODUCT)/cmcplan --generate-completion-script $$shell >$(PRODUCT)/completions/cmcplan.$$shell; done
	@echo "wrote $$(ls $(PRODUCT)/man | wc -l) pages: man -l $(PRODUCT)/man/cmcplan.1"

demo: build ## Move a live database between two agents on this machine, with proofs
	@examples/quickstart/demo.sh

test: build ## Lint, unit tests and simulation, then the end-to-end scripts with three kills
	@.ci/test

test-full: build ## The same, with a kill at every kind of step
	@.ci/test full

test-vm: build ## The whole way on emulated machines: LVM volumes and plain disks with a file system in use (an hour)
	@Tests/EndToEndTests/vm/test-vm full
	@Tests/EndToEndTests/vm/test-vm-nbd
	@Tests/EndToEndTests/vm/test-vm-power

test-az: build ## The emulator under Microsoft's own clients, the az CLI among them (installs 730 MB from PyPI)
	@Tests/EndToEndTests/scripts/test-azure-clients az

bench: build ## Speed beside nbdcopy, nbdkit, QEMU, PyYAML, Terraform and ansible, as ratios of one run
	@Tests/Benchmarks/bench.py
	@Tests/Benchmarks/bench-swing.py
	@Tests/Benchmarks/bench-hosts.py
	@Tests/Benchmarks/bench-apply.py
	@Tests/Benchmarks/bench-plans.py

soak: build ## Ten minutes each of kill -9 under random writes, and of what clients see meanwhile: SOAK_SECONDS=… SOAK_SEED=…
	@SOAK_SECONDS=$${SOAK_SECONDS:-600} Tests/EndToEndTests/scripts/test-soak
	@LINEAR_SECONDS=$${SOAK_SECONDS:-600} Tests/EndToEndTests/scripts/test-linearizability

sim: ## Replay one seed of the simulation: make sim SEED=7
	@SWIFT_DETERMINISTIC_HASHING=1 SIM_SEED=$(SEED) $(SWIFT_TEST) --filter 'ReplicationSimulation|ReconcilerSimulation|JointSimulation'

sim-scale: ## Simulate a whole estate, moved while things break: SIM_HOSTS=10000 SIM_SEED=…
	@SIM_HOSTS=$${SIM_HOSTS:-10000} SWIFT_DETERMINISTIC_HASHING=1 $(SWIFT_TEST) --filter EstateSimulation

crash-matrix: ## Kill each part before, in and after each kind of step, apply again, and print what came of it
	@CRASH_MATRIX=all SWIFT_DETERMINISTIC_HASHING=1 $(SWIFT_TEST) --filter CrashMatrix

soak-sim: ## Run 100,000 seeds of two simulations, at low priority: SIM_SEEDS=… SIM_FIRST=… SIM=JointSimulation
	@SWIFT_DETERMINISTIC_HASHING=1 SIM_SEEDS=$${SIM_SEEDS:-100000} SIM_LEAST=$${SIM_SEEDS:-100000} \
	  nice -n 19 $(SWIFT_TEST) --filter "$${SIM:-ReplicationSimulation|JointSimulation}"

fuzz: setup ## Feed a reader with odd bytes until it breaks: make fuzz [TARGET=plan|link|frame] [SECONDS=600]
	@Tests/Fuzz/run $(or $(SECONDS),0) $(or $(TARGET),plan)

fmt: ## Format the sources
	@$(FORMAT) --in-place --parallel --configuration .swift-format -r $(SOURCES)

lint: ## Check the format of the sources
	@$(FORMAT) lint --strict --parallel --configuration .swift-format -r $(SOURCES)

clean: ## Remove what was built
	@rm -rf .build .build-static .build-fuzz $(PRODUCT)

.PHONY: help setup build static man demo test test-full test-az test-vm bench soak sim sim-scale crash-matrix soak-sim fuzz fmt lint clean
