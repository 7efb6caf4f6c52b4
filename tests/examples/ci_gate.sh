#!/bin/sh
# Fail if the code of this environment is slower than that of another one.
#
#     ci_gate.sh PYTHON [PYTEST_OPTION...]
#
# PYTHON: the interpreter of an environment with the code to compare with, such as the main branch. Exit code 0: no
# regression; 1: one of more than 10 %; 3: the runs allow no claim. Five pairs of runs take ten times as long as one run,
# so name what the gate is about: ci_gate.sh ../main/.venv/bin/python test_own_function.py -k gelu
set -eu
against=$1
shift
rm -rf gate
bench-core run --runs 5 --against "$against" --bench-output=gate "$@"
bench-core compare against="$(echo gate/*/*-against)" this="$(echo gate/*/*-this)" --fail-on regression --threshold 10%
