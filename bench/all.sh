#!/bin/sh
# Everything that docs/explanation/performance.md publishes, in one go: some twenty minutes on a machine that does nothing else.
set -eu
cd "$(dirname "$0")/.."
sh bench/install.sh
cargo build --release --locked
bench/scale.py --publish
bench/compare.py "$@"
