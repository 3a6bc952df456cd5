"""Per-base likelihoods and embeddings of bacterial genomes: libm5 for Python.

    import m5

    log_p = m5.score("ACGTTGCAACGTNACGG")   # float32 [length], nats; NaN where no base is
    vector = m5.embed("ACGTTGCAACGTNACGG")  # float32 [dim]

The numbers are those of the commands `m5 score` and `m5 embed`, to the bit. A sequence is a str or
bytes of IUPAC letters, or a numpy array of tokens (uint8; A C G T N = 0..4); a list of them is one
call, and gives a list. The GIL is free while the model works; calls of one Model wait for each other.
"""

import functools
import operator
import os

import numpy as np

from . import _m5
from ._errors import Error, InputError, IoError, ModelError, NumericError, ResourceError, UsageError

__version__ = _m5.version()
__all__ = [
    "Model",
    "embed",
    "score",
    "tokenize",
    "windows",
    "Error",
    "InputError",
    "IoError",
    "ModelError",
    "NumericError",
    "ResourceError",
    "UsageError",
]


class Model:
    """A model that is ready to work, on a number of threads.

    path: a model file; default: $M5_MODEL, else the bundled model. threads: 0 is all CPUs of this
    process. precision: "fp32" or "bf16" (bf16 operands, fp32 sums). residual: "fp32" or "bf16" (half
    the memory of a long sequence on the CPU). device: "cpu", "cuda" or "cuda:N" (a GPU), "auto" or "ref"
    (slow, plain loops). Results do not depend on threads.

    Attributes: name, path, sha256 (of the file), dim, layers, has_memory (a genome memory), device,
    threads. A model belongs to the process that made it: make one in each after a fork.
    """

    def __init__(self, path=None, *, threads=0, precision="fp32", residual="fp32", device="cpu"):
        self._model = _m5.Model(os.fsencode(path or ""), threads, precision, residual, device)

    def __getattr__(self, name):
        if name in ("name", "path", "sha256", "dim", "layers", "has_memory", "device", "threads"):
            return getattr(self._model, name)
        raise AttributeError(f"'Model' object has no attribute '{name}'")

    def __repr__(self):
        return f"<m5.Model '{self.name}': {self.layers} blocks, dim {self.dim}, {self.device}>"


@functools.lru_cache(maxsize=1)
def _last_model(path, threads, process):
    return Model(path, threads=threads)


def _model_of(model, threads):
    if isinstance(model, Model):
        if threads is not None:
            raise UsageError("threads belong to the model: Model(path, threads=...)")
        return model._model
    path = os.fsdecode(model) if model is not None else os.environ.get("M5_MODEL", "")
    return _last_model(path, threads or 0, os.getpid())._model


def tokenize(letters):
    """Tokens of IUPAC letters (str or bytes): numpy uint8, A C G T = 0..3, U as T, the rest N = 4."""
    if isinstance(letters, str):
        letters = letters.encode("utf-8", "surrogatepass")
    return _m5.tokenize(bytes(letters))


