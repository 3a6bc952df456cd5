#!/usr/bin/env bash
# What m5 score and m5 embed do when something is wrong: the exit code, one line, nothing half done.
. "$(dirname "$0")/harness.sh"

record chr1 3000 1 >g.fa
for command in score embed; do
  # 2: usage
  fails 2 "m5 $command: --region|m5 $command: .*FILE" "no file" $command -r chr1
  fails 2 "stdin" "stdin twice" $command - -
  fails 2 "0|region" "region from 0" $command g.fa chr1:0-10
  fails 2 "region|20" "region backwards" $command g.fa chr1:20-10
  fails 2 "max-memory" "a size that is none" $command --max-memory lots g.fa
  # 3: input
  fails 3 "chr2" "unknown contig" $command g.fa chr2:1-10
  fails 3 "chr1" "region behind the end" $command g.fa chr1:3001-3002
  printf 'this is no sequence\n' >text.fa
  fails 3 "text.fa" "no FASTA" $command text.fa
  printf '>x\nACGT-ACGT\n' >gap.fa
  fails 3 "gap.fa: record 'x'.*5" "a gap: file, record, position" $command gap.fa
  printf '>x\nMKVLAAGIVG\n' >protein.fa
  fails 3 "protein.fa: record 'x'" "protein" $command protein.fa
  : >empty.fa
  fails 3 "empty.fa" "empty file" $command empty.fa
  printf '>x\n>y\nACGT\n' >hole.fa
  fails 3 "hole.fa.*'x'" "empty record" $command hole.fa
  ok "--skip-empty" $command --skip-empty --verbosity 1 hole.fa
  gzip -c g.fa | head -c 500 >cut.fa.gz
  fails 3 "cut.fa.gz" "cut gzip" $command cut.fa.gz
  fails 3 "cut.fa.gz" "cut gzip to a file" $command -o cut.tsv cut.fa.gz
  check "$command: nothing of the cut file" test ! -e cut.tsv
  if command -v bgzip >/dev/null; then
    bgzip -c g.fa | head -c -28 >noeof.fa.gz
    fails 3 "noeof.fa.gz" "BGZF without end" $command noeof.fa.gz
    ok "--allow-no-eof" $command --allow-no-eof --verbosity 1 noeof.fa.gz
  else
    skip bgzip
  fi
  # 4: model (one that cannot be opened: 5)
  fails 5 "nowhere.safetensors" "no such model" $command -m nowhere.safetensors g.fa
  printf 'no model' >bad.safetensors
  fails 4 "bad.safetensors" "no model" $command -m bad.safetensors g.fa
  head -c 2000 "$MODEL" >cut.safetensors
  fails 4 "cut.safetensors" "cut model" $command -m cut.safetensors g.fa
  M5_MODEL=$WORK/absent.safetensors fails 5 "absent" "M5_MODEL names nothing" $command g.fa
  # 5: input and output
  fails 5 "nofile.fa" "no such file" $command nofile.fa
  fails 5 "no/such" "no such folder" $command -o no/such/out.tsv g.fa
  check "$command: the folder is not made" test ! -e no
  if [ -w /dev/full ]; then
    "$M5" $command g.fa >/dev/full 2>.err </dev/null
    equal "$command to a full disk: exit" $? 5
    equal "$command to a full disk: one line" "$(wc -l <.err)" 1
    format=bedgraph
    [ $command = embed ] && format=tsv
    fails 5 "/dev/full" "-o /dev/full" $command -O $format -o /dev/full g.fa
  else
    skip /dev/full
  fi
  # 6: memory and device
  fails 6 "needs [0-9,]+ bytes, 1,000 allowed" "--max-memory" $command --max-memory 1k g.fa
  fails 6 "needs [0-9,]+ bytes" "--max-memory, to a file" $command --max-memory 1k -o m.tsv g.fa
  check "$command: nothing was written" test ! -e m.tsv
  fails 6 "device cuda: .*none.so" "no CUDA here" $command --device cuda g.fa
  fails 6 "device cuda: .*none.so" "no second GPU" $command --device cuda:1 g.fa
  fails 2 "cuda:x" "a GPU without a number" $command --device cuda:x g.fa
  M5_CUDA_LIBRARY=g.fa fails 6 "device cuda: .*g.fa" "a library that is none" $command --device cuda g.fa
  M5_CUDA_LIBRARY=libm.so.6 fails 6 "libm.so.6 lacks m5_cuda_version" "another library" $command --device cuda g.fa
  # 7: numbers that no float holds
  fails 7 "g.fa: record 'chr1': position [0-9]+: .*finite" "a model that overflows" $command -m "$WILD_MODEL" -o w.tsv g.fa
  check "$command: no output of it" test ! -e w.tsv
  no_temporaries "$command"
