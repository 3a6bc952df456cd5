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

# --- records of one name: an error of m5 score, in every format, until they are renamed -----------------
{ record chr1 50 1; record chr1 60 2; } >twice.fa
for format in bedgraph tsv "bigwig -o x.bw" "bedgraph --summary s.json" "bedgraph --dry-run"; do
  # shellcheck disable=SC2086
  fails 3 "h.fa: record 'chr1': there was one of this name before.*--rename \{file\}_\{name\}" \
    "two files, $format" score -O $format g.fa h.fa
  equal "two files, $format: nothing came before the error" "$(wc -c <.out)" 0
  # shellcheck disable=SC2086
  fails 3 "twice.fa: record 'chr1': there was one of this name before.*--rename \{name\}_\{n\}" \
    "one file, $format" score -O $format twice.fa
done
fails 3 "h.fa: record 'chr1'" "two pipes" score <(cat g.fa) h.fa
fails 3 "--rename \{file\}_\{name\}" "one file given twice" score g.fa g.fa
ok "the other records of two files" score --no-header g.fa h.fa chr2:1-9 own:1-9
equal "the other records of two files: they are written" "$(cut -f1 .out | uniq | paste -sd ' ')" "chr2 own"
fails 3 "record 'chr1'" "a region of a name in both" score g.fa h.fa chr1:1-9
ok "--rename" score --no-header --rename '{file}_{name}' --chrom-sizes sizes --summary s.json g.fa h.fa && cp .out renamed
equal "--rename: sizes" "$(paste -sd ' ' sizes)" \
  "$(printf 'g_chr1\t1000 g_chr2\t300 g_chr3\t2 h_chr1\t500 h_own\t70')"
equal "--rename: summary" "$(sed -n 's/^ *"name": "\(.*\)",/\1/p' s.json | paste -sd ' ')" "g_chr1 g_chr2 g_chr3 h_chr1 h_own"
ok "g alone" score --no-header g.fa && cp .out alone
ok "h alone" score --no-header h.fa && sed 's/^/h_/' .out >h.alone
same "--rename: the values stay" renamed <(sed 's/^/g_/' alone; cat h.alone)
ok "--rename, a region" score --no-header --rename '{n}:{name}' h.fa chr1:11-20
equal "regions go by the names in the files" "$(cut -f1-3 .out | head -n 1)" "$(printf '1:chr1\t10\t11')"
ok "--rename, a region of both files" score --no-header --rename '{file}_{name}' g.fa h.fa chr1:11-20
equal "a region is meant in both files" "$(cut -f1 .out | uniq | paste -sd ' ')" "g_chr1 h_chr1"
ok "--rename, numbers" score --no-header --rename '{name}_{n}' twice.fa
equal "--rename, numbers" "$(cut -f1 .out | uniq | paste -sd ' ')" "chr1_1 chr1_2"
mkdir -p other && cp h.fa other/g.fa && cp h.fa "with blank.fa"
ok "--rename, two files of one name" score --no-header --rename '{file}_{n}' g.fa other/g.fa "with blank.fa"
equal "--rename, two files of one name" "$(cut -f1 .out | uniq | paste -sd ' ')" \
  "g.fa_1 g.fa_2 g.fa_3 other/g.fa_1 other/g.fa_2 with_blank_1 with_blank_2"
fails 3 "'x_1'.*there was one" "a pattern that makes names equal" score --rename 'x_{n}' g.fa h.fa
ok "embed --rename" embed --no-header --rename '{file}|{name}' --per feature --features strands.bed --strand forward g.fa
equal "embed --rename: the sequence, and features go by the names in the files" "$(sed -n 2p .out | cut -f1,2,7)" \
  "$(printf 'plus\tg|chr1\tg.fa')"
ok "embed --rename, bases" embed --no-header --rename '{n}' --per base -O tsv h.fa
equal "embed --rename, bases" "$(tail -n +2 .out | cut -f1,2 | uniq -c | awk '{ print $1, $2, $3 }' | paste -sd ' ')" "500 1 1 70 2 2"
for pattern in x '{file}' '{name' '{}' '{NAME}' 'a b{n}' "$(printf '{n}\t')"; do
  fails 2 "^m5 score: --rename" "--rename '$pattern'" score --rename "$pattern" g.fa
done
fails 3 "h.fa: name '#1': a line that begins so" "--rename to a comment" score --rename '#{n}' h.fa

# --- which records are circular ------------------------------------------------------------------------
ok "circular" score --no-header --circular g.fa && cp .out circular
ok "linear" score --no-header g.fa && cp .out linear
differ "circular is another thing than linear" circular linear
awk '/^>/ { $0 = $0 " length=9 circular=true" } 1' g.fa >unicycler.fa
for list in 'chr1\nchr2\nchr3\n' '# all\nchr1 \r\n\nchr3\nchr2' \
    '#seq_name\tlength\tcov.\tcirc.\trepeat\nchr1\t1\t2\tY\tN\nchr2\t1\t2\tY\tN\nchr3\t1\t2\tY\tY\n' \
    '>chr1 circular=true\nACGT\n>chr2 depth=1x circular=true\n>chr3 topology=circular\n'; do
  printf "$list" >list
  ok "--circular-list" score --no-header --circular-list list g.fa
  same "--circular-list: all" .out circular
done
ok "headers of Unicycler" score --no-header --circular-list unicycler.fa g.fa && same "headers of Unicycler" .out circular
printf '#seq_name\tlength\tcov.\tcirc.\nchr1\t1\t2\tN\nchr2\t1\t2\tY\nchr3\t1\t2\tN\n' >flye
ok "one of three" score --no-header --rename '{n}' --circular-list flye g.fa
same "one of three, by its name in the file" .out \
  <(grep -E '^chr1' linear | sed 's/^chr//'; grep -E '^chr2' circular | sed 's/^chr//'; grep -E '^chr3' linear | sed 's/^chr//')
ok "embed --circular-list" embed --no-header --circular-list flye g.fa && cp .out embedded
ok "embed --circular" embed --no-header --circular g.fa
same "embed --circular-list" <(sed -n 3p .out) <(sed -n 3p embedded)
differ "embed: the others" <(sed -n 2p .out) <(sed -n 2p embedded)
ok "nothing is circular" score --no-header --circular-list /dev/null g.fa && same "nothing is circular" .out linear
printf 'chr2\nchr9\n' >list
ok "a name that is not there" score --no-header --circular-list list g.fa && cp .err err
check "a name that is not there: a warning" grep -qx \
  "m5 score: warning: --circular-list list: 1 of its 2 names are of no record, such as 'chr9'" err
printf 'chr8\nchr9\n' >list
for command in score embed "bench loss --preset nano --lengths whole" "train --preset nano --steps 1 -o t.safetensors"; do
  # shellcheck disable=SC2086
  fails 3 "list: 2 of its 2 names are of no record, such as 'chr8'" "$command: no name is there" \
    $command --circular-list list g.fa
  # shellcheck disable=SC2086
  fails 2 "--circular-list and --circular contradict" "$command: both" $command --circular --circular-list list g.fa
  # shellcheck disable=SC2086
  fails 5 "none: cannot open" "$command: no such list" $command --circular-list none g.fa
done
printf 'x y\n' >list
fails 3 "list: line 1: a list has one name a line" "a list of two words" score --circular-list list g.fa
fails 2 "flye.*also an input" "the list is the output" score --circular-list flye -o flye g.fa

# --- numpy -----------------------------------------------------------------------------------------------
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
