#!/usr/bin/env bash
# Fuzzes what reads files from outside. Build first: cmake --preset fuzz && cmake --build --preset fuzz
#
#   bash tests/fuzz/run.sh                     some thousand runs a target, always the same ones
#   bash tests/fuzz/run.sh SECONDS [NAME...]   that long each, from another start each time
#
# Seeds are made here, from files of the repository and a few lines; what is found to reach new code
# is kept in build/fuzz/corpus by long runs. An input that breaks a target is left in
# build/fuzz/found; run the target with it to see why. The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=build/fuzz
seconds=${1:-}
[ $# -gt 0 ] && shift
names=("$@")
[ $# = 0 ] && names=(safetensors config sequences features models)
declare -A runs=([safetensors]=30000 [config]=10000 [sequences]=8000 [features]=8000 [models]=1500)
# TMPDIR in memory, where there is such a place: a target writes a file a run.
[ -w /dev/shm ] && export TMPDIR=/dev/shm
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT

seed() { cat >"$seeds/$1/$(ls "$seeds/$1" | wc -l)"; }  # NAME: standard input is a seed
header_of() {  # a safetensors file: its header, without the length
  local length
  length=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
  tail -c +9 "$1" | head -c "$length"
}

make_seeds() {
  local name model config
  for name in safetensors config sequences features models; do mkdir -p "$seeds/$name"; done

  for model in tests/golden/*.safetensors; do
    head -c 6000 "$model" | seed safetensors
  done
  printf '\x08\0\0\0\0\0\0\0{      }' | seed safetensors
  printf '\x62\0\0\0\0\0\0\0%s%s\1\2\3\4\5\6\7\10\11' '{"__metadata__":{"k":"v"},"a":{"dtype":"U8",' \
    '"shape":[3,3],"data_offsets":[0,9]}}              ' | seed safetensors

  for config in share/presets/*.json; do seed config <"$config"; done
  config='{"format_version":1,"name":"t","dim":8,"layers":1,"heads":8,"ff_dim":8,"order":2,'
  config+='"bound":1.0,"window":0,"norm_epsilon":1e-5,"local_conv":[{"width":3,"dilation":1}]}'
  printf '%s' "$config" | seed config

  printf '0>a b topology=circular\nACGTNacgtu\nRYSWKMBDHV\n>b [circular=true]\r\nAC GT\r\n' | seed sequences
  printf '1@r1 x\nACGT\nAC\n+r1\nIIII\n@@\n>e\n\n>f\rACGT\r' | seed sequences
  { printf 2 && printf '>a\nACGT\n' | gzip -nc; } | seed sequences
  { printf 0 && printf '>a\nACGT\n>b\nACGTTT\n' | bgzip -c; } | seed sequences
  { printf 3 && printf '>a\nAC' | gzip -nc && printf 'GT\n' | gzip -nc; } | seed sequences

  printf '0LOCUS A 12 bp circular\nVERSION A.1\nORIGIN\n 1 acgtacgt\r\n9 acgt\n//\nLOCUS B\nCONTIG x\n//\n' |
    seed sequences

  printf '1LOCUS A 90 bp circular\nFEATURES\n     CDS             complement(join(<1..>9,\n                     20..30))\n                     /gene="a ""b""\n                     c"\n                     /locus_tag=l\nORIGIN\n//\n' |
    seed features
  printf '2LOCUS A 90 bp circular\nVERSION A.1\nFEATURES x\n     CDS  80..7\n     CDS  order(A:1^2,B.1:3..4)\n     gene  5\n//\n' |
    seed features
  printf '0track name=x\n#c\nc1\t0\t10\nc1\t5\t7\tn\t0\t-\nc2 1 2 n 0 +\n' | seed features
  printf '1##gff-version 3\nc1\t.\tCDS\t1\t9\t.\t+\t0\tID=a%%2Cb;Name=n;locus_tag=l\n##FASTA\n>c1\nA\n' |
    seed features
  printf '2c1\tx\tgene\t1\t9\t.\t?\t.\tName=n\nc1\tx\tCDS\t2\t9\t.\t-\t1\t\n' | seed features
  { printf 1 && printf 'c1\t0\t10\n' | gzip -nc; } | seed features

  printf '%s\xff{"steps":"1","a":[{"b":2}]}\xff1\xff{"steps":"1"}\xff12\xff300\xff\1\2\3?\0\0\x80?' \
    "$config" | seed models
  printf '%s\xff{}\xff1\xff{"steps":"2"}\xff1\xff1\xff' "$config" | seed models

  for name in '{' '}' '[' ']' '":' '"__metadata__"' '"dtype"' '"shape"' '"data_offsets"' '"F32"' '"U8"' \
      '"format_version"' '"local_conv"' '"width"' '"dilation"' '"coefficients"' '"order"' \
      '"layers"' '"dim"' '"heads"' 18446744073709551615 9223372036854775807 1e308 '\u0000' \
      'topology=circular' '##gff-version 3' '##FASTA' 'track' 'ID=' 'locus_tag=' '%09' 'LOCUS' \
      'ORIGIN' 'FEATURES' 'complement(' 'join(' ' bp circular' '//\n'; do
    name=${name//\\/\\\\}
    printf '"%s"\n' "${name//\"/\\\"}"
  done >"$seeds/dictionary"
}

passed=0 failed=0
make_seeds
mkdir -p "$build/found"
for name in "${names[@]}"; do
  target=$build/tests/fuzz/fuzz_$name
  [ -x "$target" ] || { echo "$target is missing: build it"; failed=$((failed + 1)); continue; }
  corpus=$seeds/$name
  # The limits are far above what a run takes: they are there for loops without end and for bombs.
  limits=(-timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=8192)
  if [ -n "$seconds" ]; then
    mkdir -p "$build/corpus/$name"
    how=("-max_total_time=$seconds" "$build/corpus/$name" "$corpus")
  else
    how=("-runs=${runs[$name]}" -seed=1 "$corpus")
  fi
  if "$target" "${limits[@]}" -dict="$seeds/dictionary" -artifact_prefix="$build/found/$name-" \
      -print_final_stats=1 "${how[@]}" >"$build/$name.log" 2>&1; then
    passed=$((passed + 1))
    echo "$name: $(grep -oE 'number_of_executed_units: *[0-9]+' "$build/$name.log" | grep -oE '[0-9]+') runs," \
      "$(grep -oE ' cov: [0-9]+' "$build/$name.log" | tail -n 1 | grep -oE '[0-9]+') edges"
  else
    failed=$((failed + 1))
    echo "$name failed:"
    grep -nE 'ERROR|SUMMARY|does not hold|runtime error|Test unit written' "$build/$name.log" | head -n 10
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