done

fails 7 "g.fa: record 'chr1': position [0-9]+.*--metric nll" "a perplexity that overflows" \
  score -m "$SURE_MODEL" g.fa
ok "its nats do not" score -m "$SURE_MODEL" --metric nll g.fa

# --max-memory in step with --dry-run
ok "dry run" score --dry-run g.fa
needed=$(awk '$1 == "memory_bytes" { print $2 }' .out)
ok "what the dry run says is enough" score --max-memory "$needed" g.fa
fails 6 "needs" "2 MB less are not" score --max-memory $((needed - 2000000)) g.fa


# One huge record is refused before it goes through the model: by --max-memory, and by what there is.
{
  echo '>huge'
  head -c 8000000 /dev/zero | tr '\0' A
  echo
  cat g.fa
} >huge.fa
for command in score embed; do
  ok "$command: dry run of a huge record" $command --dry-run huge.fa
  needed=$(awk '$1 == "memory_bytes" { print $2 }' .out)
  check "$command: the huge record counts" test "$needed" -gt 500000000
  check "$command: it fits" grep -qx "$(printf 'memory_fits\tyes')" .out
  ok "$command: dry run that does not fit" $command --dry-run --max-memory 500M huge.fa
  check "$command: the limit" grep -qx "$(printf 'memory_available_bytes\t500000000')" .out
  check "$command: it does not fit" grep -qx "$(printf 'memory_fits\tno')" .out
  fails 6 "huge.fa: record 'huge'.*: needs [0-9,]+ bytes, 500,000,000 allowed by --max-memory" \
    "$command: huge, --max-memory" $command --max-memory 500M -o huge.tsv huge.fa
  if (ulimit -v 500000 && "$M5" --version) >/dev/null 2>&1; then  # not with sanitizers
    (
      ulimit -v 500000
      fails 6 "huge.fa: record 'huge'.*: needs [0-9,]+ bytes, [0-9,]+ available" \
        "$command: huge, ulimit -v" $command -o huge.tsv huge.fa
      [ "$FAILED" = 0 ]
    ) || fail "$command: huge, ulimit -v"
  else
    skip "ulimit -v"
  fi
  check "$command: nothing was written" test ! -e huge.tsv
  no_temporaries "$command: huge"
done

