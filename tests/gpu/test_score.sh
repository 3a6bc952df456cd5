#!/usr/bin/env bash
# m5 score and m5 embed on a GPU beside the CPU, always beside the CPU in fp32.
. "$(dirname "$0")/harness.sh"

# Tolerances. Where fp32 sums are added in another order a logit is off by some 1e-5, and a probability by
# a quarter of that at most: on an H200 8.9e-6 were seen of M. genitalium. bf16 has 8 bits: there 0.0142 were seen,
# 6.9e-4 on the mean; twice that is allowed. Nats of a base are off by as much as its logits are. The rows of a
# repeat are off alike, so that bits do not average out: those of the file below were off by 1.9e-3 on the CPU in
# bf16 (x, too), probabilities by 1e-3 on the mean in the emulation (kernels/cuda/README.md), 0.0083 at most.
fp32=(1e-4 1e-5)      # probabilities: at most, on the mean
fp32_nats=(5e-4 5e-5)
bf16=(0.03 1.4e-3)
bf16_bits=1e-3        # of a whole genome; fp32: 1e-4
bf16_repeats=(0.03 2e-3)
bf16_repeats_bits=4e-3
# Of some hundred rows less averages out: the emulation was off by 1.3e-3 and 5e-3 bits with 61.
[ "$DIVISOR" = 1 ] || bf16=(0.03 2.6e-3) bf16_bits=1e-2
vectors=(1e-4 1e-5)   # of the greatest number of all vectors
bf16_vectors=(0.06 3e-3)

# nats TABLE: what -O tsv says of the bases that are there, as nats.
nats() {
  grep -v '^#' "$1" | command awk -F'\t' -v OFS='\t' 'NR > 1 {
    print $1, $2, sprintf("%.9f", -log($(3 + index("ACGT", $3)))) }'
}
# mean_bits SUMMARY.json: of all records.
mean_bits() { sed -nE '0,/"mean_bits"/s/.*"mean_bits": ([0-9.e+-]+).*/\1/p' "$1"; }
# scores OUTPUT OPTION...: probabilities with nine digits, and OUTPUT.json.
scores() {
  ok "score $*" score -O tsv --digits 9 --summary "$1.json" -o "$1" "${@:2}"
}
# compare_scores NAME FILE [OPTION...]: of the device and of the CPU, in fp32.
compare_scores() {
  local name=$1
  shift
  scores gpu --device "$DEVICE" "$@"
  scores cpu --device cpu "$@"
  close "$name, probabilities" 3 gpu cpu "${fp32[@]}"
  close "$name, nats" 2 <(nats gpu) <(nats cpu) "${fp32_nats[@]}"
  equal "$name: rows" "$(grep -vc '^#' gpu)" "$(grep -vc '^#' cpu)"
  close "$name, bits of all" 0 <(mean_bits gpu.json) <(mean_bits cpu.json) 1e-4 1e-4
}
# compare_bf16 NAME BITS MAX MEAN [OPTION...]: of the device in bf16, and of the CPU in fp32, which compare_scores left.
compare_bf16() {
  scores gpu --device "$DEVICE" --precision "$BF16" "${@:5}"
  close "$1 in bf16, probabilities" 3 gpu cpu "$3" "$4"
  close "$1 in bf16, bits of all" 0 <(mean_bits gpu.json) <(mean_bits cpu.json) "$2" "$2"
}

# --- a real genome: phage lambda, as a user scores it ------------------------------------------------------
first "$SOURCE/share/examples/lambda.fa.gz" "$(scaled 48502)" >lambda.fa
compare_scores "lambda" lambda.fa
equal "lambda: every base" "$(grep -vc '^#' gpu)" $(($(scaled 48502) + 1))
check "the output names the device" grep -q "^#settings: .* device=${DEVICE%:*} " gpu
compare_bf16 "lambda" $bf16_bits "${bf16[@]}" lambda.fa
mv cpu lambda.cpu
mv cpu.json lambda.json
# That these comparisons see what differs.
scores other --device cpu --memory off lambda.fa
far "other scores, probabilities" 3 other lambda.cpu "${bf16[@]}"
far "other scores, nats" 2 <(nats other) <(nats lambda.cpu) "${fp32_nats[@]}"
far "other scores, bits" 0 <(mean_bits other.json) <(mean_bits lambda.json) $bf16_bits $bf16_bits
far "rows that are missing" 3 <(sed 40q lambda.cpu) lambda.cpu 1 1
far "a row of another place" 3 <(sed '9s/\t[0-9]*\t/\t1\t/' lambda.cpu) lambda.cpu 1 1
far "what is not a number" 3 <(sed '9s/\t[0-9.]*$/\tnan/' lambda.cpu) <(sed '9s/\t[0-9.]*$/\tnan/' lambda.cpu) 1 1

