# Every task of the project; `make help` lists them. Continuous integration calls these and nothing else.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

CARGO_FLAGS ?= --locked
BENCH_SECONDS ?= 30
IMAGE ?= portcullis:0.1.0
GATE_IMAGE ?= portcullis-gate:0.1.0
export DOCKER # docker, podman or buildah; whichever is there when it is not given
TARGET ?= $(shell uname -m)-unknown-linux-gnu
# What the tests need of Debian beside Rust and Go: a linker, roots for the package registries, a linter,
# the databases that the gate's checks ask, a clock that can be made to jump, and what tries the alerts.
# And buildah, where nothing else builds images.
PACKAGES = ca-certificates faketime gcc libc6-dev postgresql prometheus redis-server shellcheck \
  $(shell docker version >/dev/null 2>&1 || command -v podman >/dev/null || echo buildah)
SCRIPTS := .ci/run $(wildcard certs/*.sh images/*.sh tests/*.sh tests/*/*.sh tests/*/*/*.sh)

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## Build both programs, optimised
	cargo build $(CARGO_FLAGS) --release

.PHONY: test
test: packages ## Run all checks: lint, then unit, golden, socket, architecture, API-server and end-to-end tests
	@tests/run.sh

.PHONY: e2e
e2e: packages ## Replay the stories of tests/e2e on kind clusters; STORY=wrong_port, KEEP=1 leaves it up, KUBECONFIG=FILE takes yours
	@tests/e2e.sh $(if $(filter command line,$(origin KUBECONFIG)),here)

.PHONY: demo-gate
demo-gate: packages ## Show what the traffic gate does: a bad start without it and with it, no cluster needed
	cargo build $(CARGO_FLAGS) --bin portcullis-gate --example demo-gate
	@target/debug/examples/demo-gate

.PHONY: lint
lint: packages ## Look for faults of form: rustfmt, clippy, gofmt, go vet, shellcheck
	@failed=0; \
	cargo fmt --all --check || failed=1; \
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings || failed=1; \
	unformatted=$$(gofmt -l tests/cluster); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; failed=1; }; \
	go vet -C tests/cluster . ./node/... || failed=1; \
	shellcheck --severity=warning $(SCRIPTS) || failed=1; \
	exit $$failed

.PHONY: fmt
fmt: ## Format all sources
	cargo fmt --all
	gofmt -w tests/cluster

.PHONY: mutants
mutants: PACKAGES += patch
mutants: packages ## Take away each guard of tests/mutants, one by one, and see that its tests fail; about half an hour; MUTANT=ratchet-* for some
	@tests/mutants.sh

.PHONY: bench
bench: ## Print the README's tables: judging alone, the whole path on one core, through an API server, at a scale-up (BENCH_SECONDS a load)
	@cargo bench $(CARGO_FLAGS) --bench judge --bench path --no-run
	@cargo bench $(CARGO_FLAGS) --quiet --bench judge | awk -f tests/bench/judge.awk
	@echo
	@PORTCULLIS_BENCH_SECONDS=$(BENCH_SECONDS) PORTCULLIS_BENCH_CORE=0 \
	  taskset -c 1 cargo bench $(CARGO_FLAGS) --quiet --bench path -- load
	@echo
	@PORTCULLIS_BENCH_SECONDS=$(BENCH_SECONDS) cargo bench $(CARGO_FLAGS) --quiet --bench path -- api-server
	@echo
	@cargo bench $(CARGO_FLAGS) --quiet --bench path -- scale

.PHONY: bench-scale
bench-scale: ## Only the last of these: what the webhook costs when 200 pods are made at once
	@cargo bench $(CARGO_FLAGS) --quiet --bench path -- scale

.PHONY: bench-outage
bench-outage: ## Measure our own start, a new authority under load, a Secret that comes late, and memory beside 50,000 Secrets; 5 minutes
	@PORTCULLIS_BENCH_SECONDS=$(BENCH_SECONDS) cargo bench $(CARGO_FLAGS) --quiet --bench path -- outage

.PHONY: bench-audit
bench-audit: ## Audit 20,000 workloads and 50,000 Secrets on a local control plane: time and memory; PORTCULLIS_BENCH_WORKLOADS for fewer
	@cargo bench $(CARGO_FLAGS) --quiet --bench path -- audit

