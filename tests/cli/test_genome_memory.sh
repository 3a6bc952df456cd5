# The genome memory through the commands: a model is given one by m5 train, m5 score and m5 bench loss
# use it, and what it changes does not depend on threads, blocks, company, rotation or strand.
. "$(dirname "$0")/harness.sh"

# json KEY FILE: its first value. loss KEY ROW: of the rows of m5 bench loss --json in .out.
json() { grep -m 1 "\"$1\": " "$2" | sed 's/^[^:]*: //; s/,$//'; }
loss() { grep -E "^      \"$1\": " .out | sed -n "${2:-1}p" | sed 's/^[^:]*: //; s/,$//'; }
true_that() {
  if awk "BEGIN { exit !($2) }"; then pass; else fail "$1: not so: $2"; fi
}
# bits [ARGS...]: mean bits of m5 score.
bits() {
  "$M5" score --no-header --verbosity 1 -o /dev/null --summary .bits.json "$@" 2>.err &&
    json mean_bits .bits.json
}

# Stretches that come again, some of them on the other strand, and noise: a genome that its own
# counts tell much of.
genome() {
  local a b
  a=$(sequence 900 "$1") b=$(sequence 700 $(($1 + 1)))
  printf '%s' "$a" "$b" "$(sequence 400 $(($1 + 2)))" "$a" "$(rev <<<"$b" | tr ACGT TGCA)" \
    "$(sequence 300 $(($1 + 3)))" "$a" NNN "$b"
}
fasta() { echo ">$1"; fold -w 70; echo; }
genome 1 | fasta 'g' >g.fa
{ genome 11 | fasta train; genome 21 | fasta 'circle topology=circular'; } >train.fa

# --- m5 train gives it, and takes it ----------------------------------------------------------------
M=mem.safetensors
learn=(train --init "$MODEL" --memory on --learn memory --steps 40 --segment-length 1k
  --batch-tokens 4k --lr 2e-2 --warmup 1 --weight-decay 0 --verbosity 1)
ok "train --memory on" "${learn[@]}" -o $M train.fa
ok "train: threads" "${learn[@]}" -@ 3 -o other.safetensors train.fa
same "train: threads do not matter" $M other.safetensors
ok "train --memory off" train --init $M --memory off --steps 1 --segment-length 1k --batch-tokens 1k \
  --verbosity 1 -o without.safetensors train.fa
fails 2 "has no genome memory" "train --memory off took it" score -m without.safetensors --memory on g.fa
fails 2 "no genome memory .*--memory on" "nothing to learn" train --init "$MODEL" --learn memory \
  --steps 1 -o x.safetensors train.fa
# The rest of the model is as it was: without the memory, the scores are the same.
ok "off" score --no-header -m $M --memory off -o off.bg g.fa
ok "the model it came from" score --no-header -o before.bg g.fa
same "--memory off is the encoder alone" off.bg before.bg

# --- m5 score -----------------------------------------------------------------------------------------
ok "as the model has it" score --no-header -m $M --summary on.json -o on.bg g.fa
ok "on" score --no-header -m $M --memory on -o on2.bg g.fa
same "on is the default" on.bg on2.bg
differ "the memory changes scores" on.bg off.bg
equal "the summary says on" "$(json memory on.json)" true
ok "summary of off" score --no-header -m $M --memory off --summary off.json -o /dev/null g.fa
equal "the summary says off" "$(json memory off.json)" false
ok "summary without one" score --no-header --summary none.json -o /dev/null g.fa
equal "the summary of a model without" "$(json memory none.json)" false
ok "summary, unmasked" score --no-header -m $M --unmasked --summary un.json -o un.bg g.fa
equal "--unmasked never uses it" "$(json memory un.json)" false
ok "unmasked, off" score --no-header -m $M --unmasked --memory off -o un2.bg g.fa
same "--unmasked is the encoder alone" un.bg un2.bg
ok "summary as a table" score --no-header -m $M --summary on.tsv -o /dev/null g.fa
equal "the table says so" "$(grep -v '^#' on.tsv | awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; ++i)
  if ($i == "memory") k = i } NR == 2 { print $k }')" true
