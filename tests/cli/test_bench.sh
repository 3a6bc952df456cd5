#!/bin/bash
# m5 bench: what it prints, what it refuses, and results that are known beforehand.
. "$(dirname "$0")/harness.sh"

# value KEY [ROW]: the value of KEY in a row of the JSON in $WORK/.out; ROW from 1. meta KEY: above
# the rows.
value() { grep -E "^      \"$1\": " .out | sed -n "${2:-1}p" | sed 's/^[^:]*: //; s/,$//; s/"//g'; }
meta() { grep -E "^  \"$1\": " .out | sed 's/^[^:]*: //; s/,$//; s/"//g'; }
# rows: the JSON from the rows on. said PATTERN: on stderr of the last m5.
rows() { sed -n '/"rows"/,$p' .out; }
said() { cp .err said; check "$1" grep -q "$2" said; }
# noise NAME LENGTH SEED: a record of high bits of a generator of period 2^32, so that no two
# records share stretches.
noise() {
  awk -v name="$1" -v n="$2" -v seed="$3" 'BEGIN {
    print ">" name
    state = seed * 104729 % 4294967296
    for (i = 1; i <= n; ++i) {
      state = (state * 69069 + 12345) % 4294967296
      printf "%s%s", substr("ACGT", int(state / 1073741824) + 1, 1), i % 60 ? "" : "\n"
    }
    print ""
  }'
}
# true_that NAME EXPRESSION: of awk.
true_that() {
  if awk "BEGIN { exit !($2) }"; then pass; else fail "$1: not so: $2"; fi
}

# --- usage ----------------------------------------------------------------------------------------
for word in speed ops attention loss; do
  ok "$word --help" bench $word --help
  check "$word --help names itself" grep -q "m5 bench $word" .out
done
ok "bench --help" bench --help
check "bench --help lists loss" grep -q '^  loss' .out
fails 2 "unrecognized subcommand 'x'" "unknown subcommand" bench x
"$M5" bench >.out 2>.err; equal "bench alone" "$?" 2
equal "bench alone: nothing on stdout" "$(cat .out)" ""
fails 2 "lengths" "length 0" bench speed --lengths 0
fails 2 "lengths" "length x" bench attention --lengths 1k,x
fails 2 "mode" "unknown mode" bench speed --mode sideways
fails 2 "threads" "threads x" bench speed -@ 1,x
fails 2 "preset" "preset and model" bench speed --preset nano -m "$MODEL"
fails 2 "preset" "unknown preset" bench speed --preset huge --lengths 100
fails 5 "none.safetensors" "model missing" bench speed -m none.safetensors
fails 2 "layer" "layer beyond the model" bench attention --layer 2 --lengths 10
fails 6 "memory" "more memory than there is" bench speed --lengths 1000G --mode forward
fails 2 "no sequence file" "loss without files" bench loss --baseline-only
fails 6 "cuda" "no such device" bench speed --device cuda --lengths 100

# --- speed ----------------------------------------------------------------------------------------
ok "speed" bench speed --lengths 500,3k --threads 1,2 --repeats 1 --json
equal "speed: rows" "$(grep -c '"nt_per_s"' .out)" 8
equal "speed: lengths" "$(value tokens 2)" 3000
equal "speed: threads" "$(value threads 3)-$(grep -c '"mode": "train"' .out)" "1-4"
for i in 1 2 3 4 5 6 7 8; do
  true_that "speed: rate, row $i" "$(value nt_per_s $i) > 0"
  true_that "speed: share is rate times work over peak, row $i" \
    "(s = $(value share_of_peak $i)) > 0 && (t = $(value nt_per_s $i) * $(value flops_per_nt $i) * 1e-9 / $(value peak_gflops $i) / s) > 0.9999 && t < 1.0001"
  true_that "speed: memory, row $i" "$(value peak_rss_bytes $i) > 1000000"
