#!/usr/bin/env python3
"""The whole model once more, in NumPy and float64, to check the C++ against.

Written from the definition of the model, not from the C++: attention forms the weight P(q.k) of
every pair of rows, without features; neighbourhoods and convolutions look rows up one by one.

golden.py         writes NAME.model.safetensors and NAME.expected.safetensors beside itself
golden.py --check compares what it would write with what is there
"""

import hashlib
import json
import math
import pathlib
import struct
import sys

import numpy as np

PAD = 6
HERE = pathlib.Path(__file__).resolve().parent


# --- the model ------------------------------------------------------------------------------------


def minimax_exp(order, bound):
    """Coefficients of the polynomial P of least max |P(x) / exp(x) - 1| on [-bound, bound]."""
    grid = bound * np.cos(np.linspace(np.pi, 0, 20001))
    count = order + 2
    points = bound * np.cos(np.linspace(np.pi, 0, count))
    for _ in range(30):
        powers = (points[:, None] / bound) ** np.arange(order + 1)
        signs = (-1.0) ** np.arange(count)
        system = np.hstack([powers * np.exp(-points)[:, None], signs[:, None]])
        scaled = np.linalg.solve(system, np.ones(count))[:-1]
        coefficients = scaled / bound ** np.arange(order + 1)
        error = np.polyval(coefficients[::-1], grid) * np.exp(-grid) - 1
        runs = np.split(np.arange(len(grid)), np.flatnonzero(np.diff(np.sign(error))) + 1)
        assert len(runs) == count
        points = np.array([grid[run[np.argmax(np.abs(error[run]))]] for run in runs])
    return coefficients


def rms_norm(x, gain, epsilon):
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + epsilon) * gain


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def neighbour(position, length, circular):
    """The row at a position that may lie outside, or None."""
    if circular:
        return position % length
    return position if 0 <= position < length else None


class Model:
    def __init__(self, config, tensors):
        self.config, self.tensors = config, tensors

    def __getitem__(self, name):
        return self.tensors[name].astype(np.float64)

    def embed(self, tokens, circular):
        table, window = self["embedding.weight"], self.config["window"]
        x = np.tile(self["embedding.bias"], (len(tokens), 1))
        for i in range(len(tokens)):
            for delta in range(-window, window + 1):
                j = neighbour(i + delta, len(tokens), circular)
                token = PAD if j is None else tokens[j]
                if token != PAD:
                    x[i] += table[delta + window, token]
        return x

    def convolve(self, layer, x, circular):
        conv = self.config["local_conv"][layer]
        weight = self[f"layers.{layer}.conv.weight"]
        h = rms_norm(x, self[f"layers.{layer}.conv.norm"], self.config["norm_epsilon"])
        y = np.zeros_like(x)
        for i in range(len(x)):
            for tap in range(conv["width"]):
                offset = (tap - (conv["width"] - 1) // 2) * conv["dilation"]
                j = neighbour(i + offset, len(x), circular)
                if j is not None:
                    y[i] += weight[tap] * h[j]
        return x + y

    def bounded(self, z):
        """z [n][4][H], by head."""
        bound = self.config["bound"]
        return z * np.sqrt(bound / (bound + (z**2).sum(axis=1, keepdims=True)))

    def attention(self, layer, x):
        """x: all rows of one context."""
        heads = self.config["heads"]
        h = rms_norm(x, self[f"layers.{layer}.attention.norm"], self.config["norm_epsilon"])
        query = h @ self[f"layers.{layer}.attention.query"].T
        key_value = h @ self[f"layers.{layer}.attention.key_value"].T
        q = self.bounded(query.reshape(len(x), 4, heads))
        k = self.bounded(key_value[:, : 4 * heads].reshape(len(x), 4, heads))
        v = key_value[:, 4 * heads :].reshape(len(x), -1, heads)
        scores = np.einsum("iah,jah->ijh", q, k)
        weights = np.polyval(self.config["coefficients"][::-1], scores)
        o = np.einsum("ijh,jch->ich", weights, v) / weights.sum(axis=1)[:, None, :]
        weight, bias = (self[f"layers.{layer}.attention.output.{n}"] for n in ("weight", "bias"))
        return x + o.reshape(len(x), -1) @ weight.T + bias

    def feed_forward(self, layer, x):
        prefix = f"layers.{layer}.feed_forward."
        h = rms_norm(x, self[prefix + "norm"], self.config["norm_epsilon"])
        up = gelu(h @ self[prefix + "up.weight"].T + self[prefix + "up.bias"])
        return x + up @ self[prefix + "down.weight"].T + self[prefix + "down.bias"]

    def run(self, sequences):
        """sequences: (tokens, circular, context). Log-probabilities, hidden states by layer."""
        xs = [self.embed(tokens, circular) for tokens, circular, _ in sequences]
        hidden = [np.vstack(xs)]
        for layer in range(self.config["layers"]):
            if self.config["local_conv"] and self.config["local_conv"][layer]["width"] > 0:
                xs = [self.convolve(layer, x, s[1]) for x, s in zip(xs, sequences)]
            for context in sorted({s[2] for s in sequences}):
                members = [i for i, s in enumerate(sequences) if s[2] == context]
                rows = self.attention(layer, np.vstack([xs[i] for i in members]))
                ends = np.cumsum([len(xs[i]) for i in members])[:-1]
                for i, part in zip(members, np.split(rows, ends)):
                    xs[i] = part
            xs = [self.feed_forward(layer, x) for x in xs]
            hidden.append(np.vstack(xs))
        hidden[-1] = rms_norm(hidden[-1], self["final_norm"], self.config["norm_epsilon"])
        logits = hidden[-1] @ self["head.weight"].T + self["head.bias"]
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), hidden


