# Every target sets up what it needs; nothing is installed outside .venv (make e2e: Debian packages).
# `make help` prints the targets, each with the comment above it.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet

.PHONY: help simulate test e2e bench generate docs package clean

# Print the targets.
help:
	@awk '/^# / { text = substr($$0, 3) } /^[a-z0-9]+:/ { sub(":.*", ""); printf "make %-9s %s\n", $$0, text }' Makefile

# Run the whole service on a simulated node. ARGS are handed on: make simulate ARGS="--duration 10"
simulate: .venv/service
	@.venv/bin/gpu-sharing-plugin simulate $(ARGS)

# Lint, types and all tests that need no root.
test: .venv/installed
	@.venv/bin/python scripts/fetch-helm
	@scripts/check & check=$$!; scripts/test $(ARGS); tests=$$?; wait $$check && exit $$tests

# The same against a real kubelet: root, Debian.
e2e: .venv/installed
	@scripts/e2e $(ARGS)

# Measure all budgets of docs/performance.md, in about five minutes: root. make bench ARGS="--json new.json --compare old.json"
bench: .venv/installed
	@scripts/bench $(ARGS)

# Regenerate code, docs and manifests, after a change of a .proto file, a flag, a message, a log line, an alert or a panel.
generate: .venv/installed
	@scripts/gen-proto
	@.venv/bin/python scripts/gen-docs
	@.venv/bin/python scripts/gen-logs
	@scripts/gen-rules
	@.venv/bin/python scripts/gen-dashboard
	@.venv/bin/python scripts/chart

# Build the documentation as a site, in the folder site; links and anchors are checked.
docs:
	@scripts/docs $(ARGS)

# Build a Debian package and a tarball for nodes with systemd, in the folder dist: Debian or Ubuntu.
package:
	@scripts/package $(ARGS)

# What the service needs, and what builds it. From scratch: nothing is left of another lock, or of an installation cut short.
.venv/packages: requirements.lock requirements-build.lock
	@echo "installing what the service needs into .venv" >&2
	@$(PYTHON) -m venv --clear .venv || { echo "cannot create .venv: install Python >= 3.11 with its venv module (Debian: python3-venv)" >&2; exit 1; }
	@$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock
	@touch $@

# The command gpu-sharing-plugin, which runs what is in this folder.
.venv/service: .venv/packages pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# What tests and checks need beside that.
.venv/installed: .venv/service requirements-dev.lock
	@echo "installing what the tests need into .venv" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# Remove all that was installed, and what tools remember.
clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -exec rm -rf {} +
