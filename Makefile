# Everything a person types here. Each target works from a fresh clone on Debian or Ubuntu; what it installs goes into .venv.
# The longer recipes are the scripts in tools/.

.DEFAULT_GOAL := help
.PHONY: help demo test bench-api faults crash steps powerloss migration load load-operator indexers large outage stops fuzz fuzz-api attackers storm bench-live silence proofs proofs-selftest cluster cluster-down cluster-status test-cluster test-cluster-full check chart images fmt lock clean

BIN := .venv/bin
DISTRIBUTIONS := $(wildcard */pyproject.toml)

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r target text; do \
		printf '  make %-16s %s\n' "$$target" "$$text"; done

demo: .venv/.run  ## a whole small hospital on this machine: two modalities send, two receivers get it, GraphQL tells
	@$(BIN)/aegate demo

test: .venv/.all  ## unit and integration tests, on SQLite and PostgreSQL, with dcmtk and Orthanc as peers
	@tools/test.sh

faults: .venv/.all  ## full disks, dead databases, wrong clocks, hostile peers: what is said, and how soon all is well again; FORM=short
	@tools/test.sh --no-cov tests/integration/faults tests/integration/hostile tests/integration/load $(if $(filter short,$(FORM)),,tests/proofs/faults)

crash: .venv/.all  ## kill processes at random while devices send, and count what was lost: RUNS=100 SEED=7 DATABASE=postgres
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.crash --runs $(or $(RUNS),100) $(if $(SEED),--seed $(SEED)) $(if $(DATABASE),--database $(DATABASE))

steps: .venv/.all  ## kill at every step between socket and index, KILLS=20 times each; SIGNAL=TERM: ask it to stop there
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.steps --kills $(or $(KILLS),20) $(if $(SIGNAL),--signal $(SIGNAL)) $(if $(SEED),--seed $(SEED)) $(if $(DATABASE),--database $(DATABASE))

stops: .venv/.all  ## ask it to stop at random moments while devices send: RUNS=20 SEED=7 DATABASE=postgres
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.stops --runs $(or $(RUNS),20) $(if $(SEED),--seed $(SEED)) $(if $(DATABASE),--database $(DATABASE))

powerloss: .venv/.all  ## take the power away while devices send: RUNS=50 SEED=7; SELFTEST=1: without each fsync it must fail
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.powerloss --runs $(or $(RUNS),50) $(if $(SEED),--seed $(SEED)) $(if $(SELFTEST),--selftest)

fuzz: .venv/.all  ## say wrong things to listener and sender in every state of the protocol: SECONDS=60 SEED=7; REPLAY=FILE
	@$(BIN)/python -m tests.proofs.fuzz $(if $(REPLAY),--replay $(REPLAY)) --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

fuzz-api: .venv/.all  ## documents made from the schema, against a real API: SECONDS=120 SEED=7 DATABASE=postgres
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.fuzz_api --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED)) $(if $(DATABASE),--database $(DATABASE))

attackers: .venv/.all  ## a good client of the API beside N=100 that send rubbish, with a token and without: SECONDS=20
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.attackers --connections $(or $(N),100) --seconds $(or $(SECONDS),20) $(if $(DATABASE),--database $(DATABASE))

storm: .venv/.all  ## N=1000 subscribers come back from a replica that stops to the other one: nobody misses a change
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.storm --clients $(or $(N),1000)

bench-live: .venv/.all  ## how long from a change to its subscribers, p50 and p99: N=2000 RATE=100 DATABASE=sqlite
	@tools/peers.sh
	@$(BIN)/python -m bench.graphql.live --subscribers $(or $(N),2000) --rate $(or $(RATE),100) $(if $(DATABASE),--database $(DATABASE))

load: .venv/.all  ## eight devices, three receivers, one of them flapping: rates, memory, what is lost: N=10000 DATABASE=sqlite
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.load --instances $(or $(N),10000) $(if $(DATABASE),--database $(DATABASE))

load-operator: .venv/.all  ## a thousand AEs at once on a real API server, against a plain client; ten thousand in a pool: N=1000 POOLED=10000
	@tools/peers.sh tests/cluster/apt-packages.txt
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.operator_load --entities $(or $(N),1000) $(if $(POOLED),--pooled $(POOLED))

indexers: .venv/.all  ## three times as many indexers as PostgreSQL has connections, also behind PgBouncer: N=60 CONNECTIONS=20
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.indexers --indexers $(or $(N),60) --connections $(or $(CONNECTIONS),20)

