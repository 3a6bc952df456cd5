#!/usr/bin/env bash
# The shape of the repository: a fixed top level, files that stay readable, nothing built or foreign
# committed, no path of anybody's machine in the text.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
problems=0
problem() {
  echo "$1"
  problems=$((problems + 1))
}

top="CMakeLists.txt tools lib kernels share tests man conda-recipe README.md NEWS.md ARCHITECTURE.md
     CONTRIBUTING.md LICENSE THIRD_PARTY.md .ci .clang-format .clang-tidy CMakePresets.json pyproject.toml .gitignore"
while IFS= read -r name; do
  [[ " ${top//$'\n'/ } " == *" $name "* ]] || problem "top level: $name has no place there"
done < <(git ls-files --cached --others --exclude-standard | cut -d/ -f1 | sort -u)
for name in $top; do
  [ -e "$name" ] || problem "top level: $name is missing"
done

lines_limit=450   # about 400 is the aim; past this a file wants splitting
size_limit=6000000
while IFS= read -r file; do
  [ -f "$file" ] || continue
  case $file in
    *.cpp | *.hpp | *.inc | *.cu | *.sh | *.py)
      lines=$(wc -l <"$file")
      [ "$lines" -gt "$lines_limit" ] && problem "$file: $lines lines, split it"
      ;;
  esac
  case $file in *.o | *.a | *.so | *.pyc | *.tmp | *.ckpt | *~) problem "$file: not a source" ;; esac
  [ "$(stat -c %s "$file")" -gt "$size_limit" ] && problem "$file: larger than $size_limit bytes"
  case $file in *.hpp)
    # A header that is compiled once per instruction set has Highway's toggle in its place.
    grep -qE '#pragma once|HWY_TARGET_TOGGLE' "$file" || problem "$file: no #pragma once"
    ;;
  esac
done < <(git ls-files --cached --others --exclude-standard)

# Paths of one machine, and notes to oneself. The pattern is split so that it does not find itself.
words="/wo""rk/|/ho""me/[a-z]|/Us""ers/|TO""DO|FIX""ME|WI""P\b"
found=$(git grep --untracked -nIE "$words" -- . ':!*.gz' ':!*.safetensors' ':!tests/checks/check_tree.sh')
if [ -n "$found" ]; then
  problem "words that do not belong into the repository:"
  echo "$found" | cut -c1-160
fi

# The header of a model carries its provenance: names of files are welcome, paths are not.
while IFS= read -r file; do
  if head -c 65536 "$file" | grep -aqE '/wo''rk/|/ho''me/|/tm''p/'; then
    problem "$file: its header names a path of the machine it was trained on"
  fi
done < <(git ls-files --cached --others --exclude-standard '*.safetensors')

echo "$problems problems"
[ "$problems" = 0 ]
