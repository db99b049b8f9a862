# Checks are those of `.ci/run`, by the same names: `just` is optional.

# Lists the recipes
default:
    @just --list

# The demo: a gateway, a service behind it, and commands to try
demo:
    cargo run -- demo

# The build that is shipped and measured: target/dist/portcullis
dist:
    cargo build --profile dist --locked

# Everything that a change has to pass
ci:
    .ci/run

# Formatting
format:
    .ci/run format

# Relative links and anchors of all Markdown pages
links:
    .ci/run links

# Every recipe exists, every script starts
scripts:
    .ci/run scripts

# Bans, licences and sources of dependencies, with cargo-deny
dependencies:
    .ci/run dependencies

# Clippy with warnings as errors
lint:
    .ci/run lint

# Public and private documentation without broken links
doc:
    .ci/run doc

# The oldest supported toolchain
oldest:
    .ci/run oldest

# Unit tests and promises, outside clients included
test:
    .ci/run test

# The Helm chart and the image's files: rendered, validated and checked
contrib:
    .ci/run contrib

# Short adversarial tests; tests/adversarial/README.md names the long ones
adversarial:
    .ci/run adversarial

# A minute of fuzzing from the corpora, with cargo-fuzz and a nightly toolchain
fuzz:
    .ci/run fuzz

# Installs the tools of `dependencies` and `fuzz`
tools:
    cargo install --locked cargo-deny cargo-fuzz
    rustup toolchain install nightly --profile minimal
