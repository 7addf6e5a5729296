#!/usr/bin/env bash
# The first two rings of tests: unit and integration, with branch coverage of core. Peers come from tests/apt-packages.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/peers.sh

exec .venv/bin/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90 "$@"
