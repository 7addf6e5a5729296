#!/usr/bin/env bash
# The first two rings of tests: unit and integration, with branch coverage of core. Peers come from tests/apt-packages.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/apt.sh

missing=()
while read -r package file; do
  case $package in '' | '#'*) continue ;; esac
  compgen -G "$file" >/dev/null || missing+=("$package")
done <tests/apt-packages.txt
if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi

exec .venv/bin/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90 "$@"
