#!/usr/bin/env bash
# Hostile and unusual input: what is accepted gives the result of the plain file, the rest is refused
# with one line that a terminal can show.
. "$(dirname "$0")/harness.sh"

record chr1 900 1 >g.fa
cat >tiny.json <<'J'
{"format_version": 1, "name": "tiny", "dim": 16, "layers": 1, "heads": 8, "ff_dim": 32, "order": 2,
 "bound": 1.0, "window": 3, "norm_epsilon": 1e-5}
J
training=(train --config tiny.json --steps 2 --segment-length 64 --batch-tokens 128 --warmup 0)

# --- names with escape bytes: data keep them, messages do not ----------------------------------------
esc=$'\033'
csi=$'\302\233'  # U+009B in UTF-8
name="$esc]0;title$'\a'${csi}31m${esc}[2J"
printf '>%s\nACGT-\n' "$name" >gap.fa
printf '>%s\nACGU\n' "$name" >u.fa
printf '%s\t5\t2\n' "$name" >bad.bed
cp g.fa "$name.fa"
shown() {  # no byte of a terminal's commands in what m5 has said
  cp .err said
  check "$1: something was said" test -s said
  equal "$1: no control bytes" "$(tr -d '\n\t' <said | grep -cP '[\x00-\x1f\x7f]|\xc2[\x80-\x9f]')" 0
}
for command in score embed "${training[*]} -o x.safetensors" "bench loss --preset nano" "bench attention --lengths 10"; do
  # shellcheck disable=SC2086
  fails 3 'record .*x1b' "$command: a record" $command gap.fa
  shown "$command: a record"
  # shellcheck disable=SC2086
  fails 5 'x1b.*cannot open' "$command: a file" $command "no$name.fa"
  shown "$command: a file"
done
for command in score embed; do
  ok "$command: a warning" $command u.fa
  shown "$command: a warning"
  check "$command: the name is data" grep -qF "$name" .out
  fails 3 'no sequence named' "$command: a region" $command g.fa -r "$name"
  shown "$command: a region"
  fails 3 'bad.bed: line 1' "$command: a BED file" $command -R bad.bed g.fa
  shown "$command: a BED file"
  ok "$command: the name of a file" $command --no-header "$name.fa"
done
fails 1 "unrecognized command" "a command" "$name"
shown "a command"
fails 2 "" "an option" score "--$name" g.fa
shown "an option"

# --- nothing to learn ----------------------------------------------------------------------------------
record n 500 1 N >n.fa
record r 500 1 NRYKM >r.fa
for file in n.fa r.fa; do
  fails 3 "$file: no A, C, G or T to train on" "training on $file" "${training[@]}" -o x.safetensors $file
  fails 3 "$file: no A, C, G or T to train on" "--dry-run on $file" \
    "${training[@]}" --dry-run -o x.safetensors $file
  fails 3 "$file: no A, C, G or T to validate on" "validation on $file" \
    "${training[@]}" -o x.safetensors g.fa --val $file
done
check "no model of it" test ! -e x.safetensors -a ! -e x.safetensors.ckpt
ok "N beside bases" "${training[@]}" -o x.safetensors n.fa g.fa --val r.fa --val g.fa

printf '>a\nA\n' >one.fa
fails 3 "in no step a base was chosen" "training that asks about nothing" "${training[@]}" \
  -o none.safetensors --verbosity 1 one.fa
equal "no model, no checkpoint of it" "$(ls none.* 2>/dev/null)" ""
ok "--mask-rate 1 asks" "${training[@]}" -o none.safetensors --mask-rate 1 one.fa
fails 3 "n.fa: no A, C, G or T to count" "k-mers of N" \
  bench loss --baseline-only --baseline-train n.fa g.fa --verbosity 1
fails 3 "hold too few" "bench loss on N" bench loss n.fa

