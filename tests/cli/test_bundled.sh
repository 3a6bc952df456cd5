#!/usr/bin/env bash
# The bundled model on the bundled genome (phage lambda): what a new user sees first.
. "$(dirname "$0")/harness.sh"
unset M5_MODEL

lambda=$SOURCE/share/examples/lambda.fa.gz
ok "lambda" score --summary lambda.json -o lambda.bedgraph "$lambda"
equal "every base once" "$(awk '!/^#/ { n += $3 - $2 } END { print n }' lambda.bedgraph)" 48502
check "the header names the bundled model" grep -q \
  "^#model: nano-conv sha256=$(sha256sum "$SOURCE/share/models/m5-nano.safetensors" | cut -d' ' -f1)$" \
  lambda.bedgraph

# Means of the whole record, to what instruction sets may differ in.
near() {
  local got
  got=$(sed -nE "0,/\"$2\"/s/.*\"$2\": ([0-9.]+).*/\1/p" "$1")
  if awk -v a="$got" -v b="$3" -v e="$4" 'BEGIN { exit !(a != "" && a - b < e && b - a < e) }'; then
    pass
  else
    fail "$1: $2 is $got, not $3 +- $4"
  fi
}
near lambda.json mean_bits 1.855828 1e-5
near lambda.json accuracy 0.385675 1e-4

ok "lambda in bf16" score --precision bf16 --summary bf16.json -o bf16.bedgraph "$lambda"
near bf16.json mean_bits 1.855828 2e-3

finish
