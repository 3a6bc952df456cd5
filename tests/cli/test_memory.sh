#!/usr/bin/env bash
# Memory: what is expected against what is used (VmHWM), over inputs and options; what is refused
# before it is taken; and what happens when an allocation fails.
. "$(dirname "$0")/harness.sh"

# With a model of some size: a tiny one is lost in the program itself. Its genome memory is left out where
# all must be foreseen within a tenth: what a genome repeats is not known before it is counted.
export M5_MODEL=$SOURCE/share/models/m5-nano.safetensors
repeated() {  # COUNT LENGTH: records
  sequence "$2" 7 >.bases
  awk -v n="$1" '{ for (i = 0; i < n; ++i) print ">r" i "\n" $0 }' .bases
}

# foreseen NAME ARGS...: the command succeeds, and used no more memory than it expected, nor less
# than ten elevenths of that; bounded NAME ARGS...: nor less than a third.
foreseen() { compare 110 "$@"; }
bounded() { compare 300 "$@"; }
compare() {
  local percent=$1 name=$2 expected used
  shift 2
  ok "$name" "$@" --verbosity 4
  read -r expected used < <(sed -nE 's/.*memory: ([0-9]+) bytes expected, ([0-9]+) used.*/\1 \2/p' .err)
  if [ -z "${used:-}" ]; then
    fail "$name: no line of memory"
  elif [ "$used" -gt "$expected" ]; then
    fail "$name: $used bytes used, $expected expected"
  elif [ $((expected * 100)) -gt $((used * percent)) ]; then
    fail "$name: only $used bytes used, $expected expected"
  else
    pass
  fi
}

if "$M5" score --verbosity 4 --dry-run - <<<$'>x\nACGT' >.out 2>.err &&
  [ "$(awk '$1 == "memory_bytes" { print $2 }' .out)" -lt 60000000 ]; then  # not with sanitizers
  for shape in 1x60 1x60000 2000x60 15x3000; do
    repeated "${shape%x*}" "${shape#*x}" >$shape.fa
    for options in "-@ 2 --context file" "-@ 2 --residual bf16" "-@ 1 --block-rows 128" \
      "-@ 16 --block-rows 2048" "-@ 2 --precision bf16"; do
      # shellcheck disable=SC2086
      foreseen "score $shape $options" score --memory off -k 1 $options -o o.bg $shape.fa
    done
    foreseen "score $shape, both strands" score --memory off -k 1 --strand both -O tsv -o o.tsv $shape.fa
    foreseen "embed $shape" embed -@ 2 -o o.npy $shape.fa
    foreseen "embed $shape, bases" embed -@ 2 --per base -o o.npz $shape.fa
  done
  foreseen "embed, windows" embed --per window --window 100 -o o.npy 1x60000.fa
  foreseen "embed, layers" embed --layer 0,1,2,4 --pool std --per window --window 50 -o o.npy 1x60000.fa
  # (Their rows are made when the model has done: of one record the two are not there together.)
  bounded "score, windows" score --memory off -k 1 --per window --window 50 --step 1 -o o.tsv 1x60000.fa
  foreseen "score, windows of many" score --memory off -k 1 --per window --window 50 --step 5 -o o.tsv 2000x60.fa
  foreseen "score, npz" score --memory off -k 1 -o o.npz 1x60000.fa
  awk 'BEGIN { for (i = 0; i < 400; ++i) print "r0\t" i * 140 "\t" i * 140 + 10 }' >flank.bed
  foreseen "score, flanks" score --memory off -k 1 --flank 1k -R flank.bed -o o.bg 1x60000.fa
  foreseen "bench loss, short records" bench loss --memory off -@ 2 --lengths whole -o o.txt 2000x60.fa
  foreseen "bench loss" bench loss --memory off --lengths 1k,whole -o o.txt 1x60000.fa
  # The table of k-mers, counted on a long record, written, and read.
  (echo '>long' && for ((i = 0; i < 100; ++i)); do cat .bases; done) >long.fa
  table=(--baseline-train long.fa -o o.txt)
  foreseen "bench loss, k-mer table" bench loss --memory off --lengths 1k,whole "${table[@]}" 1x60000.fa
  for what in counted read; do
    foreseen "bench loss, no model, k-mer table $what" bench loss --baseline-only --as-scored \
      --baseline-cache table "${table[@]}" 1x60.fa
  done
  for batch in "2k 512" "64k 64k"; do
    rm -f t.safetensors
    # shellcheck disable=SC2086
    set -- $batch
    foreseen "train, $batch" train -@ 2 --steps 2 --batch-tokens "$1" --segment-length "$2" \
      -o t.safetensors 1x60000.fa
  done
  # A genome memory: its tables are bounded as if no context came twice.
  bounded "train, genome memory" train -@ 2 --init "$M5_MODEL" --memory on --learn memory --steps 1 \
    --segment-length 512 --batch-tokens 1k -o memory.safetensors 1x60000.fa
  for options in "-@ 2" "-@ 2 --context file" "-@ 4 --block-rows 512" "-@ 16 --block-rows 2048"; do
    for shape in 2000x60 1x60000 15x3000; do
      # shellcheck disable=SC2086
      bounded "score $shape $options, genome memory" score -m memory.safetensors -k 1 $options -o o.bg \
        $shape.fa
    done
  done
  # What grows with the number of records and lines. (The tiny model: the letters are few.)
  repeated 40000 20 >many.fa
  foreseen "a summary of many records" score -m "$MODEL" -k 1 -o o.bg --summary s.json many.fa
  awk 'BEGIN { for (i = 0; i < 60000; ++i) print "r0\t" i "\t" i + 1 }' >many.bed
  foreseen "many regions" score -m "$MODEL" -k 1 -R many.bed -o o.bg 1x60000.fa

  # A bomb: a small file that holds a record larger than all that may be taken.
  (echo '>bomb' && head -c 400000000 /dev/zero | tr '\0' A) | gzip -1 >bomb.fa.gz
  cat >peak.sh <<'P'
