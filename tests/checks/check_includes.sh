#!/usr/bin/env bash
# The layers, low to high (ARCHITECTURE.md): a file includes its own layer and those named here.
# Every other edge between folders is an error, and so is a library header in a layer that hides it.
set -fuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

declare -A may=(
  [lib/m5]="m5"
  [lib/base]="m5 base"
  [lib/io]="m5 base io"
  [lib/data]="m5 base io data"
  [kernels]="m5 base kernels"
  [lib/nn]="m5 base io data kernels nn"
  [lib/sinks]="m5 base io data kernels nn sinks"
  [lib/train]="m5 base io data kernels nn sinks train"
  [lib/python]="m5"
  [tools]="m5 base io data kernels nn sinks train tools"
)
# kernels has two floors. Operations know rows of numbers alone; sweeps, above them, know tokens and the
# numbers of a model, too. What they do with it is nobody's business above the waist.
operations="kernels/backend.hpp kernels/*case* kernels/math/* kernels/ref/* kernels/cpu/*"
hidden_from_operations="m5/tokens.hpp m5/config.hpp kernels/sweeps.hpp kernels/parameters.hpp kernels/layout.hpp
  kernels/devices.hpp kernels/tiled/* kernels/cuda/*"
hidden_from_kernels="m5/model.hpp m5/session.hpp m5/scoring.hpp m5/embedding.hpp"
inside_devices="kernels/layout.hpp kernels/tiled/* kernels/cuda/*"
# The breakdown of m5 bench speed makes sweeps of a backend that it times.
may_look_inside="tools/bench_speed.cpp"
# <header> prefix -> the layers that may include it.
declare -A library=(
  [htslib/]="lib/base lib/io lib/sinks tools/main.cpp"
  [zlib.h]="lib/base lib/io lib/data lib/sinks"
  [openssl/]="lib/base"
  [bigWig.h]="lib/sinks"
  [nlohmann/]="lib/base lib/io lib/nn lib/sinks lib/train tools"
  [CLI/]="tools"
  # measured_peak.cpp asks the library itself what the machine can do at most: the waist would be in the way.
  [dnnl]="kernels/cpu tools/main.cpp lib/nn/measured_peak.cpp"
  [oneapi/]="kernels/cpu tools/main.cpp"
  [hwy/]="kernels/cpu"
  [pybind11/]="lib/python"
  [cuda]="kernels/cuda"
  [cublas]="kernels/cuda"
)

problems=0
problem() {
  echo "$1"
  problems=$((problems + 1))
}

layer_of() {  # path -> key of `may`
  case $1 in
    lib/*) echo "lib/$(cut -d/ -f2 <<<"$1")" ;;
    *) cut -d/ -f1 <<<"$1" ;;
  esac
}

one_of() {  # path, patterns
  local pattern
  for pattern in $2; do
    # shellcheck disable=SC2053  # a pattern
    [[ $1 == $pattern ]] && return
  done
  return 1
}

checked=0
while IFS= read -r file; do
  layer=$(layer_of "$file")
  allowed=${may[$layer]:-}
  [ -z "$allowed" ] && { problem "$file: its folder is not in the table of layers"; continue; }
  checked=$((checked + 1))
  while IFS=: read -r line text; do
    header=$(sed -E 's/.*#[[:space:]]*include[[:space:]]*([<"])([^>"]*)[>"].*/\2/' <<<"$text")
    if [[ $text == *'"'* ]]; then
      folder=${header%%/*}
      if [ "$folder" = "$header" ]; then
        problem "$file:$line: write the folder of \"$header\""
      elif [[ " $allowed " != *" $folder "* ]]; then
        problem "$file:$line: $layer must not include \"$header\" (it may: $allowed)"
      elif [ "$layer" = kernels ] && one_of "$header" "$hidden_from_kernels"; then
        problem "$file:$line: nothing below the waist knows \"$header\""
      elif one_of "$file" "$operations" && one_of "$header" "$hidden_from_operations"; then
        problem "$file:$line: no operation knows \"$header\""
      elif [ "$layer" != kernels ] && one_of "$header" "$inside_devices" &&
        ! one_of "$file" "$may_look_inside"; then
        problem "$file:$line: above the waist a device is kernels/sweeps.hpp and kernels/devices.hpp"
      fi
    else
      for prefix in "${!library[@]}"; do
        [[ $header == "$prefix"* ]] || continue
        found=0
        for place in ${library[$prefix]}; do
          [[ $file == "$place" || $file == "$place"/* ]] && found=1
        done
        [ "$found" = 0 ] && problem "$file:$line: <$header> belongs to: ${library[$prefix]}"
      done
    fi
  done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]' "$file")
done < <(git ls-files --cached --others --exclude-standard 'lib/*.[ch]pp' 'kernels/*.[ch]pp' \
           'tools/*.[ch]pp' 'lib/*.inc' 'kernels/*.inc' 'kernels/*.cu' 'lib/*.h' 'kernels/*.h')

echo "$checked files, $problems problems"
[ "$problems" = 0 ] && [ "$checked" -gt 0 ]
