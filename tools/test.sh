#!/usr/bin/env bash
# Sets up, then runs the tests. Arguments go to pytest: tools/test.sh tests/text -k bpe
#
#   XLM_TEST_OPTIONS="..."   further options for pytest

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
prepare_environment dev
cd "$root"
# The tests' tensors are too small to share among threads.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

start=$SECONDS
status=0
# shellcheck disable=SC2086
python -m pytest -q -m "not slow" ${XLM_TEST_OPTIONS:-} "$@" || status=$?
echo "install: $install_seconds s, tests: $((SECONDS - start)) s"
exit $status
