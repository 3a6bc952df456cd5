#!/usr/bin/env bash
# A CUDA toolkit that cannot build libm5_cuda.so does not stop a build with M5_CUDA=AUTO, whose summary says why the
# device is off; with M5_CUDA=ON the configuration ends with the same reason. The toolkits are stand-ins: an nvcc
# that tells its version and compiles nothing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problems=0
problem() {
  echo "$1"
  tail -n 15 "$work/log"
  problems=$((problems + 1))
}

# toolkit VERSION LIBRARY...: a folder of that name.
toolkit() {
  local folder=$work/$1 name
  mkdir -p "$folder/bin" "$folder/include" "$folder/lib64"
  touch "$folder/include/cuda_runtime.h" "$folder/include/cublas_v2.h"
  for name in "${@:2}"; do touch "$folder/lib64/lib$name.so"; done
  {
    echo '#!/bin/sh'
    echo "[ \"\$1\" = --version ] && echo 'Cuda compilation tools, release ${1%.*}, V$1' && exit"
    echo 'exit 1'
  } >"$folder/bin/nvcc"
  chmod +x "$folder/bin/nvcc"
}
toolkit 11.8.89 cudart cublasLt
toolkit 12.0.1 cudart
toolkit 12.0.76 cudart cublasLt

configure() { cmake -S . -B "$work/build" -G Ninja -DM5_TESTS=OFF "$@" >"$work/log" 2>&1; }
configure -DM5_CUDA=OFF || { tail -n 20 "$work/log"; exit 1; }
cp "$work/build/CMakeCache.txt" "$work/cache"
# reason VERSION TEXT [ERROR]: why that toolkit is left out, or refused.
reason() {
  # Not a library that this machine has elsewhere.
  local options=(-DCUDAToolkit_ROOT="$work/$1" -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF
    -DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF)
  cp "$work/cache" "$work/build/CMakeCache.txt"
  configure -DM5_CUDA=AUTO "${options[@]}" || problem "AUTO, $1: the configuration fails"
  grep -qE "^--   CUDA device     off \($2\)$" "$work/log" || problem "AUTO, $1: the summary does not say '$2'"
  # Of the same folder, as a user would go on.
  configure -DM5_CUDA=ON "${options[@]}" && problem "ON, $1: accepted"
  tr -s '\n ' ' ' <"$work/log" | grep -qE "${3:-M5_CUDA=ON, but $2: set CUDAToolkit_ROOT}" ||
    problem "ON, $1: the reason is another"
}
reason 11.8.89 'toolkit 11\.8\.89 is older than 12\.0'
reason 12.0.1 'toolkit 12\.0\.1 has no cuBLASLt'
reason 12.0.76 'toolkit 12\.0\.76 does not compile with its host compiler; M5_CUDA=ON shows why' \
  'kernels/cuda/CMakeLists.txt:[0-9]+ \(enable_language\)'  # CMake's own words, and those of nvcc
echo "3 toolkits, $problems problems"
[ "$problems" = 0 ]
