#!/usr/bin/env bash
# What the preset cuda builds, where no GPU is needed (tests/run.sh cuda): libm5_cuda.so has code for every GPU that
# it is for; the program links nothing of CUDA, finds the library, loads it, and says that there is no GPU. So does
# gpu_check, which is built here too.
# M5, SOURCE and MODEL as for tests/cli; the toolkit is in the PATH.
. "$(dirname "$0")/../cli/harness.sh"
unset M5_CUDA_LIBRARY

build=$(dirname "$M5")/..
library=$(readlink -f "$build/lib/libm5_cuda.so")
check "the library" test -s "$library"

# --- code: machine code of each architecture, PTX for newer GPUs -------------------------------------------
# code elf|ptx PATTERN: "sm_80 24" and so on, architectures and how many translation units have such code: what
# ptxas notes in it, and PTX says of itself; where there are no notes (toolkit 12), what cuobjdump lists.
# shellcheck disable=SC2094
code() {
  local found
  found=$(grep -aoE -e "$2" "$library" | grep -oE 'sm_[0-9a-z]+$')
  if [ -z "$found" ] && command -v cuobjdump >/dev/null; then
    found=$(cuobjdump "--list-$1" "$library" | sed -nE 's/.*\.(sm_[0-9a-z]+)\.(cubin|ptx)$/\1/p')
  fi
  grep . <<<"$found" | sort | uniq -c | command awk '{ print $2, $1 }'
}
code elf '-arch sm_[0-9a-z]+' >elf
code ptx '\.target sm_[0-9a-z]+' >ptx
warpgroups=$(find "$SOURCE/kernels/cuda" -name '*_wgmma.cu' | wc -l)
all=$(($(find "$SOURCE/kernels/cuda" -maxdepth 1 -name '*.cu' | wc -l) - warpgroups))
if [ -s elf ]; then
  equal "machine code" "$(tr '\n' ' ' <elf)" "sm_80 $all sm_86 $all sm_89 $all sm_90 $all sm_90a $warpgroups "
else
  skip "notes of ptxas in machine code, and no cuobjdump: for which GPUs there is code is not checked"
fi
if [ -s ptx ]; then
  check "PTX for newer GPUs" grep -q '^sm_90 ' ptx
else
  skip "PTX that can be read, and no cuobjdump: it is not checked"
fi

# --- what is loaded ----------------------------------------------------------------------------------------
needs_cuda() { ldd "$1" | grep -oE '^\s*lib(cuda|cudart|cublas|cublasLt)\.so[.0-9]*' | tr -d '\t '; }
for file in "$M5" "$build/libm5.so"; do
  check "$(basename "$file")" test -s "$file"
  equal "$(basename "$file") needs" "$(needs_cuda "$file")" ""
done
# That this sees them: cuBLASLt is the library's; the runtime is in it, and finds the driver itself.
equal "the library needs" "$(needs_cuda "$library" | sed 's/\.so.*//')" libcublasLt

# --- the program -------------------------------------------------------------------------------------------
ok "--version" --version
found=$(sed -n 's/^CUDA: //p' .out)
equal "--version: the library" "$(readlink -f "$found")" "$library"
record a 300 1 >a.fa
# Where there is a GPU it is hidden.
CUDA_VISIBLE_DEVICES=-1 fails 6 '^m5 score: device cuda: no GPU was found \(.+\)$' "score without a GPU" \
  score --device cuda a.fa
equal "score without a GPU: nothing is written" "$(wc -c <.out)" 0
ok "score --device cpu" score --device cpu --no-header a.fa
equal "score --device cpu: every base" "$(wc -l <.out)" 300
# A library that cannot be loaded.
echo "no library" >broken.so
M5_CUDA_LIBRARY=$WORK/broken.so fails 6 'device cuda: the library cannot be loaded: .*broken\.so' "a broken library" \
  score --device cuda a.fa

# --- gpu_check: what is run and timed where there is a GPU -------------------------------------------------
check "gpu_check is built" bash "$SOURCE/tests/perf/gpu.sh" "$build/gpu" --build
CUDA_VISIBLE_DEVICES=-1 "$build/gpu/gpu_check" --few >gpu_check.out 2>&1
equal "gpu_check without a GPU: exit code" $? 6
check "gpu_check without a GPU" grep -qx 'gpu_check: device cuda: no GPU was found (.*)' gpu_check.out

finish
