#!/usr/bin/env bash
# m5 embed --strand: rows that do not depend on the strand that a file happens to give.
. "$(dirname "$0")/harness.sh"

{
  record chr1 1000 1
  record chr2 300 2 ACGTN
  record chr3 2 3
} >g.fa
vector_of() { awk -F'\t' '{ for (i = 8; i <= NF; ++i) print $i }'; }
near() {
  awk 'NR == FNR { a[FNR] = $1; n = FNR; next } { d = $1 - a[FNR]; if (d < 0) d = -d; if (d > 3e-6 * (1 + (a[FNR] < 0 ? -a[FNR] : a[FNR]))) bad = 1; m = FNR }
    END { exit bad || n != m || n == 0 }' "$1" "$2"
}

# --- strands -----------------------------------------------------------------------------------------
# A row of the reverse complement, found by its place there.
turned() { # turned FILE: its records, each reverse complemented
  awk '/^>/ { if (bases) print bases; print; bases = ""; next } { bases = bases $0 } END { print bases }' "$1" |
    while read -r line; do
      case $line in ">"*) echo "$line" ;; *) rev <<<"$line" | tr ACGT TGCA ;; esac
    done
}
turned g.fa >turned.fa
# mirror: coordinates of rows as they are in the records turned round.
mirror() {
  awk 'BEGIN { FS = OFS = "\t"; of["chr1"] = 1000; of["chr2"] = 300; of["chr3"] = 2 }
    { b = of[$2] - $4; $4 = of[$2] - $3; $3 = b; $7 = "-"; print }' | sort -t "$(printf '\t')" -k1,1 -k2,2 -k3,3n
}
sorted() { awk 'BEGIN { FS = OFS = "\t" } { $7 = "-"; print }' | sort -t "$(printf '\t')" -k1,1 -k2,2 -k3,3n; }
printf 'chr1\t100\t200\nchr2\t0\t9\nchr1\t990\t1000\n' >some.bed
printf 'chr1\t800\t900\nchr2\t291\t300\nchr1\t0\t10\n' >some.turned.bed
for unit in record "window --window 100 --step 50" "base -O tsv" "record --pool max" \
    "record --context file" "record --circular" "base -O tsv -@ 1 --block-rows 128" "base -O tsv -R some.bed"; do
  case $unit in window*) last='$4 - $3 == 100' ;; *) last=1 ;; esac  # a short window has no mirror
  # shellcheck disable=SC2086
  ok "both: $unit" embed --no-header --per $unit g.fa && tail -n +2 .out | awk -F'\t' "$last" | mirror >there
  # shellcheck disable=SC2086
  ok "both, turned: $unit" embed --no-header --per ${unit/some.bed/some.turned.bed} turned.fa
  same "both: rows do not know the strand, to the byte: $unit" <(tail -n +2 .out | awk -F'\t' "$last" | sorted) there
  # shellcheck disable=SC2086
  ok "forward: $unit" embed --no-header --strand forward --per $unit g.fa && cp .out forward
  # shellcheck disable=SC2086
  ok "forward, turned: $unit" embed --no-header --strand forward --per ${unit/some.bed/some.turned.bed} turned.fa
  tail -n +2 forward | awk -F'\t' "$last" | mirror >there
  differ "forward rows do: $unit" <(tail -n +2 .out | awk -F'\t' "$last" | sorted) there
  # The mean of the two, from their text.
  # shellcheck disable=SC2086
  ok "both: $unit" embed --no-header --per $unit g.fa
  tail -n +2 .out | awk -F'\t' "$last" | mirror | vector_of >both
  check "both: the mean: $unit" near \
    <(paste <(vector_of <there) <(tail -n +2 <("$M5" embed --no-header --strand forward --per ${unit/some.bed/some.turned.bed} turned.fa) |
      awk -F'\t' "$last" | sorted | vector_of) | awk '{ print ($1 + $2) / 2 }') both
