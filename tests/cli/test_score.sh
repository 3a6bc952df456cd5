#!/usr/bin/env bash
# m5 score: what it computes and how it is printed.
. "$(dirname "$0")/harness.sh"

{
  record chr1 1500 1
  record gnl\|X\|A:1 700 2
  record short 3 3
} >g.fa

# --- the same sequence, however it arrives ---------------------------------------------------
ok "plain file" score --no-header g.fa
cp .out plain
"$M5" score --no-header - <g.fa >stdin.out 2>err && same "stdin" stdin.out plain
cat g.fa | "$M5" score --no-header - >pipe.out 2>err && same "pipe" pipe.out plain
gzip -c g.fa >g.fa.gz
ok "gzip" score --no-header g.fa.gz && same "gzip" .out plain
"$M5" score --no-header - <g.fa.gz >out 2>err && same "gzip on stdin" out plain
sed 's/$/\r/' g.fa >crlf.fa
ok "CRLF" score --no-header crlf.fa && same "CRLF" .out plain
awk '/^>/ { print; next } { print tolower($0) }' g.fa >lower.fa
ok "lower case" score --no-header lower.fa && same "lower case" .out plain
awk '/^>/ { print; next } { gsub("T", "U"); print }' g.fa >rna.fa
ok "U reads as T" score --no-header rna.fa && same "U" .out plain
equal "U: one warning" "$(cat .err)" "m5 score: warning: rna.fa: record 'chr1': U is read as T"
awk '/^>/ { if (s) print s; print; s = ""; next } { s = s $0 } END { printf "%s", s }' g.fa >one.fa
ok "one line a record, no last newline" score --no-header one.fa && same "one line" .out plain
if command -v bgzip >/dev/null; then
  bgzip -c g.fa >b.fa.gz
  ok "bgzip" score --no-header b.fa.gz && same "bgzip" .out plain
else
  skip bgzip
fi
awk '/^>/ { printf "%s@%s\n", s ? s "\n+\n" q "\n" : "", substr($0, 2); s = q = ""; next }
     { s = s $0; t = $0; gsub(/./, "I", t); q = q t } END { printf "%s\n+\n%s\n", s, q }' g.fa >g.fq
ok "FASTQ" score --no-header g.fq && same "FASTQ" .out plain

# --- threads, company, output file -------------------------------------------------------------
ok "one thread" score -@1 g.fa && cp .out t1
for threads in 2 8; do
  ok "$threads threads" score -@ $threads g.fa
  same "-@1 = -@$threads, header and all" .out t1
  ok "--threads=$threads" score --threads=$threads g.fa
  same "--threads=$threads" .out t1
done
ok "-o FILE" score -o out.bedgraph g.fa
equal "-o: nothing on stdout" "$(wc -c <.out)" 0
same "-o: the same bytes" out.bedgraph t1
ok "-o FILE replaces" score -o out.bedgraph --no-header g.fa
same "-o: replaced" out.bedgraph plain
for name in chr1 short; do
  awk -v name=">$name" '/^>/ { keep = $0 == name } keep' g.fa >alone.fa
  ok "$name alone" score --no-header alone.fa
  same "a record alone = in company" .out <(awk -v name=$name '$1 == name' plain)
done
# Batches follow each other: many short records, and long ones among them.
awk 'BEGIN { for (i = 0; i < 3000; ++i) printf ">r%d\n%s\n", i, substr("ACGTTGCAACGATCGATTACGGCTA", 1 + i % 9, 1 + i % 13) }' >many.fa
{
  cat many.fa
  record long 140000 5
  cat g.fa
} >batches.fa
ok "several batches" score --no-header --verbosity 1 -k 2 batches.fa
cp .out batches
ok "several batches, 3 threads" score -@ 3 --no-header --verbosity 1 -k 2 batches.fa
same "several batches: -@ 3" .out batches
equal "several batches: names in their order" "$(cut -f1 batches | uniq)" \
  "$(sed -n 's/^>//p' batches.fa)"