ok "header" score -m $M -o head.bg g.fa
check "the header says on" grep -q '^#.* memory=on' head.bg
ok "header, off" score -m $M --memory off -o head.bg g.fa
check "the header says off" grep -q '^#.* memory=off' head.bg
ok "header of a model without" score -o head.bg g.fa
check "it does not speak of it" eval '! grep "^#" head.bg | grep -q memory='
true_that "its own copies tell much of this genome" \
  "$(json mean_bits on.json) < $(json mean_bits off.json) - 0.3"

fails 2 "model 'tiny' has no genome memory \(m5 train --memory on adds one\)" "no memory to turn on" \
  score --memory on g.fa
fails 2 "memory" "neither on nor off" score --memory maybe g.fa
fails 2 "memory" "an empty value" score --memory= g.fa
ok "off is always so" score --memory off --no-header -o off2.bg g.fa
same "off, of a model without" off2.bg before.bg

# --- regions within flanks ----------------------------------------------------------------------------
# The encoder sees the window, the memory is that of the record.
ok "all of the record" score --no-header -m $M --flank 100k -o flank.bg g.fa g:1001-1200
ok "the record" score --no-header -m $M -o region.bg g.fa g:1001-1200
same "flanks that hold the record" flank.bg region.bg
tail -n +2 g.fa | tr -d '\n' | cut -c 901-1300 | fasta w >w.fa
for memory in off on; do
  ok "flank, $memory" score --no-header -m $M --memory $memory --flank 100 -o flank.$memory.bg g.fa g:1001-1200
  ok "window, $memory" score --no-header -m $M --memory $memory -o w.bg w.fa w:101-300
  awk -v OFS='\t' '{ print "g", $2 + 900, $3 + 900, $4 }' w.bg >w.$memory.bg
done
same "off: the window alone" flank.off.bg w.off.bg
differ "on: more than the window is known" flank.on.bg w.on.bg
mean() { awk '{ s += log($4) * ($3 - $2); n += $3 - $2 } END { print s / n }' "$1"; }
true_that "the record's copies tell more than the window's" "$(mean flank.on.bg) < $(mean w.on.bg) - 0.1"
for options in "-@ 1 --block-rows 128" "-@ 3"; do
  # shellcheck disable=SC2086
  ok "flank, $options" score --no-header -m $M --flank 100 $options -o got.bg g.fa g:1001-1200
  same "flank, $options" flank.on.bg got.bg
done
ok "header" score -m $M --flank 100 -o head.bg g.fa g:1001-1200
check "the header says whose memory" grep -q '^#note: .*; the genome memory is of the record$' head.bg
ok "header, off" score -m $M --memory off --flank 100 -o head.bg g.fa g:1001-1200
check "it does not without" eval '! grep "^#note" head.bg | grep -q memory'
ok "--dry-run" score --dry-run -m $M --flank 100 g.fa g:1001-1200

# --- what does not matter -----------------------------------------------------------------------------
for threads in 1 2 3 4; do
  for rows in 128 512; do
    ok "$threads threads, $rows rows" score --no-header -m $M -@ $threads --block-rows $rows \
      -o got.bg g.fa
    same "$threads threads, blocks of $rows rows" on.bg got.bg
  done
