#!/usr/bin/env bash
# The speed of m5 beside plain PyTorch: the same models, outputs compared first, then the ratio of
# nucleotides a second.
#
#   bash tests/perf/compare.sh [--m5 PROGRAM] [--nt 65536] [--threads N] [--models nano,small]
#       [--modes forward,train] [--repeats 3] [--cpu-time] [--check-only]
#
# Builds the release preset unless --m5 names a program. Installs PyTorch and OpenBLAS, which nothing
# else here needs (without OpenBLAS the PyTorch of Debian multiplies by the reference BLAS);
# M5_NO_INSTALL=1 installs nothing and says what is missing. tests/run.sh does not call this.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=share/setup/packages.sh
. share/setup/packages.sh
need_packages "the comparison with PyTorch" python3-torch libopenblas0-openmp
case " $* " in
  *" --m5"* | *" --help "* | *" -h "*) ;;
  *)
    need_packages "the build" "${M5_BUILD_PACKAGES[@]}"
    { cmake --preset release && cmake --build --preset release; } >&2
    ;;
esac
# Debian's python3, which its PyTorch belongs to, whatever other one comes first in PATH.
exec /usr/bin/python3 tests/perf/compare.py "$@"
