#!/bin/sh
# Fail if the code of this environment is slower than that of another one.
#
#     ci_gate.sh PYTHON [PYTEST_OPTION...]
#
# PYTHON: the interpreter of an environment with the code to compare with, such as the main branch. The output calls it
# `base`, and this environment `change`. Exit code 0: no regression, or undecided (bench-core's code 5: the runs are too
# noisy for a claim, which the output says); 1: a regression of 10 % or more, or a case without a value any more, because
# it fails, is wrong or is gone; 3: no common work. Five pairs of runs take ten times as long as one run, so name what the
# gate is about:
#
#     ci_gate.sh ../main/.venv/bin/python test_own_function.py -k gelu
set -eu
against=$1
shift
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
bench-core run --runs 5 --against "$against" --bench-output="$out" "$@"
code=0
bench-core compare base="$out/*/*-against" change="$out/*/*-this" --fail-on regression,missing --threshold 10% || code=$?
[ "$code" -eq 5 ] || exit "$code"