done
# A record's memory is its own, whatever comes before, after, or beside it.
{ sequence 150 5 | fasta read1; cat g.fa; sequence 60 6 | fasta read2; } >company.fa
ok "in company" score --no-header -m $M -o company.bg company.fa
same "company does not matter" on.bg <(grep '^g	' company.bg)
# One context, one memory: contigs know each other, and their order does not matter.
tail -n +2 g.fa | tr -d '\n' | cut -c 1-2100 | fasta left >left.fa
tail -n +2 g.fa | tr -d '\n' | cut -c 2101- | fasta right >right.fa
cat left.fa right.fa >draft.fa
cat right.fa left.fa >turned.fa
ok "contigs" score --no-header -m $M --context file -o draft.bg draft.fa
ok "contigs, turned" score --no-header -m $M --context file --digits 3 -o turned.bg turned.fa
true_that "contigs know each other" "$(bits -m $M --context file draft.fa) < $(bits -m $M draft.fa) - 0.1"
true_that "whatever their order" \
  "(x = $(bits -m $M --context file draft.fa) - $(bits -m $M --context file turned.fa)) < 1e-4 && x > -1e-4"
# On a circle, a rotation by a multiple of K rotates the scores; the two ends are neighbours.
seven() { printf '%s' "$1" | head -c $((${#1} / 7 * 7)); }
ring=$(seven "$(genome 31)")
fasta ring <<<"$ring" >ring.fa
fasta ring <<<"${ring:700}${ring:0:700}" >rotated.fa
score=(score --no-header -m $M -O tsv --digits 4)
for topology in circular linear; do
  ok "ring, $topology" "${score[@]}" --$topology -o $topology.tsv ring.fa
  ok "rotated, $topology" "${score[@]}" --$topology -o rotated.$topology.tsv rotated.fa
done
# apart A B: the greatest difference of two tables of probabilities, of the same bases.
apart() { paste "$1" "$2" | awk -F'\t' '$3 != $10 { print 9; exit } { for (i = 4; i <= 7; ++i) {
  d = $i - $(i + 7); if (d < 0) d = -d; if (d > most) most = d } } END { print most + 0 }'; }
turn() { tail -n +2 "$1" | awk -F'\t' -v OFS='\t' -v n=${#ring} \
  '{ $2 = ($2 + 700) % n; print }' | sort -t "$(printf '\t')" -k2,2n; }
turn rotated.circular.tsv >turned.tsv
true_that "a circle may be cut anywhere" "$(apart <(tail -n +2 circular.tsv) turned.tsv | tail -n 1) < 0.001"
turn rotated.linear.tsv >turned.tsv
true_that "a line may not" "$(apart <(tail -n +2 linear.tsv) turned.tsv | tail -n 1) > 0.01"
# The reverse complement, both strands scored, is the mirror image.
tail -n +2 ring.fa | tr -d '\n' | rev | tr ACGT TGCA | fasta ring >back.fa
ok "both strands" "${score[@]}" --strand both -o both.tsv ring.fa
ok "both strands of the other" "${score[@]}" --strand both -o back.tsv back.fa
tail -n +2 back.tsv | awk -F'\t' -v OFS='\t' -v n=${#ring} \
  '{ print $1, n - 1 - $2, $3, $7, $6, $5, $4 }' | sort -t "$(printf '\t')" -k2,2n >mirrored.tsv
true_that "strands" "$(paste <(tail -n +2 both.tsv) mirrored.tsv | awk -F'\t' '{ for (i = 4; i <= 7; ++i) {
  d = $i - $(i + 7); if (d < 0) d = -d; if (d > most) most = d } } END { print most + 0, NR }' |
  awk '{ print $1 + ($2 < 3000) }') < 0.0002"

# --- rows of windows -------------------------------------------------------------------------------
for memory in on off; do
  ok "windows, $memory" score --no-header -m $M --memory $memory --digits 9 --per window --window 200 -o w.tsv g.fa
  true_that "windows, $memory: their mean is that of the summary" \
    "(x = $(awk -F'\t' 'NR > 1 { s += $9 * ($6 - $7); n += $6 - $7 } END { print s / n }' w.tsv) - $(json mean_bits $memory.json)) < 1e-6 && x > -1e-6"
done

# --- short reads: nothing to count, and nothing lost ------------------------------------------------
for i in $(seq 40); do sequence 150 $((100 + i)) | fasta "r$i"; done >reads.fa
ok "reads" score --no-header -m $M -o reads.bg reads.fa
ok "reads, threads" score --no-header -m $M -@ 4 --block-rows 128 -o got.bg reads.fa
same "reads: threads and blocks do not matter" reads.bg got.bg
printf '>one\nA\n>two\nAC\n>n\nNNN\n>three\nACG\n' >tiny.fa
for topology in linear circular; do
  ok "records shorter than any window, $topology" score --no-header -m $M --$topology -o t.bg tiny.fa
  equal "each base has a score, $topology" "$(awk '{ n += $3 - $2 } END { print n }' t.bg)" 6
done

# --- the honest kind: a base does not tell of itself -------------------------------------------------
# With a pass for each base, the probabilities at a position do not depend on what stands there.
unit=$(sequence 90 41)
short=$unit$(sequence 40 42)$unit$(rev <<<"$unit" | tr ACGT TGCA)
for at in 7 150 250; do
  : >four
  for base in A C G T; do
    printf '>s\n%s%s%s\n' "${short:0:at}" $base "${short:at+1}" >s.fa
    ok "position $at, $base" score --no-header -m $M -k 1000 --digits 6 -O tsv -r "s:$((at + 1))-$((at + 1))" \
      -o s.tsv s.fa
    tail -n 1 s.tsv | cut -f 4-7 >>four
  done
  equal "position $at: one answer whatever stands there" "$(sort -u four | wc -l)" 1
done

# --- --dry-run ------------------------------------------------------------------------------------------
dry() { "$M5" score --dry-run "$@" 2>.err | awk -F'\t' -v key="$KEY" '$1 == key { print $2 }'; }
KEY=memory_bytes
true_that "--dry-run counts its tables" "$(dry -m $M g.fa) > $(dry -m $M --memory off g.fa) + 1000000"
KEY=expected_seconds
check "--dry-run expects a time" test -n "$(dry -m $M g.fa)"
check "--dry-run of reads" test -n "$(dry -m $M reads.fa)"

# --- m5 bench loss --------------------------------------------------------------------------------------
cat g.fa reads.fa >mixed.fa
for memory in on off; do
  ok "loss as scored, $memory" bench loss -m $M --memory $memory --as-scored --lengths 1k,whole mixed.fa --json
  cp .out as_$memory.json
  equal "loss as scored, $memory: m5 score" "$(loss scored_bits 2)" "$(bits -m $M --memory $memory mixed.fa)"
  equal "loss as scored, $memory: accuracy" "$(loss scored_accuracy 2)" "$(json accuracy .bits.json)"
  equal "loss, $memory: said" "$(loss memory 1) $(loss memory 2)" \
    "$([ $memory = on ] && echo true true || echo false false)"
  ok "loss, $memory" bench loss -m $M --memory $memory --lengths 500,1k,whole g.fa --json -@ 1
  cp .out $memory.json
done
ok "loss: threads" bench loss -m $M --lengths 500,1k,whole g.fa --json -@ 3
same "loss: threads do not matter, and on is the default" <(sed -n '/"rows"/,$p' on.json) \
  <(sed -n '/"rows"/,$p' .out)
cp on.json .out
on=$(loss bits 3) short_on=$(loss bits 1) snp=$(loss snp_accuracy 3)
cp off.json .out
true_that "loss: the memory lowers it, of masked bases" "$on < $(loss bits 3) - 0.3"
true_that "loss: and finds substitutions" "$snp > $(loss snp_accuracy 3) + 0.1"
true_that "loss: longer segments know more" "$on < $short_on - 0.2"
equal "loss: other keys are untouched" "$(loss adaptive_bits 3)" "$(cp on.json .out; loss adaptive_bits 3)"
ok "loss as a table" bench loss -m $M --lengths 1k g.fa
check "loss: a column says so" grep -qE '^ *1000 +false +[0-9]+ +true ' .out
fails 2 "m5 train --memory on" "loss: no memory to turn on" bench loss --memory on --lengths 1k g.fa
no_temporaries "genome memory"
finish
