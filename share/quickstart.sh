#!/usr/bin/env bash
# From a fresh checkout to a perplexity track: installs what is missing, builds m5 into
# build/release, scores the example genome with the bundled model.
#
#   bash share/quickstart.sh
#
# M5_NO_INSTALL=1 installs nothing and says what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=share/setup/packages.sh
. share/setup/packages.sh

need_packages "building m5" "${M5_BUILD_PACKAGES[@]}"

echo "Building m5 (release) into build/release"
log=build/release/quickstart.log
mkdir -p build/release
if ! { cmake --preset release && cmake --build --preset release; } >"$log" 2>&1; then
  tail -n 25 "$log" >&2
  echo "The build failed; all of it is in $log" >&2
  exit 1
fi
m5=build/release/tools/m5
"$m5" --version | sed 's/^/  /'

track=build/release/lambda.bedgraph
echo "Scoring share/examples/lambda.fa.gz (phage lambda, 48,502 nt) with the bundled model"
"$m5" score -o "$track" share/examples/lambda.fa.gz
echo
echo "Perplexity of every base, bedGraph: $PWD/$track ($(grep -vc '^#' "$track") lines)"
head -n 12 "$track"
echo
echo "Next: $m5 score --help, or man -l man/m5-score.1"
