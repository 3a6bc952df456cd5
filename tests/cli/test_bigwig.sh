#!/usr/bin/env bash
# m5 score -O bigwig: what pyBigWig reads from it is what bedGraph says.
. "$(dirname "$0")/harness.sh"

if ! /usr/bin/python3 -c 'import pyBigWig' 2>/dev/null; then
  skip pyBigWig
  finish
fi

# agrees BEDGRAPH BIGWIG SIZES: every run, every record, the summary.
agrees() {
  /usr/bin/python3 - "$@" <<'P'
import math, struct, sys
import pyBigWig
single = lambda text: struct.unpack("f", struct.pack("f", float(text)))[0]
want = {}
for line in open(sys.argv[1]):
    if not line.startswith("#"):
        name, begin, end, value = line.split("\t")
        want.setdefault(name, []).append((int(begin), int(end), single(value)))
sizes = {}
for line in open(sys.argv[3]):
    name, length = line.rstrip("\n").split("\t")
    sizes[name] = int(length)
with pyBigWig.open(sys.argv[2]) as file:
    assert file.isBigWig()
    assert file.chroms() == {name: sizes[name] for name in sizes}, (file.chroms(), sizes)
    assert list(file.chroms()) == sorted(sizes, key=str.encode)
    for name in sizes:
        got = file.intervals(name)
        assert list(got or []) == want.get(name, []), name
    rows = [row for name in want for row in want[name]]
    header = file.header()
    assert header["nBasesCovered"] == sum(end - begin for begin, end, _ in rows)
    assert header["minVal"] == int(min(v for _, _, v in rows)), header  # pyBigWig cuts them
    assert header["maxVal"] == int(max(v for _, _, v in rows)), header
    assert header["nLevels"] == 0
    for name in want:
        covered = sum(end - begin for begin, end, _ in want[name])
        mean = sum((end - begin) * v for begin, end, v in want[name]) / covered
        for exact in (False, True):
            found = file.stats(name, 0, sizes[name], exact=exact)[0]
            assert math.isclose(found, mean, rel_tol=1e-4), (name, exact, found, mean)
P
}

# Names in no order, one of 1 nt, one without data, one with a gap, one of many blocks.
record chr2 3000 1 >g.fa
printf '>chr10 x\nA\n>zz\nNNNNNNNN\n>B\nACGTNNNNNNNNACGTACGNNNNTTACGGT\n' >>g.fa
record a 60000 2 >>g.fa
printf 'chr2\t10\t25\nchr2\t20\t40\nB\t0\t10\na\t59990\t60000\n' >r.bed

while read -r options; do
  # shellcheck disable=SC2086
  ok "bedgraph $options" score --no-header -o g.bg --chrom-sizes g.sizes $options g.fa
  # shellcheck disable=SC2086
  ok "bigwig $options" score -o g.bw $options g.fa
  if [[ $options == *-R* ]]; then
    cut -f 1 r.bed | sort -u | grep -wFf - g.sizes >some && mv some g.sizes
  fi
  check "bigwig $options: equal" agrees g.bg g.bw g.sizes
done <<'O'
--metric perplexity
--metric bits --digits 6
--metric nll --digits 0
--metric entropy --bin 100
--bin 7 --strand both
--digits 2 -R r.bed
--bin 10 -R r.bed
--unmasked -@ 2
O
for name in x.bw x.bigwig x.bigWig; do
  ok "$name" score -o $name g.fa
  check "$name: by its suffix" /usr/bin/python3 -c "import pyBigWig; assert pyBigWig.open('$name').isBigWig()"
done
ok "another name" score -O bigwig -o x g.fa
same "another name" x x.bw
ok "threads and blocks" score -o y.bw -@ 2 --block-rows 128 g.fa
same "threads and blocks" y.bw x.bw
rm -f x* y.bw

# Values that only fall: the greatest is the first.
printf '>one\nA\n' >one.fa
ok "one base" score --no-header -o one.bg --chrom-sizes one.sizes one.fa
ok "one base" score -o one.bw one.fa
check "one base" agrees one.bg one.bw one.sizes

# Many contigs, each of few bases.
for i in $(seq 700); do printf '>contig_%d\nACGTAC\n' "$i"; done >many.fa
ok "contigs" score --no-header -o many.bg --chrom-sizes many.sizes many.fa
ok "contigs" score -o many.bw many.fa
check "contigs" agrees many.bg many.bw many.sizes

# --- what cannot be ------------------------------------------------------------------------------------
printf '>n\nNNNN\n' >n.fa
fails 3 "n.bw: no base has a score" "no data" score -o n.bw n.fa
cp one.fa two.fa
fails 3 "two.fa: record 'one': there was one of this name before" "a name twice" score --verbosity 1 -o n.bw one.fa two.fa
printf '>b\nACGT\n' >b.fa
fails 3 "record 'one': there was one of this name before" "a name twice, apart" score --verbosity 1 -o n.bw one.fa b.fa two.fa
fails 2 "pipe or device" "to a pipe" score -O bigwig one.fa
mkfifo pipe.bw
fails 2 "pipe or device" "to a FIFO" score -o pipe.bw one.fa
fails 2 "pipe or device" "to a device" score -O bigwig -o /dev/null one.fa
fails 2 "no format" "with BGZF" score -o n.bw.gz one.fa
fails 2 "track-line" "with a track line" score --track-line -o n.bw one.fa
check "no output" test ! -e n.bw -a ! -e n.bw.gz

# A disk that is full, at every size: one line, exit 5, no file. (Needs a file system of its own.)
mkdir disk
if mount -t tmpfs -o size=512k tmpfs disk 2>/dev/null; then
  full=0
  "$M5" score --no-header -o g.bw.bg --chrom-sizes g.bw.sizes g.fa 2>/dev/null
  for k in 8 100 200 300 400 440 460 480 500 504; do
    head -c ${k}k /dev/zero >disk/filler
    "$M5" score -o disk/x.bw g.fa >.out 2>.err
    code=$?
    case $code in
      0) check "disk: whole" agrees g.bw.bg disk/x.bw g.bw.sizes ;;
      5) full=$((full + 1))
         equal "disk: one line" "$(grep -c 'm5 score: .*disk' .err)" 1 ;;
      *) fail "disk: exit $code" ;;
    esac
    [ $code = 0 ] || check "disk: no file" test ! -e disk/x.bw
    rm -f disk/x.bw
    equal "disk: nothing left" "$(ls -A disk)" filler
  done
  check "disk: it was full" test $full -ge 2
  umount disk
else
  skip "tmpfs (root)"
fi
finish