done
ok "speed as a table" bench speed --lengths 500 --repeats 1 --mode forward -@ 1
equal "speed: heading and one row" "$(grep -vc '^#' .out)" 2
check "speed: says the instruction set" grep -q '^# isa: [A-Z]' .out
check "speed: says the peak" grep -q '^# peak_gflops: .*gflops' .out
ok "speed -o" bench speed --lengths 500 --repeats 1 --mode forward -@ 1 --json -o speed.json
equal "speed -o: nothing on stdout" "$(cat .out)" ""
check "speed -o: the file" grep -q nt_per_s speed.json
ok "breakdown" bench speed --lengths 3k --repeats 1 -@ 2 --breakdown --json
cp .out breakdown.json
check "breakdown: adds up" python3 - breakdown.json <<'END'
import json, sys
report = json.load(open(sys.argv[1]))
assert len(report["rows"]) == 2
for mode, some in (("forward", "attention_query"), ("train", "attention_query_backward")):
    rows = [r for r in report["breakdown"] if r["mode"] == mode]
    names = [r["operation"] for r in rows]
    assert {"linear", "norm", "local_conv", some, "outside"} <= set(names), names
    assert len(set(names)) == len(names) and names[-1] == "outside"
    assert all(r["tokens"] == 3000 and r["threads"] == 2 and r["seconds"] >= 0 for r in rows)
    assert abs(sum(r["share"] for r in rows) - 1) < 0.05
END
ok "breakdown, bf16 residual" bench speed --lengths 500 --repeats 1 -@ 1 --breakdown --residual bf16
check "breakdown, bf16 residual: its roundings" \
  awk '$3 == "forward" { ++seen[$4] } $3 == "train" && /_bf16/ { bad = 1 }
    END { exit bad || seen["to_bf16"] != 1 || seen["from_bf16"] != 1 }' .out
ok "breakdown as a table" bench speed --lengths 500 --repeats 1 --mode forward -@ 1 --breakdown
check "breakdown: heading" grep -qE '^tokens +threads +mode +operation +seconds +share$' .out
check "breakdown: what is left" grep -qE '^ +500 +1 +forward +outside +' .out
# FLOPs of the tiny model: d 16, L 2, H 8, dv 2, ff 64, F 15, one convolution of width 3.
#   K 2*16*6*8, Q 2*16*32 + 2*256 + 4*16*64, U 2*15*3*8, C 2*3*16
cp speed.json .out
equal "speed: FLOPs by hand" "$(value flops_per_nt)" \
  "$(awk 'BEGIN { printf "%.1f", 2 * (1536 + 1024 + 512 + 4096 + 2 * 720) + 96 }')"

# --- ops ------------------------------------------------------------------------------------------
# A JSON that another reader takes, with as many rows as the table says.
ok "ops" bench ops --filter norm/d=128 --repeats 1 --json
equal "ops: one JSON object" "$(python3 -c 'import json, sys
print(len(json.load(sys.stdin)["rows"]))' <.out)" 1
check "ops: says the instruction set" grep -q '"isa": "[A-Z]' .out
equal "ops: the operation" "$(value operation) $(value shape) $(value rows)" "norm d=128 256"
# Four operations a value; the share is a share.
rows >one && cp one .out  # the peaks above the rows have the same keys
true_that "ops: FLOPs by hand" \
  "(t = $(value gflops) * $(value ns_per_row) / (4 * 128)) > 0.9999 && t < 1.0001"
ok "ops of a shape" bench ops --filter H=16,dv=8,p=4 --repeats 1 --json
rows >one && cp one .out
for what in bound bound_backward attention_accumulate attention_query attention_scale \
  attention_accumulate_backward attention_query_backward; do
  check "ops: $what" grep -q "\"operation\": \"$what\"" .out
done
for i in $(seq "$(grep -c '"share_of_peak"' .out)"); do
  true_that "ops: share, row $i" "(s = $(value share_of_peak "$i")) > 0 && s < 1.5"
done
# Nano: 16 heads, dv 8, 70 monomials.
i=$(grep -E '"(operation|shape)"' .out | paste - - | grep -n '"attention_query".*"H=16,dv=8,p=4"' |
  cut -d: -f1)
true_that "ops: FLOPs of the attention by hand" \
  "(t = $(value gflops "$i") * $(value ns_per_row "$i") / (2 * 70 * 9 * 16)) > 0.9999 && t < 1.0001"