# --- a bacterium: several chunks of 131,072 rows, and slabs; the encoder alone ----------------------------
genome=/usr/share/doc/ragout/examples/H.Pylori/references/G27.fasta.gz
if [ -e $genome ]; then
  first $genome "$(scaled 400000)" >bacterium.fa
else
  skip "$genome (ragout-examples); random bases in its place"
  record bacterium "$(scaled 400000)" 1 >bacterium.fa
fi
compare_scores "a bacterium" --memory off --passes 2 bacterium.fa
compare_bf16 "a bacterium" $bf16_bits "${bf16[@]}" --memory off --passes 2 bacterium.fa

# --- what genomes have that random bases have not ---------------------------------------------------------
{
  repeats polyA A "$(scaled 100000)"
  repeats "polyT topology=circular" T "$(scaled 3000)"
  repeats dinucleotide CG "$(scaled 20000)"
  repeats six TTAGGG "$(scaled 20000)"
  repeats long "$(sequence 1031 1)" "$(scaled 30000)"
  repeats "plasmid topology=circular" "$(sequence 700 2)" "$(scaled 14000)"
  echo ">gaps"
  repeats - "$(sequence "$(scaled 5000)" 3)NNNNNNNNNNRYNNNNN$(sequence 97 4)" "$(scaled 20000)" | tail -n +2
  repeats - N "$(scaled 3000)" | tail -n +2
  sequence "$(scaled 5000)" 5 | fold -w 60
} >repeats.fa
for length in 1 2 127 128 129 511 512 513; do record "l$length" $length $length; done >edges.fa
for i in $(seq "$(scaled 400 20)"); do record "s$i" $((i * 37 % 290 + 1)) "$i"; done >short.fa
compare_scores "repeats" --memory off repeats.fa
compare_bf16 "repeats" $bf16_repeats_bits "${bf16_repeats[@]}" --memory off repeats.fa
compare_scores "repeats, with the genome memory" --passes 2 repeats.fa
compare_scores "lengths about 128 and 512" --memory off edges.fa
compare_scores "lengths about 128 and 512, circular" --memory off --circular edges.fa
compare_scores "many short records" --memory off short.fa
compare_scores "many short records of one context" --memory off --context file short.fa
compare_scores "both strands, unmasked" --memory off --unmasked --strand both edges.fa
# A record has the same bytes in any company.
"$M5" score --device "$DEVICE" --no-header --memory off edges.fa 2>/dev/null >company
for name in l1 l129 l513; do
  command awk -v name=">$name" '/^>/ { on = $1 == name } on' edges.fa >alone.fa
  ok "$name alone" score --device "$DEVICE" --no-header --memory off alone.fa
  same "$name alone = in company" .out <(grep "^$name"$'\t' company)
done

# --- runs ------------------------------------------------------------------------------------------------
first "$SOURCE/share/examples/lambda.fa.gz" "$(scaled 20000)" >part.fa
runs=$(scaled 20 3)
for precision in fp32 "$BF16"; do
  for run in $(seq "$runs"); do
    "$M5" score --device "$DEVICE" --precision $precision --no-header --digits 9 -@ $((run % 3 + 1)) part.fa 2>/dev/null |
      sha256sum
  done >sums
  equal "$runs runs in $precision: outputs" "$(sort -u sums | wc -l)" 1
  check "$runs runs in $precision: are not empty" grep -qv e3b0c44298fc1c149afbf4c8996fb924 sums
done

# --- m5 embed --------------------------------------------------------------------------------------------
head -n 60 part.fa >piece.fa
for options in "edges.fa" "--layer 1 --pool max part.fa" "--per window --window 300 --circular piece.fa" \
  "--per base --strand forward -O tsv piece.fa"; do
  # shellcheck disable=SC2086
  ok "embed $options" embed --device "$DEVICE" --no-header $options && cp .out gpu
  # shellcheck disable=SC2086
  ok "embed $options, cpu" embed --device cpu --no-header $options && cp .out cpu
  close "embed $options" 7 gpu cpu "${vectors[@]}" relative
done
ok "embed in bf16" embed --device "$DEVICE" --precision "$BF16" --no-header edges.fa && cp .out gpu
ok "embed, cpu" embed --device cpu --no-header edges.fa
close "embed in bf16" 7 gpu .out "${bf16_vectors[@]}" relative
ok "embed, another layer" embed --device cpu --layer 1 --no-header edges.fa
far "vectors of another layer" 7 gpu .out "${bf16_vectors[@]}" relative
no_temporaries gpu

finish
