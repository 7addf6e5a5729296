#!/bin/sh
# mmdebstrap runs this when it has unpacked: keep what each package says of itself. $1: the root file system.
set -eu
mkdir -p "$1/var/lib/dpkg/status.d"
for deb in "$1"/var/cache/apt/archives/*.deb; do
  dpkg-deb --field "$deb" >"$1/var/lib/dpkg/status.d/$(dpkg-deb --field "$deb" Package)"
done
