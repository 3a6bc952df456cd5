#!/usr/bin/env bash
# m5 score --flank: a region within a window of its record is the region of that window as a record.
. "$(dirname "$0")/harness.sh"

{
  record chr1 5000 1
  record chr2 900 2 ACGTN
  record one 1 3
} >g.fa
chr1=$(sequence 5000 1) chr2=$(sequence 900 2 ACGTN)
# shifted BY NAME: bedGraph or table of a window as that of the record it begins in.
shifted() { awk -F'\t' -v OFS='\t' -v by="$1" -v name="$2" '/^chrom/ { print; next }
  { $1 = name; $2 += by; if (NF == 4) $3 += by; print }'; }

for options in "" "--strand both" "--strand reverse" "-k 3" "--unmasked" "-O tsv" "--metric entropy" "--bin 7"; do
  # shellcheck disable=SC2086
  {
    ok "flank 100, $options" score --no-header $options --flank 100 g.fa chr1:1001-1300
    cp .out flank
    printf '>w\n%s\n' "${chr1:900:500}" >w.fa
    ok "the window, $options" score --no-header $options w.fa w:101-400
    same "flank 100, $options" flank <(shifted 900 chr1 <.out)
    ok "all of the record, $options" score --no-header $options --flank 4k g.fa chr1:1001-1300
    cp .out all
    ok "the record, $options" score --no-header $options g.fa chr1:1001-1300
    same "all of the record, $options" all .out
    differ "a flank is another context, $options" all flank
  }
done
ok "at the start" score --no-header --flank 100 g.fa chr1:1-50
cp .out flank
printf '>chr1\n%s\n' "${chr1:0:150}" >w.fa
ok "its window" score --no-header w.fa chr1:1-50 && same "at the start" flank .out
ok "at the end" score --no-header --flank 100 g.fa chr2:851-900
cp .out flank
printf '>w\n%s\n' "${chr2:750:150}" >w.fa
ok "its window" score --no-header w.fa w:101-150 && same "at the end" flank <(shifted 750 chr2 <.out)
ok "--flank 0" score --no-header --flank 0 g.fa chr1:11-20
cp .out flank
printf '>w\n%s\n' "${chr1:10:10}" >w.fa
ok "its window" score --no-header w.fa && same "--flank 0" flank <(shifted 10 chr1 <.out)
ok "a record of 1 nt" score --no-header --flank 1000G g.fa one
cp .out flank
ok "the record" score --no-header g.fa one && same "a record of 1 nt" flank .out

# --- circular records ------------------------------------------------------------------------------
ok "over the end of a circle" score --no-header --circular --flank 100 g.fa chr1:1-50 chr1:4951-5000
cp .out flank
{ printf '>chr1\n%s\n' "${chr1:4900}${chr1:0:150}"; printf '>end\n%s\n' "${chr1:4850}${chr1:0:100}"; } >w.fa
ok "its windows" score --no-header w.fa chr1:101-150 end:101-150
same "over the end of a circle" flank <(shifted -100 chr1 < <(grep ^chr1 .out); shifted 4850 chr1 < <(grep ^end .out))
for flank in 2475 10k; do
  ok "all of a circle, $flank" score --no-header --circular --flank $flank g.fa chr1:1-50
  cp .out flank
  ok "the circle" score --no-header --circular g.fa chr1:1-50 && same "all of a circle, $flank" flank .out
done
ok "all but one" score --no-header --circular --flank 2474 g.fa chr1:1-50
differ "all but two of a circle is a line" .out flank

# --- many regions -------------------------------------------------------------------------------------
# Each as if alone, whatever company and threads; those that touch are one.
awk 'BEGIN { for (i = 0; i < 150; ++i) printf "chr1\t%d\t%d\n", i * 33, i * 33 + 1 + i % 20 }' >r.bed
printf 'chr2\t5\t9\nchr2\t800\t900\none\t0\t1\n' >>r.bed
ok "many" score --no-header --flank 1500 -R r.bed g.fa && cp .out many
equal "many: every base once" "$(awk '{ n += $3 - $2 } END { print n }' many)" \
  "$({ awk -v s="$chr1" '$1 == "chr1" { printf "%s", substr(s, $2 + 1, $3 - $2) }' r.bed
       echo "${chr2:5:4}${chr2:800:100}A"; } | tr -cd ACGT | wc -c)"
for run in "1 128" "3 512"; do
  ok "many, $run" score --no-header --flank 1500 -@ ${run% *} --block-rows ${run#* } -R r.bed g.fa
  same "many: -@, --block-rows $run" .out many
done
for region in chr1:34-35 chr1:4918-4927 chr2:6-9; do
  ok "$region alone" score --no-header --flank 1500 g.fa $region
  check "$region alone" eval '[ -s .out ] && [ "$(grep -cFxf .out many)" = "$(wc -l <.out)" ]'
done
ok "touching" score --no-header --flank 20 g.fa chr1:101-110 chr1:111-130 && cp .out touching
ok "as one" score --no-header --flank 20 g.fa chr1:101-130 && same "touching regions are one" touching .out
"$M5" score --no-header --flank 1500 -R r.bed - <g.fa >.out 2>.err
same "from a stream" .out many
ok "bigWig" score --flank 100 -o r.bw g.fa chr1:1001-1300
ok "to a pipe" score --no-header --flank 100 g.fa chr1:1001-1300

# --- what is said, and refused -------------------------------------------------------------------------
ok "header" score --flank 100 g.fa chr1:1001-1300
check "header: settings" grep -q '^#settings: .* flank=100 context=window ' .out
check "header: note" grep -q '^#note: each region was computed within .* 100 nt' .out
ok "--dry-run" score --dry-run --flank 100 g.fa chr1:1001-1300 chr2:1-10
check "--dry-run: rows of the windows" grep -qx "$(printf 'rows\t610')" .out
fails 2 "--flank goes with regions" "no region" score --flank 100 g.fa
fails 2 "--summary is of whole records" "--summary" score --flank 1 --summary s.json g.fa chr1
fails 2 "--chrom-sizes is of whole records" "--chrom-sizes" score --flank 1 --chrom-sizes s g.fa chr1
fails 2 "two contexts" "--context file" score --flank 1 --context file g.fa chr1
fails 2 "--flank" "negative" score --flank -5 g.fa chr1
fails 3 "begins past the end of 'chr1' \(5000 nt\)" "past the end" score --flank 5 g.fa chr1:5001-5002
fails 3 "no sequence named 'chr9'" "no such record" score --flank 5 g.fa chr9:1-2
: >empty.fa
fails 3 "empty.fa" "empty input" score --flank 5 empty.fa chr1
M5_MODEL=$WILD_MODEL fails 7 "g.fa: record 'chr1': position (9[0-9][0-9]|1[0-3][0-9][0-9]): .*not finite" \
  "a value that is none" score --flank 100 g.fa chr1:1001-1300
"$M5" score --flank 100 g.fa chr1:1001-1300 >/dev/full 2>.err
equal "/dev/full" $? 5
no_temporaries flank

finish