ok "the last records alone" score --no-header -k 2 g.fa
same "several batches: the last records" <(tail -n "$(wc -l <.out)" batches) .out
ok "the first records alone" score --no-header --verbosity 1 -k 2 many.fa
same "several batches: the first records" <(head -n "$(wc -l <.out)" batches) .out
ok "two files" score --no-header --rename '{file}.{name}' g.fa one.fa --verbosity 1
same "two files are one after the other" .out <(sed 's/^/g./' plain; sed 's/^/one./' plain)

# --- bedGraph ------------------------------------------------------------------------------------
cat >bedgraph.awk <<'A'
BEGIN { FS = "\t"; OFS = "\t" }
/^#/ { next }
NF != 4 || $2 >= $3 || $4 + 0 < 1 || $4 !~ /^[0-9]+\.[0-9]+$/ { print "bad line: " $0; exit }
$1 == name && $2 < end { print "overlap: " $0; exit }
{ name = $1; end = $3; n += $3 - $2 }
END { print n }
A
equal "bedGraph is well formed and covers every base once" "$(awk -f bedgraph.awk plain)" 2203
equal "equal neighbours are one line" \
  "$(awk 'BEGIN { n = 0 } $1 == a && $2 == e && $4 == v { ++n } { a = $1; e = $3; v = $4 } END { print n }' plain)" 0
ok "--digits" score --no-header --digits 2 g.fa
equal "--digits 2" "$(awk '{ print length($4) - index($4, ".") }' .out | sort -u)" 2
ok "--digits 0 merges more" score --no-header --digits 0 g.fa
check "--digits 0" test "$(wc -l <.out)" -lt "$(wc -l <plain)"

record withn 200 9 ACGTNNRY >n.fa
sequence_of() { awk '!/^>/ { s = s $0 } END { print s }' "$1"; }
ok "N" score --no-header n.fa
equal "N and IUPAC codes have no line" \
  "$(awk '{ for (i = $2; i < $3; ++i) print i }' .out)" \
  "$(sequence_of n.fa | fold -w 1 | awk '/[ACGT]/ { print NR - 1 }')"
printf '>a\nNNNNNNNN\n' >alln.fa
ok "only N" score --no-header alln.fa
equal "only N: no line" "$(wc -l <.out)" 0
for length in 1 2 7 8; do
  record x $length 4 >tiny.fa
  ok "$length nt" score --no-header --strand both tiny.fa
  equal "$length nt: all scored" "$(awk '{ n += $3 - $2 } END { print n }' .out)" $length
done

if command -v tabix >/dev/null && command -v bgzip >/dev/null; then
  ok "BGZF by suffix" score -o s.bed.gz g.fa
  check "BGZF is whole" bgzip -t s.bed.gz
  same "BGZF holds the same" <(gzip -dc s.bed.gz) t1
  check "tabix reads it" tabix -f -p bed s.bed.gz
  equal "tabix finds rows" "$(tabix s.bed.gz chr1:101-200 | awk -f bedgraph.awk)" \
    "$(awk '$1 == "chr1" && $2 < 200 && $3 > 100' plain | awk -f bedgraph.awk)"
else
  skip tabix
fi
if command -v bedtools >/dev/null; then
  bedtools sort -i plain >sorted 2>err
  equal "bedtools sorts it" "$(wc -l <sorted)" "$(wc -l <plain)"
  bedtools merge -i <(awk '$1 == "chr1"' t1) >merged 2>err
  equal "bedtools merges it to the record" "$(cat merged)" "$(printf 'chr1\t0\t1500')"
else
  skip bedtools
fi

# --- header -----------------------------------------------------------------------------------
check "version line" grep -qE '^#m5 score [0-9]+\.[0-9]+\.[0-9]+$' t1
check "model line" grep -qE '^#model: tiny sha256=[0-9a-f]{64}$' t1
check "settings line" grep -qx \
  '#settings: passes=7 strand=forward metric=perplexity context=record device=cpu precision=fp32' t1
equal "sha256 is that of the file" "$(sed -n 's/^#model:.*sha256=//p' t1)" \
  "$(sha256sum "$MODEL" | cut -d' ' -f1)"
