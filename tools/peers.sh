#!/usr/bin/env bash
# The peers of the tests, from tests/apt-packages.txt (or the list that is named): installed through apt where missing.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/apt.sh

missing=()
while read -r package file; do
  case $package in '' | '#'*) continue ;; esac
  compgen -G "$file" >/dev/null || missing+=("$package")
done <"${1:-tests/apt-packages.txt}"
if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi

# What comes from npm, by lock files that name no registry; only for the tests that are no list of their own.
[ $# -eq 0 ] || exit 0
for lock in tests/*/*/package-lock.json examples/*/package-lock.json; do
  folder=${lock%/*}
  [ "$folder/node_modules/.package-lock.json" -nt "$lock" ] || (cd "$folder" && npm ci --silent)
done
