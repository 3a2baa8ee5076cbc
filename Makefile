# The verbs of this project. `make serve` and `make test` do everything on a fresh machine.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Tools that look at what is installed, apart from it.
SUPPLY := .supply
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(SUPPLY)/tools/bin/pip-compile --quiet --generate-hashes \
	--strip-extras --no-emit-options -c constraints.txt
# Test files that run side by side, a core each; a file's own tests run in their order.
TEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*\#\#.*/\1/p' $(MAKEFILE_LIST))

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: $(VENV)/offline.stamp  ## install, make the default models if the store lacks them, serve on 127.0.0.1:8080
	@$(BIN)/encserve bootstrap
	@exec env ENCSERVE_SHOW_REPORTS=true $(BIN)/encserve serve

bootstrap: $(VENV)/offline.stamp  ## make the default models if the store lacks them
	@$(BIN)/encserve bootstrap

test: $(VENV)/dev.stamp lint types contracts  ## ruff, mypy --strict, import contracts and pytest
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/dev.stamp  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp  ## mypy --strict
	@$(BIN)/mypy

contracts: $(VENV)/dev.stamp  ## imports run one way
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/dev.stamp  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(VENV)/dev.stamp $(SUPPLY)/tools.stamp  ## constraints.txt from what is installed, requirements/ with hashes from it
	@$(BIN)/pip --disable-pip-version-check freeze --exclude-editable \
		| sed -E 's/\+cpu$$//' | grep -vE ' @ |^-e ' > constraints.txt
	@$(COMPILE) --allow-unsafe --output-file requirements/server.txt pyproject.toml
	@$(COMPILE) --unsafe-package torch --extra offline --output-file requirements/offline.txt pyproject.toml

audit: $(SUPPLY)/tools.stamp  ## known vulnerabilities of what is locked; fails where they cannot be looked up
	@$(SUPPLY)/tools/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		-r requirements/server.txt -r requirements/offline.txt \
		|| { echo "audit: FAILED. Above are known vulnerabilities, or the packages that the advisory service" \
		"does not know from here: those were not checked, and nothing is said of them." >&2; exit 1; }

sbom: $(SUPPLY)/server.stamp  ## docs/sbom.json: what the server is made of, CycloneDX
	@$(SUPPLY)/tools/bin/cyclonedx-py environment $(SUPPLY)/server/bin/python --pyproject pyproject.toml \
		--output-reproducible --output-format JSON --output-file docs/sbom.json

licenses: $(VENV)/dev.stamp $(SUPPLY)/tools.stamp  ## docs/licenses.md: those of all that is locked
	@$(BIN)/python requirements/licenses.py $(SUPPLY)/tools/bin/pip-licenses $(BIN)/python > docs/licenses.md

hadolint: $(SUPPLY)/tools.stamp  ## the Dockerfile's faults
	@$(SUPPLY)/tools/bin/hadolint docker/Dockerfile

fuzz: $(VENV)/dev.stamp  ## thousands of generated requests to every route
	@FUZZ_EXAMPLES=2000 $(BIN)/python -m pytest tests/integration/test_schema.py

# These tell times or shares of the capacity, and have the machine to themselves.
CHAOS_ALONE := tests/chaos/test_overload.py tests/chaos/test_slow_clients.py tests/chaos/test_killed_replicas.py
# The soak takes half an hour and little of the machine: the other trials run beside it.
CHAOS_BESIDE_SOAK := tests/chaos tests/unit/test_store_kills.py tests/integration/test_live.py \
	tests/integration/test_schema.py tests/integration/test_privacy.py
# The others have targets of their own.
CHAOS_ELSEWHERE := tests/chaos/test_soak.py tests/chaos/test_two_nodes.py tests/chaos/test_bulk_ray.py
chaos: export CHAOS = full
chaos: export PUBLISHER_KILLS = 500
chaos: export SWAPS = 200
chaos: $(VENV)/dev.stamp  ## the trials of docs/reliability.md in full, at most 40 minutes (haproxy, nginx-light)
	@$(BIN)/python -m pytest -s $(CHAOS_ALONE); alone=$$?; \
	rm -f chaos-soak.log; \
	nice -n 19 $(BIN)/python -m pytest -s tests/chaos/test_soak.py > chaos-soak.log 2>&1 & soak=$$!; \
	while kill -0 $$soak 2> /dev/null && ! grep -qsx warm chaos-soak.log; do sleep 1; done; \
	$(BIN)/python -m pytest -s --durations 12 $(CHAOS_BESIDE_SOAK) \
		$(CHAOS_ALONE:%=--ignore=%) $(CHAOS_ELSEWHERE:%=--ignore=%); beside=$$?; \
	echo "the soak goes on to its end"; wait $$soak; soaked=$$?; \
	cat chaos-soak.log; exit $$((alone + beside + soaked))

bulk-ray-test: $(VENV)/dev.stamp  ## encserve bulk on a Ray cluster of three nodes that loses one: the same bytes
	@$(PIP) install -c constraints.txt -e '.[ray]'
	@CHAOS=full $(BIN)/python -m pytest tests/chaos/test_bulk_ray.py

openapi: $(VENV)/dev.stamp  ## write docs/openapi.json from the routes
	@$(BIN)/encserve openapi > docs/openapi.json

metrics-page: $(VENV)/dev.stamp  ## write docs/metrics.md from service/metrics.py
	@$(BIN)/encserve metrics > docs/metrics.md

