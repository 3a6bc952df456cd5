"""Model files of m5 (m5-model(5)) in Python, fp32."""

import hashlib
import json
import struct

import numpy as np


def read(path):
    """Config, and the tensors as arrays, by their names."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    config = json.loads(header.pop("__metadata__")["m5_config"])
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", name
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"]).copy()
    return config, tensors


def write(path, config, provenance, tensors):
    """config: the JSON text of a preset; tensors: arrays by name, in the order of the table of parameters."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = np.ascontiguousarray(tensor, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    meta = {"m5_format_version": "1", "m5_config": config, "m5_provenance": json.dumps(provenance),
            "m5_tensor_sha256": hashlib.sha256(data).hexdigest()}
    text = "".join(f"{len(k)}:{k}{len(v)}:{v}" for k, v in sorted(meta.items()))
    meta["m5_metadata_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    head = json.dumps({"__metadata__": meta, **header}).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)