check "command line without threads" grep -qx '#command: m5 score g.fa' t1
ok "command line is quoted" score -m "$MODEL" -o q.bg --metric bits -@ 2 'g.fa' 'short'
check "command line is quoted" grep -qx "#command: m5 score -m $MODEL --metric bits g.fa short" q.bg
same "--no-header drops exactly the # lines" plain <(grep -v '^#' t1)
ok "--no-PG" score --no-PG g.fa && same "--no-PG = --no-header" .out plain
ok "--track-line" score --track-line g.fa
check "track line comes first" grep -q '^track type=bedGraph ' <(head -n 1 .out)
same "the rest is the same" <(tail -n +2 .out | grep -v '^#command') <(grep -v '^#command' t1)

# --- metrics -----------------------------------------------------------------------------------
for metric in nll bits perplexity entropy; do
  ok "--metric $metric" score --no-header --digits 9 --metric $metric g.fa
  cp .out $metric
done
ok "tsv" score --no-header --digits 9 -O tsv g.fa
cp .out table
equal "tsv: header row" "$(head -n 1 table)" "$(printf 'chrom\tpos0\tbase\tpA\tpC\tpG\tpT')"
expand() { awk 'BEGIN { OFS = "\t" } { for (i = $2; i < $3; ++i) print $1, i, $4 }' "$1"; }
close_to() {
  awk -v tolerance="$3" 'NR == FNR { a[FNR] = $1; n = FNR; next }
    { d = $1 - a[FNR]; if (d < 0) d = -d; if (d > tolerance * (1 + a[FNR])) { bad = 1 } m = FNR }
    END { exit bad || n != m || n == 0 }' "$1" "$2"
}
expand nll | cut -f3 >nll.v
expand bits | cut -f3 | awk '{ print $1 * log(2) }' >bits.v
expand perplexity | cut -f3 | awk '{ print log($1) }' >perplexity.v
check "bits = nll / ln 2" close_to nll.v bits.v 1e-7
check "perplexity = exp(nll)" close_to nll.v perplexity.v 1e-5
tail -n +2 table | awk '{ p["A"] = $4; p["C"] = $5; p["G"] = $6; p["T"] = $7; print p[$3] }' >table.v
check "tsv: probability of the base" close_to <(awk '{ print exp(-$1) }' nll.v) table.v 2e-9
tail -n +2 table | awk '{ print $4 + $5 + $6 + $7 }' >sums
yes 1 | head -n 2203 >ones
check "tsv: probabilities sum to one" close_to ones sums 1e-6
tail -n +2 table | awk '{ h = 0; for (i = 4; i <= 7; ++i) if ($i > 0) h -= $i * log($i) / log(2); print h }' >entropy.t
expand entropy | cut -f3 >entropy.v
check "entropy of the four probabilities" close_to entropy.v entropy.t 1e-5
equal "tsv: bases are those of the input" "$(awk '$1 == "chr1" { printf "%s", $3 }' table)" \
  "$(awk '/^>/ { keep = /chr1/; next } keep' g.fa | tr -d '\n')"
ok "tsv by suffix" score --no-header --digits 9 -o t.tsv g.fa && same "tsv by suffix" t.tsv table

# --- passes --------------------------------------------------------------------------------------
ok "-k 3" score --no-header -k 3 g.fa && differ "-k changes what is hidden" .out plain
ok "-k 5000" score --no-header -k 5000 n.fa
equal "more passes than bases: each is scored once" "$(awk '{ n += $3 - $2 } END { print n }' .out)" \
  "$(sequence_of n.fa | tr -cd ACGT | wc -c)"
# With the pass of a base changed and nothing else, its score changes: the others hidden with it do.
ok "--unmasked" score --unmasked g.fa
check "--unmasked says what it is not" grep -q 'not a likelihood' .out
differ "--unmasked is another score" <(grep -v '^#' .out) plain
# A base is hidden when it is scored: changing it alone leaves its probabilities as they were.
base=$(awk '!/^>/ { s = s $0 } END { print substr(s, 501, 1) }' <(head -n 26 g.fa))
other=$(tr ACGT CGTA <<<"$base")
awk -v other="$other" '/^>/ { print; next } { s = s $0 }
  END { print substr(s, 1, 500) other substr(s, 502) }' <(head -n 26 g.fa) >snp.fa