bench-api: .venv/.all  ## the API beside PostGraphile, its lists, searches, mutations and live side: N=100000 rows
	@tools/peers.sh bench/graphql/apt-packages.txt
	@tools/peers.sh
	@cd bench/graphql/postgraphile && if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then npm ci --silent; fi
	@$(BIN)/python -m bench.graphql.reference --rows $(or $(N),100000)
	@$(BIN)/python -m bench.graphql.reads --studies $(or $(N),100000) --items $(or $(N),100000)
	@$(BIN)/python -m bench.graphql.live

silence: .venv/.all  ## a good device beside SOCKETS=1000 connections that say nothing
	@$(BIN)/python -m tests.proofs.silence --sockets $(or $(SOCKETS),1000)

migration: .venv/.all  ## kill two starts at once while they bring the schema up: KILLS=30 SEED=7 DATABASE=sqlite
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.migration --kills $(or $(KILLS),30) $(if $(SEED),--seed $(SEED)) $(if $(DATABASE),--database $(DATABASE))

large: .venv/.all  ## one object of 2 GiB in and out, and no process holds it in memory: MIB=2048 DATABASE=postgres
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.large --mib $(or $(MIB),2048) $(if $(DATABASE),--database $(DATABASE))

outage: .venv/.all  ## a study of 3,000 images while the database is away: one delivery a destination: N=3000 AWAY=600
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.outage --images $(or $(N),3000) --seconds $(or $(AWAY),600) $(if $(DATABASE),--database $(DATABASE))

proofs: .venv/.all  ## all of these at full count, hours: FORM=short for minutes, ONLY=steps for one
	@tools/proofs.sh $(or $(FORM),full) $(ONLY)

proofs-selftest: .venv/.all  ## break the code on purpose, one way after the other: each must be noticed
	@tools/peers.sh
	@$(BIN)/python -m tests.proofs.selftest
	@$(BIN)/python -m tests.proofs.powerloss --selftest

cluster: .venv/.all  ## a Kubernetes to play with: eval "$$(make -s cluster)"; NODES=2, 0: pods are processes here; NUMBER=0
	@tools/peers.sh tests/cluster/apt-packages.txt >&2
	@$(BIN)/python -m tests.cluster.lab up --nodes $(or $(NODES),1) --number $(or $(NUMBER),0)

cluster-status: .venv/.all  ## what runs in it, and its memory
	@$(BIN)/python -m tests.cluster.lab status --number $(or $(NUMBER),0)

cluster-down: .venv/.all  ## end it; nothing is left
	@$(BIN)/python -m tests.cluster.lab down --number $(or $(NUMBER),0)

test-cluster: .venv/.all  ## the third ring: on a real API server, with pods on a real node; root; compiles for minutes, once
	@tools/peers.sh tests/cluster/apt-packages.txt
	@$(BIN)/python -m tests.cluster.lab build
	@$(BIN)/python -m pytest tests/cluster -o timeout=900 --durations=15 $(ARGS)

test-cluster-full:  ## and every fault: nodes drained and lost, upgrades, connections that fall silent
	@$(MAKE) --no-print-directory test-cluster ARGS="--full $(ARGS)"

check: .venv/.all  ## what needs no peers: format, lint, types, import floors, layout, lock
	@tools/check.sh

chart: .venv/.all  ## the chart's generated files: values.yaml, its schema, the CRDs
	@$(BIN)/python -m tools.chart

images: .venv/.all  ## the four images, by buildah, into build/images: no daemon, nothing pulled; PARTS="scp scu" TAG=1.2.3
	@tools/peers.sh images/apt-packages.txt
	@$(BIN)/python -m tools.images $(PARTS) $(if $(TAG),--tag $(TAG))

fmt: .venv/.all  ## bring the code into the one format
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

lock: .venv/.uv  ## newest versions into the lock files (KEEP=1: only what a pyproject.toml asks for anew)
	@tools/lock.sh $(if $(KEEP),keep,upgrade)

clean:  ## remove what the other targets made; data folders stay
	rm -rf .venv .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache uv.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: uv alone; what running needs; that and the tools.
.venv/.uv: requirements-uv.lock tools/venv.sh
	@tools/venv.sh uv

.venv/.run: requirements-run.lock requirements-uv.lock tools/venv.sh $(DISTRIBUTIONS)
	@tools/venv.sh run

.venv/.all: requirements.lock requirements-uv.lock tools/venv.sh pyproject.toml $(DISTRIBUTIONS)
	@tools/venv.sh all
