#!/usr/bin/env bash
# clang-tidy with .clang-tidy over every source of lib, kernels and tools that the build compiles.
#   bash tests/checks/tidy.sh [BUILD_DIR]     (default build/dev; it must have been configured)
# TIDY_FILES="a.cpp b.cpp" restricts it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${1:-build/dev}
tidy=$(command -v clang-tidy-14 || command -v clang-tidy) || { echo "no clang-tidy"; exit 1; }
if [ ! -f "$build/compile_commands.json" ]; then
  echo "$build/compile_commands.json is missing: cmake --preset dev first"
  exit 1
fi
mapfile -t files < <(
  if [ -n "${TIDY_FILES:-}" ]; then printf '%s\n' $TIDY_FILES; else
    git ls-files --cached --others --exclude-standard 'lib/*.cpp' 'kernels/*.cpp' 'tools/*.cpp'
  fi)
# Only what the build compiles: files that other files include have no command of their own.
listed=()
for file in "${files[@]}"; do
  grep -qF "\"$PWD/$file\"" "$build/compile_commands.json" && listed+=("$file")
done
[ "${#listed[@]}" = 0 ] && { echo "no source found"; exit 1; }
echo "clang-tidy over ${#listed[@]} files"
printf '%s\0' "${listed[@]}" |
  xargs -0 -n 1 -P "$(nproc)" "$tidy" --quiet -p "$build" \
    --extra-arg=-Wno-unknown-warning-option  # the compiler may be g++
