#!/usr/bin/env bash
# Whose record: several files in one run, and records of one name.
. "$(dirname "$0")/harness.sh"

{
  record chr1 1000 1
  record chr2 300 2 ACGTN
  record chr3 2 3
} >g.fa
{ record chr1 500 7; record own 70 8; } >h.fa
vector_of() { awk -F'\t' '{ for (i = 8; i <= NF; ++i) print $i }'; }
near() {
  awk 'NR == FNR { a[FNR] = $1; n = FNR; next } { d = $1 - a[FNR]; if (d < 0) d = -d; if (d > 3e-6 * (1 + (a[FNR] < 0 ? -a[FNR] : a[FNR]))) bad = 1; m = FNR }
    END { exit bad || n != m || n == 0 }' "$1" "$2"
}

ok "per base" embed --no-header --per base -O tsv g.fa && cp .out bases
n2=$(awk '/^>/ { keep = /chr2/; next } keep' g.fa | tr -cd ACGT | wc -c)
printf 'chr1\t10\t90\tplus\t0\t+\n' >strands.bed

# --- files as units --------------------------------------------------------------------------------------
ok "--per file" embed --no-header --per file g.fa h.fa && cp .out files
equal "a row a file" "$(tail -n +2 files | cut -f1-7)" \
  "$(printf 'g\t.\t0\t1302\t.\t%s\tg.fa\nh\t.\t0\t570\t.\t570\th.fa' $((1002 + n2)))"
check "a file = mean of its bases" near \
  <(tail -n +2 bases | awk -F'\t' '$6 == 1 { for (i = 8; i <= NF; ++i) s[i] += $i; ++n } END { for (i = 8; i <= NF; ++i) print s[i] / n }') \
  <(sed -n 2p files | vector_of)
ok "--per file, one file" embed --no-header --per file h.fa && same "a file alone = in company" \
  <(sed -n 2p .out) <(sed -n 3p files)
ok "--per file --context file" embed --no-header --per file --context file g.fa h.fa
equal "--per file --context file: names" "$(cut -f1-7 .out)" "$(cut -f1-7 files)"
differ "--per file --context file: values" .out files
ok "--per file, max" embed --no-header --per file --pool max --strand forward g.fa && cp .out most
ok "max of records" embed --no-header --pool max --strand forward g.fa
same "--per file, max: the greatest of its records" <(tail -n 1 most | vector_of) \
  <(tail -n +2 .out | awk -F'\t' '{ for (i = 8; i <= NF; ++i) if (NR == 1 || $i > m[i]) m[i] = $i } END { for (i = 8; i <= NF; ++i) print m[i] }')
fails 2 "--per file takes no regions" "--per file and a region" embed --per file g.fa chr1:1-2
# Records of one name in two files: the column tells them apart, and features ask which one is meant.
ok "one name in two files" embed --no-header g.fa h.fa
equal "one name in two files: rows" "$(awk -F'\t' '$1 == "chr1" { print $7, $4 }' .out | paste -sd ' ')" "g.fa 1000 h.fa 500"
equal "one name in two files: nothing to warn of" "$(cat .err)" ""
fails 3 "strands.bed: line 1: feature 'plus' is of record 'chr1', and the input has more than one" \
  "features of a name in two files" embed --per feature --features strands.bed g.fa h.fa
ok "two files as npz" embed -o two.npz g.fa h.fa

if /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
  check "npz: file" /usr/bin/python3 - <<'P'
import numpy as np
two = np.load("two.npz", allow_pickle=False)
assert list(two["files"]) == ["g.fa", "h.fa"] and list(two["file"]) == [0, 0, 0, 1, 1]
P
else
  skip numpy
fi

no_temporaries names
finish
