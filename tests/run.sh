#!/usr/bin/env bash
# Everything that must hold before a commit is good.
#
#   bash tests/run.sh                  all stages
#   bash tests/run.sh quick            all but cuda, gpu, workflows, packaging, tidy, fuzz and the sanitizers
#   bash tests/run.sh STAGE...         some of: build unit cli cuda gpu checks man workflows packaging tidy
#                                      fuzz asan tsan
#
# build   the ci preset: what is installed (-O3, no assertions), with its tests; warnings are errors
# unit    ctest of that build
# cli     tests/cli/run.sh with that m5
# cuda    where there is nvcc, in the PATH or /usr/local/cuda/bin: the preset cuda, libm5_cuda.so for all its
#         architectures (warnings and spills are errors; no tests), and tests/cuda/test_library.sh, which builds
#         gpu_check (tests/perf), too. No GPU is needed
# gpu     where there is an NVIDIA GPU, too: tests/gpu/run.sh with that build, every kernel and whole passes
#         (tests/perf/gpu.sh --checks), and the same under compute-sanitizer
#         Where cuda, gpu or compute-sanitizer is skipped one line says so, and why; M5_REQUIRE_CUDA=1 makes that a
#         failure
# checks  every tests/checks/check_*.sh
# man     mandoc's lint over every page
# workflows  share/workflows run by Snakemake and MultiQC, Nextflow's modules
#         by bash, Galaxy's tools by Cheetah and bash (tests/workflows)
# packaging  tests/packaging: the release and the conda recipe, old processors and aarch64 under qemu
# tidy    clang-tidy (.clang-tidy) over lib, kernels and tools
# fuzz    tests/fuzz/run.sh: some thousand inputs to each reader of files, by libFuzzer
# asan    AddressSanitizer and UndefinedBehaviorSanitizer: the whole of ctest
# tsan    ThreadSanitizer: the tests in which several threads work (M5_TSAN_TESTS below)
#
# The preset dev is for work by hand: assertions and -O2. Its assertions are on in asan, too.
#
# Installs the packages it needs (share/setup/packages.sh); M5_NO_INSTALL=1 installs nothing and says
# what is missing. The last line is "N passed, N failed"; the exit code is 0 when nothing failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=share/setup/packages.sh
. share/setup/packages.sh
# shellcheck source=tests/counts.sh
. tests/counts.sh

# Not those of Cuda: ThreadSanitizer knows no fibers.
M5_TSAN_TESTS='ThreadPool|Pipeline|OrderedSum|Faults|Pooler|Relations|Golden|Training|ModelGradient'
M5_TSAN_TESTS+='|GenomeStore|Session|Log\.'
jobs=$(nproc)
export CTEST_PARALLEL_LEVEL=$jobs CLICOLOR=0
# Builds of one checkout in several folders share their objects.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

