#!/usr/bin/env bash
# GenBank flat files as sequences and as features.
. "$(dirname "$0")/harness.sh"

# genbank NAME LENGTH SEED [TOPOLOGY]: a record, with the features on standard input.
genbank() {
  printf 'LOCUS       %-16s %d bp    DNA     %s BCT 01-JAN-2020\nDEFINITION  .\nACCESSION   x\nVERSION     %s.1\n' \
    "$1" "$2" "${4:-linear}" "$1"
  printf 'FEATURES             Location/Qualifiers\n'
  cat
  printf 'ORIGIN\n'
  sequence "$2" "$3" acgt | fold -w 60 | sed 's/.\{10\}/& /g; s/ $//' |
    awk '{ printf "%9d %s\n", NR * 60 - 59, $0 }'
  printf '//\n'
}
feature() { printf '     %-15s %s\n' "$1" "$2"; }
qualifier() { printf '                     /%s="%s"\n' "$1" "$2"; }
{
  { feature CDS 'join(complement(101..130),complement(401..700))'; qualifier locus_tag one; qualifier gene abc
    feature CDS '<5..>60'; qualifier locus_tag two
    feature gene 991..1000; } | genbank A 1000 1
  { feature CDS 'join(290..300,1..9)'; qualifier locus_tag around; } | genbank B 300 2 circular
} >g.gb
{ sequence 1000 1 | sed '1s/^/>A.1 x\n/'; sequence 300 2 | sed '1s/^/>B.1 topology=circular\n/'; } >g.fa
{ printf '##gff-version 3\nA.1\t.\tCDS\t101\t130\t.\t-\t0\tID=one\nA.1\t.\tCDS\t401\t700\t.\t-\t0\tID=one\n'
  printf 'A.1\t.\tCDS\t5\t60\t.\t+\t0\tID=two\nB.1\t.\tCDS\t290\t309\t.\t+\t0\tID=around\n'
} >g.gff
but_file() { cut -f1-6,8- "${1:--}"; }

ok "FASTA" score --no-header g.fa && cp .out scores
gzip -c g.gb >g.gbff.gz
sed 's/$/\r/' g.gb >crlf.gbk
for file in g.gb g.gbff.gz crlf.gbk; do
  ok "GenBank: $file" score --no-header $file
  same "GenBank as FASTA: $file" .out scores
done
"$M5" score --no-header - <g.gb >out 2>err && same "GenBank from a pipe" out scores
ok "a region" score --no-header g.gb A.1:1-9 && same "a region of GenBank" .out <(awk '$1 == "A.1" && $3 < 10' scores)
ok "features of GFF3" embed --no-header --per feature --features g.gff g.fa && cp .out features
for file in g.gb g.gbff.gz crlf.gbk; do
  ok "features of GenBank: $file" embed --no-header --per feature --features $file --feature-type CDS g.fa
  same "features of GenBank as those of GFF3: $file" .out features
done
ok "both of one file" embed --no-header --per feature --features g.gb --feature-type CDS g.gb
same "both of one file" <(but_file .out) <(but_file features)
ok "a qualifier names" embed --no-header --per feature --features g.gb --feature-name gene g.gb
equal "a qualifier names" "$(tail -n +2 .out | cut -f1 | paste -sd ' ')" "abc two A.1:991-1000 around"
ok "LOCUS says circular of FASTA, too" embed --no-header --per feature --features g.gb --feature-type CDS \
  <(sed 's/ topology.*//' g.fa)
same "LOCUS says circular of FASTA, too" <(but_file .out) <(but_file features)
ok "train" train --preset nano --steps 1 --segment-length 100 -o t.safetensors --log log.tsv --checkpoint c g.gb
feature CDS 990..1001 | genbank A 1000 1 >past.gb
fails 3 "past.gb: line 6: the location '990..1001' ends at 1001, record 'A.1' at 1000" "a location past the end" \
  embed --per feature --features past.gb g.gb
feature CDS 'join(1..5,' | genbank A 1000 1 >open.gb
fails 3 "open.gb: line 6: the location 'join\(1..5,' is not understood" "a location that is none" \
  embed --per feature --features open.gb g.gb
head -n 20 g.gb >cut.gb
fails 3 "cut.gb: record 'A.1': line [0-9]+: truncated: the record has no // line" "cut short" score cut.gb
fails 3 "cut.gb: record 'A.1': truncated" "features cut short" embed --per feature --features cut.gb g.gb
sed 's/^ORIGIN/CONTIG      join(x:1..9)/; /^ *[0-9]* [acgt]/d' g.gb >contig.gb
fails 3 "contig.gb: record 'A.1': no sequence: it has CONTIG" "no sequence" score contig.gb
ok "features without sequence" embed --no-header --per feature --features contig.gb --feature-type CDS g.gb
same "features without sequence" <(but_file .out) <(but_file features)

no_temporaries genbank
finish