.PHONY: bench-drain
bench-drain: ## Drain the gate under load twenty times, and once under a 30 s download; count what is lost of 50,000 requests
	cargo test $(CARGO_FLAGS) --test integration -- gate::drain:: --ignored --nocapture --test-threads=1

.PHONY: bench-page
bench-page: ## Use an HTML report of 20,000 findings in chromium (which must be there); print how long it does not answer
	cargo test $(CARGO_FLAGS) --lib -- cli::page::browser --ignored --nocapture

.PHONY: docs
docs: ## Write the README's generated tables, then build the library's documentation
	UPDATE_DOCS=1 cargo test $(CARGO_FLAGS) --quiet --test integration docs::
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --no-deps

.PHONY: deps
deps: ## Check that each feature builds alone, and that the gate never links a Kubernetes client
	@unwanted=$$(cargo tree $(CARGO_FLAGS) -e normal --no-default-features --features gate --prefix none \
	  | grep -E '^(kube|k8s-openapi|json-patch)( |-)' || true); \
	[ -z "$$unwanted" ] || { echo "the gate must not depend on: $$unwanted"; exit 1; }
	cargo check $(CARGO_FLAGS) --quiet --no-default-features --features webhook
	cargo check $(CARGO_FLAGS) --quiet --no-default-features --features gate

.PHONY: bench-story
bench-story: packages ## Roll out and back twenty times under load, with the gate and without, and see what a gate costs its pod; 20 minutes, twice that where a JDK is
	@PORTCULLIS_ROLLOUTS=20 STORY="rollback footprint" THREADS=1 SHOW=1 tests/e2e.sh

ROUNDS ?= 5
SECONDS ?= 2

.PHONY: bench-gate
bench-gate: PACKAGES += curl haproxy nginx-light procps python3-minimal wrk
bench-gate: packages ## Measure the gate beside nginx and HAProxy: ROUNDS=5 SECONDS=2; wants an idle machine
	cargo build $(CARGO_FLAGS) --release --no-default-features --features gate --bin portcullis-gate
	@ROUNDS=$(ROUNDS) RUN_SECONDS=$(SECONDS) tests/bench/gate.sh

.PHONY: bench-peers
bench-peers: PACKAGES += time
bench-peers: packages ## Compare with ValidatingAdmissionPolicy, Kyverno, Gatekeeper and kube-score: who judges what rightly, and how quickly; builds them once
	@cargo bench $(CARGO_FLAGS) --bench peers --no-run
	@cargo bench $(CARGO_FLAGS) --quiet --bench peers -- cases
	@echo
	@cargo bench $(CARGO_FLAGS) --quiet --bench peers -- speed

.PHONY: snapshots
snapshots: ## Write the golden files anew from what the code does now; read the diff before you commit it
	INSTA_UPDATE=always INSTA_FORCE_PASS=1 cargo test $(CARGO_FLAGS)

.PHONY: certs
certs: ## Make a throw-away authority and serving pair for local work, in certs/dev
	@certs/dev.sh

# Static programs from the host, so that the images need no registry; the C library's own resolver and
# loader are in the programs (+crt-static).
STATIC = RUSTFLAGS="-C target-feature=+crt-static" cargo build $(CARGO_FLAGS) --target $(TARGET)
PROFILE ?= release
BUILT = target/$(TARGET)/$(patsubst dev,debug,$(PROFILE))

.PHONY: image
image: packages ## Build the images IMAGE and GATE_IMAGE from scratch with DOCKER (docker, podman, buildah), and archives of them
	$(STATIC) --profile $(PROFILE) --bins
	@mkdir -p target/images/portcullis; rm -f target/images/pushed # that was another build
	@cp $(BUILT)/portcullis $(BUILT)/portcullis-gate target/images/portcullis/
	@images/sbom.sh portcullis-gate gate $(TARGET) >target/images/portcullis/portcullis-gate.cdx.json
	@images/sbom.sh portcullis webhook $(TARGET) >target/images/portcullis/portcullis.cdx.json
	@images/build.sh images/Dockerfile portcullis-gate $(GATE_IMAGE) target/images/portcullis target/images/portcullis-gate.tar
	@images/build.sh images/Dockerfile portcullis $(IMAGE) target/images/portcullis target/images/portcullis.tar
	@images/check.sh target/images/portcullis-gate.tar portcullis-gate
	@images/check.sh target/images/portcullis.tar portcullis

.PHONY: push
push: ## Push IMAGE and GATE_IMAGE to their registry; `make deploy` then names them by digest
	@images/push.sh $(GATE_IMAGE) $(IMAGE)

