#!/bin/sh
# What the tests need from Debian. "build": only what pip needs to compile pyscard.
# Nothing is asked of the network when everything is there already.
set -eu
build="gcc python3-dev swig pkg-config libpcsclite-dev"
tests="pcscd vsmartcard-vpcd mosquitto postgresql iproute2 util-linux strace"
wanted=$build
[ "${1:-}" = build ] || wanted="$build $tests"
missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=""
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
    sudo -n true 2>/dev/null || {
        echo "run: missing Debian packages, install as root: apt-get install$missing" >&2
        exit 2
    }
fi
echo "run: installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq >/dev/null 2>&1 || true
# The package scripts may try to start services; the tests run their own on random ports.
# shellcheck disable=SC2086
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    echo "run: apt-get could not install:$missing" >&2
    exit 2
}
