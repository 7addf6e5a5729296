#!/usr/bin/env bash
# All that can be judged without running aegate. Every check runs; the names of those that failed stand at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
failed=()

check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok      $name"
  else
    printf 'FAILED  %s\n%s\n' "$name" "$output"
    failed+=("$name")
  fi
}

empty_tree=$(git hash-object -t tree /dev/null)
check "format" ruff format --check .
check "lint" ruff check .
check "types" mypy
check "types of the lab" mypy --explicit-package-bases tests/cluster
check "types of tools" mypy tools/api tools/chart tools/images
check "generated files of the chart" python -m tools.chart --check
check "what breaks clients of the API" python -m tools.api check
check "import floors" lint-imports
check "layout" python -m pytest -q -p no:cacheprovider tests/unit/test_layout.py
check "lock files" tools/lock.sh check
check "white space" git diff --check "$empty_tree"

if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[*]}"
  exit 1
fi
