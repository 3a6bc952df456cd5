#!/usr/bin/env bash
# What holds for the options of every command: an empty value is refused, one that is given again
# counts, and numbers out of range are not turned round.
. "$(dirname "$0")/harness.sh"

record chr1 3000 1 >g.fa
printf 'chr1\t0\t50\n' >f.bed
cat >tiny.json <<'J'
{"format_version": 1, "name": "tiny", "dim": 16, "layers": 2, "heads": 8, "ff_dim": 32, "order": 2,
 "bound": 1.0, "window": 3, "norm_epsilon": 1e-5}
J

# --- every option of every command that takes a value: an empty one ----------------------------------
for command in score embed train "bench speed" "bench ops" "bench attention" "bench loss"; do
  # shellcheck disable=SC2086
  "$M5" $command --help >help
  # The lines of options that show their argument after the names.
  options=$(grep -oE '^ +(-.,)?--[a-z0-9-]+ [A-Za-z|[]' help | grep -oE -- '--[a-z0-9-]+')
  check "$command: options are listed" test "$(wc -w <<<"$options")" -ge 5
  file=g.fa
  [[ $command == "bench speed" || $command == "bench ops" ]] && file=
  for option in $options; do
    # shellcheck disable=SC2086
    fails 2 "${option}|[Vv]alue" "$command $option ''" $command $file $option ''
    # shellcheck disable=SC2086
    fails 2 "$option: the value is empty" "$command $option=" $command $option= $file
  done
done
for option in -m -R -r -o; do
  fails 2 "value is empty" "score $option ''" score g.fa $option ''
done
fails 2 "value is empty" "an empty file name" score g.fa ''

# --- given again: the last value ---------------------------------------------------------------------
ok "once" score --no-header -k 3 --strand both --bin 10 g.fa
cp .out once
ok "again" score --no-header -k 9 -k 3 --strand forward --strand=both --bin 7 --bin 10 -@ 1 -@ 2 \
  -m nowhere -m "$MODEL" --max-memory 1 --max-memory 1G --no-header g.fa
same "score: the last value counts" .out once
ok "-o again" score --no-header -k 3 --strand both --bin 10 -o a.bg -o b.bg g.fa
same "-o: the last one" b.bg once
check "-o: only that" test ! -e a.bg
ok "format again" embed --no-header -O npy -O tsv --per base --per record --pool max --pool mean g.fa
cp .out again
ok "format once" embed --no-header g.fa
same "embed: the last value counts" .out again
ok "-r adds" score --no-header -r chr1:1-5 -r chr1:11-15 g.fa
equal "-r adds" "$(tail -n 1 .out | cut -f 3)" 15
train=(train --config tiny.json --segment-length 64 --batch-tokens 128 g.fa)
ok "train once" "${train[@]}" --steps 3 --seed 7 -o one
ok "train again" "${train[@]}" --steps 9 --steps 3 --seed 1 --seed 7 --config tiny.json -o x -o two
same "train: the last value counts" one two
check "train: only that" test ! -e x
fails 2 "zzz" "the last value is the one that is checked" score --strand both --strand zzz g.fa

# --- out of range --------------------------------------------------------------------------------------
for command in score embed "train --config tiny.json --steps 1 -o t"; do
  # shellcheck disable=SC2086
  fails 2 "max-memory: 0 is less than 1" "$command --max-memory 0" $command g.fa --max-memory 0
done
for seed in -1 1e3 1.5 9999999999999999999; do
  fails 2 "seed" "bench loss --seed $seed" bench loss --seed=$seed g.fa
  fails 2 "seed" "train --seed $seed" train --config tiny.json --steps 1 --seed=$seed g.fa -o t
done

# --- --allow-no-eof holds for every file that may be BGZF ------------------------------------------------
if command -v bgzip >/dev/null; then
  bgzip -c f.bed | head -c -28 >cut.bed.gz
  for command in "score -R cut.bed.gz" "embed -R cut.bed.gz" \
    "embed --per feature --features cut.bed.gz"; do
    # shellcheck disable=SC2086
    fails 3 "cut.bed.gz" "$command" $command g.fa
    # shellcheck disable=SC2086
    ok "$command --allow-no-eof" $command --allow-no-eof g.fa
    equal "$command: it warns" "$(grep -c 'warning: cut.bed.gz' .err)" 1
  done
else
  skip bgzip
fi

finish