fails 2 "passes" "--passes 0" score -k 0 g.fa
fails 2 "unmasked" "--unmasked with passes" score --unmasked -k 3 g.fa
fails 2 "metric" "--metric with tsv" score -O tsv --metric bits g.fa
fails 2 "bin" "--bin with tsv" score -O tsv --bin 10 g.fa
fails 2 "bin" "--bin 0" score --bin 0 g.fa
fails 2 "summary" "--summary with another suffix" score --summary s.txt g.fa
fails 2 "digits" "--digits 99" score --digits 99 g.fa
fails 5 "no/such" "--summary into no folder" score --summary no/such/s.json -o s.bg g.fa
check "no output beside a failed summary" test ! -e s.bg
fails 2 "features" "--per feature without a file" embed --per feature g.fa
fails 2 "feature" "--features without --per feature" embed --features x.bed g.fa
fails 2 "window" "--window without --per window" embed --window 10 g.fa
fails 2 "window" "--window 0" embed --per window --window 0 g.fa
fails 2 "layer" "--layer beyond the last" embed --layer 9 g.fa
fails 2 "npy" "no format in the name" embed -o out.xyz g.fa
fails 2 "per base" "--per base to stdout" embed --per base g.fa
fails 2 "pool" "--per base pools nothing" embed --per base --pool max -o x.npy g.fa
fails 2 "--output: the value is empty" "-o ''" score -o '' g.fa
fails 2 "--output: the value is empty" "embed -o ''" embed -o '' g.fa
fails 2 "--summary: the value is empty" "--summary ''" score --summary '' g.fa
fails 5 "no/such" "--chrom-sizes into no folder" score --chrom-sizes no/such/s -o s.bg g.fa
printf '# none\n' >none-in.bed
for command in score embed; do
  fails 3 "none-in.bed: no regions in this file" "empty BED" $command -R none-in.bed g.fa
  printf 'chr1\t7\t7\nchr1\t9\t9\nchr1\t0\t5\n' >zero.bed
  ok "BED intervals of length 0" $command --no-header -R zero.bed g.fa
  equal "one warning" "$(cat .err)" \
    "m5 $command: warning: zero.bed: line 1: an interval of length 0 is skipped, as are others like it"
  check "the others are written" grep -qE "^chr1.*.0.[1-5]" .out
done

# An output that is another output or an input.
cp "$MODEL" model.tsv
ln -s g.fa link.tsv
printf 'chr1\t0\t5\n' >own.bed
cp g.fa kept.fa
for command in score embed; do
  fails 2 "g.fa is also an input" "-o is the input" $command -O tsv -o g.fa g.fa
  fails 2 "link.tsv is also an input" "-o is a link to the input" $command -o link.tsv g.fa
  fails 2 "own.bed is also an input" "-o is the BED file" $command -O tsv -o ./own.bed -R own.bed g.fa
  fails 2 "model.tsv is also an input" "-o is the model" $command -m model.tsv -o model.tsv g.fa
  ok "-o /dev/null" $command -O tsv -o /dev/null g.fa
done
fails 2 "--output and --summary are the same" "--summary is -o" score -o x.tsv --summary ./x.tsv g.fa
fails 2 "--summary and --chrom-sizes are the same" "two side files" \
  score --summary x.tsv --chrom-sizes x.tsv g.fa
fails 2 "--output and --chrom-sizes are the same" "two on stdout" score --chrom-sizes - g.fa
fails 2 "--chrom-sizes: g.fa is also" "--chrom-sizes is the input" score --chrom-sizes g.fa g.fa
printf 'chr1\t0\t10\n' >a.npy.tsv
fails 2 "beside it: a.npy.tsv is also an input" "the table is the features" \
  embed -o a.npy --per feature --features a.npy.tsv g.fa
same "the input is as it was" g.fa kept.fa
check "no output" test ! -e x.tsv -a ! -e a.npy

# What rows hold in memory until the end counts.
needed() {
  ok "dry run" embed --dry-run "$@"
  awk '$1 == "memory_bytes" { print $2 }' .out
}
record chr1 100000 1 >g.fa  # what is held is known to some hundred kB
npy=$(needed --per base -o y.npy g.fa)
table=$(($(needed --per base -o y.npz g.fa) - npy)) values=$(($(needed --per base -O npy g.fa) - npy))
check "an npz keeps its table" test $table -ge $((100000 * 34 - 1000000))
check "npy streams: not its values" test $table -le $((100000 * 34 + 1000000))
check "to a stream, all values" test $values -ge $((100000 * 64 - 1000000))
check "of features, all values" test \
  "$(needed --per feature --features <(yes 'chr1	0	3000' | head -n 100000) g.fa)" -ge \
  $(($(needed --per feature --features <(printf 'chr1\t0\t3000\n') g.fa) + 99999 * 64))