ok "ops as a table" bench ops --filter 128-\>128 --repeats 1
check "ops: heading" grep -qE '^ *operation +shape +rows +ns_per_row +gflops .* share_of_peak$' .out
equal "ops: both ways of a linear layer" "$(grep -c '^ *linear.*128->128' .out)" 3
ok "ops of plain loops" bench ops --filter norm/d=128 --repeats 1 --device ref
check "ops: no instruction set" grep -q '^# isa: none' .out
fails 2 "nothing" "filter that matches nothing" bench ops --filter nothing
fails 2 "repeats" "no repeats" bench ops --repeats 0
fails 2 "precision" "unknown precision" bench ops --precision fp8
fails 2 "" "ops takes no file" bench ops x.fa
fails 2 "--device cuda: .* bench speed measures a GPU" "no operations of a GPU" bench ops --device cuda
ok "operations of the host where the device is chosen" bench ops --filter norm/d=128 --repeats 1 --device auto

# --- attention ------------------------------------------------------------------------------------
noise x 3000 5 >x.fa
ok "attention" bench attention --lengths 1,2,100,5k x.fa --json
equal "attention: rows" "$(grep -c observed_max_relative_error .out)" 4
equal "attention: passes" "$(meta result)" PASS
for i in 1 2 3 4; do
  true_that "attention: below the bound, row $i" \
    "$(value observed_max_relative_error $i) <= $(value bound $i) + $(meta fp32_allowance)"
  true_that "attention: rounding, row $i" "$(value max_rounding_error $i) <= $(meta fp32_allowance)"
  true_that "attention: scores below R, row $i" "$(value max_abs_score $i) < 1"
done
# One key: the softmax is its value, and the approximation too.
true_that "attention: exact for one row" "$(value observed_max_relative_error 1) < 1e-6"
# Many keys: an approximation, no copy of the exact sums.
true_that "attention: an error is seen" "$(value observed_max_relative_error 3) > 1e-6"
ok "attention again, other threads" bench attention --lengths 1,2,100,5k x.fa --json -@ 1
grep -E 'observed|bound"' .out >one
ok "attention, three threads" bench attention --lengths 1,2,100,5k x.fa --json -@ 3
grep -E 'observed|bound"' .out >three
same "attention: threads do not matter" one three
ok "attention of the second layer" bench attention --lengths 500 --layer 1 --queries 5
check "attention: table" grep -qE '^ *500 +5 .* PASS$' .out
fails 3 "" "attention of a broken file" bench attention --lengths 10 "$MODEL"
# Attention that is NaN or infinite passes nowhere: NaN is lost by a careless maximum, and an
# infinite |v| makes every error 0.
for scale in 1e10 1e20 1e38; do
  "$(dirname "$M5")/../tests/cli/make_tiny_model" wild.safetensors $scale
  for layer in 0 1; do
    fails 7 "not finite" "attention of weights times $scale, layer $layer" \
      bench attention -m wild.safetensors --layer $layer --lengths 1,10,5k -o wild.tsv
    check "weights times $scale, layer $layer: no report" test ! -e wild.tsv
  done
done

# --- loss -----------------------------------------------------------------------------------------
{ noise a 5000 7; noise 'b topology=circular' 700 8; } >x.fa
noise t 200000 9 >train.fa
ok "loss" bench loss --lengths 100,1k,whole x.fa --baseline-train train.fa --json
cp .out first.json
equal "loss: rows" "$(grep -c '"nats"' .out)" 3
equal "loss: segments" "$(value segments 1) $(value segments 2) $(value segments 3)" "57 6 2"
for i in 1 2 3; do
  true_that "loss: bits are nats / ln 2, row $i" \
    "(x = $(value nats $i) / log(2) - $(value bits $i)) < 1e-9 && x > -1e-9"
  true_that "loss: masked share, row $i" "$(value masked $i) > 5700 * 0.1 && $(value masked $i) < 5700 * 0.14"
  # Random training sequence tells nothing about random test sequence.
  true_that "loss: k-mers of noise, row $i" "(x = $(value kmer_bits $i)) > 1.98 && x < 2.05"
