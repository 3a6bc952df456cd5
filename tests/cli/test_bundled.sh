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
near lambda.json mean_bits 1.744668 1e-5
near lambda.json accuracy 0.439734 1e-4

ok "lambda in bf16" score --precision bf16 --summary bf16.json -o bf16.bedgraph "$lambda"
near bf16.json mean_bits 1.744668 2e-3

# Limits within which most values lie: else a browser shows a block, or nothing.
zcat "$SOURCE/share/examples/lambda.fa.gz" | head -n 50 >start.fa
for bin in '' '--bin 100'; do
  for metric in bits nll entropy perplexity; do
    ok "track of $metric $bin" score --track-line --no-header --metric $metric $bin start.fa
    limits=$(sed -nE '1s/^track .* visibility=full autoScale=off viewLimits=([0-9.]+):([0-9.]+)$/\1 \2/p' .out)
    read -r low high <<<"$limits"
    check "$metric $bin: most values are within viewLimits=$low:$high" awk -v low="$low" -v high="$high" \
      'NR > 1 { ++n; in_it += $4 >= low && $4 <= high }
       END { exit !(low != "" && low < high && n >= 30 && in_it > 0.95 * n) }' .out
  done
done

finish
