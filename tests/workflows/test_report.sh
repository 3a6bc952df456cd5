# The page about one genome (m5_report.py): its numbers, its pictures, and what it refuses.
. "$(dirname "$0")/../cli/harness.sh"

export HOME=$WORK MPLCONFIGDIR=$WORK/matplotlib
mkdir matplotlib
report() { /usr/bin/python3 "$SOURCE/share/workflows/snakemake/workflow/scripts/m5_report.py" "$@"; }
# refuses PATTERN NAME ARGS...: exit 3 or 5, one line that matches, no page.
refuses() {
  local pattern=$1 name=$2 code
  shift 2
  report -o refused.html "$@" 2>errors
  code=$?
  if [ $code != 3 ] && [ $code != 5 ]; then fail "$name: exit $code"; else pass; fi
  equal "$name: lines" "$(wc -l <errors)" 1
  check "$name: message" grep -q -- "$pattern" errors
  equal "$name: no page" "$(find . -name '*refused*' -o -name '.m5_report*')" ""
}

# A genome of which every mean is known: bases of gene i have i/10 bits, those between genes 3 bits.
# Gene 25 lies over the origin, 26 is of two rows, 27 is too short to be ranked, N has no score.
{ echo '>chr one'; sequence 60000 1; echo '>none'; echo NNNNNNNNNN; } >g.fa
/usr/bin/python3 - <<'P'
import random
random.seed(3)
value = [3.0] * 60000
gff = ["##gff-version 3"]
def gene(number, start, end, note="", parts=None):
    for a, b in parts or [(start, end)]:
        gff.append(f"chr\tx\tCDS\t{a + 1}\t{b}\t.\t{'+-'[number % 2]}\t0\tID=c{number};gene=gene{number};product=p%3B{number}{note}")
order = list(range(1, 25))
random.shuffle(order)
for place, number in enumerate(order):
    start = 2000 * place + 500
    gene(number, start, start + 900)
    value[start:start + 900] = [number / 10] * 900
gene(25, 59000, 60500)
value[59000:60000] = [2.5] * 1000
gene(26, 50000, 51000, parts=[(50000, 50400), (50600, 51000)])
value[50000:51000] = [2.6] * 1000
gene(27, 52000, 52149)
gene(28, 0, 0, parts=[(53000, 53500), (0, 200)])
value[53000:53500] = [0.05] * 500
gff.append("chr\tx\texon\t1\t100\t.\t+\t.\tID=other;gene=exon")
gff.append("elsewhere\tx\tCDS\t1\t100\t.\t+\t0\tID=away;gene=away")
open("g.gff", "w").write("\n".join(gff + ["##FASTA", ">chr", "ACGT"]) + "\n")
with open("g.bedgraph", "w") as track:
    track.write("#m5 version=0\n#settings: passes=7 metric=bits\n")
    for i, v in enumerate(value):
        track.write(f"chr\t{i}\t{i + 1}\t{v:.4f}\n")
P
gzip -k g.fa g.bedgraph
check "a page" report --fasta g.fa --track g.bedgraph --gff g.gff -o page.html
check "from gzip, byte for byte the same" report --fasta g.fa.gz --track g.bedgraph.gz --gff g.gff --title g.fa -o packed.html
same "from gzip" page.html packed.html
equal "the twenty genes, in order" "$(grep -o '<tr><td>gene[0-9]*' page.html | grep -o '[0-9]*$' | paste -sd ' ')" \
  "$(seq 26 -1 7 | paste -sd ' ')"
check "the first: place, length, bits" grep -q \
  'gene26<td>p;26<td>chr<td class=n>50,001<td class=n>51,000<td>+<td class=n>1,000<td class=n>[0-9.]*<td class=n>2.600<td class=n>100.0' page.html
