#!/usr/bin/env python3
"""Genomes, 2 bits a base, for train.py.

  pack.py OUT.npz KEY=LIST [KEY=LIST ...]

LIST: a file that names FASTA files (plain or gzip), one a line. KEY: fit (to train on), held (to look at) or any other.
Records under 4,096 nt are left out.
"""

import gzip
import sys

import numpy as np

CODES = np.full(256, 4, np.uint8)
for code, letter in enumerate(b"ACGT"):
    CODES[letter] = CODES[letter + 32] = code


def records(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        for text in file.read().split(b">")[1:]:
            sequence = text.split(b"\n", 1)[1].replace(b"\n", b"").replace(b"\r", b"")
            yield CODES[np.frombuffer(sequence, np.uint8)]


def pack(found):
    found = [r for r in found if len(r) >= 4096]
    codes = np.concatenate(found)
    unknown = np.diff(np.concatenate([[0], (codes == 4).view(np.int8), [0]]))
    begin, end = np.nonzero(unknown == 1)[0], np.nonzero(unknown == -1)[0]
    codes = np.pad(np.where(codes == 4, 0, codes).astype(np.uint8), (0, -len(codes) % 4)).reshape(-1, 4)
    packed = codes[:, 0] | codes[:, 1] << 2 | codes[:, 2] << 4 | codes[:, 3] << 6
    return {"packed": packed.astype(np.uint8), "n": np.stack([begin, end - begin], 1), "len": np.array([len(r) for r in found])}


arrays = {}
for word in sys.argv[2:]:
    key, listed = word.split("=", 1)
    with open(listed, encoding="utf-8") as file:
        paths = file.read().split()
    for name, array in pack([r for path in paths for r in records(path)]).items():
        arrays[f"{key}_{name}"] = array
np.savez(sys.argv[1], **arrays)
