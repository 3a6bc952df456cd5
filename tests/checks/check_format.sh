#!/usr/bin/env bash
# Every C++ file is as clang-format 14 (.clang-format) writes it. Other versions differ in details,
# so that only 14 is asked.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
format=$(command -v clang-format-14 || command -v clang-format) || { echo "no clang-format"; exit 1; }
if ! "$format" --version | grep -q 'version 14\.'; then
  echo "need clang-format 14, found: $("$format" --version)"
  exit 1
fi
mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.cpp' '*.hpp' '*.inc' '*.cu')
problems=0
for file in "${files[@]}"; do
  if ! "$format" --dry-run -Werror "$file" >/dev/null 2>&1; then
    echo "clang-format -i $file"
    problems=$((problems + 1))
  fi
done
echo "${#files[@]} files, $problems problems"
[ "$problems" = 0 ]
