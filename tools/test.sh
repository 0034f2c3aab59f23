#!/usr/bin/env bash
# Sets up, then runs the tests. Arguments go to pytest: tools/test.sh tests/text -k bpe
#
# Without arguments, the tests run in a process a core, at most 8; with some, in one process, whose
# output comes in order (-n 4 asks for four).
#
#   XLM_TEST_OPTIONS="..."   further options for pytest, such as "-n 0"

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
prepare_environment dev
cd "$root"
# The tests' tensors are too small to share among threads.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# A worker takes whole files, whose tests share what they train, in the order of the folders: the
# last ones hold many short tests, so the workers end together. A worker holds 0.8 GB.
options=(-q -m "not slow" --dist loadfile --no-loadscope-reorder)
if (($# == 0)); then
    options+=(-n "$(python -c 'import os; print(min(8, len(os.sched_getaffinity(0))))')")
fi

start=$SECONDS
status=0
# shellcheck disable=SC2086
python -m pytest "${options[@]}" ${XLM_TEST_OPTIONS:-} "$@" || status=$?
echo "install: $install_seconds s, tests: $((SECONDS - start)) s"
exit $status
