#!/usr/bin/env bash
# m5 embed: rows, units, formats.
. "$(dirname "$0")/harness.sh"

{
  record chr1 1000 1
  record chr2 300 2 ACGTN
  record chr3 2 3
} >g.fa
dim=16

# --- one row a record, to stdout -----------------------------------------------------------------
ok "per record" embed --no-header g.fa
cp .out records
equal "header row" "$(head -n 1 records | cut -f1-8)" \
  "$(printf 'name\tsequence\tstart\tend\tstrand\tn_bases\tfile\te0')"
equal "columns" "$(awk -F'\t' '{ print NF }' records | sort -u)" $((7 + dim))
equal "file" "$(tail -n +2 records | cut -f7 | sort -u)" g.fa
but_file() { cut -f1-6,8- "${1:--}"; }  # the rows, without the name of their file
n2=$(awk '/^>/ { keep = /chr2/; next } keep' g.fa | tr -cd ACGT | wc -c)
equal "rows" "$(tail -n +2 records | cut -f1-6)" \
  "$(printf 'chr1\tchr1\t0\t1000\t.\t1000\nchr2\tchr2\t0\t300\t.\t%s\nchr3\tchr3\t0\t2\t.\t2' "$n2")"
ok "threads" embed -@1 g.fa && cp .out t1
for threads in 2 8; do
  ok "-@$threads" embed -@$threads g.fa && same "-@1 = -@$threads" .out t1
done
check "provenance" grep -qx '#settings: per=record strand=both layer=2 pool=mean dtype=float32 context=record device=cpu precision=fp32' t1
check "command line" grep -qx '#command: m5 embed g.fa' t1
"$M5" embed --no-header - <g.fa >out 2>err && same "stdin" <(but_file out) <(but_file records)
equal "stdin: file" "$(sed -n 2p out | cut -f7)" -
gzip -c g.fa >g.fa.gz
ok "gzip" embed --no-header g.fa.gz && same "gzip" <(but_file .out) <(but_file records)
ok "lower case" embed --no-header <(tr ACGT acgt <g.fa | sed 's/^>.hr/>chr/')
same "lower case" <(but_file .out) <(but_file records)
ok "one record alone" embed --no-header <(awk '/^>/ { keep = /chr2/ } keep' g.fa)
same "a record alone = in company" <(tail -n 1 .out | but_file) <(grep chr2 records | but_file)
ok "--context file" embed --no-header --context file g.fa && differ "--context file" .out records
ok "--circular" embed --no-header --circular g.fa && differ "--circular" .out records