"$M5" "$@" </dev/null >.out 2>.err &
pid=$! peak=0
while kill -0 $pid 2>/dev/null; do
  now=$(awk '$1 == "VmHWM:" { print $2 }' /proc/$pid/status 2>/dev/null)
  [ "${now:-0}" -gt "$peak" ] && peak=$now
done
wait $pid
echo $? $((peak * 1024))
P
  for command in "score" "embed" "score --context file" "train -o b.safetensors --steps 1"; do
    # shellcheck disable=SC2086
    read -r code peak < <(M5=$M5 bash peak.sh $command --max-memory 50M bomb.fa.gz)
    equal "$command, a bomb: exit" "$code" 6
    equal "$command, a bomb: one line" "$(wc -l <.err)" 1
    check "$command, a bomb: $peak bytes" test "$peak" -lt 60000000
  done
else
  skip "memory without sanitizers"
fi

# --- allocations that fail: exit code 6 and one line, or a whole result, and never a signal ---------
failing=$(dirname "$M5")/../tests/cli/fail_allocation.so
record r 5000 3 >g.fa
# sweep NAME LEAST ALL ARGS...: of the allocations of LEAST bytes and more one fails, or with ALL=1
# all from there on; the places are spread evenly over the run.
sweep() {
  local name=$1 least=$2 all=$3 count code at i places=8 bad=
  shift 3
  LD_PRELOAD=$failing M5_FAIL_SIZE=$least M5_FAIL_COUNT=$WORK/.count "$M5" "$@" >.out 2>.err
  count=$(cat .count)
  check "$name: it allocates" test "$count" -gt $places
  for ((i = 0; i < places; ++i)); do
    at=$((1 + i * (count - 1) / (places - 1)))
    rm -f t.safetensors t.safetensors.ckpt
    LD_PRELOAD=$failing M5_FAIL_SIZE=$least M5_FAIL_AT=$at M5_FAIL_ALL=$all \
      timeout 100 "$M5" "$@" >.out 2>.err
    code=$?
    case $code in
      0) ;;
      6) [ "$(wc -l <.err)" = 1 ] || bad="$bad $at: $(wc -l <.err) lines;" ;;
      *) bad="$bad $at of $count: exit $code;" ;;
    esac
  done
  equal "$name, allocations of $least bytes" "$bad" ""
  no_temporaries "$name"
}
# taken_once NAME OPTION FEW MANY ARGS...: with more passes no more large allocations: what a pass had
# is kept for the next one.
taken_once() {
  local count few
  for count in "$3" "$4"; do
    rm -f t.safetensors t.safetensors.ckpt
    LD_PRELOAD=$failing M5_FAIL_SIZE=4200000 M5_FAIL_COUNT=$WORK/.count "$M5" "${@:5}" "$2" "$count" \
      --verbosity 1 >.out 2>.err
    equal "$1, $count passes: exit" $? 0
    [ "$count" = "$3" ] && few=$(cat .count)
  done
  check "$1: large memory is taken" test "$few" -gt 0
  equal "$1: large memory is taken once" "$(cat .count)" "$few"
}
if [ -e "$failing" ] && LD_PRELOAD=$failing "$M5" --version >/dev/null 2>&1; then  # no sanitizer
  repeated 1 20000 >long.fa
  taken_once score -k 1 3 score --memory off --strand both -o o.bg long.fa
  taken_once "score --residual bf16" -k 1 3 score --memory off --residual bf16 -o o.bg long.fa
  taken_once train --steps 1 2 train --segment-length 12k --batch-tokens 12k -o t.safetensors long.fa
  rm -f t.safetensors
  for all in 0 1; do
    sweep "score, $all" 65536 $all score -k 1 -@ 2 --verbosity 1 -o o.bg g.fa
    sweep "score, $all" 4096 $all score -k 1 -@ 2 --verbosity 1 -o o.bg g.fa
    sweep "embed, $all" 65536 $all embed -@ 2 --verbosity 1 -o o.npz g.fa
    sweep "train, $all" 65536 $all train -@ 2 --verbosity 1 --preset nano --steps 1 \
      --segment-length 512 --batch-tokens 2k -o t.safetensors g.fa
  done