ok "a substitution" score --no-header --digits 9 -O tsv snp.fa
equal "the hidden base does not see itself" "$(awk '$2 == 500' .out | cut -f4-)" \
  "$(awk '$1 == "chr1" && $2 == 500' table | cut -f4-)"
check "its neighbours see it" test "$(awk '$2 == 501' .out | cut -f4-)" != \
  "$(awk '$1 == "chr1" && $2 == 501' table | cut -f4-)"

# --- strands -------------------------------------------------------------------------------------
awk '/^>/ { if (s) print s; print; s = ""; next } { s = s $0 } END { print s }' g.fa |
  while read -r line; do
    case $line in
      '>'*) echo "$line" ;;
      *) rev <<<"$line" | tr ACGT TGCA ;;
    esac
  done >rc.fa
mirror() {  # bedGraph rows, turned around
  expand "$1" | awk 'NR == FNR { length_of[$1] = $2 > length_of[$1] ? $2 : length_of[$1]; next }
    { print $1 "\t" length_of[$1] - $2 "\t" $3 }' <(expand "$1") - | sort -k1,1 -k2,2n
}
for strand in forward reverse both; do
  ok "--strand $strand" score --no-header --digits 9 --strand $strand --metric nll g.fa
  cp .out $strand.x
  ok "--strand $strand of the reverse complement" \
    score --no-header --digits 9 --strand $strand --metric nll rc.fa
  cp .out $strand.rc
done
same "forward is the default" forward.x nll
same "--strand both: reverse-complementing reverses" <(mirror both.rc) <(expand both.x | sort -k1,1 -k2,2n)
same "reverse = forward of the reverse complement" <(mirror reverse.x) \
  <(expand forward.rc | sort -k1,1 -k2,2n)
# --- regions -----------------------------------------------------------------------------------
rows() { awk -v n="$1" -v a="$2" -v b="$3" '$1 == n && $2 >= a && $2 < b' <(expand plain); }
ok "region" score --no-header g.fa chr1:101-200
same "region = rows of the whole" <(expand .out) <(rows chr1 100 200)
ok "-r" score --no-header -r chr1:101-200 g.fa
same "-r" <(expand .out) <(rows chr1 100 200)
ok "thousands commas" score --no-header g.fa chr1:1,001-1,100
same "thousands commas" <(expand .out) <(rows chr1 1000 1100)
ok "to the end" score --no-header g.fa chr1:1401
same "to the end" <(expand .out) <(rows chr1 1400 1500)
ok "a whole record" score --no-header g.fa short
same "a whole record" <(expand .out) <(rows short 0 3)
ok "a name with colons and bars" score --no-header g.fa 'gnl|X|A:1'
same "a name with colons" <(expand .out) <(rows 'gnl|X|A:1' 0 700)
ok "braces" score --no-header g.fa '{gnl|X|A:1}:11-20'
same "braces" <(expand .out) <(rows 'gnl|X|A:1' 10 20)
printf 'chr1\t100\t200\nshort\t0\t2\n' >r.bed
ok "-R" score --no-header -R r.bed g.fa
same "-R" <(expand .out) <(rows chr1 100 200; rows short 0 2)
ok "two regions" score --no-header g.fa short chr1:101-150 chr1:140-200
same "regions come in the order of the records, merged" <(expand .out) \
  <(rows chr1 100 200; rows short 0 3)
"$M5" score --no-header - chr1:101-200 <g.fa >out 2>err
same "region of stdin" <(expand out) <(rows chr1 100 200)
ok "region of a bin run" score --no-header --bin 30 g.fa chr1:101-200
equal "bins start at the region" "$(awk '{ printf "%s-%s ", $2, $3 }' .out)" \
  "100-130 130-160 160-190 190-200 "

# --- bins ---------------------------------------------------------------------------------------
ok "--bin" score --no-header --bin 100 --digits 9 g.fa
cp .out binned
expand nll | awk '{ b = $1 "\t" int($2 / 100); s[b] += $3; n[b]++; if (!(b in o)) { o[b] = ++k; name[k] = b } }
  END { for (i = 1; i <= k; ++i) print exp(s[name[i]] / n[name[i]]) }' >bins.v
