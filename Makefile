# Every command sets itself up: .venv is made from requirements.lock once and again only when the lock or pyproject.toml changes.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DO_NOT_TRACK := 1
export DAGSTER_DISABLE_TELEMETRY := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export GX_ANALYTICS_ENABLED := false

.PHONY: setup demo test up check check-python check-types check-sql check-project bench lock
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@sh scripts/setup.sh $(VENV)
	@touch $@

demo: $(READY)
	@$(BIN)/tidemark demo

up: $(READY)
	@exec $(BIN)/tidemark up

test: $(READY)
	@$(BIN)/python -m pytest --hypothesis-profile=ci -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	@$(MAKE) --no-print-directory --jobs=2 check-python check-types check-sql check-project

check-python:
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

check-types:
	@$(BIN)/mypy

check-sql:
	@$(BIN)/sqlfluff lint --disable-progress-bar dbt_project/models dbt_project/tests

check-project:
	@$(BIN)/dbt --quiet --warn-error parse --project-dir dbt_project --profiles-dir dbt_project
	@$(BIN)/dagster definitions validate -w workspace.yaml --log-level warning

bench: $(READY)
	@$(BIN)/python -m benchmarks

lock: $(READY)
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