else
  skip "allocations that fail"
fi
# limited NAME FROM STEP TO ARGS...: under every limit of so many kB.
limited() {
  local name=$1 kb bad= whole=0 code
  for ((kb = $2; kb <= $4; kb += $3)); do
    rm -f t.safetensors t.safetensors.ckpt
    (ulimit -c 0 && ulimit -v $kb && exec "$M5" "${@:5}") >.out 2>.err
    code=$?
    [ $code = 0 ] && whole=$((whole + 1))
    # 127, 1: the system's loader finds no memory for the libraries.
    if [ $code != 0 ] && [ $code != 6 ] && ! grep -q 'loading shared libraries' .err; then
      bad="$bad $kb: exit $code"
    fi
  done
  equal "$name, ulimit -v" "$bad" ""
  check "$name, ulimit -v: some suffice" test $whole -gt 0
}
if (ulimit -v 400000 && "$M5" --version) >/dev/null 2>&1; then
  # One worker: of several, one may take what another has seen to be there (m5(1), MEMORY).
  limited score 60000 15000 180000 score -k 1 -@ 1 --verbosity 1 -o o.bg g.fa
  limited train 130000 3000 170000 train -@ 1 --verbosity 1 --preset nano --steps 1 \
    --segment-length 512 --batch-tokens 2k -o t.safetensors g.fa
  # A table of 286 MB is refused before it is taken.
  (ulimit -v 300000 && exec "$M5" bench loss --baseline-only --baseline-train g.fa g.fa) >.out 2>.err
  equal "bench loss, a k-mer table too large: exit" $? 6
  equal "bench loss, a k-mer table too large: before" "$(grep -c 'needs .* bytes' .err)" 1
else
  skip "ulimit -v"
fi
finish
