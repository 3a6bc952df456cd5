#!/usr/bin/env bash
# share/evaluation: the test of genes by altered codons.
. "$(dirname "$0")/harness.sh"

gene_test=$SOURCE/share/evaluation/gene_test.py
if ! /usr/bin/python3 -c '' 2>/dev/null; then
  skip python3
  finish
fi

# --- what the forms are ------------------------------------------------------------------------------
check "forms and AUROC" /usr/bin/python3 - "$gene_test" <<'P'
import importlib.util, random, sys
spec = importlib.util.spec_from_file_location("gene_test", sys.argv[1])
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)

assert t.auroc([3, 4], [1, 2]) == 1 and t.auroc([1, 2], [3, 4]) == 0
assert t.auroc([1, 1], [1, 1]) == 0.5 and t.auroc([1, 3], [2, 2]) == 0.5
rng = random.Random(7)
for _ in range(20):  # against the definition
    a, b = ([rng.randrange(5) for _ in range(rng.randrange(1, 9))] for _ in "ab")
    want = sum((x > y) + (x == y) / 2 for x in a for y in b) / (len(a) * len(b))
    assert abs(t.auroc(a, b) - want) < 1e-12

turned = lambda s: s.translate(t.COMPLEMENT)[::-1]
stops = ("TAA", "TAG", "TGA")
codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in stops]
seen = 0
for trial in range(400):
    rng = random.Random(trial)
    gene = "".join(rng.choice(codons) for _ in range(rng.randrange(100, 300)))
    begin = rng.randrange(300, 400)
    left, right = ("".join(rng.choice("ACGT") for _ in range(n)) for n in (begin, 350))
    strand = rng.choice("+-")
    sequence = left + (gene if strand == "+" else turned(gene)) + right
    f = t.forms_of({"c": sequence}, ("c", begin, begin + len(gene), strand), 200, 90, rng)
    if f is None:
        continue
    seen += 1
    assert len(f["gene"]) == len(f["stop"]) == len(f["stop_control"]) == 400
    assert f["gene"] in (sequence if strand == "+" else turned(sequence))
    # The codon at 200 is one of the gene's, and the control ends no codon there or beside it.
    at = (gene.find(f["gene"][170:260]))
    assert at >= 0 and (at + 30) % 3 == 0, at
    assert f["stop"][200:203] in ("TAA", "TAG")
    assert f["stop_control"][200:203] not in stops and f["stop_control"][203:206] not in stops
    assert f["stop"][200:203] in (f["stop_control"][201:204], f["stop_control"][202:205])
    assert f["shift"] == f["gene"][:200] + f["gene"][201:]
    assert f["shift_control"] == f["gene"][:200] + f["gene"][203:]
    # What is compared is the same letters in every form.
    for form, removed in (("stop", 0), ("stop_control", 0), ("shift", 1), ("shift_control", 3)):
        assert f[form][206 - removed :] == f["gene"][206:], form
assert seen > 250, seen
P

# --- as a command --------------------------------------------------------------------------------------
/usr/bin/python3 - <<'P'
import random
rng = random.Random(3)
codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in ("TAA", "TAG", "TGA")]
for genome in "ab":
    parts, rows, at = ["ACGTTGCA" * 60], [], 480
    for n in range(6):
        gene = "".join(rng.choice(codons) for _ in range(250)) + "TAA"
        rows.append(f"c{genome}\tx\tCDS\t{at + 1}\t{at + len(gene)}\t.\t{'+' if n % 2 else '-'}\t0\tID=g{n}")
        parts.append(gene if n % 2 else gene.translate(str.maketrans("ACGT", "TGCA"))[::-1])
        at += len(gene)
    parts.append("ACGTTGCA" * 60)
    open(f"{genome}.fa", "w").write(f">c{genome}\n{''.join(parts)}\n")
    open(f"{genome}.gff", "w").write("##gff-version 3\n" + "\n".join(rows) + "\n")
P
run() { /usr/bin/python3 "$gene_test" --m5 "$M5" -m "$MODEL" --flank 200 --behind 30,100 "$@"; }
check "two genomes" run --genes 8 a.fa b.fa
cp .checked first
equal "rows" "$(cut -f 1-3 first | tr '\t\n' '  ')" \
  "test nt genes stop 30 8 stop 100 8 stop_and_behind 30 8 stop_and_behind 100 8 shift 30 8 shift 100 8 "
check "values" awk 'NR > 1 && !($4 >= 0 && $4 <= 1 && $5 >= 0 && $5 <= 1) { exit 1 }' first
check "again" run --genes 8 a.fa b.fa --score "-@ 2"
same "the same for any threads" .checked first
check "another seed" run --genes 8 --seed 2 a.fa b.fa
differ "another seed" .checked first
mv a.gff elsewhere
check "no annotation" bash -c '! "$@"' _ /usr/bin/python3 "$gene_test" --m5 "$M5" -m "$MODEL" a.fa
finish
