#!/usr/bin/env bash
# The layers, low to high (ARCHITECTURE.md): a file includes its own layer and those named here.
# Every other edge between folders is an error, and so is a library header in a layer that hides it.
set -uo pipefail
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
# What the waist must not know: m5/tokens.hpp and up are about sequences and models.
kernels_hidden="m5/tokens.hpp m5/config.hpp m5/model.hpp m5/session.hpp"
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
      elif [ "$layer" = kernels ] && [[ " $kernels_hidden " == *" $header "* ]]; then
        problem "$file:$line: nothing below the waist knows \"$header\""
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
