#!/usr/bin/env bash
# Builds tests/perf/gpu_check.cu for the GPU of this machine and runs it: checks of every kernel and of
# whole passes, then a table of times. Needs nvcc, CMake, cuBLAS and a C++20 compiler alone. Where there
# is a PyTorch that finds the GPU, its times with the same model follow, plain and compiled, and how
# many times as fast m5 is (gpu_pytorch.py). Ends with gpu_check's exit code.
#   gpu.sh [BUILD_DIR] [option of gpu_check ...]      --chunk=ROWS --seconds=LIMIT --times --unmeasured
#   --checks: without the times; --few: each kernel and each pass once, for compute-sanitizer
# M5_GPU_ARCH: the architecture, 90 where it is not given.
# PYTHON: the Python that has PyTorch, python3 where it is not given; PYTHON=false leaves PyTorch out.
# M5_PYTORCH_SECONDS: the time for PyTorch, 90 where it is not given.
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

code=0
"$build/gpu_check" "$@" | tee "$build/gpu_check.txt" || code=${PIPESTATUS[0]}

python=${PYTHON:-python3}
echo
if "$python" -c 'import torch; assert torch.cuda.is_available()' >/dev/null 2>&1; then
  "$python" "$here/gpu_pytorch.py" --seconds "${M5_PYTORCH_SECONDS:-90}" \
    --gpu-check "$build/gpu_check.txt" ||
    echo "gpu_pytorch.py: exit code $?"
else
  echo "PyTorch is left out: $python has none that finds a GPU"
fi
exit "$code"
