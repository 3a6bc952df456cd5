#!/usr/bin/env bash
# --write-index: what tabix finds by the index is what the table has.
. "$(dirname "$0")/harness.sh"

{ record chr1 70000 1; record chr2 300 2 ACGTN; record 'gnl|x:1' 40 3; } >g.fa
command -v tabix >/dev/null || { skip tabix; finish; exit; }
# found TABLE SEQUENCE_COLUMN BEGIN_COLUMN END_COLUMN NAME FROM TO: rows that overlap 0-based [FROM, TO)
found() {
  zcat "$1" | grep -v '^#' | awk -F'\t' -v s="$2" -v b="$3" -v e="$4" -v name="$5" -v from="$6" -v to="$7" \
    '$s == name && $b < to && (e ? $e : $b + 1) > from'
}
for index in tbi csi; do
  option=--write-index
  [ $index = csi ] && option=--write-index=csi
  for table in "x.bedgraph.gz 1 2 3 score -k 1" "t.bedgraph.gz 1 2 3 score -k 1 --track-line --metric bits" \
      "n.bed.bgz 1 2 3 score -k 1 --no-header --bin 7" "x.tsv.gz 1 2 0 score -k 1" "n.tsv.gz 1 2 0 score -k 1 --no-header" \
      "w.tsv.gz 2 3 4 embed --per window --window 500 --step 300" "b.tsv.gz 2 3 4 embed --per base --no-header"; do
    # shellcheck disable=SC2086
    set -- $table
    file=$1 s=$2 b=$3 e=$4
    shift 4
    ok "$file, $index" "$@" $option -o "$file" g.fa
    check "$file, $index: it is there" test -s "$file.$index"
    equal "$file, $index: names" "$(tabix -l "$file" 2>err | paste -sd ' ')" "chr1 chr2 gnl|x:1"
    for place in "chr1 0 1" "chr1 16000 16700" "chr1 69990 70000" "chr2 100 200" "gnl|x:1 3 30"; do
      # shellcheck disable=SC2086
      set -- $place
      same "$file, $index: $place" <(tabix "$file" "{$1}:$(($2 + 1))-$3" 2>>err) <(found "$file" $s $b $e "$@")
      check "$file, $index: $place: something is found" test -n "$(found "$file" $s $b $e "$@" | head -n 1)"
    done
    equal "$file, $index: tabix has nothing to say" "$(cat err)" ""
    mv "$file" "$file.$index.kept"
    rm "$file.$index"
  done
done
ok "without an index" score -k 1 -o x.bedgraph.gz g.fa
same "the table does not know of its index" x.bedgraph.gz x.bedgraph.gz.tbi.kept
same "nor of which" x.bedgraph.gz x.bedgraph.gz.csi.kept
check "none is written unasked" test ! -e x.bedgraph.gz.tbi
ok "regions" score -k 1 --write-index -o r.bedgraph.gz g.fa chr2:10-20 chr1:60001-60010
equal "regions" "$(tabix r.bedgraph.gz chr1:60001-60002 | cut -f1-2 | head -n 1)" "$(printf 'chr1\t60000')"
printf 'chr1\t10\t90\ta\nchr1\t500\t600\tb\nchr2\t1\t9\tc\n' >f.bed
ok "features" embed --per feature --features f.bed --write-index -o f.tsv.gz g.fa
equal "features" "$(tabix f.tsv.gz chr1:550-551 | cut -f1)" b
printf 'chr1\t500\t600\tb\nchr1\t10\t90\ta\n' >back.bed
fails 3 "back.bed: line 2: feature 'a' is not behind the one before it" "features out of order" \
  embed --per feature --features back.bed --write-index -o o.tsv.gz g.fa
printf 'chr1\t500\t600\tb\nchr2\t1\t9\tc\nchr1\t700\t790\ta\n' >back.bed
fails 3 "back.bed: line 3: feature 'a' is not behind" "features of a record apart" \
  embed --per feature --features back.bed --write-index -o o.tsv.gz g.fa
fails 3 "row 'a' of 'chr1' from 701 on is not behind the row before it" "the same from a pipe" \
  embed --per feature --features back.bed --write-index -o o.tsv.gz <(cat g.fa)
cp g.fa h.fa
fails 3 "h.fa: record 'chr1': there was one" "one name in two files" embed --write-index -o o.tsv.gz g.fa h.fa
for output in "-o o.bedgraph" "-o -" "-o /dev/null" "-O tsv" "-o o.tsv"; do
  # shellcheck disable=SC2086
  fails 2 "--write-index is for a file of BGZF" "index: $output" score --write-index $output g.fa
done
fails 2 "--write-index is for bedGraph and tsv of bases" "index of bigWig" score --write-index -o o.bw g.fa
fails 2 "--write-index is for tsv" "index of npy" embed --write-index -o o.npy g.fa
fails 2 "--write-index is for tsv with rows that have a place" "index of files" embed --per file --write-index -o o.tsv.gz g.fa
fails 2 "--write-index takes no regions" "index of regions" embed --write-index -o o.tsv.gz g.fa chr1:1-9
fails 2 "write-index" "no such format" score --write-index=bai -o o.bedgraph.gz g.fa
fails 2 "write-index: the value is empty" "an empty format" score --write-index= -o o.bedgraph.gz g.fa
cp g.fa o.bedgraph.gz.tbi
fails 2 "also an input" "the index is an input" score --write-index -o o.bedgraph.gz o.bedgraph.gz.tbi
rm o.bedgraph.gz.tbi
equal "failures leave nothing" "$(echo o.*)" "o.*"
no_temporaries index
finish
