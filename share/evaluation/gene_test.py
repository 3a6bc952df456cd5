#!/usr/bin/env python3
"""Does a model know a gene?  A stop codon in frame against the same letters out of frame, and a frame
shift against a codon taken out: by how much do the bits of the bases behind it rise?

    share/evaluation/gene_test.py -m model.safetensors genome.fa.gz [genome.fa.gz ...]

The coding sequences (CDS) of genome.fa.gz are read from genome.gff.gz (or .gff) beside it. Each sampled
gene, in its own direction and with --flank nt on both sides of the site, is scored by `m5 score` as it is and
in four forms:

  stop          three bases of a codon become TAA or TAG
  stop_control  the same letters one or two bases further, where they end no reading frame of the gene
  shift         one base is taken out
  shift_control the codon is taken out

The rise of a form is the mean bits of the next N bases, the same in all forms, less those of the gene as it is;
test stop_and_behind counts the six bases of the site too: how surprising the stop itself is, and what it does to the rest.
AUROC is the probability that the rise of a stop (a shift) is above that of a control, over all pairs of
genes, ties counted half; 0.5 is a model that does not know; "same gene" is the share of genes in which the form
rises above its own control. TAA and TAG end a gene in every bacterial code (TGA does not in
mycoplasmas). Genes are chosen by --seed, evenly over the genomes.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile

COMPLEMENT = str.maketrans("ACGT", "TGCA")
FORMS = ("gene", "stop", "stop_control", "shift", "shift_control")
BEHIND = 6  # nt between the site and the first base that is compared


def opened(path):
    return gzip.open(path, "rt") if path.endswith(".gz") else open(path)


def read_fasta(path):
    records, name = {}, None
    with opened(path) as file:
        for line in file:
            if line.startswith(">"):
                name = line[1:].split()[0]
                records[name] = []
            elif name is not None:
                records[name].append(line.strip().upper())
    return {name: "".join(parts) for name, parts in records.items()}


def annotation_of(path):
    stem = path
    for suffix in (".gz", ".fa", ".fna", ".fasta"):
        stem = stem.removesuffix(suffix)
    for candidate in (stem + ".gff.gz", stem + ".gff", stem + ".gff3.gz", stem + ".gff3"):
        if os.path.exists(candidate):
            return candidate
    sys.exit(f"gene_test.py: {path}: no annotation {stem}.gff[3][.gz] beside it")


def coding_sequences(path):
    """(record, begin, end, strand), 0-based and half open, of CDS in one part."""
    rows, parts = [], {}
    with opened(path) as file:
        for line in file:
            if line.startswith("##FASTA"):
                break
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#") or len(fields) < 9 or fields[2] != "CDS":
                continue
            identity = next((a for a in fields[8].split(";") if a.startswith("ID=")), line)
            parts[identity] = parts.get(identity, 0) + 1
            rows.append((identity, (fields[0], int(fields[3]) - 1, int(fields[4]), fields[6])))
    return [cds for identity, cds in rows if parts[identity] == 1]


def has_stop(codons):
    return any(codons[i : i + 3] in ("TAA", "TAG", "TGA") for i in range(0, len(codons) - 2, 3))


def forms_of(records, cds, flank, farthest, rng):
    """The five forms of a window around a site in the gene, or None where it has no room."""
    record, begin, end, strand = cds
    sequence = records.get(record)
    if sequence is None or (end - begin) % 3 != 0:
        return None
    first, last = 120, end - begin - farthest - BEHIND - 60  # of the site, nt from the gene's start
    if last <= first:
        return None
    codon = rng.randrange(first // 3, last // 3)
    letters = rng.choice(("TAA", "TAG"))
    aside = rng.choice((1, 2))
    site = begin + 3 * codon if strand == "+" else end - 3 * codon
    low, high = site - flank, site + flank
    if low < 0 or high > len(sequence):
        return None
    window = sequence[low:high]
    if strand == "-":
        window = window.translate(COMPLEMENT)[::-1]
    if set(window) - set("ACGT"):
        return None
    s = flank  # of the codon's first base, in the window
    before, codons, after = window[:s], window[s : s + 6], window[s + 6 :]
    control = codons[:aside] + letters + codons[aside + 3 :]
    if has_stop(codons) or has_stop(control) or codons[:3] == letters or codons == control:
        return None
    return {
        "gene": window,
        "stop": before + letters + codons[3:] + after,
        "stop_control": before + control + after,
        "shift": before + codons[1:] + after,
        "shift_control": before + codons[3:] + after,
    }


def sample(genomes, genes, flank, farthest, seed):
    chosen = []
    for number, path in enumerate(genomes):
        rng = random.Random(f"{seed} {number}")
        records = read_fasta(path)
        candidates = coding_sequences(annotation_of(path))
        rng.shuffle(candidates)
        want = genes // len(genomes) + (number < genes % len(genomes))
        for cds in candidates:
            if want == 0:
                break
            forms = forms_of(records, cds, flank, farthest, rng)
            if forms is not None:
                chosen.append(forms)
                want -= 1
        if want > 0:
            print(f"gene_test.py: {path}: {want} genes fewer than asked for", file=sys.stderr)
    return chosen


def score(m5, model, options, chosen):
    """Bits of every base: {(gene, form): [bits]}."""
    with tempfile.TemporaryDirectory() as folder:
        fasta = os.path.join(folder, "forms.fa")
        with open(fasta, "w") as file:
            for number, forms in enumerate(chosen):
                for form in FORMS:
                    file.write(f">{number}/{form}\n{forms[form]}\n")
        command = [m5, "score", "--metric", "bits", "--digits", "6", "--no-header", "--linear"]
        command += (["-m", model] if model else []) + options + [fasta]
        bits = {(n, form): [0.0] * len(forms[form]) for n, forms in enumerate(chosen) for form in FORMS}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                name, begin, end, value = line.split("\t")
                number, form = name.split("/")
                for position in range(int(begin), int(end)):
                    bits[int(number), form][position] = float(value)
        if process.returncode != 0:
            sys.exit(f"gene_test.py: {' '.join(command)}: exit code {process.returncode}")
        return bits


def auroc(positive, negative):
    ranked = sorted([(x, 1) for x in positive] + [(x, 0) for x in negative])
    total, i = 0.0, 0
    while i < len(ranked):
        j = i
        while j < len(ranked) and ranked[j][0] == ranked[i][0]:
            j += 1
        total += sum(label for _, label in ranked[i:j]) * (i + j + 1) / 2  # mean rank of ties
        i = j
    n = len(positive)
    return (total - n * (n + 1) / 2) / (n * len(negative))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("genomes", nargs="+", metavar="GENOME", help="FASTA with GFF3 beside it")
    parser.add_argument("--m5", default="m5", help="the program [m5]")
    parser.add_argument("-m", "--model", default="", help="the model [the bundled one]")
    parser.add_argument("--genes", type=int, default=500, help="in all [500]")
    parser.add_argument("--flank", type=int, default=1000, help="nt on both sides of the site [1000]")
    parser.add_argument("--behind", default="30,100,300", help="nt that are compared [30,100,300]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--score", default="", metavar="OPTIONS", help='more options of m5 score, as "-@ 2"')
    options = parser.parse_args()
    lengths = sorted(int(n) for n in options.behind.split(","))
    if lengths[0] < 1 or lengths[-1] + BEHIND > options.flank:
        parser.error("--behind: must be from 1 to --flank less %d" % BEHIND)
    chosen = sample(options.genomes, options.genes, options.flank, lengths[-1], options.seed)
    if len(chosen) < 2:
        sys.exit("gene_test.py: fewer than two genes with room")
    bits = score(options.m5, options.model, options.score.split(), chosen)
    removed = {"gene": 0, "stop": 0, "stop_control": 0, "shift": 1, "shift_control": 3}
    rows = []
    for test, changed, site in (("stop", "stop", 0), ("stop_and_behind", "stop", BEHIND), ("shift", "shift", 0)):
        for n in lengths:
            rises = {}
            for form in (changed, changed + "_control"):
                rises[form] = []
                for number in range(len(chosen)):
                    mean = {}
                    for f in ("gene", form):
                        end = options.flank + BEHIND - removed[f] + n
                        mean[f] = sum(bits[number, f][end - n - site : end]) / (n + site)
                    rises[form].append(mean[form] - mean["gene"])
            a, b = rises[changed], rises[changed + "_control"]
            rows.append(
                {
                    "test": test,
                    "nt": n,
                    "genes": len(chosen),
                    "auroc": round(auroc(a, b), 4),
                    "same_gene": round(sum(x > y for x, y in zip(a, b)) / len(a), 4),
                    "mean_rise": round(sum(a) / len(a), 6),
                    "mean_rise_control": round(sum(b) / len(b), 6),
                }
            )
    if options.json:
        print(json.dumps({"rows": rows}, indent=1))
        return
    print("\t".join(rows[0]))
    for row in rows:
        print("\t".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