# --- the files ------------------------------------------------------------------------------------


def safetensors(tensors, metadata):
    names = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64", np.dtype(np.int64): "I64",
             np.dtype(np.uint8): "U8"}
    header, data = {}, b""
    for name, value in tensors.items():
        raw = np.ascontiguousarray(value).tobytes()
        header[name] = {"dtype": names[value.dtype], "shape": list(value.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    metadata = dict(metadata, m5_tensor_sha256=hashlib.sha256(data).hexdigest())
    listed = "".join(f"{len(k)}:{k}{len(v)}:{v}" for k, v in sorted(metadata.items()))
    metadata["m5_metadata_sha256"] = hashlib.sha256(listed.encode()).hexdigest()
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def parameters(config, random):
    d, heads, ff, window = (config[k] for k in ("dim", "heads", "ff_dim", "window"))
    tensors = {}

    def add(name, *shape, scale, mean=0.0):
        tensors[name] = (mean + scale * random.standard_normal(shape)).astype(np.float32)

    add("embedding.weight", 2 * window + 1, 7, d, scale=0.4)
    add("embedding.bias", d, scale=0.3)
    for layer in range(config["layers"]):
        prefix = f"layers.{layer}."
        if config["local_conv"] and config["local_conv"][layer]["width"] > 0:
            add(prefix + "conv.norm", d, scale=0.2, mean=1)
            add(prefix + "conv.weight", config["local_conv"][layer]["width"], d, scale=0.4)
        add(prefix + "attention.key_value", 4 * heads + d, d, scale=1.5 / math.sqrt(d))
        add(prefix + "attention.norm", d, scale=0.2, mean=1)
        add(prefix + "attention.query", 4 * heads, d, scale=1.5 / math.sqrt(d))
        add(prefix + "attention.output.weight", d, d, scale=1 / math.sqrt(d))
        add(prefix + "attention.output.bias", d, scale=0.2)
        add(prefix + "feed_forward.norm", d, scale=0.2, mean=1)
        add(prefix + "feed_forward.up.weight", ff, d, scale=1 / math.sqrt(d))
        add(prefix + "feed_forward.up.bias", ff, scale=0.2)
        add(prefix + "feed_forward.down.weight", d, ff, scale=1 / math.sqrt(ff))
        add(prefix + "feed_forward.down.bias", d, scale=0.2)
    add("final_norm", d, scale=0.2, mean=1)
    add("head.weight", 4, d, scale=1 / math.sqrt(d))
    add("head.bias", 4, scale=0.3)
    return tensors


def golden(name, seed, sequences, **shape):
    """The two files of one model: {file name: bytes}."""
    random = np.random.RandomState(seed)
    config = {"format_version": 1, "name": name, **shape, "norm_epsilon": 1e-5}
    config["coefficients"] = minimax_exp(config["order"], config["bound"]).tolist()
    tensors = parameters(config, random)
    metadata = {"m5_format_version": "1", "m5_config": json.dumps(config),
                "m5_provenance": json.dumps({"made by": "tests/golden/golden.py"})}
    model = safetensors(tensors, metadata)

    batch = [(random.randint(0, 6, size=length), circular, context)
             for length, circular, context in sequences]
    log_probs, hidden = Model(config, tensors).run(batch)
    rows = np.arange(0, len(log_probs), 2)
    targets = random.randint(0, 4, size=len(rows))
    expected = {
        "tokens": np.concatenate([s[0] for s in batch]).astype(np.uint8),
        "lengths": np.array([len(s[0]) for s in batch], dtype=np.int64),
        "circular": np.array([s[1] for s in batch], dtype=np.uint8),
        "contexts": np.array([s[2] for s in batch], dtype=np.int64),
        "log_probs": log_probs,
        "hidden": np.stack(hidden),
        "rows": rows.astype(np.int64),
        "targets": targets.astype(np.uint8),
        "loss": np.array([-log_probs[rows, targets].sum()]),
    }
    return {f"{name}.model.safetensors": model,
            f"{name}.expected.safetensors": safetensors(expected, {})}


def files():
    # Sequences: (length, circular, context). Some are shorter than what a row looks at.
    conv = golden(
        "conv", 1, [(19, False, 0), (11, True, 0), (5, True, 1), (1, False, 2), (1, True, 3)],
        dim=16, layers=2, heads=8, ff_dim=32, order=4, bound=2.0, window=3,
        local_conv=[{"width": 5, "dilation": 1}, {"width": 3, "dilation": 7}])
    plain = golden(
        "plain", 2, [(23, True, 0), (7, False, 1), (9, False, 1)],
        dim=32, layers=1, heads=8, ff_dim=64, order=2, bound=1.0, window=2, local_conv=[])
    return {**conv, **plain}


def read_tensors(data):
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8}
    return {name: np.frombuffer(data[8 + length :][slice(*entry["data_offsets"])],
                                kinds[entry["dtype"]])
            for name, entry in header.items() if name != "__metadata__"}


def main():
    failures = 0
    for name, data in files().items():
        path = HERE / name
        if "--check" not in sys.argv:
            path.write_bytes(data)
            continue
        new, old = read_tensors(data), read_tensors(path.read_bytes())
        same = new.keys() == old.keys() and all(
            new[k].shape == old[k].shape and np.allclose(new[k], old[k], rtol=0, atol=1e-11)
            for k in new)
        print(f"{name}: {'as computed' if same else 'DIFFERS'}")
        failures += not same
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
