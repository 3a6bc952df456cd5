#!/usr/bin/env bash
# What commands do with the names of files: no output replaces an input or another output, all is
# looked at before the work begins, a set of outputs appears whole, and nothing is left behind.
. "$(dirname "$0")/harness.sh"

record chr1 3000 1 >g.fa
record chr2 2000 2 >h.fa
cp h.fa listed.fa
record val 1000 3 >val.fa
printf 'chr1\t0\t50\n' >r.bed
printf 'chr1\t0\t50\n' >f.bed
echo listed.fa >list
cp "$MODEL" model.safetensors
cat >tiny.json <<'J'
{"format_version": 1, "name": "tiny", "dim": 16, "layers": 2, "heads": 8, "ff_dim": 32, "order": 2,
 "bound": 1.0, "window": 3, "norm_epsilon": 1e-5}
J
"$M5" train --config tiny.json --steps 1 g.fa -o init.safetensors 2>/dev/null

# --- no output is an input: every command, every output, every input, every way to name it --------
# state: names and contents of all there is.
state() { find . -type f ! -name '.out' ! -name '.err' ! -name '.checked' | sort | xargs sha256sum; }
# guard NAME INPUT OUTPUT_SUFFIX [ARGS... with OUT for the output]: refused, nothing touched. The
# suffix is that which the output must have; what it is called by itself, without one.
guard() {
  local name=$1 input=$2 suffix=$3 way out before
  shift 3
  for way in itself path hard symbolic; do
    out=out$suffix
    case $way in
      itself) [ -z "$suffix" ] || continue; out=$input ;;
      path) [ -z "$suffix" ] || continue; out=../$(basename "$PWD")/$input ;;
      hard) ln "$input" "$out" ;;
      symbolic) ln -s "$input" "$out" ;;
    esac
    before=$(state)
    fails 2 "$(basename "$out") is also an input" "$name, $way" "${@//OUT/${out%"${stem-}"}}"
    equal "$name, $way: all is as it was" "$(state)" "$before"
    rm -f "out$suffix"
  done
}
score=(score g.fa h.fa -R r.bed -m model.safetensors)
for input in g.fa h.fa r.bed model.safetensors; do
  guard "score -o on $input" $input "" "${score[@]}" -O tsv -o OUT
  guard "score --summary on $input" $input .json "${score[@]}" --summary OUT
  guard "score --chrom-sizes on $input" $input "" "${score[@]}" --chrom-sizes OUT
done
embed=(embed g.fa h.fa -m model.safetensors)
for input in g.fa h.fa r.bed model.safetensors f.bed; do
  extra=(-R r.bed)
  [ $input = f.bed ] && extra=(--per feature --features f.bed)
  guard "embed -o on $input" $input "" "${embed[@]}" "${extra[@]}" -O tsv -o OUT
  stem=.tsv guard "embed, the table on $input" $input .npy.tsv "${embed[@]}" "${extra[@]}" -o OUT
done
for input in g.fa listed.fa list val.fa tiny.json init.safetensors; do
  train=(train g.fa --list list --val val.fa --steps 1)
  start=(--config tiny.json)
  [ $input = init.safetensors ] && start=(--init init.safetensors)
  train+=("${start[@]}")
  guard "train -o on $input" $input "" "${train[@]}" -o OUT
  guard "train --checkpoint on $input" $input "" "${train[@]}" -o t --checkpoint OUT
  guard "train --checkpoint --resume on $input" $input "" "${train[@]}" -o t --checkpoint OUT --resume
  guard "train --log on $input" $input "" "${train[@]}" -o t --log OUT
done
for input in g.fa model.safetensors h.fa listed.fa list; do
  loss=(bench loss g.fa -m model.safetensors --baseline-train h.fa --baseline-list list)
  guard "bench loss -o on $input" $input "" "${loss[@]}" -o OUT
  guard "bench loss --baseline-cache on $input" $input "" "${loss[@]}" --baseline-cache OUT
done
guard "bench attention -o on the model" model.safetensors "" bench attention -m model.safetensors -o OUT
guard "bench attention -o on the sequences" g.fa "" bench attention g.fa -o OUT
guard "bench speed -o on the model" model.safetensors "" bench speed -m model.safetensors -o OUT

# The same of a standard stream, whatever file it is.
before=$(state)
for command in "score -O tsv" "embed -O tsv" "train --config tiny.json --steps 1" "bench loss" \
  "bench attention"; do
  # shellcheck disable=SC2086
  "$M5" $command - -o g.fa <g.fa >.out 2>.err
  equal "$command -o is standard input: exit" $? 2
  equal "$command -o is standard input: said" "$(grep -c 'g.fa is also an input' .err)" 1
