# Each command sets up what it needs: .venv (local/setup.sh) and the jars of the servers (.cache) are created once.
# A variable follows the command: make demo COHORT=ea_reputation THRESHOLD=-70
.DEFAULT_GOAL := help
PY := .venv/bin/python
AIRFLOW_VERSION ?= 3.3.1
export PYTHONPATH := .
# importing Airflow takes three times as long without compiled bytecode
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo flywheel new-cohort test approvals backfills pages faults chaos bench bench-full bench-width bench-small bench-graph-load bench-events bench-load bench-memory stack bundle bundle-321 deploy nightly schema lint counts up down servers servers-down clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:
	@AIRFLOW_VERSION=$(AIRFLOW_VERSION) sh local/setup.sh

demo: setup ## run the daily DAG once on local servers and sample players; DESTINATION=customer_profiles, ses or pinpoint
	@$(PY) -m local demo

flywheel: setup ## three days on local servers: a cohort is mailed, events come back, those who clicked become a segment
	@$(PY) -m local flywheel

new-cohort: setup ## propose an entry of cohorts.yaml: NAME=…, DESCRIPTION=…, SNAPSHOT=a snapshot's file; asks for what is not given
	@$(PY) -m local new-cohort --name "$${NAME:-}" --description "$${DESCRIPTION:-}" $${SNAPSHOT:+--snapshot "$$SNAPSHOT"}

test: setup ## all tests except backfills, approvals, pages and those for the night; they start and stop their servers
	@$(PY) -m local test-needs
	@$(PY) -m pytest --numprocesses=4 --ignore=tests/backfill --ignore=tests/approval --ignore=tests/ui \
		-m "not bundle_321 and not nightly" --durations=10

approvals: setup ## approvals answered in a real UI with MWAA's login; needs chromium; four minutes
	@$(PY) -m pytest tests/approval

pages: setup ## the pages in a real UI with MWAA's login; needs chromium; two minutes
	@$(PY) -m pytest tests/ui

backfills: setup ## five days of snapshots, backfilled by a real scheduler on PostgreSQL; four minutes
	@$(PY) -m pytest tests/backfill

faults: setup ## every external call of a run × every fault; resumes where it stopped; WORDS=BatchGetItem, CHANGED=1, FRESH=1
	@$(PY) -m tests.faults $(if $(CHANGED),--changed) $(if $(FRESH),--fresh) $(WORDS)

chaos: setup ## processes of a whole installation are killed, 1,000 by default; resumes; CHAOS_KILLS=n, SEED=n, FRESH=1, REPLAY=file, SHRINK=n
	@$(PY) -m tests.chaos $(if $(FRESH),--fresh) $(if $(REPLAY),--replay "$(REPLAY)") $(if $(SHRINK),--shrink $(SHRINK))

bench: setup ## benchmarks against alternatives, 1,000 and 10,000 players; writes tests/benchmarks/RESULTS.md
	@$(PY) -m tests.benchmarks

bench-full: setup ## the same with 100,000 and 1,000,000 players; hours, 8 GB of memory and 2 GB of disk
	@$(PY) -m tests.benchmarks --full

bench-width: setup ## shards over one Celery worker and over two; needs redis-server and PostgreSQL; ten minutes
	@$(PY) -m tests.benchmarks.width

bench-small: setup ## where the time of a run with three players goes; four minutes
	@$(PY) -m tests.benchmarks.small_case

bench-graph-load: setup ## validation of the files of a graph load, beside DuckDB's own reading; PLAYERS="100000 1000000"
	@$(PY) -m tests.benchmarks.graph_load --into tests/benchmarks $(if $(PLAYERS),--players $(PLAYERS))

bench-events: setup ## events of e-mails, read and counted, beside DuckDB's own reading; EVENTS="100000 1000000"
	@$(PY) -m tests.benchmarks.events --into tests/benchmarks $(if $(EVENTS),--events $(EVENTS))

bench-memory: setup ## the peak of our processes with a million players; PLAYERS="1000000 10000000" needs 20 GB
	@$(PY) -m tests.benchmarks.memory $(if $(PLAYERS),--players $(PLAYERS))

bench-load: setup ## what gets slower after a year of history, with 1,000 daily cohorts, in a launch of 100,000
	@$(PY) -m tests.benchmarks.history --into tests/benchmarks
	@$(PY) -m tests.benchmarks.cohorts --into tests/benchmarks
	@$(PY) -m tests.benchmarks.launch --into tests/benchmarks

stack: setup ## the CloudFormation stack: MODELER=the modeler's stack, NAME=ours, GO=1 to create it, PARAMETERS="Routing=private …"
	@$(PY) -m local stack --modeler "$(MODELER)" --name "$(NAME)" $(if $(GO),--go) $(PARAMETERS)

bundle: setup ## the files for Amazon MWAA, into build/; INTO=their-plugins.zip REQUIREMENTS=theirs.txt to merge, WHEELS=1 to add wheels
	@$(PY) -m local bundle $(if $(INTO),--into "$(INTO)") $(if $(REQUIREMENTS),--requirements "$(REQUIREMENTS)") \
		$(if $(WHEELS),--wheels $(if $(filter 1,$(WHEELS)),$(AIRFLOW_VERSION),$(WHEELS)))

deploy: setup ## upload build/ to MWAA's bucket: BUCKET=…, ENVIRONMENT=… to update it, PREFIX=… for a key prefix
	@$(PY) -m local deploy --bucket "$(BUCKET)" $(if $(ENVIRONMENT),--environment "$(ENVIRONMENT)") --prefix "$(PREFIX)"

bundle-321: setup ## the bundle and its wheels in a separate Airflow 3.2.1; three minutes
	@$(PY) -m pytest -m bundle_321 tests/deploy/test_bundle.py

nightly: setup ## everything that `make test` skips, as a table; PARTS="faults bench" for some
	@$(PY) -m tests.nightly $(PARTS)

schema: setup ## include/cohorts.schema.json, by which editors check cohorts.yaml
	@PYTHONPATH=plugins $(PY) -m cohort_flywheel.config.registry_schema

lint: setup ## ruff (AIR rules included), formatting and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy plugins dags local tests
	@.venv/bin/cfn-lint --include-checks I -- include/cloudformation/*.yaml

counts: setup ## how far the code is from plain English and typed data: lines and words by pattern
	@$(PY) -m tests.counts

up: setup ## the servers and a real Airflow with its UI, seeded; prints the address
	@$(PY) -m local up

down: setup ## stop what `make up` started
	@$(PY) -m local down

servers: setup ## start only the servers; writes their addresses to .local/servers.env for a shell to source
	@$(PY) -m local servers

servers-down: setup ## stops them
	@$(PY) -m local servers-down

clean: ## remove .venv, .cache, .local and build (stop the servers first)
	rm -rf .venv .cache .local build