# --- many records ----------------------------------------------------------------------------------
# Genes, the contigs of a draft, reads: short records share the work of a thread. Every row is that of
# the record alone.
letters() { # letters SEED LENGTH...: a record of each length, cut from one random sequence
  local seed=$1
  shift
  awk -v lengths="$*" -v bases="$(sequence 8000 "$seed")" 'BEGIN {
    n = split(lengths, length_of, " ")
    for (i = 1; i <= n; ++i) printf ">r%d\n%s\n", i, substr(bases, i * 37 % 900 + 1, length_of[i])
  }'
}
# shellcheck disable=SC2046
{
  letters 1 $(awk 'BEGIN { for (i = 0; i < 73; ++i) print 60 + i * 37 % 1500 }') >genes.ffn
  letters 2 $(awk 'BEGIN { for (i = 0; i < 300; ++i) print 1 + (i % 30 ? i * 53 % 400 : i * 23 % 7000) }') >draft.fa
  letters 3 $(awk 'BEGIN { for (i = 0; i < 40; ++i) print 150 }') >reads.fa
}
awk '/^>/ { print "@" substr($0, 2); next } { print; print "+"; gsub(/./, "I"); print }' reads.fa >reads.fq
for file in genes.ffn draft.fa reads.fq; do
  ok "$file" embed --no-header $file && cp .out all
  equal "$file: a row a record" "$(tail -n +2 all | wc -l)" "$(grep -c '^[>@]r' $file)"
  for run in "1 128" "2 384" "3 2048"; do
    ok "$file: -@, --block-rows $run" embed --no-header -@ ${run% *} --block-rows ${run#* } $file
    same "$file: -@, --block-rows $run" .out all
    for unit in "window --window 200" "base -O tsv"; do
      # shellcheck disable=SC2086
      ok "$file: --per $unit, $run" embed --no-header --per $unit -@ ${run% *} --block-rows ${run#* } $file
      cp .out "units.${unit%% *}.${run% *}"
      same "$file: --per $unit, $run" "units.${unit%% *}.${run% *}" "units.${unit%% *}.1"
    done
    ok "score $file, $run" score --no-header -@ ${run% *} --block-rows ${run#* } $file
    cp .out "scores.${run% *}"
    same "score $file, $run" "scores.${run% *}" scores.1
  done
  for n in 1 7 40; do
    case $file in
      *.fq) awk -v n=$n '$1 == "@r" n { print; for (i = 0; i < 3; ++i) { getline; print } }' $file >alone ;;
      *) awk -v n=$n '/^>/ { keep = $1 == ">r" n } keep' $file >alone ;;
    esac
    ok "$file: r$n alone" embed --no-header alone
    same "$file: r$n alone" <(tail -n 1 .out | but_file) <(awk -v n=r$n '$1 == n' all | but_file)
    ok "$file: windows of r$n alone" embed --no-header --per window --window 200 alone
    same "$file: windows of r$n alone" <(tail -n +2 .out | but_file) \
      <(awk -v n=r$n '$1 == n' units.window.1 | but_file)
    ok "$file: scores of r$n alone" score --no-header alone
    same "$file: scores of r$n alone" .out <(awk -v n=r$n '$1 == n' scores.1)
  done
done

# --- bases, and units made of them -----------------------------------------------------------------
ok "per base" embed --no-header --per base -O tsv g.fa
cp .out bases
equal "a row a base, N included" "$(tail -n +2 bases | wc -l)" 1302
equal "N has n_bases 0" "$(awk -F'\t' '$6 == 0' bases | wc -l)" $((300 - n2))
# pool_of mean|max NAME FROM TO [BASES]: over the bases with n_bases 1
pool_of() {
  awk -F'\t' -v how="$1" -v name="$2" -v a="$3" -v b="$4" '
    $2 == name && $3 >= a && $3 < b && $6 == 1 {
      for (i = 8; i <= NF; ++i) { s[i] += $i; if (!n || $i > m[i]) m[i] = $i }
      ++n; last = NF
    }
    END { for (i = 8; i <= last; ++i) printf "%.6f\n", how == "max" ? m[i] : s[i] / n }' "${5:-bases}"
}
vector_of() { awk -F'\t' '{ for (i = 8; i <= NF; ++i) print $i }'; }
near() {
  awk 'NR == FNR { a[FNR] = $1; n = FNR; next } { d = $1 - a[FNR]; if (d < 0) d = -d; if (d > 3e-6 * (1 + (a[FNR] < 0 ? -a[FNR] : a[FNR]))) bad = 1; m = FNR }
    END { exit bad || n != m || n == 0 }' "$1" "$2"
}
for name in chr1:1000 chr2:300 chr3:2; do
  check "record ${name%:*} = mean of its bases" near <(pool_of mean "${name%:*}" 0 "${name#*:}") \
    <(awk -F'\t' -v n="${name%:*}" '$1 == n' records | vector_of)
done
ok "per base, forward" embed --no-header --strand forward --per base -O tsv g.fa && cp .out forward
ok "--pool max" embed --no-header --strand forward --pool max g.fa
check "max of the bases" near <(pool_of max chr2 0 300 forward) <(awk '$1 == "chr2"' .out | vector_of)
std_of() { # std_of NAME FROM TO: by two passes
  awk -F'\t' -v name="$1" -v a="$2" -v b="$3" -v n=0 '$2 == name && $3 >= a && $3 < b && $6 == 1 {
      for (i = 8; i <= NF; ++i) { v[n, i] = $i; m[i] += $i }
      ++n; last = NF
    }
    END {
      for (i = 8; i <= last; ++i) {
        s = 0
        for (j = 0; j < n; ++j) s += (v[j, i] - m[i] / n) ^ 2
        printf "%.6f\n", sqrt(s / n)
      }
    }' forward
}
ok "--pool std" embed --no-header --strand forward --pool std g.fa && cp .out std
check "std of the bases" near <(std_of chr2 0 300) <(awk '$1 == "chr2"' std | vector_of)
for run in "1 128" "2 384" "3 2048"; do
  ok "--pool std, $run" embed --no-header --strand forward --pool std -@ ${run% *} --block-rows ${run#* } g.fa
  same "--pool std: -@, --block-rows $run" .out std
done
ok "--pool std of one base" embed --no-header --pool std --per window --window 1 g.fa chr3
equal "--pool std of one base" "$(tail -n +2 .out | cut -f8- | tr '\t' '\n' | sort -u)" 0
ok "windows" embed --no-header --per window --window 300 g.fa
equal "windows" "$(tail -n +2 .out | cut -f1,3,4 | tr '\t\n' ': ')" \
  "chr1:0:300 chr1:300:600 chr1:600:900 chr1:900:1000 chr2:0:300 chr3:0:2 "
check "a window = mean of its bases" near <(pool_of mean chr1 300 600) \
  <(awk -F'\t' '$1 == "chr1" && $3 == 300' .out | vector_of)
ok "overlapping windows" embed --no-header --per window --window 400 --step 250 g.fa
equal "overlapping windows" "$(tail -n +2 .out | cut -f1,3,4 | tr '\t\n' ': ')" \
  "chr1:0:400 chr1:250:650 chr1:500:900 chr1:750:1000 chr2:0:300 chr3:0:2 "
check "an overlapping window" near <(pool_of mean chr1 250 650) \
  <(awk -F'\t' '$1 == "chr1" && $3 == 250' .out | vector_of)
ok "windows, -@2" embed --no-header -@2 --per window --window 400 --step 7 g.fa && cp .out w2
ok "windows, -@1" embed --no-header -@1 --per window --window 400 --step 7 g.fa
same "windows: -@1 = -@2" .out w2
ok "region" embed --no-header g.fa chr1:101-200
equal "a region takes the place of the record" "$(tail -n +2 .out | cut -f1-6)" \
  "$(printf 'chr1\tchr1\t100\t200\t.\t100')"
check "region = mean of its bases" near <(pool_of mean chr1 100 200) <(tail -n 1 .out | vector_of)
ok "bases of a region" embed --no-header --per base -O tsv g.fa chr2:11-20 chr1:5-6
same "bases of a region = rows of the whole" <(tail -n +2 .out) \
  <(awk -F'\t' '$1 == "chr1" && $3 >= 4 && $3 < 6 || $1 == "chr2" && $3 >= 10 && $3 < 20' bases)
printf 'chr2\t5\t9\nchr1\t100\t200\nchr1\t50\t150\nchr1\t150\t160\nchr1\t100\t200\n' >regions.bed
ok "-R" embed --no-header -R regions.bed g.fa
equal "regions that overlap or touch stay apart, in their order" \
  "$(tail -n +2 .out | cut -f2-4 | tr '\t\n' ': ')" \
  "chr1:100:200 chr1:50:150 chr1:150:160 chr1:100:200 chr2:5:9 "
ok "-R, windows" embed --no-header --per window --window 60 -R regions.bed g.fa
equal "windows of regions" "$(tail -n +2 .out | cut -f2-4 | head -n 5 | tr '\t\n' ': ')" \
  "chr1:100:160 chr1:160:200 chr1:50:110 chr1:110:150 chr1:150:160 "
ok "-R, bases" embed --no-header --per base -O tsv -R regions.bed g.fa
same "bases of regions: each once" <(tail -n +2 .out) \
  <(awk -F'\t' '$1 == "chr1" && $3 >= 50 && $3 < 200 || $1 == "chr2" && $3 >= 5 && $3 < 9' bases)
printf '>n\nNNNN\n' >n.fa
ok "only N" embed --no-header --pool std n.fa && cp .out n_std
ok "only N" embed --no-header n.fa
same "only N, --pool std" .out n_std
equal "only N: zeros" "$(tail -n 1 .out)" "$(printf 'n\tn\t0\t4\t.\t0\tn.fa'; for _ in $(seq $dim); do printf '\t0'; done)"

# --- features --------------------------------------------------------------------------------------
printf 'chr2\t10\t200\tfirst\t0\t-\nchr1\t0\t1000\tsecond\t0\t+\nchr1\t128\t129\tthird\n' >f.bed
ok "BED" embed --no-header --per feature --strand both --features f.bed g.fa
equal "features come in the order of their file" "$(tail -n +2 .out | cut -f1-5 | tr '\t\n' ': ')" \
  "first:chr2:10:200:- second:chr1:0:1000:+ third:chr1:128:129:. "
check "a feature = mean of its bases" near <(pool_of mean chr2 10 200) \
  <(awk '$1 == "first"' .out | vector_of)
same "a feature of one base is that base" <(awk '$1 == "third"' .out | cut -f8-) \
  <(awk -F'\t' '$1 == "chr1" && $3 == 128' bases | cut -f8-)
printf '##gff-version 3\nchr1\t.\tgene\t101\t200\t.\t-\t.\tID=g1\nchr1\t.\tCDS\t101\t199\t.\t-\t0\tID=c1\n' >f.gff
ok "GFF3" embed --no-header --per feature --features f.gff --feature-type CDS g.fa
equal "GFF3, one type" "$(tail -n +2 .out | cut -f1-6)" "$(printf 'c1\tchr1\t100\t199\t-\t99')"
gzip -c f.gff >f.gff.gz
cp .out cds
ok "GFF3, gzip" embed --no-header --per feature --features f.gff.gz --feature-type CDS g.fa
same "GFF3, gzip" .out cds
printf '##gff-version 3\nchr1\t.\tgene\t991\t1010\t.\t+\t.\tID=around\n' >around.gff
ok "a feature around the origin" embed --no-header --circular --per feature --features around.gff g.fa
equal "a feature around the origin" "$(tail -n +2 .out | cut -f1-6)" "$(printf 'around\tchr1\t990\t1010\t+\t20')"
cp .out around

# Parts of one feature: as the mean of all their bases; at both ends of a circular record, as one
# stretch around its origin.
printf '##gff-version 3\nchr1\t.\tCDS\t401\t700\t.\t-\t0\tID=s;gene=abc\nchr2\t.\tCDS\t1\t9\t.\t-\t0\tlocus_tag=t\nchr1\t.\tCDS\t101\t130\t.\t-\t0\tID=s\n' >split.gff
ok "split CDS" embed --no-header --per feature --strand both --features split.gff g.fa
equal "split CDS: one row, at the place of its first part" "$(tail -n +2 .out | cut -f1-6 | head -n 1)" \
  "$(printf 's\tchr1\t100\t700\t-\t330')"
check "split CDS = mean of the bases of its parts" near \
  <(awk -F'\t' '$1 == "chr1" && ($3 >= 100 && $3 < 130 || $3 >= 400 && $3 < 700)' bases |
    awk -F'\t' '{ for (i = 8; i <= NF; ++i) s[i] += $i } END { for (i = 8; i <= NF; ++i) print s[i] / NR }') \
  <(sed -n 2p .out | vector_of)
equal "locus_tag names" "$(tail -n 1 .out | cut -f1)" t
ok "--feature-name" embed --no-header --per feature --features split.gff --feature-name gene g.fa
equal "--feature-name, where it is" "$(tail -n +2 .out | cut -f1 | paste -sd ' ')" "abc t"
fails 3 "split.gff: no feature has the attribute 'product'" "an attribute of no feature" \
  embed --per feature --features split.gff --feature-name product g.fa
fails 2 "--feature-name needs --features" "--feature-name alone" embed --feature-name gene g.fa
{ printf '##gff-version 3\nchr1\t.\tregion\t1\t1000\t.\t+\t.\tID=chr1;Is_circular=true\n'
  printf 'chr1\t.\tCDS\t991\t1000\t.\t+\t0\tID=o\nchr1\t.\tCDS\t1\t10\t.\t+\t0\tID=o\n'
} >origin.gff
ok "Is_circular" embed --no-header --per feature --features origin.gff --feature-type CDS g.fa
same "Is_circular: as --circular, and parts at both ends are one stretch" \
  <(sed 's/^o/around/' .out) around
ok "--linear" embed --no-header --linear --per feature --features origin.gff --feature-type CDS g.fa
equal "--linear: two parts" "$(tail -n +2 .out | cut -f1-6)" "$(printf 'o\tchr1\t0\t1000\t+\t20')"
differ "--linear is heard before Is_circular" <(tail -n +2 .out | cut -f8-) <(tail -n +2 around | cut -f8-)

# --- layers --------------------------------------------------------------------------------------
ok "--layer 2" embed --no-header --layer 2 g.fa && same "the last layer is the default" .out records
ok "--layer 0" embed --no-header --layer 0 g.fa && differ "--layer 0" .out records
ok "--layer 1" embed --no-header --layer 1 g.fa && differ "--layer 1" .out records
# Several in one pass: each as if alone.
printf 'chr2\t10\t200\tf\t0\t-\nchr1\t0\t1000\tg\t0\t+\nchr1\t9\t129\th\n' >layers.bed
for units in "--per record" "--per window --window 90 --step 50" "--pool std --strand forward" \
  "--per feature --features layers.bed" "--per file"; do
  # shellcheck disable=SC2086
  ok "--layer 0,1,2, $units" embed --no-header --layer 0,1,2 $units g.fa
  cp .out layers
  for layer in 0 1 2; do
    # shellcheck disable=SC2086
    ok "--layer $layer, $units" embed --no-header --layer $layer $units g.fa
    same "layer $layer of several, $units" <(tail -n +2 .out) \
      <(tail -n +2 layers | cut -f "1-7,$((8 + layer * dim))-$((7 + (layer + 1) * dim))")
  done
done
ok "--layer 0,2" embed --no-header --layer 0,2 g.fa && cp .out layers
equal "columns by layer" "$(head -n 1 layers | cut -f "8,9,$((8 + dim)),$((7 + 2 * dim))" | tr '\t' ' ')" \
  "l0_e0 l0_e1 l2_e0 l2_e$((dim - 1))"
for run in "1 128" "3 512"; do
  ok "--layer 0,2: $run" embed --no-header --layer 0,2 -@ ${run% *} --block-rows ${run#* } g.fa
  same "--layer 0,2: -@, --block-rows $run" .out layers
done
ok "header" embed --layer 0,2 g.fa && check "the header names them" grep -q '^#settings: .* layer=0,2 ' .out
for format in npy npz; do
  ok "$format, layers" embed --no-header --layer 0,2 -o layers.$format g.fa
  "$M5" embed --no-header --layer 0,2 -O $format - <g.fa >layered.$format 2>err
done
same "npy of layers to a pipe" layers.npy layered.npy
ok "one layer in a list" embed --no-header --layer 1 -o one.npz g.fa
ok "--dry-run" embed --dry-run --layer 0,1,2 g.fa
fails 2 "--layer: 3 is more than the 2 blocks" "a layer that is none" embed --layer 0,3 g.fa
fails 2 "--layer: layers ascend" "not ascending" embed --layer 2,0 g.fa
fails 2 "--layer: layers ascend" "twice" embed --layer 1,1 g.fa
fails 2 "--layer" "an empty place" embed --layer 1,,2 g.fa
fails 2 "--layer" "negative" embed --layer -1 g.fa
fails 2 "one --layer at a time" "bases of several" embed --per base -O tsv --layer 0,1 g.fa

# --- files -----------------------------------------------------------------------------------------
ok "tsv by suffix" embed --no-header -o r.tsv g.fa && same "tsv by suffix" r.tsv records
ok "npy" embed --no-header -o r.npy g.fa
equal "npy: nothing on stdout" "$(wc -c <.out)" 0
equal "npy: the table beside it" "$(cat r.npy.tsv)" \
  "$(awk 'BEGIN { FS = OFS = "\t" } NR == 1 { print "row", $1, $2, $3, $4, $5, $6, $7; next } { print NR - 2, $1, $2, $3, $4, $5, $6, $7 }' records)"
ok "npz" embed -o r.npz g.fa
ok "npz, float16" embed --dtype float16 -o half.npz g.fa
ok "npy, per base" embed --per base -o b.npy g.fa
ok "npz, per base" embed --per base -@2 -o b.npz g.fa
ok "npz, per base, one thread" embed --per base -@1 -o b1.npz g.fa
same "npz: -@1 = -@2" b.npz b1.npz
ok "npz of features" embed --per feature --strand both --features f.bed -o f.npz g.fa
"$M5" embed -O npy - <g.fa >stream.npy 2>err
"$M5" embed -O npz -o - g.fa >stream.npz 2>>err
same "npy to a pipe" stream.npy r.npy
printf '>\xc3\xa9\xe2\x82\xac\nACGT\n' >utf8.fa
ok "a name in UTF-8" embed -o u.npz utf8.fa
if command -v unzip >/dev/null; then
  check "unzip reads the npz" unzip -tq r.npz
else
  skip unzip
fi
if /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
  check "numpy reads them all" /usr/bin/python3 - $dim "$n2" <<'P'
import sys
import numpy as np
dim, n2 = int(sys.argv[1]), int(sys.argv[2])
load = lambda name: np.load(name, allow_pickle=False)
rows = [line.rstrip("\n").split("\t") for line in open("records")][1:]
table = np.array([[float(x) for x in row[7:]] for row in rows], dtype=np.float32)
npy, npz, half = load("r.npy"), load("r.npz"), load("half.npz")
assert npy.dtype == np.float32 and npy.shape == (3, dim) and npy.flags["C_CONTIGUOUS"]
assert (npy == table).all()  # the text of the TSV reads back as the same numbers
assert sorted(npz.files) == ["embeddings", "end", "file", "files", "n_bases", "names", "provenance", "sequences", "start", "strand"]
assert (npz["embeddings"] == npy).all()
assert npz["names"].dtype == np.dtype("<U4") and list(npz["names"]) == ["chr1", "chr2", "chr3"]
assert list(npz["sequences"]) == ["chr1", "chr2", "chr3"]
assert list(npz["files"]) == ["g.fa"] and list(npz["file"]) == [0, 0, 0]
assert list(npz["start"]) == [0, 0, 0] and list(npz["end"]) == [1000, 300, 2]
assert npz["start"].dtype == np.int64 and list(npz["strand"]) == [".", ".", "."]
assert list(npz["n_bases"]) == [1000, n2, 2]
assert npz["provenance"][0].startswith("#m5 embed ")
assert half["embeddings"].dtype == np.float16
assert (half["embeddings"] == npy.astype(np.float16)).all()
bases = [line.rstrip("\n").split("\t") for line in open("bases")][1:]
b, bz = load("b.npy"), load("b.npz")
assert b.shape == (1302, dim)
assert (b == np.array([[float(x) for x in row[7:]] for row in bases], dtype=np.float32)).all()
assert (bz["embeddings"] == b).all()
assert [str(n) for n in bz["names"]] == [row[0] for row in bases]
assert list(bz["start"]) == [int(row[2]) for row in bases]
f = load("f.npz")
assert list(f["names"]) == ["first", "second", "third"]
assert list(f["sequences"]) == ["chr2", "chr1", "chr1"] and list(f["strand"]) == ["-", "+", "."]
assert (f["embeddings"][1] == npy[0]).all()  # the whole record, as a feature
s = load("stream.npz")
assert (s["embeddings"] == npy).all() and list(s["names"]) == list(npz["names"])
layers = np.array([[float(x) for x in line.split("\t")[7:]] for line in list(open("layers"))[1:]],
                  dtype=np.float32).reshape(3, 2, dim)
assert (load("layers.npy") == layers).all()
for name in ("layers.npz", "layered.npz"):
    z = load(name)
    assert (z["embeddings"] == layers).all() and list(z["layers"]) == [0, 2]
assert load("one.npz")["embeddings"].shape == (3, dim) and "layers" not in load("one.npz").files
assert list(load("u.npz")["names"]) == ["\u00e9\u20ac"]
P
else
  skip numpy
fi
ok "--dry-run" embed --dry-run -o never.npz g.fa
check "--dry-run: rows" grep -qx "$(printf 'rows\t1302')" .out
check "--dry-run writes nothing" test ! -e never.npz
no_temporaries embed

finish