done
for command in score embed "bench loss" "bench attention"; do
  # shellcheck disable=SC2086
  "$M5" $command g.fa >>g.fa 2>.err
  equal "$command: standard output is the input: exit" $? 2
done
"$M5" score - --chrom-sizes g.fa <g.fa >.out 2>.err
equal "score --chrom-sizes is standard input: exit" $? 2
equal "streams: all is as it was" "$(state)" "$before"

# Only a table of k-mers is replaced by one.
for file in r.bed .hidden; do
  echo 'chr1 0 50 kept' >.hidden
  fails 2 "baseline-cache: $file: is no k-mer table" "a cache that is none" \
    bench loss g.fa --baseline-only --baseline-train h.fa --baseline-cache $file
done
equal "it is as it was" "$(cat .hidden)" 'chr1 0 50 kept'
rm .hidden

# --- no output is another output -------------------------------------------------------------------
# pair NAME FIRST SECOND ARGS...: with FIRST NAME and SECOND NAME.
pair() {
  local name=$1 first=$2 second=$3
  shift 3
  for exists in no yes; do
    rm -f "$name" link
    [ $exists = yes ] && echo old >"$name"
    fails 2 "are the same file" "$first and $second, by one name" "$@" $first "$name" $second "$name"
    fails 2 "are the same file" "$first and $second, by two" "$@" $first "./$name" $second "$name"
    [ $exists = yes ] && equal "$first and $second: kept" "$(cat "$name")" old
    [ $exists = no ] && check "$first and $second: nothing" test ! -e "$name"
  done
  rm -f "$name"
}
pair x.tsv -o --summary score g.fa
pair x.tsv -o --chrom-sizes score g.fa
pair x.tsv --summary --chrom-sizes score g.fa
pair x -o --checkpoint train --config tiny.json --steps 1 g.fa
pair x -o --log train --config tiny.json --steps 1 g.fa
pair x --checkpoint --log train --config tiny.json --steps 1 g.fa -o y
pair x -o --baseline-cache bench loss g.fa --baseline-train h.fa
ok "devices are nobody's" score g.fa -o /dev/null --chrom-sizes /dev/null

# --- formats by name -------------------------------------------------------------------------------
for zip in "" .gz .bgz .bgzf; do
  for name in x.bedgraph x.bedGraph x.bg x.bdg x.bed x y.dir/x .x; do
    mkdir -p y.dir
    ok "score -o $name$zip" score --no-header -o "$name$zip" g.fa
    equal "score -o $name$zip: bedGraph" \
      "$(gzip -cdf "$name$zip" | head -n 1 | awk -F'\t' '{ print NF }')" 4
  done
  ok "score -o x.tsv$zip" score --no-header -o "x.tsv$zip" g.fa
  equal "score -o x.tsv$zip: a table" "$(gzip -cdf "x.tsv$zip" | head -n 1 | cut -f 1)" chrom
  ok "embed -o x.tsv$zip" embed --no-header -o "x.tsv$zip" g.fa
  equal "embed -o x.tsv$zip: a table" "$(gzip -cdf "x.tsv$zip" | head -n 1 | cut -f 1)" name
  rm -rf x* .x* y.dir
  for name in x.wig x.json x. x.tsv.zip x.bg.xz x.TSV x.tsv.gz.txt; do
    fails 2 "\.bedgraph, .*\.tsv" "score -o $name$zip" score -o "$name$zip" g.fa
    fails 2 "\.npy, \.npz or \.tsv" "embed -o $name$zip" embed -o "$name$zip" g.fa
    check "$name$zip: nothing" test ! -e "$name$zip"
    ok "score -O tsv -o $name$zip" score -O tsv -o "$name$zip" g.fa
    rm -f "$name$zip"
  done
done
for format in npy npz; do
  for zip in .gz .bgz .bgzf; do
    fails 2 "\.npy, \.npz" "embed -o x.$format$zip" embed -o x.$format$zip g.fa
    fails 2 "not written with BGZF" "embed -O $format -o x$zip" embed -O $format -o x$zip g.fa
  done
