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

# What comes from npm, by lock files that name no registry; only for the tests that are no list of their own. One of them is
# the Node by which the others run: that of the system only fetches them, and may be older than they ask for.
[ $# -eq 0 ] || exit 0
for lock in tests/*/*/package-lock.json examples/*/package-lock.json; do
  folder=${lock%/*}
  [ "$folder/node_modules/.package-lock.json" -nt "$lock" ] ||
    (cd "$folder" && npm ci --loglevel=error --engine-strict=false >/dev/null)
done
node=$(compgen -G "tests/integration/nodejs/node_modules/node-linux-*/bin/node") && "$node" --version >/dev/null || {
  echo "The Node of the tests does not run here: npm has it for x86-64 and arm64, with glibc 2.28 or later." >&2
  exit 2
}
