#!/usr/bin/env bash
# One definition of a score: whatever the strand, the metrics, the bins and the summary are those of
# the four probabilities in the table.
. "$(dirname "$0")/harness.sh"

{
  record chr1 400 1
  record gaps 150 2 ACGTNRY
  record short 3 3
} >g.fa

# expected METRIC BIN TABLE: "name pos value" from the table of probabilities.
expected() {
  awk -v metric="$1" -v bin="$2" -F'\t' 'NR == 1 { next }
    { p["A"] = $4; p["C"] = $5; p["G"] = $6; p["T"] = $7
      x = -log(p[$3])
      if (metric == "entropy") { x = 0; for (b in p) x -= p[b] * log(p[b]) / log(2) }
      key = $1 " " int($2 / bin)
      if (!(key in n)) order[++keys] = key
      sum[key] += x; ++n[key]
    }
    END { for (i = 1; i <= keys; ++i) {
      x = sum[order[i]] / n[order[i]]
      if (metric == "bits") x /= log(2)
      if (metric == "perplexity") x = exp(x)
      printf "%s %.15g\n", order[i], x
    } }' "$3"
}
# The same from a bedGraph.
written() {
  awk -v bin="$1" '{ for (i = int($2 / bin); i < $3 / bin; ++i) print $1, i, $4 }' "$2"
}
# Doubles of float32 numbers, printed to 15 digits: what is left is rounding in exp and log.
agree() {
  awk 'NR == FNR { a[FNR] = $1 " " $2; v[FNR] = $3; n = FNR; next }
    { d = $3 - v[FNR]; if (d < 0) d = -d
      if (a[FNR] != $1 " " $2 || d > 1e-9 * (1 + v[FNR])) { print "differ:", v[FNR], $0; exit bad = 1 }
      m = FNR }
    END { exit bad || n != m || n == 0 }' "$1" "$2"
}

for settings in "-k 3" "-k 7 --context file" --unmasked "--circular --residual bf16"; do
  for strand in forward reverse both; do
    # shellcheck disable=SC2206
    common=($settings --strand $strand --no-header --digits 15 -@ 2)
    what="$settings, $strand"
    ok "$what: table" score "${common[@]}" -O tsv --summary s.json g.fa
    cp .out $strand.table
    check "$what: probabilities sum to one" awk 'NR > 1 { d = $4 + $5 + $6 + $7 - 1
      if (d > 1e-6 || d < -1e-6) exit bad = 1 } END { exit bad || NR < 450 }' $strand.table
    for metric in nll bits perplexity entropy; do
      for bin in 1 20; do
        ok "$what: $metric" score "${common[@]}" --metric $metric --bin $bin g.fa
        check "$what: $metric of $bin nt is that of the table" \
          agree <(expected $metric $bin $strand.table) <(written $bin .out)
      done
    done
    check "$what: so is the mean of the summary" awk '
      NR == FNR { s += $3; ++n; next }
      /"mean_nll_nats"/ && !seen++ { sub(",", "", $2); d = $2 - s / n; exit bad = d > 1e-9 || d < -1e-9 }
      END { exit bad || !seen }' <(expected nll 1 $strand.table) s.json
  done
  # Both strands: the normalised mean of the log-probabilities.
  paste forward.table reverse.table | awk 'NR > 1 {
      sum = 0
      for (i = 4; i <= 7; ++i) sum += p[i] = sqrt($i * $(i + 7))
      for (i = 4; i <= 7; ++i) printf "%s %d %.15g\n", $1, $2, p[i] / sum
      if (sum < 1 - 1e-5) ++far
    } END { exit far < 100 }' >mean.v
  equal "$settings: normalising matters here" $? 0
  awk 'NR > 1 { for (i = 4; i <= 7; ++i) print $1, $2, $i }' both.table >both.v
  check "$settings: both strands are the normalised mean" awk '
    NR == FNR { v[FNR] = $3; n = FNR; next }
    { d = $3 - v[FNR]; if (d > 1e-6 || d < -1e-6) exit bad = 1; m = FNR }
    END { exit bad || n != m || n == 0 }' mean.v both.v
done

# --- passes: those with nothing to hide are not run, and not expected ------------------------------
ok "more passes than bases" score -k 1000000 --no-header g.fa
cp .out many
ok "as many passes as bases" score -k 400 --no-header g.fa
same "more passes than bases hide one at a time" .out many
for strand in forward both; do
  passes=$([ $strand = both ] && echo 2 || echo 1)
  for k in 1 7 400 401 1000000; do
    ok "--dry-run -k $k" score --dry-run --strand $strand -k $k g.fa
    equal "--dry-run --strand $strand -k $k: rows through the model" \
      "$(awk '$1 == "rows_through_the_model" { print $2 }' .out)" \
      $((553 * passes * (k < 400 ? k : 400)))
  done
done

# --- numbers that are none: the same answer in every format ------------------------------------------
# A value beyond float16, and not beyond float32.
for format in npy npz tsv; do
  for per in record base window; do
    for to in file pipe; do
      out=(-O $format)
      [ $to = file ] && out=(-o out.$format)
      [ "$per$to" = basepipe ] && [ $format = tsv ] && continue  # refused without a file
      ok "$per to $format, $to, float32" embed -m "$SURE_MODEL" --layer 0 --per $per "${out[@]}" \
        --verbosity 1 g.fa
      rm -f out.*
      fails 7 "g.fa: record 'chr1': position [0-9]+: a value is too great for float16" \
        "$per to $format, $to, float16" embed -m "$SURE_MODEL" --layer 0 --per $per "${out[@]}" \
        --dtype float16 --verbosity 1 g.fa
      equal "$per to $format, $to: no file" "$(ls out.* 2>/dev/null)" ""
      check "$per to $format, $to: no inf" test "$(grep -c inf .out)" = 0
    done
  done
done
for format in json tsv; do
  for metric in nll bits; do
    fails 7 "g.fa: record 'chr1': its perplexity" "a summary without a perplexity, .$format" \
      score -m "$SURE_MODEL" --metric $metric --summary s.$format -o out.bg g.fa
    equal "no file of it" "$(ls s.tsv out.bg 2>/dev/null)" ""
  done
done
no_temporaries "numbers that are none"

finish
