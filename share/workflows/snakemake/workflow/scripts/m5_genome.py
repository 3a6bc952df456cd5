"""What the report reads: a FASTA file, a bedGraph of m5 score and a GFF3, as numpy arrays."""

import gzip
import math
import urllib.parse
import zlib
from collections import namedtuple

import numpy as np

Gene = namedtuple("Gene", "contig start end strand name product")


class InputError(Exception):
    """Something in a file that the report cannot take; the message names the file."""


def lines_of(path):
    """Lines of a text file, plain or gzip; what is wrong with it is an InputError or an OSError."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8") as file:
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise InputError(f"{path}: damaged or cut short: {error}") from None


def read_fasta(path):
    """{name: bytes of upper-case letters}, in the order of the file."""
    contigs, parts, name = {}, [], None

    def finish():
        if name is not None:
            contigs[name] = np.frombuffer("".join(parts).upper().encode("ascii", "replace"), dtype=np.uint8)

    for line in lines_of(path):
        if line.startswith(">"):
            finish()
            name, parts = (line[1:].split() or [""])[0], []
            if name in contigs:
                raise InputError(f"{path}: the name '{name}' occurs twice")
        elif name is None and line.strip():
            raise InputError(f"{path}: this is no FASTA file")
        else:
            parts.append(line.strip())
    finish()
    if not contigs:
        raise InputError(f"{path}: no sequences")
    return contigs


def read_track(path, lengths):
    """(header lines, {name: bits of every base as float32, NaN where there is no score})."""
    header = []
    tracks = {name: np.full(length, np.nan, dtype=np.float32) for name, length in lengths.items()}
    for line in lines_of(path):
        if line.startswith(("#", "track")):
            header.append(line.rstrip("\n"))
            continue
        try:
            name, start, end, value = line.split("\t")
            track, start, end, value = tracks[name], int(start), int(end), float(value)
        except KeyError:
            raise InputError(f"{path}: the sequences have no record '{name}'") from None
        except ValueError:
            raise InputError(f"{path}: this is no bedGraph line: {line[:80]!r}") from None
        if not 0 <= start < end <= len(track):
            raise InputError(f"{path}: {name}:{start}-{end} is outside of the record")
        track[start:end] = value
    settings = [word for line in header if line.startswith("#settings:") for word in line.split()]
    metric = [word[7:] for word in settings if word.startswith("metric=")]
    if metric and metric != ["bits"]:
        raise InputError(f"{path}: is a track of {metric[0]}; make it with --metric bits")
    if any(word.startswith("bin=") for word in settings):
        raise InputError(f"{path}: has means of bins; make it without --bin")
    return header, tracks


def read_gff(path, lengths, types):
    """Genes of the GFF3, 0-based and half open; rows of one ID are one gene from end to end."""
    genes, known = [], {}
    for number, line in enumerate(lines_of(path), 1):
        if line.startswith("##FASTA"):
            break
        if line.startswith("#") or not line.strip():
            continue
        columns = line.rstrip("\n").split("\t")
        if len(columns) != 9:
            raise InputError(f"{path}: line {number}: {len(columns)} columns, not 9")
        if columns[2] not in types or columns[0] not in lengths:
            continue
        notes = dict(part.split("=", 1) for part in columns[8].split(";") if "=" in part)
        notes = {key: urllib.parse.unquote(value) for key, value in notes.items()}
        length = lengths[columns[0]]
        try:
            start, end = int(columns[3]) - 1, int(columns[4])
        except ValueError:
            start, end = 0, 0
        if not 0 <= start < min(end, length):
            raise InputError(
                f"{path}: line {number}: start {columns[3]}, end {columns[4]} on {length:,} nt")
        # A gene over the origin of a circular record ends beyond its length.
        end = min(end, length)
        name = notes.get("gene") or notes.get("locus_tag") or notes.get("Name") or notes.get("ID", "")
        gene = Gene(columns[0], start, end, columns[6], name, notes.get("product", ""))
        key = (columns[0], notes["ID"]) if "ID" in notes else None
        if key in known:
            first = genes[known[key]]
            # Rows far apart are the two sides of the origin: the first one stands for the gene.
            if max(first.start, start) - min(first.end, end) <= length / 2:
                genes[known[key]] = first._replace(start=min(first.start, start), end=max(first.end, end))
            continue
        if key is not None:
            known[key] = len(genes)
        genes.append(gene)
    return genes


def nice_window(total, wanted=1000):
    """A window of 1, 2 or 5 times a power of ten, of which `total` nt hold about `wanted`."""
    least = max(total / wanted, 100)
    power = 10 ** math.floor(math.log10(least))
    return int(next(power * k for k in (1, 2, 5, 10) if power * k >= least))


def is_letter(sequence, letters):
    return np.isin(sequence, np.frombuffer(letters, dtype=np.uint8))


def span_mean(values, starts, ends):
    """Mean of values[start:end] without NaN, for many spans; NaN over nothing."""
    there = np.isfinite(values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(there, values, 0), dtype=np.float64)))
    counts = np.concatenate(([0], np.cumsum(there)))
    with np.errstate(invalid="ignore"):
        return (sums[ends] - sums[starts]) / (counts[ends] - counts[starts])


def gc_values(sequence):
    """1 for G and C, 0 for A and T, NaN for the rest."""
    values = np.full(len(sequence), np.nan, dtype=np.float32)
    values[is_letter(sequence, b"ATU")] = 0
    values[is_letter(sequence, b"GC")] = 1
    return values


def windows_of(length, window):
    """Starts and ends; what is left at the end is a window if it is half of one or all there is."""
    starts = np.arange(0, length, window)
    if len(starts) > 1 and length - starts[-1] < window / 2:
        starts = starts[:-1]
    ends = np.append(starts[1:], length)
    return starts, ends