done
fails 2 "plain text" "--chrom-sizes x.gz" score --chrom-sizes x.gz g.fa
mkfifo pipe pipe.tsv pipe.wig
for command in score embed; do
  for name in pipe pipe.tsv pipe.wig; do
    cat $name >read &
    ok "$command -o $name, a pipe" $command --no-header -o $name g.fa
    wait
    check "$command -o $name: it came through" test -s read
  done
  ok "$command -o /dev/null" $command -o /dev/null g.fa
done
rm -f pipe* read
no_temporaries "formats"

# --- found before anything is computed ---------------------------------------------------------------
# (The wild model ends any computation with 7.)
wild=(-m "$WILD_MODEL")
long=$(printf 'x%.0s' $(seq 300))
for command in score embed; do
  fails 5 "missing.fa: cannot open" "a missing second file" $command "${wild[@]}" g.fa missing.fa
  fails 5 "Is a directory" "a folder as second file" $command "${wild[@]}" g.fa .
  fails 3 "no sequence named 'chr9'" "an unknown name" $command "${wild[@]}" g.fa h.fa chr9
  fails 3 "'chr2:9999-'.*past the end" "past the end of the second" \
    $command "${wild[@]}" g.fa h.fa chr1:1-5 chr2:9999-
  printf 'chr1\t0\t5\nchr7\t0\t5\n' >bad.bed
  fails 3 "chr7" "an unknown name in a BED" $command "${wild[@]}" -R bad.bed g.fa h.fa
  fails 5 "too long" "a long name" $command "${wild[@]}" -o "$long.tsv" g.fa
  # The end of a region is told once, and so is what the first reading saw.
  printf '>none\n' | cat - g.fa >hole.fa
  ok "warnings" $command --skip-empty hole.fa chr1:2990-3100 -o /dev/null
  equal "$command: each warning once" "$(sort .err | uniq -d | wc -l)" 0
  equal "$command: warnings" "$(wc -l <.err)" 2
  # Of a stream it is known at the end.
  for region in chr9 chr1:9999-; do
    "$M5" $command -o s.tsv - $region <g.fa >.out 2>.err
    equal "$command: a region that a stream lacks: exit" $? 3
    check "$command: no output" test ! -e s.tsv
  done
done
fails 5 "too long" "a long summary" score "${wild[@]}" --summary "$long.tsv" g.fa
fails 5 "too long" "a long table beside it" embed "${wild[@]}" -o "${long:0:250}.npy" g.fa
printf 'chr1\t0\t5\nchr9\t0\t5\n' >bad.bed
fails 3 "line 2: no record 'chr9'" "a feature of no record" \
  embed "${wild[@]}" --per feature --features bad.bed g.fa
printf 'chr1\t0\t5\nchr2\t0\t2001\n' >bad.bed
fails 3 "line 2: .*ends at 2001" "a feature past the end" \
  embed "${wild[@]}" --per feature --features bad.bed g.fa h.fa
# Steps that no test waits for.
train=(train --config tiny.json --steps 1G g.fa)
fails 5 "missing.fa" "a missing second file" "${train[@]}" missing.fa -o t
fails 5 "missing.fa" "a missing --val" "${train[@]}" --val missing.fa -o t
fails 5 "too long" "train: a long name" "${train[@]}" -o "$long"
fails 5 "too long" "train: a long checkpoint" "${train[@]}" -o t --checkpoint "$long"
fails 5 "too long" "train: a long log" "${train[@]}" --verbosity 1 -o t --log "$long"
loss=(bench loss g.fa -m "$WILD_MODEL")
fails 5 "missing.fa" "bench loss: a missing second file" "${loss[@]}" missing.fa
fails 5 "missing.fa" "bench loss: a missing baseline" "${loss[@]}" --baseline-train missing.fa
fails 5 "too long" "bench loss: a long name" "${loss[@]}" -o "$long"
fails 5 "too long" "bench loss: a long cache" "${loss[@]}" --baseline-train g.fa --baseline-cache "$long"
fails 5 "too long" "bench attention: a long name" bench attention "${wild[@]}" -o "$long"
fails 5 "too long" "bench speed: a long name" bench speed --lengths 1G -o "$long"
fails 5 "no/such" "bench ops: no folder" bench ops -o no/such/x
no_temporaries "found before"