cut -f4 binned >binned.v
check "bins: exp of the mean nll" close_to bins.v binned.v 1e-5
equal "bins: the last one is cut at the end" "$(awk '$1 == "short"' binned | cut -f2,3)" "$(printf '0\t3')"
printf '>a\n%s%s%s\n' "$(sequence 20 5)" NNNNNNNNNNNNNNNNNNNN "$(sequence 10 6)" >gap.fa
ok "--bin over a gap" score --no-header --bin 10 gap.fa
equal "bins without a scored base have no line" "$(cut -f2 .out | tr '\n' ' ')" "0 10 40 "
ok "--bin 4k" score --no-header --bin 4k g.fa
equal "--bin 4k" "$(wc -l <.out)" 3

# --- context and topology ------------------------------------------------------------------------
ok "--context file" score --no-header --context file g.fa && cp .out file
differ "--context file is another context" file plain
equal "--context file: the same rows" "$(awk -f bedgraph.awk file)" 2203
ok "--context file, region" score --no-header --context file g.fa chr1:101-200
same "--context file: regions are rows of the whole" <(expand .out) \
  <(expand file | awk '$1 == "chr1" && $2 >= 100 && $2 < 200')
awk '/^>/ { keep = /chr1/ } keep' g.fa >one-record.fa
ok "--context file of one record" score --no-header --context file one-record.fa
same "one record: file = record" .out <(awk '$1 == "chr1"' plain)
ok "--circular" score --no-header --circular one-record.fa && cp .out circular
differ "--circular reads around the end" circular <(awk '$1 == "chr1"' plain)
sed 's/^>chr1/>chr1 plasmid [topology=circular]/' one-record.fa >header.fa
ok "topology in the header" score --no-header header.fa && same "topology=circular" .out circular
ok "--linear overrules the header" score --no-header --linear header.fa
same "--linear" .out <(awk '$1 == "chr1"' plain)
# 1400 = 7 * 200: rotating the sequence rotates the scores (up to the order of sums).
sequence 1400 8 | awk '{ print ">x"; print }' >ring.fa
sequence 1400 8 | awk '{ print ">x"; print substr($0, 334) substr($0, 1, 333) }' >turned.fa
ok "circular" score --no-header --circular --metric nll --digits 9 ring.fa
expand .out | awk '{ print ($2 + 1400 - 333) % 1400 "\t" $3 }' | sort -n | cut -f2 >ring.v
ok "circular, rotated" score --no-header --circular --metric nll --digits 9 turned.fa
expand .out | cut -f3 >turned.v
check "rotating rotates the scores" close_to ring.v turned.v 1e-5

# --- summary, sizes ------------------------------------------------------------------------------
cat g.fa n.fa >all.fa
ok "--summary json" score --no-header --summary s.json --chrom-sizes sizes all.fa
same "--chrom-sizes" sizes <(printf 'chr1\t1500\ngnl|X|A:1\t700\nshort\t3\nwithn\t200\n')
ok "--summary tsv" score --no-header --metric nll --digits 9 --summary s.tsv all.fa
expand .out | awk '{ s += $3 } END { printf "%.5f\n", s / NR }' >mean
column() { grep -v '^#' s.tsv | awk -F'\t' -v c="$1" 'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == c) k = i } NR == 2 { print $k }'; }
equal "summary: n_bases" "$(column n_bases)" 2403
equal "summary: n_records" "$(column n_records)" 4
equal "summary: n_scored" "$(column n_scored)" "$(($(expand .out | wc -l)))"
equal "summary: n_N" "$(column n_N)" "$(sequence_of n.fa | tr -cd N | wc -c)"
equal "summary: n_other" "$(column n_other)" "$(sequence_of n.fa | tr -cd RY | wc -c)"
equal "summary: mean nll" "$(column mean_nll_nats | awk '{ printf "%.5f", $1 }')" "$(cat mean)"
if /usr/bin/python3 -c 'import json' 2>/dev/null; then
  check "summary: JSON" /usr/bin/python3 - s.json <<'P'