record chr1 3000 1 >g.fa
printf 'chr9\t0\t10\n' >f.bed
fails 3 "f.bed: line 1.*chr9" "feature of an unknown record" embed --per feature --features f.bed g.fa
printf 'chr1\t2990\t3010\n' >f.bed
fails 3 "f.bed: line 1.*chr1" "feature past the end" embed --per feature --features f.bed g.fa
printf 'chr1\tx\t10\n' >f.bed
fails 3 "f.bed" "no BED" embed --per feature --features f.bed g.fa
fails 5 "none.bed" "no such annotation" embed --per feature --features none.bed g.fa
printf '##gff-version 3\nchr1\t.\tgene\t1\t10\t.\t+\t.\tID=a\n' >f.gff
fails 3 "CDS" "no feature of the type" embed --per feature --features f.gff --feature-type CDS g.fa

# A pipe that is closed ends m5 quietly.
record big 60000 3 >big.fa
("$M5" score big.fa 2>err; echo $? >code) | head -n 1 >first
equal "a closed pipe says nothing" "$(cat err)" ""
equal "a closed pipe ends it" "$(cat code)" 141
equal "its first line came through" "$(cut -c 1-9 first)" "#m5 score"

# A failure is told at once, also while the next record is waited for. (Of the first one the end is
# known, and it fills a batch.)
mkfifo slow
{
  record first 140000 4
  echo '>next'
} >first.fa
for command in "score -k 1" "embed --per window"; do
  exec 9<>slow
  cat first.fa >&9 &
  # shellcheck disable=SC2086
  timeout 60 "$M5" $command -m "$WILD_MODEL" slow >out 2>err </dev/null
  equal "m5 $command fails before the input ends: exit" $? 7
  check "m5 $command names the record" grep -q "slow: record 'first': position" err
  wait
  exec 9>&-
  [ -w /dev/full ] && [[ $command == score* ]] || continue  # m5 embed writes when it is done
  exec 9<>slow
  cat first.fa >&9 &
  # shellcheck disable=SC2086
  timeout 60 "$M5" $command slow >/dev/full 2>err </dev/null
  equal "m5 $command, full disk before the input ends: exit" $? 5
  equal "m5 $command, full disk before the input ends" "$(wc -l <err)" 1
  wait
  exec 9>&-
done

# Signals: the exit code of a shell, no file under the final name, nothing unfinished.
mkfifo stream
for signal in INT:130 TERM:143 HUP:129; do
  for command in "score -o out.bg" "score -o out.npz" "score --per window -o out.tsv" \
    "embed -o out.npz"; do
    exec 9<>stream  # it waits for input
    # shellcheck disable=SC2086
    env --default-signal=INT,TERM,HUP "$M5" $command stream g.fa 2>err &
    pid=$!
    for _ in $(seq 100); do
      grep -q 'tmp$' <(ls -A) && break
      sleep 0.05
    done
    check "m5 $command: works on a temporary file" grep -q 'tmp$' <(ls -A)
    kill -s "${signal%:*}" $pid
    { wait $pid; code=$?; } 2>/dev/null
    equal "m5 $command and SIG${signal%:*}: exit" $code "${signal#*:}"
    exec 9>&-
    check "m5 $command and SIG${signal%:*}: no output" test ! -e out.bg -a ! -e out.npz -a ! -e out.tsv
    no_temporaries "m5 $command and SIG${signal%:*}"
  done
done

# An output that was there stays when the run fails.
echo old >kept.bg
fails 3 "gap.fa" "a failing run" score -o kept.bg gap.fa
equal "the old output stays" "$(cat kept.bg)" old

# --verbosity 0 says nothing at all.
"$M5" score --verbosity 0 gap.fa >/dev/null 2>err
equal "--verbosity 0: exit" $? 3
equal "--verbosity 0: silent" "$(cat err)" ""

# Nothing is said about a good run.
"$M5" score g.fa >/dev/null 2>err
equal "a good run says nothing" "$(cat err)" ""

# Descriptors that are closed, a read-only folder, another locale.
"$M5" score g.fa >&- 2>err
equal "stdout is closed: exit" $? 5
(unset LC_ALL; LC_NUMERIC=de_DE.UTF-8 "$M5" score g.fa) >german 2>err
"$M5" score g.fa >plain 2>err
same "the locale changes nothing" german plain

finish