dashboards: $(VENV)/dev.stamp  ## write Grafana's dashboards from monitoring/boards/
	@$(BIN)/python -m monitoring.grafana

observe: $(VENV)/dev.stamp  ## server, Prometheus and a load: what every panel and alert sees; pictures
	@mkdir -p docs/images
	@$(BIN)/python -m monitoring.observe --pictures docs/images

examples: $(VENV)/dev.stamp  ## ask the models of the store the examples of /docs, and keep their answers
	@$(BIN)/python -m benchmarks.examples

image-test: $(VENV)/dev.stamp  ## build the container image on a Debian base and serve from it (root, buildah, debootstrap)
	@docker/image_test.sh

kubernetes-rules: $(VENV)/dev.stamp  ## write the PrometheusRule of deploy/kubernetes from docker/prometheus/rules
	@$(BIN)/python -m deploy.prometheus_rule

kustomize-test: $(VENV)/dev.stamp  ## kubectl builds the manifests as the tests read them (kubectl 1.27 or later)
	@$(BIN)/python -m pytest tests/kubectl

nodes-test: $(VENV)/dev.stamp  ## fine-tuning on two nodes of this machine: addresses, network namespaces (root)
	@CHAOS=full $(BIN)/python -m pytest tests/chaos/test_two_nodes.py

pictures: $(VENV)/dev.stamp  ## draw the screenshots of the READMEs from the page (chromium, the default models)
	@$(BIN)/python -m tests.ui.pictures

book: $(VENV)/dev.stamp  ## every block of the book, trainings of all kinds among them
	@BOOK=long $(BIN)/python -m pytest tests/book

ui-test: $(VENV)/dev.stamp  ## the page at / in a real Chromium (Debian's chromium)
	@$(BIN)/python -m pytest tests/ui

bench-serve: $(VENV)/dev.stamp  ## the server under closed and open loops: rates, latencies, CPU, memory
	@$(BIN)/python -m benchmarks.serve

bench-peers: $(VENV)/dev.stamp  ## the same loads on infinity-emb and a plain sentence-transformers loop
	@$(BIN)/python -m benchmarks.peers

bench-scaling: $(VENV)/dev.stamp  ## how time and memory grow with workers, text length and batch
	@$(BIN)/python -m benchmarks.scaling

bench-load: $(VENV)/dev.stamp  ## 32 clients for 30 s against a fresh server; metrics must agree
	@$(BIN)/python -m benchmarks.load

bench-bulk: $(VENV)/dev.stamp  ## encserve bulk against that ceiling: make bench-bulk FILE=texts.tsv
	@$(BIN)/python -m benchmarks.bulk $(FILE)

bench-limit: $(VENV)/dev.stamp  ## the ceiling of the same ONNX in process, and the server's share of it
	@$(BIN)/python -m benchmarks.limit

bench-quality: $(VENV)/dev.stamp  ## accuracy of the sentiment model: make bench-quality FILES="a.tsv b.tsv"
	@$(BIN)/python -m benchmarks.quality $(FILES)

bench-fidelity: $(VENV)/dev.stamp  ## cosine of the embeddings with sentence-transformers
	@$(BIN)/python -m benchmarks.fidelity

bench-memory: $(VENV)/dev.stamp  ## what onnxruntime's arena keeps after short and large runs
	@$(BIN)/python -m benchmarks.memory

bench-dialects: $(VENV)/dev.stamp  ## what each dialect adds to the engine's time
	@$(BIN)/python -m benchmarks.dialects

bench-replicas: $(VENV)/dev.stamp  ## one and two replicas alone and behind HAProxy and nginx (haproxy, nginx-light)
	@$(BIN)/python -m benchmarks.replicas

bench-costs: $(VENV)/dev.stamp  ## what a text costs by where it is spent, into sheet.json (haproxy)
	@$(BIN)/python -m benchmarks.costs --out sheet.json

bench-simulation: $(VENV)/dev.stamp  ## the simulated replica beside the real server
	@$(BIN)/python -m benchmarks.simulation

bench-day: $(VENV)/dev.stamp  ## a day's traffic under three autoscalers, simulated from sheet.json
	@$(BIN)/python -m benchmarks.day --sheet sheet.json

capacity: $(VENV)/dev.stamp  ## from texts a second to cores, memory, replicas, by sheet.json
	@$(BIN)/python -m benchmarks.capacity --sheet sheet.json

clean:  ## remove the virtual environment and caches; published models stay
	rm -rf $(VENV) $(SUPPLY) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/offline.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) …"
	@$(PIP) install -c constraints.txt -e '.[offline]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) …"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/offline.stamp

$(SUPPLY)/tools.stamp: requirements/tools.txt
	@$(PYTHON) -m venv $(SUPPLY)/tools
	@$(SUPPLY)/tools/bin/pip --disable-pip-version-check --quiet install --no-deps -r requirements/tools.txt
	@touch $@

$(SUPPLY)/server.stamp: requirements/server.txt $(SUPPLY)/tools.stamp
	@$(PYTHON) -m venv --clear --without-pip $(SUPPLY)/server
	@$(SUPPLY)/tools/bin/pip --disable-pip-version-check --quiet --python $(SUPPLY)/server/bin/python \
		install --no-deps --require-hashes -r requirements/server.txt
	@touch $@
