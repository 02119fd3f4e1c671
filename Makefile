# Every target sets up what it needs; nothing is installed outside .venv (make e2e: Debian packages).
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet

.PHONY: simulate test e2e generate clean

# The whole service on a simulated node. ARGS are handed on: make simulate ARGS="--duration 10"
simulate: .venv/installed
	@.venv/bin/gpu-sharing-plugin simulate $(ARGS)

# Lint, types and all tests that need no root.
test: .venv/installed
	@.venv/bin/python scripts/fetch-helm
	@scripts/check & check=$$!; scripts/test $(ARGS); tests=$$?; wait $$check && exit $$tests

# The same against a real kubelet: root, Debian.
e2e: .venv/installed
	@scripts/e2e $(ARGS)

# After a change of a .proto file, a flag, a message, a log line, an alert or a panel: what is made from them.
generate: .venv/installed
	@scripts/gen-proto
	@.venv/bin/python scripts/gen-docs
	@.venv/bin/python scripts/gen-logs
	@scripts/gen-rules
	@.venv/bin/python scripts/gen-dashboard
	@.venv/bin/python scripts/chart

.venv/installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -m venv .venv || { echo "cannot create .venv: install Python >= 3.11 with its venv module (Debian: python3-venv)" >&2; exit 1; }
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
