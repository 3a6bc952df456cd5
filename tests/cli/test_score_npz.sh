#!/usr/bin/env bash
# m5 score -O npz: the probabilities of the table, without text.
. "$(dirname "$0")/harness.sh"

{
  record chr1 20000 1
  record 'gnl|X|A:1' 700 2 ACGTN
  record one 1 3
} >g.fa
ok "npz" score -o all.npz g.fa
ok "table" score --no-header --digits 9 -o all.tsv g.fa
ok "regions" score --no-header -O npz -o some.npz g.fa chr1:101-200 'gnl|X|A:1:3-9' one chr1:150-300
ok "table of regions" score --no-header --digits 9 -o some.tsv g.fa chr1:101-200 'gnl|X|A:1:3-9' one chr1:150-300
ok "both strands, flank" score --no-header --strand both --flank 50 -o flank.npz g.fa chr1:101-200
ok "its table" score --no-header --digits 9 --strand both --flank 50 -o flank.tsv g.fa chr1:101-200
ok "no header" score --no-header -o plain.npz g.fa
for run in "1 128" "3 512"; do
  ok "-@, --block-rows $run" score --no-header -@ ${run% *} --block-rows ${run#* } -o got.npz g.fa
  same "-@, --block-rows $run" got.npz plain.npz
done
ok "one thread" score -@ 1 -o one.npz g.fa && same "threads change no byte" one.npz all.npz
printf '>n\nNNNN\n' >n.fa
ok "only N" score -o n.npz n.fa
printf '>\xc3\xa9\xe2\x82\xac\nACGT\n' >utf8.fa
ok "a name in UTF-8" score -o u.npz utf8.fa
if command -v unzip >/dev/null; then check "unzip reads it" unzip -tq all.npz; else skip unzip; fi
if /usr/bin/python3 -c 'import numpy' 2>/dev/null; then
  check "numpy reads what the tables say" /usr/bin/python3 - <<'P'
import numpy as np
load = lambda name: np.load(name, allow_pickle=False)
for name, stretches in (("all", [("chr1", 0, 20000), ("gnl|X|A:1", 0, 700), ("one", 0, 1)]),
                        ("some", [("chr1", 100, 300), ("gnl|X|A:1", 2, 9), ("one", 0, 1)]),
                        ("flank", [("chr1", 100, 200)])):
    z = load(name + ".npz")
    p, bases = z["probabilities"], z["bases"]
    names = ["bases", "end", "names", "probabilities", "row", "start"] + (["provenance"] if name == "all" else [])
    assert sorted(z.files) == sorted(names), z.files
    assert list(zip(z["names"], z["start"], z["end"])) == stretches
    rows = [e - s for _, s, e in stretches]
    assert list(z["row"]) == list(np.cumsum([0] + rows[:-1])) and z["row"].dtype == np.int64
    assert p.dtype == np.float32 and p.shape == (sum(rows), 4) and bases.shape == (sum(rows),)
    table = {}
    for line in open(name + ".tsv").read().splitlines()[1:]:
        chrom, pos, base, *four = line.split("\t")
        table[chrom, int(pos)] = base, [float(x) for x in four]
    scored = 0
    for chrom, start, end, row in zip(z["names"], z["start"], z["end"], z["row"]):
        for i in range(end - start):
            base = bases[row + i].decode()
            if (str(chrom), start + i) not in table:
                assert base == "N" and np.isnan(p[row + i]).all()
                continue
            want, four = table[str(chrom), start + i]
            # Nine decimals there, a float and its exponential here.
            assert base == want and np.abs(p[row + i] - four).max() < 2e-7
            scored += 1
    assert scored == len(table)
n = load("n.npz")
assert np.isnan(n["probabilities"]).all() and n["probabilities"].shape == (4, 4)
assert n["bases"].tobytes() == b"NNNN"
assert list(load("u.npz")["names"]) == ["\u00e9\u20ac"]
P
else
  skip numpy
fi

fails 2 "-O npz: is not written to a pipe" "to a pipe" score -O npz g.fa
fails 2 "-O npz: is not written to a pipe" "to a device" score -O npz -o /dev/full g.fa
fails 2 "--bin has no meaning with -O npz" "--bin" score --bin 5 -o x.npz g.fa
fails 2 "--metric has no meaning with -O npz" "--metric" score --metric bits -o x.npz g.fa
fails 2 "--digits has no meaning with -O npz" "--digits" score --digits 3 -o x.npz g.fa
fails 2 "npz is not written with BGZF" "BGZF" score -O npz -o x.npz.gz g.fa
fails 2 "'.npz' is no format" "BGZF by name" score -o x.npz.gz g.fa
: >empty.fa
fails 3 "empty.fa" "empty input" score -o x.npz empty.fa
M5_MODEL=$WILD_MODEL fails 7 "not finite" "a value that is none" score -o x.npz g.fa
check "nothing is left of it" test ! -e x.npz
no_temporaries npz

finish