done
ok "loss: no segment longer than the record" bench loss --lengths 5k,1M x.fa --json
rows | grep -E 'nats|accuracy' | sort | uniq -c | grep -vc ' 2 ' >count
equal "loss: 5k and 1M cut nothing" "$(cat count)" 0
ok "loss: one thread" bench loss --lengths 100,1k,whole x.fa --baseline-train train.fa --json -@ 1
rows >two
cp first.json .out
rows >one
same "loss: threads do not matter" one two
gzip -c x.fa >x.fa.gz
ok "loss of gz" bench loss --lengths 100,1k,whole x.fa.gz --baseline-train train.fa --json
rows >two
same "loss: gz is the same" one two
ok "loss: other seed" bench loss --lengths 100,1k,whole x.fa --baseline-train train.fa --json --seed 2
rows >two
differ "loss: the seed matters" one two
ok "loss: max-tokens" bench loss --lengths whole --max-tokens 1k x.fa --json
equal "loss: max-tokens" "$(meta tokens)" 1000

# A repeat: every base follows from its neighbours.
{ echo '>r'; for _ in $(seq 2000); do printf 'ACCGTTGA'; done; echo; } >repeat.fa
ok "loss of a repeat" bench loss --baseline-only repeat.fa --baseline-train repeat.fa --json --verbosity 0
true_that "loss: a repeat is known" "$(value kmer_bits) < 0.05"
true_that "loss: all of it" "$(value kmer_accuracy) > 0.999"
true_that "loss: hidden neighbours cost little here" "$(value kmer_bits_same_view) < 0.5"
true_that "loss: and something" "$(value kmer_bits_same_view) > $(value kmer_bits)"
"$M5" bench loss --baseline-only repeat.fa --baseline-train repeat.fa >.out 2>.err
said "loss: training on the test file is said" "is also a training file"

# As scored: what m5 score says of the same records, to the last digit.
ok "as scored" bench loss --as-scored --lengths 100,1k,whole x.fa --baseline-train train.fa --json
cp .out scored.json
ok "as scored: the summary" score --summary s.json -o /dev/null x.fa
cp scored.json .out
equal "as scored: mean bits" "$(value scored_bits 3)" \
  "$(grep -m 1 '"mean_bits"' s.json | sed 's/^[^:]*: //; s/,$//')"
equal "as scored: accuracy" "$(value scored_accuracy 3)" \
  "$(grep -m 1 '"accuracy"' s.json | sed 's/^[^:]*: //; s/,$//')"
equal "as scored: every base is asked" "$(value masked 1)" 5700
check "as scored: nothing is masked at random" eval '! grep -qE "mask_rate|same_view|\"nats\"" .out'
ok "as scored: other passes" bench loss --as-scored -k 3 --lengths whole x.fa --json
cp .out three.json
ok "as scored: other passes, the summary" score -k 3 --summary s.json -o /dev/null x.fa
equal "as scored: K passes" "$(cp three.json .out; value scored_bits)" \
  "$(grep -m 1 '"mean_bits"' s.json | sed 's/^[^:]*: //; s/,$//')"
# Each segment is a sequence of its own.
awk '/^>/ { name = substr($1, 2); next } { seq[name] = seq[name] $0 } END {
  for (i = 1; i <= 5000; i += 1000) print ">a" i "\n" substr(seq["a"], i, 1000)
  print ">b topology=circular\n" seq["b"] }' x.fa >cut.fa
ok "as scored: the pieces as records" score --summary s.json -o /dev/null cut.fa
cp scored.json .out
equal "as scored: a segment is a record" "$(value scored_bits 2)" \
  "$(grep -m 1 '"mean_bits"' s.json | sed 's/^[^:]*: //; s/,$//')"
fails 2 "seed" "as scored with a seed" bench loss --as-scored --seed 2 x.fa
fails 2 "as-scored" "passes of masked bases" bench loss -k 3 x.fa
fails 2 "memory on: .* has no genome memory .*m5 train --memory on" "no memory" \
  bench loss --memory on x.fa
fails 2 "baseline-only has none" "memory of no model" bench loss --baseline-only --memory off \
  --baseline-train train.fa x.fa

# The adaptive baseline: nothing to learn from noise; a repeat is learnt from itself.
cp scored.json .out
for i in 1 2 3; do
  true_that "adaptive: noise, row $i" "(x = $(value adaptive_bits $i)) > 1.97 && x <= $(value kmer_bits $i)"
