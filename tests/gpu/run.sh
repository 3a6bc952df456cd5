#!/usr/bin/env bash
# Tests of the program on a GPU, most of them beside the CPU:
#   tests/gpu/run.sh M5_BINARY [test_NAME.sh ...]
# libm5_cuda.so is the one that this m5 finds (the preset cuda builds both), or M5_CUDA_LIBRARY.
# Where m5 finds no GPU, one line says so and why, and the exit code is 0.
#
# M5_REQUIRE_CUDA=1    that is a failure
# M5_GPU_DEVICE=NAME   the device that is tested, else cuda: cuda:1, or ref, which needs no GPU
# M5_GPU_DIVISOR=N     lengths, steps and runs divided by N, for a device that is slow
#
# The last line is "N passed, N failed"; the exit code is 0 when nothing failed.
set -uo pipefail
if [ $# -lt 1 ] || [ ! -x "$1" ]; then
  echo "usage: tests/gpu/run.sh M5_BINARY [TEST ...]" >&2
  exit 2
fi
M5=$(readlink -f "$1")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SOURCE=$(cd "$here/../.." && pwd)
# shellcheck source=tests/counts.sh
. "$SOURCE/tests/counts.sh"
MODEL=$SOURCE/share/models/m5-nano.safetensors
GPU_LIBRARY=${M5_CUDA_LIBRARY:-}
DEVICE=${M5_GPU_DEVICE:-cuda}
DIVISOR=${M5_GPU_DIVISOR:-1}
[[ $GPU_LIBRARY != */* ]] || GPU_LIBRARY=$(readlink -f "$GPU_LIBRARY")
export M5 SOURCE MODEL GPU_LIBRARY DEVICE DIVISOR

# What has no GPU, not what is broken: a library of another build is a failure, and so is one that was
# named and cannot be loaded.
no_gpu='no GPU was found|compute capability|is not installed'
[ -z "$GPU_LIBRARY" ] && no_gpu+='|cannot be loaded'
reason=$(printf '>probe\nACGTACGT\n' |
  M5_CUDA_LIBRARY=$GPU_LIBRARY "$M5" score --device "$DEVICE" -m "$MODEL" -o /dev/null - 2>&1)
code=$?
reason=$(grep -v ' warning: ' <<<"$reason" | sed -n '$s/^m5 score: //p')
if [ "$code" = 6 ] && [[ $reason =~ $no_gpu ]]; then
  if [ "${M5_REQUIRE_CUDA:-0}" = 1 ]; then
    echo "gpu: failed: M5_REQUIRE_CUDA=1, but $reason"
    echo "0 passed, 1 failed"
    exit 1
  fi
  echo "gpu: skipped: $reason; M5_REQUIRE_CUDA=1 makes this a failure"
  echo "0 passed, 0 failed"
  exit 0
elif [ "$code" != 0 ]; then
  echo "gpu: failed: exit $code: $reason"
  echo "0 passed, 1 failed"
  exit 1
fi

tests=("$here"/test_*.sh)
if [ $# -gt 0 ]; then tests=("${@/#/$here/}"); fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for test in "${tests[@]}"; do  # one at a time: there is one GPU
  env --default-signal bash "$test" 2>&1 | tee "$scratch/log"
  add_counts "$(basename "$test")" "$scratch/log"
done
print_counts
