#!/usr/bin/env bash
# The lock files: versions and hashes, no address of any index. One resolution, for every platform and Python >= 3.11;
# an image has the part of it that its distribution needs.
#   upgrade   the newest versions that the pyproject.toml files allow
#   keep      what is locked stays; what a pyproject.toml asks for anew comes in, what nobody asks for goes
#   check     as keep, but write nothing: fail when a version would change (hashes are not compared: an index may add files)
set -euo pipefail
cd "$(dirname "$0")/.."

sources=(pyproject.toml */pyproject.toml)
own=(--no-emit-package aegate-core)
for distribution in */pyproject.toml; do
  name=${distribution%/*}
  own+=(--no-emit-package "aegate-${name//_/-}")
done

resolve() {
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate "${own[@]}" "$@"
}

pins() { grep -oE '^[a-z0-9._-]+==[^\\]*[^\\ ]' "$1" | sort; }

lock() {
  local file=$1 new
  shift
  new=$(mktemp)
  if [ "$mode" = check ]; then
    resolve -c requirements.lock "$@" >"$new"
    diff --label "$file" --label "asked for" <(pins "$file") <(pins "$new") || {
      echo "$file does not give what the pyproject.toml files ask for: run make lock KEEP=1" >&2
      exit 1
    }
  else
    if [ "$mode" = keep ] || [ "$file" != requirements.lock ]; then set -- -c requirements.lock "$@"; fi
    resolve --generate-hashes "$@" >"$new"
    cat "$new" >"$file"
  fi
  rm -f "$new"
}

mode=$1
lock requirements.lock --group dev --group test "${sources[@]}"
lock requirements-run.lock "${sources[@]}"
lock requirements-uv.lock <(grep -oE '^uv==[^ ]+' requirements.lock)
for image in images/*/; do
  part=$(basename "$image")
  [ "$part" = base ] || lock "${image}requirements.lock" core/pyproject.toml "${part//-/_}/pyproject.toml"
done
