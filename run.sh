#!/usr/bin/env bash
# Installs what is missing, builds, and serves the embedded demo model; arguments go to `optima serve`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"
install_packages "${build_packages[@]}"
build_into build -DOPTIMA_TESTS=OFF -DOPTIMA_BENCH=OFF
exec build/optima serve "$@"
