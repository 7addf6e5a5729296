#!/usr/bin/env bash
# The first two rings of tests: unit and integration; or what is named. Faults, bad peers and loads are `make faults`: they
# wait and work for half as long as all else together. With CI=true also the branch coverage of core, which must be 90 %: to
# measure it takes a third as long again. Peers come from tests/apt-packages.txt.
# The tests' folders lie in memory where there is room: they kill processes, never the kernel, and most of their time would
# be fsync. They are kept when a test fails.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/peers.sh
.venv/bin/python -m tests.integration.bucket_server # compiles it the first time, a minute or two

if [ $# = 0 ]; then set -- --ignore=tests/integration/faults --ignore=tests/integration/hostile --ignore=tests/integration/load; fi

folder=/tmp
room_kib=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1 || true)
if [ "${room_kib:-0}" -gt 8000000 ]; then folder=/dev/shm; fi
folder=$(mktemp -d "$folder/aegate-test-XXXXXX")

coverage=(--no-cov)
if [ "${CI:-}" = true ]; then coverage=(--cov --cov-report=term:skip-covered --cov-fail-under=90); fi

code=0
.venv/bin/python -m pytest -n 4 --dist worksteal --basetemp="$folder/t" \
  "${coverage[@]}" --durations=20 --durations-min=10 "$@" || code=$?
if [ $code = 0 ]; then rm -rf "$folder"; else echo "the tests' folders are kept in $folder"; fi
exit $code
