# Another architecture: m5 is cross-built for Linux on aarch64, every operation agrees with ref there (under
# qemu), results do not depend on threads, blocks or company there either, and the scores are those of x86-64 but
# for the order of sums.
. "$(dirname "$0")/../cli/harness.sh"
. "$SOURCE/tests/packaging/aarch64.sh"

for tool in aarch64-linux-gnu-g++ qemu-aarch64 dpkg-deb apt-get; do
  command -v $tool >/dev/null && continue
  skip $tool
  finish
  exit
done
if [ "${M5_NO_INSTALL:-0}" = 1 ]; then
  skip "libraries of aarch64 (M5_NO_INSTALL=1)"
  finish
  exit
fi
build=$SOURCE/build/aarch64
root=$build/sysroot
if [ ! -e "$root.complete" ]; then
  rm -rf "$root" "$root.state"
  if make_sysroot "$root" >apt.log 2>&1; then touch "$root.complete"; else tail -n 3 apt.log; fi
fi
check "libraries of aarch64" [ -e "$root.complete" ]
configure() {
  cmake -S "$SOURCE" -B "$build" -G Ninja -DM5_CUDA=OFF -DCMAKE_TOOLCHAIN_FILE="$SOURCE/share/cmake/aarch64.cmake" \
    -DM5_SYSROOT="$root" -DCMAKE_BUILD_TYPE=Release -DM5_WERROR=ON -DM5_TESTS=ON
}
check "configure" configure
check "build" cmake --build "$build" --target m5 kernel_tests
[ "$FAILED" = 0 ] || { tail -n 5 .checked; finish; exit 1; }

emulated() { qemu-aarch64 -L "$root" "$@"; }
emulated "$build/tests/kernels/kernel_tests" --gtest_brief=1 --gtest_filter='Cpu/CompareTest.AgreesWithRef/NEON_fp32' >gtest.log 2>&1
check "operations agree with ref" grep -q '^\[  PASSED  \] 1 test' gtest.log

{ record a 700 1; record b 40 2; record c 300 3; } >small.fa
there() { emulated "$build/tools/m5" score --no-header --digits 9 -O tsv "$@" 2>.err; }
emulated "$build/tools/m5" --version >version.txt
check "NEON" grep -q NEON version.txt
"$M5" score --no-header --digits 9 -O tsv small.fa >here.tsv 2>.err
there -@ 1 small.fa >there.tsv
equal "rows" "$(wc -l <there.tsv)" "$(wc -l <here.tsv)"
worst=$(paste here.tsv there.tsv | awk -v n="$(awk 'NR == 1 {print NF}' here.tsv)" '
  {for (i = 1; i <= n; ++i) {d = $i - $(i + n); if (d < 0) d = -d; if (d > most) most = d;
    if (d == 0 && $i != $(i + n)) text = 1}} END {print text ? "text" : most + 0}')
check "scores of both architectures, $worst apart at most" awk -v d="$worst" 'BEGIN {exit !(d != "text" && d < 1e-5)}'
there -@ 3 --block-rows 128 small.fa >three.tsv
same "threads and blocks" there.tsv three.tsv
record b 40 2 >alone.fa
there alone.fa | tail -n +2 >alone.tsv
grep -P '^b\t' there.tsv >company.tsv
equal "rows of the second record" "$(wc -l <company.tsv)" 40
same "company" alone.tsv company.tsv
check "embed" emulated "$build/tools/m5" embed -o e.npy small.fa
check "train" emulated "$build/tools/m5" train --preset nano --segment-length 256 --steps 2 --batch-tokens 512 --seed 1 \
  -o t.safetensors small.fa
check "what it trained is read on x86-64" "$M5" score -m t.safetensors small.fa
finish
