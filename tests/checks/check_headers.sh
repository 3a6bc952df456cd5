#!/usr/bin/env bash
# Each header of lib/m5 compiles alone, twice and with the warnings that a careful user has, from a
# folder in which there is nothing else of m5.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/m5"
cp lib/m5/*.hpp "$work/m5/"
flags=(-std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
       -Wold-style-cast -Werror)
checked=0 problems=0
for compiler in "${CXX:-c++}" clang++-14; do
  command -v "$compiler" >/dev/null || continue
  for header in "$work"/m5/*.hpp; do
    name=m5/$(basename "$header")
    checked=$((checked + 1))
    printf '#include "%s"\n#include "%s"\n' "$name" "$name" |
      "$compiler" "${flags[@]}" -I "$work" -x c++ - 2>"$work/log" && continue
    echo "$compiler: $name does not compile alone:"
    head -n 5 "$work/log"
    problems=$((problems + 1))
  done
done
echo "$checked headers, $problems problems"
[ "$problems" = 0 ] && [ "$checked" -gt 0 ]
