#!/usr/bin/env bash
# What the machine decides: instruction set, precision, block size. Results follow the first two
# within rounding, and the third not at all.
. "$(dirname "$0")/harness.sh"

record chr1 2300 1 >g.fa
record chr2 150 2 ACGTN >>g.fa
nll() { score_of "$@" --metric nll --digits 9; }
score_of() { local name=$1; shift; ok "$name" score --no-header --verbosity 1 g.fa "$@"; }
# greatest A B: the greatest difference of the values of two bedGraphs, as part of 1 + value.
greatest() {
  paste <(expand "$1") <(expand "$2") | awk '{ d = $1 - $2; if (d < 0) d = -d; d /= 1 + $1
    if (d > m) m = d }
    END { m = NF == 2 && NR > 2300 ? m + 0 : 9; print m }'
}
expand() { awk '{ for (i = $2; i < $3; ++i) print $4 }' "$1"; }
true_that() { if awk "BEGIN { exit !($2) }"; then pass; else fail "$1: not so: $2"; fi; }

# --- block size -----------------------------------------------------------------------------------
for precision in fp32 bf16; do
  score_of "score $precision" --precision $precision && cp .out whole
  for block in 128 384 2048; do
    score_of "score $precision, blocks of $block" --precision $precision --block-rows $block
    same "$precision, blocks of $block: the same bytes" .out whole
  done
done
ok "embed" embed --per base -o a.npy g.fa
ok "embed, blocks of 128" embed --per base -o b.npy --block-rows 128 g.fa
same "embed: blocks change nothing" a.npy b.npy
train=(train --config tiny.json --steps 2 --segment-length 1k --batch-tokens 2k g.fa)
cat >tiny.json <<'J'
{"format_version": 1, "name": "tiny", "dim": 16, "layers": 2, "heads": 8, "ff_dim": 32, "order": 2,
 "bound": 1.0, "window": 2, "norm_epsilon": 1e-5, "local_conv": []}
J
ok "train" "${train[@]}" -o a.safetensors
ok "train, blocks of 512" "${train[@]}" --block-rows 512 -o b.safetensors
same "train: blocks change nothing" a.safetensors b.safetensors
ok "bench speed, blocks of 384" bench speed --lengths 300 --mode forward --repeats 1 -@ 1 \
  --block-rows 384
check "bench speed says the block" grep -qx '# block_rows: 384' .out
for block in 0 -128 100 131072 12.5 many; do
  fails 2 "--block-rows: .*multiple of 128" "blocks of $block" score --block-rows=$block g.fa
done

# --- instruction sets -----------------------------------------------------------------------------
# The message that refuses a wrong one lists those of this machine.
export M5_CPU_ISA=NONE
fails 2 "^m5: M5_CPU_ISA: 'NONE' .*\(have: [A-Z]" "no such instruction set: version" --version
read -ra isas <<<"$(sed -E 's/.*have: (.*)\)/\1/; s/,//g' .err)"
fails 2 "'NONE'" "no such instruction set: score" score g.fa
fails 2 "'NONE'" "no such instruction set: bench" bench speed --lengths 100
fails 2 "'NONE'" "no such instruction set: auto" score --precision auto g.fa
unset M5_CPU_ISA
nll "best" && cp .out best
nll "best, bf16" --precision bf16 && cp .out best16
for isa in "${isas[@]}"; do
  export M5_CPU_ISA=$isa
  ok "$isa: version" --version
  check "$isa: version says it" grep -qx "SIMD: $isa" .out
  ok "$isa: bench speed" bench speed --lengths 300 --mode forward --repeats 1 -@ 1
  check "$isa: bench speed says it" grep -qx "# device: cpu $isa, fp32" .out
  nll "$isa"
  true_that "$isa agrees with ${isas[0]}" "$(greatest best .out) < 1e-5"
  nll "$isa, bf16" --precision bf16
  true_that "$isa, bf16, agrees with fp32" "$(greatest best .out) < 0.02"
  # The same products; now and then an operand of a later one is rounded to its other neighbour,
  # one step of bf16 (2^-8) away.
  true_that "$isa, bf16, agrees with ${isas[0]}, bf16" "$(greatest best16 .out) < 0.0039"

  # auto is one of the two, and the output names it.
  ok "$isa: auto" score --precision auto --metric nll --digits 9 g.fa
  chosen=$(sed -nE 's/^#settings: .* precision=(.*)/\1/p' .out)
  grep -v '^#' .out >auto
  check "$isa: auto says what it chose" grep -qxE 'fp32|bf16' <<<"$chosen"
  nll "$isa: $chosen" --precision "$chosen"
  same "$isa: auto is $chosen" .out auto
  "$M5" score --precision bf16 g.fa >.out 2>said
  if [ "$chosen" = fp32 ]; then
    check "$isa: bf16 warns" grep -q 'warning: --precision bf16' said
  else
    equal "$isa: bf16 does not warn" "$(cat said)" ""
  fi
done
unset M5_CPU_ISA
ok "ref: auto" score --device ref --precision auto --no-header --metric nll --digits 9 g.fa
true_that "ref: auto is fp32" "$(greatest best .out) < 1e-5"
fails 2 "ref computes in fp32" "ref has no bf16" score --device ref --precision bf16 g.fa
ok "bench speed auto" bench speed --lengths 300 --mode forward --repeats 1 -@ 1 --precision auto
check "bench speed says the precision" grep -qxE '# precision: (fp32|bf16)' .out

finish
