# The table of m5 score --summary: a row a file, samples, and what MultiQC and other readers make of it.
. "$(dirname "$0")/harness.sh"

score=(score --no-header -k 2 -o /dev/null)
apart=(--rename '{file}_{name}')  # records of one name in several files
rows() { grep -v '^#' "$1"; }
samples() { rows "$1" | cut -f1 | tail -n +2 | paste -sd ' '; }
cell() { rows "$1" | awk -F'\t' -v c="$2" -v r="$3" \
  'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == c) k = i } NR == r + 1 { print $k }'; }

mkdir one two
record a 300 1 >one/g.fa
{ record a 200 2; record b 40 3; } | gzip >two/h.fasta.gz
record c 100 4 >d.v2.fna
printf '>n\nNNN\n' >n.fq.fa

# --- a row a file, and each row is that of the file alone ----------------------------------------
ok "three files" "${score[@]}" "${apart[@]}" --summary all.tsv one/g.fa two/h.fasta.gz d.v2.fna
equal "samples" "$(samples all.tsv)" "g h d.v2"
equal "header" "$(rows all.tsv | head -n 1 | cut -f1-2)" "$(printf 'Sample\tfile')"
: >joined
for file in one/g.fa two/h.fasta.gz d.v2.fna; do
  ok "$file alone" "${score[@]}" --summary part.tsv "$file"
  rows part.tsv | tail -n 1 >>joined
done
same "a row is that of its file alone" joined <(rows all.tsv | tail -n +2)
ok "one context a file" "${score[@]}" "${apart[@]}" --context file --summary context.tsv one/g.fa two/h.fasta.gz
equal "n_records of --context file" "$(cell context.tsv n_records 2)" 2
equal "n_bases" "$(cell all.tsv n_bases 2)" 240
same "the same for any number of threads" all.tsv <("$M5" "${score[@]}" "${apart[@]}" -@ 3 --summary t.tsv \
  one/g.fa two/h.fasta.gz d.v2.fna && cat t.tsv)

ok "nothing scored" "${score[@]}" --summary n.tsv n.fq.fa
equal "one suffix is taken off a plain file" "$(samples n.tsv)" n.fq
equal "a mean over nothing is empty" "$(cell n.tsv mean_bits 1)" ""
: >empty.fa
printf '>x\n' >bare.fa
ok "a file whose records are all skipped" "${score[@]}" --skip-empty --summary e.tsv bare.fa one/g.fa
equal "it has a row all the same" "$(cell e.tsv n_records 1) $(cell e.tsv n_records 2)" "0 1"

# --- samples -------------------------------------------------------------------------------------
cp one/g.fa two/g.fa
ok "one name twice" "${score[@]}" "${apart[@]}" --summary s.tsv one/g.fa two/g.fa d.v2.fna
equal "then it is the path" "$(samples s.tsv)" "one/g.fa two/g.fa d.v2"
fails 3 "one/g.fa: record 'one/g.fa_a': there was one" "one file twice" "${score[@]}" "${apart[@]}" --summary s.tsv \
  one/g.fa one/g.fa
"$M5" "${score[@]}" --summary s.tsv - <one/g.fa 2>.err
equal "a pipe" "$(samples s.tsv) $(cell s.tsv file 1)" "stdin -"
ok "--sample" "${score[@]}" --sample 'E. coli' --summary s.tsv one/g.fa
equal "--sample names the row" "$(samples s.tsv)" "E. coli"
fails 2 "sample is for one file" "--sample with two files" "${score[@]}" --sample x --summary s.tsv \
  one/g.fa d.v2.fna
fails 2 "summary FILE.tsv" "--sample without a table" "${score[@]}" --sample x one/g.fa
fails 2 "summary FILE.tsv" "--sample with JSON" "${score[@]}" --sample x --summary s.json one/g.fa

# Names that a reader would take for a number, a comment or a cell more come back as they are.
odd=(007 1e5 -3.5 +1 1_000 nan NaN Infinity .5 '#hash' 'a b' 'x"y' "'q'" ' lead' 'plain' 'e5' '1x' $'t\tb')
: >want
for name in "${odd[@]}"; do
  ok "--sample '$name'" "${score[@]}" --sample "$name" --summary "odd${#odd[@]}.tsv" one/g.fa
  rows "odd${#odd[@]}.tsv" | tail -n 1 >>odd_rows
  printf '%s\n' "${name//$'\t'/ }" >>want
done
{ grep '^#' all.tsv; rows all.tsv | head -n 1; cat odd_rows; } >odd_mqc.tsv
check "csv readers get the names back" /usr/bin/python3 - <<'P'
import csv
lines = [line for line in open("odd_mqc.tsv") if not line.startswith("#")]
names = [row["Sample"] for row in csv.DictReader(lines, delimiter="\t")]
want = open("want").read().split("\n")[:-1]
assert names == want, (names, want)
for row in csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE):
    assert not row[0].startswith(("#", "'", " ")), row[0]
    try:
        float(row[0])
    except ValueError:
        continue
    raise AssertionError(f"{row[0]} is read as a number")
P
finish
