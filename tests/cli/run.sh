#!/usr/bin/env bash
# Runs the tests of the command line:  tests/cli/run.sh M5_BINARY [test_NAME.sh ...]
# or those of another folder:           tests/cli/run.sh M5_BINARY tests/workflows/test_*.sh
# The tiny model is made by make_tiny_model of the same build. The last line is
# "N passed, N failed"; the exit code is 0 when nothing failed and something passed.
set -uo pipefail
if [ $# -lt 1 ] || [ ! -x "$1" ]; then
  echo "usage: tests/cli/run.sh M5_BINARY [TEST ...]" >&2
  exit 2
fi
M5=$(readlink -f "$1")
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
maker=$(dirname "$M5")/../tests/cli/make_tiny_model
[ -x "$maker" ] || { echo "$maker is missing: build it" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
MODEL=$scratch/tiny.safetensors
"$maker" "$MODEL" || exit 2
"$maker" "$scratch/wild.safetensors" 1e38 || exit 2  # its sums overflow
"$maker" "$scratch/sure.safetensors" 1e5 || exit 2  # sure of itself, and wrong
SOURCE=$(cd "$here/../.." && pwd)
# shellcheck source=tests/counts.sh
. "$SOURCE/tests/counts.sh"
export M5 MODEL SOURCE WILD_MODEL=$scratch/wild.safetensors
export SURE_MODEL=$scratch/sure.safetensors

tests=("$here"/test_*.sh)
if [ $# -gt 0 ]; then
  tests=()
  for name in "$@"; do
    if [[ $name == */* ]]; then tests+=("$(readlink -f "$name")"); else tests+=("$here/$name"); fi
  done
fi
# As many files at a time as there are CPUs. Tests send signals, which a job in the background, or one
# under nohup, would have been told to ignore.
printf '%s\0' "${tests[@]}" | xargs -0 -P "$(nproc)" -I '{}' \
  bash -c 'env --default-signal bash "$1" >"$2/$(basename "$1").log" 2>&1' _ '{}' "$scratch"
for test in "${tests[@]}"; do
  name=$(basename "$test")
  echo "$(<"$scratch/$name.log")"  # whatever it ends with, a line ends here
  add_counts "$name" "$scratch/$name.log"
done
print_counts
