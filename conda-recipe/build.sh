#!/usr/bin/env bash
# CMAKE_ARGS comes from conda-build: prefix, toolchain, search paths. No -march: the SIMD target is
# chosen at run time.
set -euo pipefail
# shellcheck disable=SC2086
cmake -S . -B build/conda -G Ninja ${CMAKE_ARGS:-} \
  -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_INSTALL_PREFIX="$PREFIX" \
  -DCMAKE_INSTALL_LIBDIR=lib \
  -DM5_TESTS=OFF \
  -DM5_CUDA=OFF
cmake --build build/conda --parallel "${CPU_COUNT:-2}"
cmake --install build/conda