check "over the origin: to the end of the record" grep -q 'gene25<td>p;25<td>chr<td class=n>59,001<td class=n>60,000<td>-' page.html
check "genes on records and of the type, ranked of them" grep -q 'of 27\.' page.html
check "number of genes" grep -q 'genes<td class=n>28<' page.html
gc=$(grep -v '>' g.fa | tr -cd GC | wc -c)
check "GC" grep -q "GC, %<td class=n>$(awk -v g="$gc" 'BEGIN { printf "%.2f", g / 600 }')<" page.html
mean=$(awk '!/^#/ { s += $4 } END { printf "%.4f", s / 60000 }' g.bedgraph)
check "mean bits" grep -q "mean<td class=n>$mean<" page.html
check "provenance" grep -q '^#settings: passes=7 metric=bits' page.html
check "two pictures that are whole" /usr/bin/python3 - <<'P'
import base64, io, re
from matplotlib import image
pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', open("page.html").read())
assert len(pictures) == 2
for picture in pictures:
    pixels = image.imread(io.BytesIO(base64.b64decode(picture)))
    assert pixels.shape[0] > 300 and pixels.shape[1] > 800, pixels.shape
    assert pixels[..., :3].std() > 0.05, "blank"
P
equal "nothing is fetched" "$(grep -cE '(src|href)="?https?:' page.html)" 0

check "without annotation" report --fasta g.fa --track g.bedgraph -o windows.html
check "windows: those of 3 bits come first" grep -q 'of 60\. ' windows.html
check "windows: 1,000 nt" grep -q '<tr><td>chr<td class=n>[0-9,]*1<td class=n>[0-9,]*000<td class=n>1,000<td' windows.html
# 200 contigs, shortest 1 nt, names that HTML has a use for.
for i in $(seq 200); do echo ">c$i<b>&"; sequence $((i * i / 20 + 1)) "$i"; done >draft.fa
ok "a draft" score --metric bits -k 2 -o draft.bedgraph.gz draft.fa
check "a draft's page" report --fasta draft.fa --track draft.bedgraph.gz -o draft.html
check "200 records" grep -q 'records<td class=n>200<' draft.html
check "its names are text" grep -q '<td>c[0-9]*&lt;b&gt;&amp;<td' draft.html
equal "and no markup" "$(grep -c '<b>' draft.html)" 0
printf '>n\nNNNN\n' >n.fa
: >n.bedgraph
check "nothing was scored" report --fasta n.fa --track n.bedgraph -o n.html
check "reverse complement and the rest of the page" grep -q 'The 0 most surprising' n.html

# --- what it cannot take -------------------------------------------------------------------------
ok "perplexity" score -k 2 -o p.bedgraph draft.fa
ok "bins" score -k 2 --metric bits --bin 10 -o bins.bedgraph draft.fa
refuses "track of perplexity; make it with --metric bits" "another metric" --fasta draft.fa --track p.bedgraph
refuses "means of bins" "bins" --fasta draft.fa --track bins.bedgraph
refuses "no record 'c1<b>&'" "of another genome" --fasta g.fa --track draft.bedgraph.gz
head -c 40000 draft.bedgraph.gz >cut.bedgraph.gz
refuses "cut" "cut short" --fasta draft.fa --track cut.bedgraph.gz
printf 'chr\t59999\t60001\t1\n' >beyond.bedgraph
refuses "outside of the record" "beyond the end" --fasta g.fa --track beyond.bedgraph
printf 'chr\t1\t2\n' >columns.bedgraph
refuses "no bedGraph line" "three columns" --fasta g.fa --track columns.bedgraph
refuses "no gene on a record" "no genes of the type" --fasta g.fa --track g.bedgraph --gff g.gff --feature-type gene
printf 'chr\tx\tCDS\t5\t1\t.\t+\t0\tID=a\n' >back.gff
refuses "line 1: start 5, end 1 on" "a gene that ends before it starts" --fasta g.fa --track g.bedgraph --gff back.gff
printf 'chr\tx\tCDS\t60001\t60100\t.\t+\t0\tID=a\n' >far.gff
refuses "line 1: start 60001" "a gene beyond the record" --fasta g.fa --track g.bedgraph --gff far.gff
printf 'chr\tx\tCDS\tone\t60100\t.\t+\t0\tID=a\n' >word.gff
refuses "line 1: start one" "a place that is no number" --fasta g.fa --track g.bedgraph --gff word.gff
printf 'chr\tx\tCDS\t5\n' >short.gff
refuses "line 1: 4 columns" "a row cut short" --fasta g.fa --track g.bedgraph --gff short.gff
cat g.fa g.fa >twice.fa
refuses "the name 'chr' occurs twice" "a name twice" --fasta twice.fa --track g.bedgraph
refuses "no/such" "no such file" --fasta no/such.fa --track g.bedgraph
finish
