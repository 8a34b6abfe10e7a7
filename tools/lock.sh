#!/bin/sh
# Writes the lock files from pyproject.toml: with hashes, for every platform, without the address of any index.
# Needs uv (pip install uv). Run it after changing a dependency; with --upgrade to take newer versions.
set -eu
cd "$(dirname "$0")/.."
common="--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet"
uv pip compile pyproject.toml --group build $common "$@" -o requirements.lock
uv pip compile pyproject.toml --group build --group dev -c requirements.lock $common "$@" -o requirements-dev.lock
uv pip compile --group plain $common "$@" -o benchmarks/plain.lock
