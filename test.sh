#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test. --sanitize runs the suite under AddressSanitizer with
# UndefinedBehaviorSanitizer and then under ThreadSanitizer instead.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"
install_packages "${build_packages[@]}" "${test_packages[@]}"

if [ ! -x .venv/bin/python ]; then
  echo "Making a Python environment for the end-to-end tests in .venv"
  python3 -m venv .venv
fi
.venv/bin/python -c 'import openai' 2>/dev/null || .venv/bin/pip install -q 'openai>=2,<3'

# run_suite FOLDER [CMAKE OPTION...]
run_suite() {
  local folder=$1
  build_into "$@" -DOPTIMA_TESTS=ON
  ctest --test-dir "$folder" --output-on-failure -j "$(nproc)" --timeout 900 --no-tests=error
  .venv/bin/python tests/e2e/run.py --binary "$folder/optima"
}

if [ "${1:-}" = --sanitize ]; then
  run_suite build-asan -DOPTIMA_ASAN=ON -DOPTIMA_BENCH=OFF
  run_suite build-tsan -DOPTIMA_TSAN=ON -DOPTIMA_BENCH=OFF
else
  run_suite build-test -DOPTIMA_BENCH=ON
fi