# What the end-to-end tests run beside them. All programs, so that the dependencies of `image` are built as they were there.
.PHONY: test-images
test-images: packages
	$(STATIC) --profile $(PROFILE) --workspace --bins
	@mkdir -p target/images/e2e-app
	@cp $(BUILT)/e2e-app target/images/e2e-app/
	@tests/e2e/images/postgres.sh target/images/postgres
	@images/build.sh tests/e2e/images/app.Dockerfile portcullis-e2e-app portcullis-e2e-app:0.1.0 target/images/e2e-app target/images/portcullis-e2e-app.tar
	@images/build.sh tests/e2e/images/postgres.Dockerfile portcullis-e2e-postgres portcullis-e2e-postgres:0.1.0 target/images/postgres target/images/portcullis-e2e-postgres.tar

# For one of the stories each, which needs it.
.PHONY: jvm
jvm: packages
	@tests/e2e/images/jvm.sh target/images/jvm
	@images/build.sh tests/e2e/images/jvm.Dockerfile portcullis-e2e-jvm portcullis-e2e-jvm:0.1.0 target/images/jvm target/images/portcullis-e2e-jvm.tar

.PHONY: metrics-server
metrics-server: packages target/cluster
	@mkdir -p target/images/metrics-server
	@cp "$$(target/cluster metrics-server)" target/images/metrics-server/
	@images/build.sh tests/e2e/images/metrics-server.Dockerfile portcullis-e2e-metrics-server portcullis-e2e-metrics-server:0.9.0 target/images/metrics-server target/images/portcullis-e2e-metrics-server.tar

# An image by its digest, if `make push` has learnt it.
by_digest = $(or $(filter $(1)@%,$(file <target/images/pushed)),$(1))

.PHONY: deploy
deploy: ## Install IMAGE and GATE_IMAGE into the cluster that kubectl points to; OVERLAY=observe makes everything a warning, OVERLAY=report adds the periodic audit
	kubectl kustomize manifests/$(or $(patsubst %,overlays/%,$(filter-out report,$(OVERLAY))),$(OVERLAY),base) \
	  | sed 's|image: portcullis:.*|image: $(call by_digest,$(IMAGE))|; s|value: portcullis-gate:.*|value: $(call by_digest,$(GATE_IMAGE))|' \
	  | kubectl apply -f -

.PHONY: demo
demo: ## See it work: two stories on a kind cluster, without Portcullis and with it; YES=1 does not ask, KEEP=1 leaves it up
	@tests/demo/run.sh

.PHONY: demo-admission
demo-admission: packages target/cluster ## See what is refused: a control plane only, and the samples applied one by one
	cargo build $(CARGO_FLAGS) --bin portcullis
	@target/cluster run -- tests/demo/admission.sh

NODES ?= 2

.PHONY: cluster
cluster: packages target/cluster ## Start a kind cluster of NODES=2, and print what your shell needs for it; stopped by cluster-down
	@target/cluster kind up -nodes $(NODES)

.PHONY: cluster-down
cluster-down: target/cluster ## Stop that cluster, and take away all that it needed
	@target/cluster kind down

.PHONY: clean
clean: ## Remove what was built in this folder
	cargo clean

.PHONY: clean-cache
clean-cache: target/cluster ## Stop the clusters, and remove what was built for them: Kubernetes, the node image, the engine
	@target/cluster kind down -all
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/portcullis"

# --- parts of the above ---

# The small program that starts a control plane for tests; Go knows when it is up to date.
.PHONY: target/cluster
target/cluster:
	@mkdir -p target
	@go build -C tests/cluster -buildvcs=false -o "$(CURDIR)/target/cluster" .

.PHONY: kubernetes
kubernetes: target/cluster
	@target/cluster build

# What a kind cluster is made of, as far as this machine cannot just pull it.
.PHONY: kind
kind: target/cluster
	@target/cluster kind build

.PHONY: packages
packages:
	@for tool in cargo go; do command -v $$tool >/dev/null || { echo "$$tool is not installed: see the README"; exit 1; }; done
	@missing="$(missing)"; \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get >/dev/null || { echo "please install:" $$missing; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "Installing Debian packages:" $$missing; \
	$$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends $$missing >/dev/null

# Those of PACKAGES that are not installed.
missing = $(strip $(shell for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done))

.PHONY: missing
missing:
	@echo "$(missing)"
