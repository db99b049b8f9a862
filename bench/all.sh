#!/bin/sh
# All figures of docs/explanation/performance.md: about twenty minutes on an idle machine, after the build.
set -eu
cd "$(dirname "$0")/.."
sh bench/install.sh
cargo build --profile dist --locked
bench/scale.py --publish
bench/compare.py "$@"