# --- a set of outputs --------------------------------------------------------------------------------
# One name is taken by a folder while the run waits for its input; all the others stay as they were.
mkfifo in
for bad in o.tsv s.json c; do
  for old in no yes; do
    rm -rf o.tsv s.json c
    [ $old = yes ] && for name in o.tsv s.json c; do [ $name = $bad ] || echo old >$name; done
    "$M5" score in -O tsv -o o.tsv --summary s.json --chrom-sizes c 2>.err &
    pid=$!
    exec 9>in
    for _ in $(seq 200); do
      [ "$(find . -name '.m5-*.tmp' | wc -l)" = 3 ] && break
      sleep 0.02
    done
    mkdir $bad
    cat g.fa >&9
    exec 9>&-
    wait $pid
    equal "a set, $bad is in the way: exit" $? 5
    for name in o.tsv s.json c; do
      [ $name = $bad ] && continue
      [ $old = yes ] && equal "a set: $name as it was" "$(cat $name)" old
      [ $old = no ] && check "a set: no $name" test ! -e $name
    done
    no_temporaries "a set"
  done
done
rm -rf o.tsv s.json c

# --- what a killed run leaves, and what other signals do not ------------------------------------------
for signal in KILL QUIT XCPU XFSZ USR1 USR2 ALRM; do
  (ulimit -c 0; exec "$M5" score in -o out.bg 2>/dev/null) &
  pid=$!
  exec 9>in
  for _ in $(seq 200); do
    [ -n "$(find . -name '.m5-*.tmp')" ] && break
    sleep 0.02
  done
  kill -$signal $pid
  { wait $pid; code=$?; } 2>/dev/null
  exec 9>&-
  equal "SIG$signal: exit" $code $((128 + $(kill -l $signal)))
  if [ $signal = KILL ]; then
    equal "SIGKILL leaves its temporary" "$(find . -name '.m5-*.tmp' | wc -l)" 1
    ok "the next run" embed g.fa -o next.npz
  fi
  no_temporaries "SIG$signal"
  check "SIG$signal: no output" test ! -e out.bg
done

# Training: killed, so that checkpoint and temporaries lie about; --resume cleans up and goes on.
run=(train --config tiny.json --steps 1000 --segment-length 128 --batch-tokens 512 g.fa --log k.log
  -o k.safetensors --checkpoint-every 1)
wait_for_steps() {  # PID ROWS
  while kill -0 "$1" 2>/dev/null && [ "$(cat k.log 2>/dev/null | wc -l)" -lt "$2" ]; do
    sleep 0.01
  done
}
"$M5" "${run[@]}" 2>/dev/null &
pid=$!
wait_for_steps $pid 20
check "training holds its lock" test -e k.safetensors.ckpt.lock
fails 5 "k.safetensors.ckpt.lock: another run" "a second run on the checkpoint" "${run[@]}"
fails 5 "k.safetensors.ckpt.lock: another run" "a second run, --resume" "${run[@]}" --resume
fails 5 "k.log: another run" "a second run on the log" \
  train --config tiny.json --steps 2 --verbosity 1 g.fa -o other --log k.log
check "the first run goes on" kill -0 $pid
kill -KILL $pid
wait $pid 2>/dev/null
# As if it had been killed while it wrote a checkpoint.
left=$(find . -name '.m5-*.tmp' | wc -l)
: >".m5-$(cut -c 1-8 /proc/sys/kernel/random/boot_id)-$pid-123.tmp"
check "something is left" test -e k.safetensors.ckpt.lock -a "$left" -ge 0
ok "--resume after SIGKILL" "${run[@]}" --resume
no_temporaries "--resume after SIGKILL"
check "the lock is gone" test ! -e k.safetensors.ckpt.lock
ok "straight" "${run[@]}" -o straight.safetensors --log straight.log
same "killed and resumed = straight" k.safetensors straight.safetensors
equal "the log has every step once" "$(awk 'NR > 1 && $1 != NR - 1' k.log | wc -l)" 0

# --- more steps ----------------------------------------------------------------------------------------
"$M5" "${run[@]}" -o m.safetensors --log k.log --checkpoint-every 0 2>/dev/null &
pid=$!
: >k.log
wait_for_steps $pid 15
kill -TERM $pid
wait $pid
equal "stopped" $? 143
fails 2 "--steps was 1000, now 999; the last stage may grow only" "fewer steps" \
  "${run[@]}" -o m.safetensors --verbosity 1 --resume --steps 999
cp m.safetensors.ckpt kept.ckpt
ok "more steps" "${run[@]}" -o m.safetensors --resume --steps 1010
equal "their rows" "$(tail -n 1 k.log | cut -f 1)" 1010
cp kept.ckpt m2.safetensors.ckpt
ok "more steps, again" "${run[@]}" -o m2.safetensors --log m2.log --resume --steps 1010 -@ 2
same "more steps: the same bytes" m.safetensors m2.safetensors

finish
