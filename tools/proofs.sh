#!/usr/bin/env bash
# The proofs of docs/reliability.md, one after the other. `short`: what CI runs, minutes. `full`: hours; what each says at its
# end is kept in docs/proofs/. A name after that: this one alone. All are run, also after one that failed.
set -euo pipefail
cd "$(dirname "$0")/.."

form=$1
only=${2:-}
tools/peers.sh
failed=()

prove() { # name, arguments of the full form, arguments of the short form or "-"
  local name=$1 arguments=$2 module=tests.proofs.${1%%-*} code=0 began=$SECONDS
  [ "$name" != api_times ] || module=bench.graphql.reads
  [ -z "$only" ] || [ "$only" = "$name" ] || return 0
  [ "$form" = full ] || arguments=$3
  [ "$arguments" != "-" ] || return 0
  echo "== $name: python -m $module $arguments"
  if [ "$form" = full ]; then
    mkdir -p docs/proofs
    {
      echo "$(date -u +%F), commit $(git rev-parse --short HEAD), $(nproc) cores: python -m $module $arguments"
      # shellcheck disable=SC2086 # several arguments
      .venv/bin/python -m "$module" $arguments
    } | tee "docs/proofs/$name.txt" || code=$?
  else
    # shellcheck disable=SC2086
    .venv/bin/python -m "$module" $arguments || code=$?
  fi
  echo "== $name: $([ $code = 0 ] && echo passed || echo FAILED), $((SECONDS - began)) s"
  [ $code = 0 ] || failed+=("$name")
}

prove crash-postgres "--runs 900 --database postgres" "--runs 25 --database postgres"
prove crash-sqlite "--runs 900 --database sqlite" "-"
prove steps "--kills 20" "--kills 2 --together"
prove stops "--runs 30" "-"
prove migration "--kills 30" "-"
prove powerloss "--runs 60" "--runs 5"
prove fuzz "--seconds 600" "--seconds 60"
prove fuzz_api "--seconds 600" "--seconds 120"
prove fuzz_api-postgres "--seconds 600 --database postgres" "-"
prove attackers "--seconds 30" "-"
prove api_times "--studies 2000000 --items 10000000" "--studies 100000 --items 100000 --calls 50"
prove storm "--clients 1000" "--clients 100"
prove load "--instances 10000" "--instances 600"
prove outage "--images 3000 --seconds 600" "-"
prove large "--mib 2048" "-"
prove silence "--sockets 1000" "-"
prove indexers "--indexers 60 --connections 20" "--indexers 12 --connections 6"
prove operator_load "--entities 1000" "-"

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