def windows(length, window, step=None):
    """Intervals (begin, end) of `m5 embed --per window`: the last is the first to reach the end."""
    step = window if step is None else step
    if length < 1 or window < 1 or step < 1:
        raise UsageError("windows: length, window and step are at least 1")
    last = min(-(-max(0, length - window) // step), (length - 1) // step)
    return [(i * step, min(i * step + window, length)) for i in range(last + 1)]


def _is_one(sequence):
    return isinstance(sequence, (str, bytes, bytearray, memoryview, np.ndarray))


def _tokens(sequence):
    if isinstance(sequence, np.ndarray):
        if sequence.dtype != np.uint8 or sequence.ndim != 1:
            raise TypeError(
                f"a sequence is a str, bytes or a numpy array of tokens, uint8 of one dimension; "
                f"this array is {sequence.dtype} of {sequence.ndim}"
            )
        return np.ascontiguousarray(sequence)
    if not _is_one(sequence):
        raise TypeError(f"a sequence is a str, bytes or a numpy array of tokens, no {type(sequence).__name__}")
    return tokenize(sequence)


def _sequences(sequence, circular, context):
    """Tokens, circular of each, context of each."""
    if context not in ("record", "file"):
        raise UsageError(f"context: '{context}' is none of record, file")
    tokens = [_tokens(sequence)] if _is_one(sequence) else [_tokens(one) for one in sequence]
    if isinstance(circular, (bool, np.bool_)):
        circular = [bool(circular)] * len(tokens)
    circular = [bool(one) for one in circular]
    if len(circular) != len(tokens):
        raise UsageError(f"circular: {len(circular)} values for {len(tokens)} sequences")
    contexts = range(len(tokens)) if context == "record" else [0] * len(tokens)
    return _m5.Sequences(tokens, circular, list(contexts))


def score(
    sequence,
    *,
    model=None,
    threads=None,
    circular=False,
    strand="forward",
    passes=7,
    memory=True,
    unmasked=False,
    all_bases=False,
    context="record",
):
    """log p(base | all other bases) of every base, in nats, as `m5 score` computes it.

    Returns a float32 array [length], NaN where the sequence has no A, C, G or T; with all_bases
    [length, 4], of A, C, G and T. np.exp(-x) is the perplexity, -x / np.log(2) the bits. A list of
    sequences gives a list of arrays.

    model: a Model, or the path of a model file (default: $M5_MODEL, else the bundled model); the last
    one given as a path stays loaded. threads: of a model given as a path; 0: all CPUs.
    circular: True, or one value a sequence. strand: "forward", "reverse" or "both" (mean
    log-probability, normalised). passes: every K-th base is hidden in each of K passes. memory: use
    the genome memory of a model that has one. unmasked: one pass, nothing hidden: fast, but not a
    likelihood. context: what attention and memory see, the "record" or all of the "file" (list).
    """
    model = _model_of(model, threads)
    sequences = _sequences(sequence, circular, context)
    result = model.score(sequences, passes, strand, unmasked, all_bases, memory)
    return result[0] if _is_one(sequence) else result


def embed(
    sequence,
    *,
    per="record",
    intervals=None,
    model=None,
    threads=None,
    circular=False,
    strand="both",
    pool="mean",
    layer=None,
    context="record",
):
    """Vectors of sequences, as `m5 embed` computes them: float32, pooled over A, C, G and T.

    per="record": [dim], or with intervals, a list of (begin, end), 0-based and half open,
    [len(intervals), dim]; on a circular sequence an end may pass the length. m5.windows() gives
    intervals. per="base": [length, dim], nothing pooled. A list of sequences gives a list of arrays,
    and takes a list of lists of intervals. Without any A, C, G or T a vector is zero.

    strand: "both" (mean of the two strands, so that a gene and its reverse complement have one
    vector), "forward" or "reverse". pool: how the rows of bases are pooled, "mean", "max" or
    "std" (standard deviation). layer: rows after so many blocks, 0 is the embedding; default: the last. The rest as for score().
    """
    model = _model_of(model, threads)
    one = _is_one(sequence)
    sequences = _sequences(sequence, circular, context)
    if layer is not None and layer < 0:
        raise UsageError(f"layer {layer} does not exist: the model has 0 to {model.layers}")
    layer = -1 if layer is None else layer
    if per == "base":
        if intervals is not None:
            raise UsageError("intervals are pooled: not with per='base'")
        result = model.embed_bases(sequences, layer, strand)
        return result[0] if one else result
    if per != "record":
        raise UsageError(f"per: '{per}' is none of record, base")
    whole = intervals is None
    if whole:
        lists = [[(0, length)] for length in sequences.lengths]
    else:
        lists = [intervals] if one else list(intervals)
    if len(lists) != len(sequences.lengths):
        raise UsageError(f"intervals: {len(lists)} lists for {len(sequences.lengths)} sequences")
    flat = [
        (i, operator.index(begin), operator.index(end))
        for i, of in enumerate(lists)
        for begin, end in of
    ]
    try:
        flat = np.array(flat, dtype=np.int64).reshape(-1, 3)
    except OverflowError as error:
        raise UsageError("intervals: a position is no number of 64 bits") from error
    values = model.embed_intervals(sequences, flat, layer, pool, strand)
    ends = np.cumsum([len(of) for of in lists])
    result = [values[end - len(of) : end] for of, end in zip(lists, ends)]
    if whole:
        result = [rows[0] for rows in result]
    return result[0] if one else result