import json, math, sys
s = json.load(open(sys.argv[1]))
assert s["n_records"] == len(s["records"]) == 4, s
assert s["n_scored"] == sum(r["n_scored"] for r in s["records"])
assert [r["name"] for r in s["records"]] == ["chr1", "gnl|X|A:1", "short", "withn"]
assert abs(math.exp(s["mean_nll_nats"]) - s["perplexity"]) < 1e-9 * s["perplexity"]
assert abs(s["mean_bits"] * math.log(2) - s["mean_nll_nats"]) < 1e-12
assert 0 <= s["accuracy"] <= 1 and s["likelihood"] is True and len(s["model_sha256"]) == 64
P
else
  skip python3
fi
accuracy() { awk 'NR > 1 { p["A"] = $4; p["C"] = $5; p["G"] = $6; p["T"] = $7; best = 1
  for (b in p) if (b != $3 && p[b] >= p[$3]) best = 0
  n += best } END { printf "%.6f\n", n / (NR - 1) }' "$1"; }
ok "tsv for the accuracy" score --no-header --digits 12 -O tsv all.fa
equal "summary: accuracy" "$(column accuracy | awk '{ printf "%.6f", $1 }')" "$(accuracy .out)"

# --- dry run -------------------------------------------------------------------------------------
ok "--dry-run" score --dry-run -o never.bg all.fa
check "--dry-run: rows" grep -qx "$(printf 'rows\t2403')" .out
check "--dry-run: passes" grep -qx "$(printf 'rows_through_the_model\t16821')" .out
check "--dry-run: memory" grep -qE '^memory_bytes.[1-9][0-9]*$' .out
check "--dry-run: time" grep -qE '^expected_seconds.[0-9.]+$' .out
check "--dry-run writes nothing" test ! -e never.bg

ok "--device ref" score --no-header --metric nll --digits 9 --device ref one-record.fa
expand .out | cut -f3 >ref.v
awk '$1 == "chr1"' nll >one.nll
expand one.nll | cut -f3 >cpu.v
check "cpu = ref" close_to ref.v cpu.v 1e-5
ok "--device auto" score --no-header --verbosity 1 --device auto g.fa && same "auto = cpu" .out plain
M5_CUDA_LIBRARY=$PWD/none.so ok "--device auto, no CUDA" score --no-header --device auto g.fa
check "--device auto says in one line that it is the CPU, and why" \
  test "$(grep -c 'device auto: cpu (device cuda: .*none.so' .err)" = 1
same "auto = cpu, said" .out plain
ok "--precision bf16" score --no-header --metric nll --digits 9 --precision bf16 one-record.fa
expand .out | cut -f3 >bf16.v
check "bf16 is near fp32" close_to cpu.v bf16.v 0.02

ok "--residual bf16" score --no-header --metric nll --digits 9 --residual bf16 one-record.fa -@1
cp .out narrow.nll
expand narrow.nll | cut -f3 >narrow.v
check "a residual stream in bf16 is near fp32" close_to cpu.v narrow.v 0.02
differ "and not the same" narrow.v cpu.v
ok "--residual bf16, two threads" score --no-header --metric nll --digits 9 --residual bf16 \
  one-record.fa -@2 && same "--residual bf16: -@1 = -@2" .out narrow.nll
ok "--residual bf16 in the header" score --residual bf16 one-record.fa
check "--residual bf16: provenance" grep -qE '^#settings: .* residual=bf16$' .out
fails 2 'residual' "--residual fp16" score --residual fp16 one-record.fa

# --- many short records --------------------------------------------------------------------------
for i in $(seq 60); do record "s$i" $((i * 37 % 300 + 1)) "$i"; done >short.fa
ok "short records" score --no-header short.fa -@2
cp .out together
ok "short records, one thread" score --no-header short.fa -@1 && same "packed: -@1 = -@2" .out together
: >alone
for i in $(seq 60); do
  record "s$i" $((i * 37 % 300 + 1)) "$i" >one.fa
  "$M5" score --no-header one.fa >>alone || fail "short record $i alone"
done
same "packed = alone" together alone

finish
