#!/bin/sh
# Installs the programs of tests/outside/: curl, Python, Node and load generators where they are missing (Debian), and the
# pinned packages.
set -eu
cd "$(dirname "$0")/outside"

missing=
command -v curl >/dev/null || missing="$missing curl"
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3 python3-venv"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
command -v wrk >/dev/null || missing="$missing wrk"
command -v h2load >/dev/null || missing="$missing nghttp2-client"
command -v ab >/dev/null || missing="$missing apache2-utils"
if [ -n "$missing" ]; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    $as_root apt-get install -qq -y --no-install-recommends $missing
fi
if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)'; then
    echo "node $(node --version) is too old for the packages: 18 is the first that works" >&2
    exit 1
fi

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --requirement requirements.txt
npm ci --silent --no-audit --no-fund
