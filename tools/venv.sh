#!/usr/bin/env bash
# Make .venv and install into it: `uv` alone, `run` (what aegate needs), or `all` (that, the tests' and the developers' tools).
# Every file is checked against the hashes of the lock files, whatever index it comes from. PYTHON=... chooses the Python.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/apt.sh

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
}

ask_for_python() {
  local version
  echo "aegate needs Python 3.11 or newer, got: $(${PYTHON:-python3} --version 2>&1 || echo none)." >&2
  for version in 3.14 3.13 3.12 3.11; do
    if apt-cache show "python$version-venv" >/dev/null 2>&1; then
      echo "Type this, then make again:  $(apt_command "python$version-venv")" >&2
      exit 2
    fi
  done
  echo "Install one, then type:  make PYTHON=/path/to/python3.11 $1" >&2
  exit 2
}

make_venv() {
  local python version
  if [ -x .venv/bin/python ] && is_new_enough .venv/bin/python && .venv/bin/python -c 'import pip' 2>/dev/null; then return; fi
  python=$(find_python)
  [ -n "$python" ] || ask_for_python "$1"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_install "python$version-venv"
  fi
  echo "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
}

install_uv() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-uv.lock
  touch .venv/.uv
}

uv_pip() { .venv/bin/uv pip "$@" --quiet --python .venv/bin/python; }

# Bytecode is written now, once: else all processes of the first start compile the same modules at the same time, and every
# process does where PYTHONDONTWRITEBYTECODE is set.
install_locked() { uv_pip install --compile-bytecode --require-hashes -r "$1"; }

install_own() {
  local distribution own=()
  for distribution in */pyproject.toml; do own+=(-e "./${distribution%/*}"); done
  uv_pip install --no-deps "${own[@]}"
}

make_venv "$1"
[ .venv/.uv -nt requirements-uv.lock ] && [ -x .venv/bin/uv ] || install_uv
case $1 in
  uv) touch .venv/.uv ;;
  run)
    echo "installing what running needs into .venv"
    install_locked requirements-run.lock
    install_own
    touch .venv/.run
    ;;
  all)
    echo "installing what running, testing and checking need into .venv"
    install_locked requirements.lock
    install_own
    touch .venv/.run .venv/.all
    ;;
esac
