# Sourced: install Debian packages through apt, saying so; without root or sudo, print the one command to type and exit 2.

apt_command() {
  local sudo=""
  if [ "$(id -u)" != 0 ]; then sudo="sudo "; fi
  echo "${sudo}apt-get install -y --no-install-recommends $*"
}

apt_install() {
  local as_root=()
  if ! command -v apt-get >/dev/null; then
    echo "This needs the packages (Debian's names): $*. Install them, then make again." >&2
    exit 2
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      echo "This needs the packages: $*. Type this, then make again:" >&2
      echo "  $(apt_command "$@")" >&2
      exit 2
    fi
    as_root=(sudo)
  fi
  echo "installing through apt: $*"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 bash -euo pipefail -s -- "$@" <<'ROOT'
# The services that come with a package (PostgreSQL's, Orthanc's) are not wanted: Debian asks policy-rc.d before starting one.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
install() { apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" </dev/null >/dev/null; }
if ! install "$@" 2>/dev/null; then
  apt-get update -qq </dev/null
  install "$@"
fi
ROOT
}