all_stages=(build unit cli cuda gpu checks man workflows packaging tidy fuzz asan tsan)
quick_stages=(build unit cli checks man)
stages=("$@")
[ $# = 0 ] && stages=("${all_stages[@]}")
[ "$*" = quick ] && stages=("${quick_stages[@]}")
for stage in "${stages[@]}"; do
  if [[ " ${all_stages[*]} " != *" $stage "* ]]; then
    echo "tests/run.sh: no stage '$stage' (one of: quick ${all_stages[*]})" >&2
    exit 2
  fi
done

logs=build/test-logs
mkdir -p "$logs"
total_passed=0 total_failed=0
declare -a summary=()

# record STAGE PASSED FAILED STARTED [NOTE]
record() {
  total_passed=$((total_passed + $2))
  total_failed=$((total_failed + $3))
  summary+=("$(printf '%-9s %5d passed %5d failed %6d s  %s' "$1" "$2" "$3" $((SECONDS - $4)) "${5:-}")")
}

# build_preset PRESET: configures and builds; the log goes to $logs/PRESET-build.log.
build_preset() {
  local log=$logs/$1-build.log
  { cmake --preset "$1" && cmake --build --preset "$1"; } >"$log" 2>&1 && return 0
  grep -nE 'error|Error|FAILED' "$log" | head -n 20
  tail -n 20 "$log"
  return 1
}

# run_ctest STAGE PRESET [ctest options]: records the counts that ctest prints.
run_ctest() {
  local stage=$1 preset=$2 log=$logs/$1.log started=$SECONDS
  shift 2
  ctest --preset "$preset" --timeout 900 "$@" >"$log" 2>&1
  local code=$? counts failed total
  counts=$(grep -oE '[0-9]+ tests failed out of [0-9]+' "$log" | tail -n 1)
  if [ -z "$counts" ]; then
    tail -n 20 "$log"
    record "$stage" 0 1 "$started" "ctest ran nothing: $log"
    return
  fi
  failed=${counts%% *}
  total=${counts##* }
  [ "$code" != 0 ] && [ "$failed" = 0 ] && failed=1
  if [ "$failed" != 0 ]; then
    grep -vE '^ *[0-9]+/[0-9]+ Test .*Passed|^ *Start ' "$log" | tail -n 80
  fi
  record "$stage" $((total - failed)) "$failed" "$started" "$log"
}

stage_build() {
  local started=$SECONDS
  if build_preset ci; then record build 1 0 "$started" build/ci; else record build 0 1 "$started"; fi
}

stage_unit() { run_ctest unit ci; }

# not_passed LOG: the end of it, without lines of what has passed.
not_passed() { grep -vE ': [0-9]+ passed, 0 failed$|^  [^ ]' "$1" | tail -n 60; }

# run_counted STAGE STARTED COMMAND...: records what the last line of its output counts (tests/counts.sh).
run_counted() {
  local stage=$1 started=$2 log=$logs/$1.log passed=0 failed=0 code
  "${@:3}" >"$log" 2>&1
  code=$?
  add_counts "$stage" "$log"
  [ "$code" = 0 ] || [ "$failed" != 0 ] || failed=1
  [ "$failed" = 0 ] || not_passed "$log"
  record "$stage" "$passed" "$failed" "$started" "$log"
}

# run_scripts STAGE [TEST...]: tests/cli/run.sh with the m5 of the build.
run_scripts() { run_counted "$1" "$SECONDS" bash tests/cli/run.sh build/ci/tools/m5 "${@:2}"; }

stage_cli() { run_scripts cli; }

# without STAGE REASON: it is skipped, or failed where CUDA is required.
without() {
  local required=0 line="skipped: $2; M5_REQUIRE_CUDA=1 makes this a failure"
  if [ "${M5_REQUIRE_CUDA:-0}" = 1 ]; then required=1 line="failed: M5_REQUIRE_CUDA=1, but $2"; fi
  echo "$1: $line"
  record "$1" 0 $required "$SECONDS" "$line"
}

# build_cuda STAGE: builds the preset cuda, which a stage before may have done. Where it cannot be, records why.
build_cuda() {
  local started=$SECONDS
  if ! command -v nvcc >/dev/null; then
    without "$1" "no nvcc in the PATH or /usr/local/cuda/bin"
  elif build_preset cuda; then
    return 0
  elif grep -q 'M5_CUDA=ON, but' "$logs/cuda-build.log"; then  # a toolkit that builds of M5_CUDA=AUTO leave out
    without "$1" "$(grep -oE 'toolkit .*(older than 12.0|has no cuBLASLt)' "$logs/cuda-build.log" | head -n 1)"
  else
    record "$1" 0 1 "$started" "no build"
  fi
  return 1
}

stage_cuda() {
  local started=$SECONDS PATH=$PATH:/usr/local/cuda/bin
  build_cuda cuda || return
  run_counted cuda "$started" env SOURCE="$PWD" M5="$PWD/build/cuda/tools/m5" \
    MODEL="$PWD/share/models/m5-nano.safetensors" bash tests/cuda/test_library.sh
}

# gpu_part NAME COMMAND...: one more test of the stage gpu, for an hour at most; its log is $logs/gpu-NAME.log.
gpu_part() {
  local log=$logs/gpu-$1.log
  if timeout 3600 "${@:2}" >"$log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "gpu: $1 failed:"
    grep -E 'FAILED|=========|error' "$log" | head -n 40
    tail -n 5 "$log"
  fi
}

stage_gpu() {
  local started=$SECONDS log=$logs/gpu.log passed=0 failed=0 capability tool note
  # What shows a GPU before anything is built: NVIDIA's tool, its devices, or those of Windows' Linux.
  if ! nvidia-smi -L 2>/dev/null | grep -q GPU && ! compgen -G '/dev/nvidia[0-9]*' >/dev/null && [ ! -e /dev/dxg ]; then
    without gpu "no NVIDIA GPU (no nvidia-smi that lists one, no /dev/nvidia0)"
    return
  fi
  local PATH=$PATH:/usr/local/cuda/bin
  build_cuda gpu || return
  M5_CUDA_LIBRARY=$PWD/build/cuda/lib/libm5_cuda.so bash tests/gpu/run.sh build/cuda/tools/m5 >"$log" 2>&1
  if grep -q '^gpu: skipped: ' "$log"; then  # one that is too old
    without gpu "$(sed -n 's/^gpu: skipped: \(.*\); M5_REQUIRE_CUDA.*/\1/p' "$log")"
    return
  fi
  add_counts gpu "$log"
  [ "$failed" = 0 ] || not_passed "$log"

  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
  gpu_part checks env PYTHON=false M5_GPU_ARCH="${M5_GPU_ARCH:-${capability:-90}}" bash tests/perf/gpu.sh build/gpu --checks
  note=$log
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck; do
      # Races of cuBLAS are not ours. initcheck must see what its kernels write.
      local options=(--tool "$tool" --error-exitcode 9)
      [ "$tool" = racecheck ] && options+=(--kernel-name kns=m5)
      gpu_part "$tool" compute-sanitizer "${options[@]}" build/gpu/gpu_check --few
    done
  else
    note+=" (no compute-sanitizer: its tools did not run)"
    [ "${M5_REQUIRE_CUDA:-0}" = 1 ] && failed=$((failed + 1))
    echo "gpu: no compute-sanitizer: its tools did not run; M5_REQUIRE_CUDA=1 makes this a failure"
  fi
  record gpu "$passed" "$failed" "$started" "$note"
}

# Its packages are large, so only this stage asks for them.
stage_workflows() {
  if need_packages "the workflows" "${M5_WORKFLOW_PACKAGES[@]}"; then
    run_scripts workflows tests/workflows/test_*.sh
  else
    record workflows 0 1 "$SECONDS" "packages are missing"
  fi
}

stage_packaging() {
  if need_packages "the tests of packages" "${M5_PACKAGING_PACKAGES[@]}"; then
    run_scripts packaging tests/packaging/test_*.sh
  else
    record packaging 0 1 "$SECONDS" "packages are missing"
  fi
}

stage_checks() {
  local started=$SECONDS passed=0 failed=0 check name
  for check in tests/checks/check_*.sh; do
    name=$(basename "$check" .sh)
    if M5_BUILD=build/ci bash "$check" >"$logs/$name.log" 2>&1; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      echo "$name failed:"
      tail -n 25 "$logs/$name.log" | sed 's/^/  /'
    fi
  done
  record checks "$passed" "$failed" "$started"
}

stage_man() {
  local started=$SECONDS passed=0 failed=0 page
  for page in man/*.[15]; do

    if mandoc -T lint -W warning "$page" >"$logs/mandoc.log" 2>&1; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      cat "$logs/mandoc.log"
    fi
  done
  record man "$passed" "$failed" "$started"
}

stage_tidy() {
  local started=$SECONDS
  if bash tests/checks/tidy.sh build/ci >"$logs/tidy.log" 2>&1; then
    record tidy 1 0 "$started"
  else
    grep -E 'warning:|error:' "$logs/tidy.log" | sort -u | head -n 40
    record tidy 0 1 "$started" "$logs/tidy.log"
  fi
}

stage_fuzz() {
  local started=$SECONDS
  if ! build_preset fuzz; then
    record fuzz 0 1 "$started" "no build"
    return
  fi
  run_counted fuzz "$started" bash tests/fuzz/run.sh
}

stage_asan() {
  local started=$SECONDS
  if ! build_preset asan; then
    record asan 0 1 "$started" "no build"
    return
  fi
  ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 run_ctest asan asan
}

stage_tsan() {
  local started=$SECONDS
  if ! build_preset tsan; then
    record tsan 0 1 "$started" "no build"
    return
  fi
  TSAN_OPTIONS=halt_on_error=1 run_ctest tsan tsan -R "$M5_TSAN_TESTS" -E Cuda
}

started=$SECONDS
if need_packages "the tests" "${M5_BUILD_PACKAGES[@]}" "${M5_TEST_PACKAGES[@]}"; then
  for stage in "${stages[@]}"; do
    echo "== $stage"
    "stage_$stage"
  done
else
  record packages 0 1 "$started" "packages are missing"
fi

echo
printf '%s\n' "${summary[@]}"
echo "total: $SECONDS s, logs in $logs"
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" = 0 ]