done
{ echo '>r'; for _ in $(seq 20); do sequence 500 77; done; } >copies.fa
ok "adaptive: copies" bench loss --baseline-only --as-scored --lengths 500,1k,whole copies.fa \
  --baseline-train train.fa --json
true_that "adaptive: one copy tells nothing" "$(value adaptive_bits 1) > 1.9"
true_that "adaptive: two copies tell" "$(value adaptive_bits 2) < 1.6"
true_that "adaptive: twenty tell nearly all" "$(value adaptive_bits 3) < 0.4"
true_that "adaptive: and which base" "$(value adaptive_accuracy 3) > 0.95"
true_that "adaptive: the table does not" "$(value kmer_bits 3) > 1.9"
ok "adaptive: masked bases only" bench loss --lengths whole copies.fa --json
true_that "adaptive: without a table" "$(value adaptive_bits) < 0.5"
ok "adaptive: one thread" bench loss --as-scored --lengths 100,1k,whole x.fa --baseline-train train.fa \
  --json -@ 1
rows >one
cp scored.json .out
rows >two
same "as scored: threads do not matter" one two

# The figure.
ok "plot" bench loss --lengths 100,1k,whole x.fa --baseline-train train.fa --plot loss.svg --json
if [ -x /usr/bin/python3 ]; then
  cp .out plot.json
  check "plot: the lines are the numbers" /usr/bin/python3 - <<'P'
import json, xml.etree.ElementTree as ET
svg = "{http://www.w3.org/2000/svg}"
root = ET.parse("loss.svg").getroot()
rows = sorted(json.load(open("plot.json"))["rows"], key=lambda r: r["segment_length"])
lines = root.findall(svg + "polyline")
assert len(lines) == 3
texts = [t.text for t in root.findall(svg + "text")]
assert "tiny" in texts and "k-mer table" in texts, texts
points = [[tuple(map(float, p.split(","))) for p in l.get("points").split()] for l in lines]
flat, values = [], []
for line, key in zip(points, ("bits", "kmer_bits", "adaptive_bits")):
    assert len(line) == 3 and line[0][0] < line[1][0] < line[2][0]
    flat += [y for _, y in line]
    values += [r[key] for r in rows]
# One straight line takes bits to heights, less bits lower.
low, high = values.index(min(values)), values.index(max(values))
slope = (flat[high] - flat[low]) / (values[high] - values[low])
assert slope < 0
for y, bits in zip(flat, values):
    assert abs(flat[low] + slope * (bits - values[low]) - y) < 0.15, (y, bits)
    assert 0 < y < float(root.get("height"))
P
else
  skip python3
fi
fails 5 "nowhere" "plot: no such folder" bench loss --lengths 100 x.fa --plot nowhere/p.svg
fails 2 "x.fa" "plot: over its input" bench loss --lengths 100 x.fa --plot x.fa
fails 2 "" "plot: the same file as the report" bench loss --lengths 100 x.fa --plot same -o same

# The cache of counts.
echo train.fa >list
ok "cache: written" bench loss --baseline-only x.fa --baseline-list list --baseline-cache c --json
rows >counted
ok "cache: read" bench loss --baseline-only x.fa --baseline-list list --baseline-cache c --json
said "cache: says so" "read from c"
rows >cached
same "cache: the same numbers" counted cached
ok "cache alone" bench loss --baseline-only x.fa --baseline-cache c --json
rows >cached
same "cache alone: the same numbers" counted cached
noise u 1000 10 >>train.fa
ok "cache: other training data" bench loss --baseline-only x.fa --baseline-list list --baseline-cache c --json
said "cache: counted anew" "counting anew"
head -c 1000000 c >d
fails 3 "d: " "cache: cut short" bench loss --baseline-only x.fa --baseline-cache d
fails 5 "none" "cache: missing" bench loss --baseline-only x.fa --baseline-cache none
fails 2 "baseline-only" "nothing to count" bench loss --baseline-only x.fa
fails 5 "nothing.fa" "no such file" bench loss nothing.fa
no_temporaries "bench"
finish