# --- names that would make a line a comment ---------------------------------------------------------------
for name in '#' '#x' track browser track1 'x#' TRACK; do
  printf '>%s\nACGT\n' "$name" >name.fa
  printf '%s\t0\t4\t%s\n' "$name" "$name" >name.bed
  hash=0 word=0
  case $name in '#'*) hash=3 ;; track | browser) word=3 ;; esac
  # text tables, and what begins each of their lines with something else
  for run in "$hash$word:score" "$hash:score -O tsv" "$hash:embed" "$hash:embed --per window" \
    "0:embed -o n.npy" "0:embed -o n.npz" "0:embed -O npz"; do
    want=$((10#${run%%:*} > 0 ? 3 : 0))
    # shellcheck disable=SC2086
    "$M5" ${run#*:} --verbosity 1 name.fa >out 2>err
    equal "a record '$name': ${run#*:}" $? $want
    [ $want = 0 ] || check "'$name': named" grep -qF "name.fa: name '$name'" err
  done
  # Every line that is written is read back.
  if [ $hash$word = 00 ]; then
    ok "'$name'" score --no-header name.fa
    equal "'$name': lines that no reader skips" "$(grep -cvE '^(#|(track|browser)[[:space:]])' .out)" 4
  fi
done

# --- byte order marks and NUL bytes in annotations and lists ------------------------------------------------
bom=$'\357\273\277'
printf '%schr1\t0\t9\n' "$bom" >bom.bed
printf '%s##gff-version 3\nchr1\t.\tgene\t1\t9\t.\t+\t.\tID=x\n' "$bom" >bom.gff
printf '%sg.fa\n' "$bom" >bom.list
{ printf '%s' "$bom"; cat g.fa; } >bom.fa
printf 'chr1\t0\t9\n' >plain.bed
ok "regions" score --no-header -R plain.bed g.fa && cp .out regions
ok "regions after a byte order mark" score --no-header -R bom.bed g.fa && same "regions" .out regions
ok "GFF3 after a byte order mark" embed --no-header --per feature --features bom.gff g.fa
equal "its feature" "$(tail -n +2 .out | cut -f1-4)" "$(printf 'x\tchr1\t0\t9')"
ok "a list after a byte order mark" "${training[@]}" -o x.safetensors --list bom.list
ok "FASTA after a byte order mark" score --no-header bom.fa
printf 'chr1\t0\t9\0\n' >nul.bed
printf 'g.fa\0x\n' >nul.list
fails 3 "nul.bed: line 1: NUL" "NUL in BED" score -R nul.bed g.fa
fails 3 "nul.list: line 1: NUL" "NUL in a list" "${training[@]}" -o x.safetensors --list nul.list

# --- where outputs go -----------------------------------------------------------------------------------
mkfifo fifo
for option in -o --checkpoint; do
  rm -f x.safetensors*
  run=("${training[@]}" -o x.safetensors g.fa)
  [ $option = -o ] && run=("${training[@]}" g.fa)
  timeout 60 "$M5" "${run[@]}" $option fifo >out 2>err </dev/null
  equal "train $option FIFO: exit" $? 2
  check "train $option FIFO: says why" grep -q 'fifo: is a pipe' err
  check "train $option FIFO: no model" test ! -e x.safetensors
done
for command in score embed; do
  timeout 60 "$M5" $command -m fifo g.fa >out 2>err </dev/null
  equal "$command -m FIFO: exit" $? 4
done
ln -s later.bg link.bg
ok "a link to what is not there yet" score --no-header -o link.bg g.fa
check "the link stays" test -L link.bg
ok "the same without" score --no-header -o plain.bg g.fa
same "the file it names is written" later.bg plain.bg
ln -s later.safetensors link.safetensors
ok "train to a link" "${training[@]}" -o link.safetensors g.fa
check "its link stays" test -L link.safetensors -a -f later.safetensors
ln -s circle circle
fails 5 "symbolic links" "links in a circle" score -o circle g.fa
no_temporaries "where outputs go"

# --- names far longer than their sequences: memory by bytes of input ------------------------------------
if /usr/bin/python3 -c '' 2>/dev/null; then
  peak() {  # of m5, in kB
    /usr/bin/python3 - "$M5" "$@" <<'P'
import resource, subprocess, sys
assert subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode == 0
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
P
  }
  awk 'BEGIN { x = "x"; while (length(x) < 50000) x = x x
    for (i = 0; i < 400; ++i) printf ">%s%d\n%s\n", x, i, "ACGTACGTACGTACGTTACG" }' >names.fa
  awk '/^>/ { print ">" ++n; next } 1' names.fa >numbers.fa
  bytes_kb=$(($(stat -c %s names.fa) / 1024))
  # Once for what the array of an npz keeps to its end, once for batches on their way, and a half.
  for out in -Otsv -on.npy -on.npz "-o n.npz --per window --window 2"; do
    # shellcheck disable=SC2086
    more=$(($(peak embed $out names.fa --verbosity 1) - $(peak embed $out numbers.fa --verbosity 1)))
    check "$out: $more kB more for $bytes_kb kB of names" test $more -lt $((bytes_kb * 5 / 2))
  done
else
  skip python3
fi

# --- gzip with zeros behind it ----------------------------------------------------------------------------
ok "plain" score --no-header g.fa
cp .out plain
{ gzip -c g.fa; head -c 3000 /dev/zero; } >padded.fa.gz
ok "zero-padded gzip" score --no-header padded.fa.gz
same "zero-padded gzip" .out plain
{ cat padded.fa.gz; echo x; } >tail.fa.gz
fails 3 "tail.fa.gz: bytes that are not gzip follow gzip member 1" "zeros and more" score tail.fa.gz

finish
