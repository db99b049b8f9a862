# Each recipe is a check of `.ci/run`, so that both stay the same. `just` is optional: `.ci/run NAME` does the same.

# Lists the recipes
default:
    @just --list

# Everything that a change has to pass
ci:
    .ci/run

# Formatting
format:
    .ci/run format

# Clippy with warnings as errors
lint:
    .ci/run lint

# Public and private documentation without broken links
doc:
    .ci/run doc

# Unit tests and promises, outside clients included
test:
    .ci/run test

# The oldest supported toolchain, where it is installed
oldest:
    .ci/run oldest

# A minute of fuzzing from the corpora, where cargo-fuzz and a nightly toolchain are installed
fuzz:
    .ci/run fuzz

# Relative links and anchors of README.md and docs/
links:
    .ci/run links
