#!/usr/bin/env bash
# m5 can be part of another project (add_subdirectory), which then gets m5::m5 and no tests of ours.
# Flags are those of the build that is tested, so that with ccache nothing is compiled twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${M5_BUILD:-build/dev}
# As deep in the tree as the other build folders: ccache may compare paths relative to the folder.
work=build/subproject
trap 'rm -rf "$work"' EXIT
rm -rf "$work"
mkdir -p "$work"
work=$PWD/$work
options=()
for name in CMAKE_BUILD_TYPE CMAKE_CXX_COMPILER CMAKE_CXX_FLAGS CMAKE_CXX_FLAGS_DEBUG \
  CMAKE_CXX_FLAGS_RELEASE M5_WERROR M5_SANITIZE; do
  options+=("-D$name=$(sed -n "s/^$name:[A-Z]*=//p" "$build/CMakeCache.txt")")
done
sanitize=$(sed -n 's/^M5_SANITIZE:[A-Z]*=//p' "$build/CMakeCache.txt")
[ -n "$sanitize" ] && options+=("-DCMAKE_EXE_LINKER_FLAGS=-fsanitize=$sanitize")

cmake -S tests/checks/subproject -B "$work" -G Ninja -DM5_SOURCE="$PWD" "${options[@]}" \
  >"$work/check.log" 2>&1 || { tail -n 25 "$work/check.log"; exit 1; }
cmake --build "$work" --target parent -j "$(nproc)" >>"$work/check.log" 2>&1 ||
  { tail -n 25 "$work/check.log"; exit 1; }
if ninja -C "$work" -t targets all | grep -E '^(unit|kernel|model)_tests:'; then
  echo "a parent project gets the tests of m5"
  exit 1
fi
cd /
env -u M5_MODEL "$work/parent" ACGTACGTAC  # finds the bundled model in the sources
