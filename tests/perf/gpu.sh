#!/usr/bin/env bash
# Builds tests/perf/gpu_check.cu for the GPU of this machine and runs it: checks of every kernel and of
# whole passes, then a table of times. Needs nvcc, CMake, cuBLAS and a C++20 compiler alone.
#   gpu.sh [BUILD_DIR] [option of gpu_check ...]      --chunk=ROWS --seconds=LIMIT --times --unmeasured
# M5_GPU_ARCH: the architecture, 90 where it is not given.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${1:-$here/../../build/gpu}
[ $# -gt 0 ] && shift
command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
mkdir -p "$(dirname "$build")"
start=$SECONDS
cmake -S "$here/gpu" -B "$build" -DCMAKE_CUDA_ARCHITECTURES="${M5_GPU_ARCH:-90}-real" >"$build.log" 2>&1 ||
  { cat "$build.log"; exit 1; }
cmake --build "$build" -j "${M5_GPU_JOBS:-$(nproc)}" >>"$build.log" 2>&1 || { tail -n 60 "$build.log"; exit 1; }
echo "built in $((SECONDS - start)) s"
exec "$build/gpu_check" "$@"
