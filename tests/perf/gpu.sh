#!/usr/bin/env bash
# m5 on the GPU of this machine: checks of every kernel and of whole passes, times, and at the end a table
# of what is to be reached, on one screen: value, bar, and whether it is.
#   gpu.sh [BUILD_DIR] [--table | --checks | --few | --times | --build] [option of gpu_check ...]
#     --table: few checks, and the times that the table needs alone; meant to take less than 4 minutes on an
#     H200, beside the build (not timed yet). --build: builds, no more. --checks, --few, --times: see
#     gpu_check.cu; the first two end without a table.
# Three parts, each of which gives the table its rows:
#   gpu_check (gpu_check.cu), built here: needs nvcc, CMake, cuBLAS and a C++20 compiler alone
#   gpu_pytorch.py, where there is a PyTorch that finds the GPU: the same model, as many nt as it can hold
#   m5 score, where M5 is a built m5 with its libm5_cuda.so and M5_GENOME a FASTA file of E. coli: small
#   with random parameters, 7 passes, bedGraph
# M5_GPU_ARCH: the architecture, 90 where it is not given. M5_GPU_JOBS: of the build.
# M5_GPU_CHECK: a gpu_check that was built elsewhere (BUILD_DIR/gpu_check of --build); it needs no more than
# the driver and libcublasLt of its CUDA version, in LD_LIBRARY_PATH where the linker does not find it.
# PYTHON: the Python that has PyTorch, python3 where it is not given; PYTHON=false leaves PyTorch out.
# M5_PYTORCH_SECONDS: the time for PyTorch, 90 where it is not given, 60 with --table.
# Ends with gpu_check's exit code.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$here/../../build/gpu
case ${1:-} in
  '' | --*) ;;
  *)
    build=$1
    shift
    ;;
esac
mkdir -p "$build"
rows=$build/table.tsv
: >"$rows"

# row WHAT VALUE UNIT SENSE BAR NOTE: as table.hpp.
row() { (IFS=$'\t' && echo "$*") >>"$rows"; }

build_check() {
  local start=$SECONDS
  command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
  cmake -S "$here/gpu" -B "$build" -DCMAKE_CUDA_ARCHITECTURES="${M5_GPU_ARCH:-90}-real" >"$build.log" 2>&1 ||
    { cat "$build.log"; exit 1; }
  cmake --build "$build" -j "${M5_GPU_JOBS:-$(nproc)}" >>"$build.log" 2>&1 ||
    { tail -n 60 "$build.log"; exit 1; }
  echo "built in $((SECONDS - start)) s"
}

compare_with_pytorch() {
  local python=${PYTHON:-python3} mode why
  echo
  if "$python" -c 'import torch; assert torch.cuda.is_available()' >/dev/null 2>&1; then
    why="gpu_pytorch.py failed"
    "$python" "$here/gpu_pytorch.py" --seconds "${M5_PYTORCH_SECONDS:-$1}" --gpu-check "$check" \
      --rows "$rows" || echo "gpu_pytorch.py: exit code $?"
  else
    why="$python has no PyTorch that finds a GPU"
    echo "PyTorch is left out: $why"
  fi
  for mode in forward training; do
    grep -q "^$mode, small.*times as fast as PyTorch" "$rows" ||
      row "$mode, small: times as fast as PyTorch" - x '>=' 3 "$why"
  done
}

# The best of three runs, each a process of its own.
score_genome() {
  local what="m5 score, small, 7 passes" why='M5=PROGRAM M5_GENOME=FASTA give it' best=0 run begin time
  if [ -n "${M5:-}" ] && [ -n "${M5_GENOME:-}" ]; then
    what+=", $(basename "$M5_GENOME")"
    why=failed
    if printf '>random\n%s\n' "$(printf 'ACGTTGCATTAGGCAC%.0s' {1..16})" >"$build/random.fa" &&
      "$M5" train --verbosity 1 --preset small --steps 1 --segment-length 64 --batch-tokens 64 --device cpu \
        -o "$build/small.safetensors" "$build/random.fa"; then
      for run in 1 2 3; do
        begin=${EPOCHREALTIME/[.,]/}
        "$M5" score --verbosity 2 --device cuda --precision bf16 --passes 7 -m "$build/small.safetensors" \
          -o "$build/score.bedgraph" "$M5_GENOME" || { best=0; break; }
        time=$((${EPOCHREALTIME/[.,]/} - begin))
        echo "$what, run $run: $((time / 1000)) ms, $(wc -l <"$build/score.bedgraph") lines"
        if [ "$best" = 0 ] || [ "$time" -lt "$best" ]; then best=$time; fi
      done
    fi
  fi
  if [ "$best" = 0 ]; then
    echo "$what: left out: $why"
    row "$what: time" - s '<=' 3 "$why"
  else
    row "$what: time" "$((best / 1000000)).$(printf %06d $((best % 1000000)) | cut -c1-2)" s '<=' 3 ""
  fi
}

show_table() {
  printf '\n%-60s %9s %-3s %8s  %-8s\n' "" value "" bar reached
  command awk -F'\t' '{
    reached = "no"
    if ($2 != "-" && ($4 == ">=" ? $2 + 0 >= $5 + 0 : $2 + 0 <= $5 + 0)) reached = "yes"
    printf "%-60s %9s %-3s %8s  %-8s %s\n", $1, $2, $3, $4 " " $5, reached, $6
  }' "$rows"
}

check=${M5_GPU_CHECK:-}
if [ -z "$check" ]; then
  build_check
  check=$build/gpu_check
fi
pytorch_seconds=90 with_table=true
for option in "$@"; do
  case $option in
    --build) exit 0 ;;
    --table) pytorch_seconds=60 ;;
    --checks | --few) with_table=false ;;
  esac
done
code=0
"$check" "$@" --rows="$rows" || code=$?
$with_table || exit "$code"
if [ "$code" -gt 1 ]; then  # what there is
  [ ! -s "$rows" ] || show_table
  exit "$code"
fi
compare_with_pytorch "$pytorch_seconds"
echo
score_genome
show_table
exit "$code"