done
# Genes as they are read, without a strand as both.
printf 'chr1\t10\t90\tplus\t0\t+\nchr1\t10\t90\tminus\t0\t-\nchr1\t10\t90\tnone\t0\t.\n' >strands.bed
ok "features of all strands" embed --no-header --per feature --features strands.bed g.fa && cp .out features
ok "forward" embed --no-header --strand forward --per feature --features strands.bed g.fa
same "a gene of the plus strand: forward" <(sed -n 2p features) <(sed -n 2p .out)
equal "forward: the strand turns nothing round" "$(sed -n 3p .out | cut -f8-)" "$(sed -n 2p .out | cut -f8-)"
ok "both" embed --no-header --strand both --per feature --features strands.bed g.fa
same "without a strand: both" <(sed -n 4p features) <(sed -n 4p .out)
printf 'chr1\t910\t990\tminus\t0\t+\n' >plus.bed
ok "read from the other strand" embed --no-header --per feature --features plus.bed turned.fa
equal "a gene of the minus strand: as it is read" "$(sed -n 3p features | cut -f8-)" "$(sed -n 2p .out | cut -f8-)"
differ "it is another row than forward" <(sed -n 3p features | cut -f8-) <(sed -n 2p features | cut -f8-)
check "settings" grep -q "strand=feature" <("$M5" embed --per feature --features strands.bed g.fa)
printf '##gff-version 3\nchr1\t.\tgene\t991\t1010\t.\t-\t.\tID=around\n' >around.gff
printf '##gff-version 3\nchr1\t.\tgene\t991\t1010\t.\t+\t.\tID=around\n' >turned.gff
ok "around the origin, minus" embed --no-header --circular --per feature --features around.gff g.fa && cp .out around
ok "around the origin, turned" embed --no-header --circular --per feature --features turned.gff turned.fa
equal "around the origin: as it is read" "$(sed -n 2p around | cut -f8-)" "$(sed -n 2p .out | cut -f8-)"
fails 2 "--strand feature goes with --per feature" "--strand feature alone" embed --strand feature g.fa

# --- genes of a genome, found in its reverse complement --------------------------------------------
# The 73 longest open reading frames of phage lambda, of both strands.
gzip -dc "$SOURCE/share/examples/lambda.fa.gz" >lambda.fa
turned lambda.fa >lambda.turned.fa
reading_frames() { # reading_frames FASTA STRAND: LENGTH FROM TO STRAND, in the coordinates of FASTA
  awk -v strand="$2" '!/^>/ { s = s $0 } END {
    n = length(s)
    for (frame = 0; frame < 3; ++frame) {
      start = 0
      for (i = frame + 1; i + 2 <= n; i += 3) {
        codon = substr(s, i, 3)
        if (!start && codon == "ATG") start = i
        if (codon != "TAA" && codon != "TAG" && codon != "TGA") continue
        if (start) print i + 3 - start, strand == "+" ? start : n - i - 1, strand == "+" ? i + 2 : n + 1 - start, strand
        start = 0
      }
    } }' "$1"
}
name=$(sed -n '1s/^>\([^ ]*\).*/\1/p' lambda.fa)
{ reading_frames lambda.fa +; reading_frames lambda.turned.fa -; } | sort -k1,1nr -k2,2n | head -n 73 |
  awk -v name="$name" 'BEGIN { OFS = "\t"; print "##gff-version 3" }
    { print name, ".", "CDS", $2, $3, ".", $4, "0", "ID=g" NR }' >genes.gff
awk -v n="$(awk '!/^>/ { n += length($0) } END { print n }' lambda.fa)" 'BEGIN { FS = OFS = "\t" } /^#/ { print; next }
  { a = n + 1 - $5; $5 = n + 1 - $4; $4 = a; $7 = $7 == "+" ? "-" : "+"; print }' genes.gff >genes.turned.gff
equal "genes of both strands" "$(awk -F'\t' 'NF == 9 { ++n[$7] } END { print n["+"] + n["-"], (n["+"] > 20), (n["-"] > 20) }' genes.gff)" "73 1 1"
# found A B: how many rows of A are those of most equal name in B by the cosine.
found() {
  awk -F'\t' '{ norm = 0; for (i = 8; i <= NF; ++i) norm += $i * $i; norm = sqrt(norm) }
    FNR == NR { name[NR] = $1; for (i = 8; i <= NF; ++i) a[NR, i] = $i / norm; n = NR; next }
    { best = -2; for (j = 1; j <= n; ++j) { c = 0; for (i = 8; i <= NF; ++i) c += a[j, i] * $i / norm; if (c > best) { best = c; of = name[j] } }
      if (of == $1) ++hits } END { print hits + 0 }' "$1" "$2"
}
for strand in feature both forward; do
  ok "genes, $strand" embed --no-header -m "$SOURCE/share/models/m5-nano.safetensors" --per feature \
    --strand $strand --features genes.gff lambda.fa && tail -n +2 .out >genes
  ok "genes of the reverse complement, $strand" embed --no-header -m "$SOURCE/share/models/m5-nano.safetensors" \
    --per feature --strand $strand --features genes.turned.gff lambda.turned.fa && tail -n +2 .out >turned
  equal "$strand: genes" "$(wc -l <genes)" 73
  if [ $strand = forward ]; then
    check "forward: few are found" test "$(found genes turned)" -lt 20
  else
    equal "$strand: genes that are found" "$(found genes turned)" 73
    same "$strand: the same rows, to the byte" <(cut -f1,8- genes) <(cut -f1,8- turned)
  fi
done

finish
