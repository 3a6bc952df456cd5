"""The model of m5 in plain PyTorch, which m5 is compared with (compare.py, gpu_pytorch.py).

Written the way one would write it for use: functional operations, attention by matrix products of
monomials, rows in chunks so that the monomials fit a cache, activations recomputed where that pays.
One linear sequence at a time.
"""

import contextlib
import json
import math
import os
import sys

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

SHARE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../share")
BASES = 4
TYPES = 6  # A C G T N MASK; PAD embeds to zero
MASK = 5
KEY_DIM = 4


def model_files():
    """share/training/model_file.py; it alone needs numpy, which PyTorch does not."""
    sys.path.insert(0, os.path.join(SHARE, "training"))
    import model_file  # pylint: disable=import-outside-toplevel
    return model_file


def read_model(path):
    """Config and tensors of a model file."""
    config, tensors = model_files().read(path)
    return config, {name: torch.from_numpy(values) for name, values in tensors.items()}


def read_preset(name):
    """Config of a preset of share/presets, or of a file of the same form."""
    path = name if name.endswith(".json") else os.path.join(SHARE, "presets", f"{name}.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def random_tensors(config, seed):
    """Parameters by name, in the order of a model file; no part of the model is near zero."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def add(name, shape, scale, mean=0.0):
        tensors[name] = mean + scale * torch.randn(shape, generator=generator)

    def matrix(name, rows, columns, scale=1.0):
        add(name, (rows, columns), scale * columns ** -0.5)

    def gain(name):
        add(name, (config["dim"],), 0.1, 1.0)

    d, ff, keys = config["dim"], config["ff_dim"], KEY_DIM * config["heads"]
    taps, residual = 2 * config["window"] + 1, (2 * config["layers"]) ** -0.5
    add("embedding.weight", (taps, TYPES + 1, d), taps ** -0.5)
    add("embedding.bias", (d,), 0.1)
    for l in range(config["layers"]):
        prefix = f"layers.{l}."
        width = config["local_conv"][l]["width"] if config["local_conv"] else 0
        if width > 0:
            gain(prefix + "conv.norm")
            add(prefix + "conv.weight", (width, d), 0.5 * width ** -0.5)
        matrix(prefix + "attention.key_value", keys + d, d)
        gain(prefix + "attention.norm")
        matrix(prefix + "attention.query", keys, d)
        matrix(prefix + "attention.output.weight", d, d, residual)
        add(prefix + "attention.output.bias", (d,), 0.1)
        gain(prefix + "feed_forward.norm")
        matrix(prefix + "feed_forward.up.weight", ff, d)
        add(prefix + "feed_forward.up.bias", (ff,), 0.1)
        matrix(prefix + "feed_forward.down.weight", d, ff, residual)
        add(prefix + "feed_forward.down.bias", (d,), 0.1)
    gain("final_norm")
    matrix("head.weight", BASES, d)
    add("head.bias", (BASES,), 0.1)
    return tensors


class Monomials:
    """Monomials of degree <= p of the 4 components: z [4][H][n] -> [F][H][n].

    Two ways to the same numbers. "recurrence": those of a degree are those of the degree before, each
    times a component. "gather": all are products of two of degree <= p/2, as gathers and one product.
    """

    def __init__(self, order, way, device="cpu"):
        self.way, self.device = way, device
        exponents, degree_begin = [(0,) * KEY_DIM], [0]
        for _ in range(order):
            degree_begin.append(len(exponents))
            known = set(exponents)
            for e in exponents[degree_begin[-2]:degree_begin[-1]]:
                for i in range(KEY_DIM):
                    grown = tuple(n + (j == i) for j, n in enumerate(e))
                    if grown not in known:
                        known.add(grown)
                        exponents.append(grown)
        self.exponents = exponents
        index = {e: i for i, e in enumerate(exponents)}
        ends = degree_begin[1:] + [len(exponents)]
        self.steps = []  # of the recurrence: [(parent in the degree before, component)]
        for begin, middle, end in zip(degree_begin, ends, ends[1:]):
            parents, components = [], []
            for e in exponents[middle:end]:
                i = next(i for i in range(KEY_DIM) if e[i])
                parents.append(index[tuple(n - (j == i) for j, n in enumerate(e))] - begin)
                components.append(i)
            self.steps.append((torch.tensor(parents, device=device),
                               torch.tensor(components, device=device)))
        half = (order + 1) // 2
        self.half_steps = self.steps[:half]
        left, right = [], []
        for e in exponents:
            take, part = half, []
            for n in e:
                part.append(min(n, take))
                take -= part[-1]
            left.append(index[tuple(part)])
            right.append(index[tuple(n - m for n, m in zip(e, part))])
        self.left = torch.tensor(left, device=device)
        self.right = torch.tensor(right, device=device)

    def factors(self, coefficients):
        """c_|a| |a|! / a!: the polynomial of q.k as a scalar product of monomials."""
        return torch.tensor([
            coefficients[sum(e)] * math.factorial(sum(e)) / math.prod(map(math.factorial, e))
            for e in self.exponents], device=self.device)

    def __call__(self, z):
        degrees = [torch.ones_like(z[:1])]
        for parents, components in self.half_steps if self.way == "gather" else self.steps:
            degrees.append(degrees[-1].index_select(0, parents) * z.index_select(0, components))
        table = torch.cat(degrees)
        if self.way == "recurrence":
            return table
        return table.index_select(0, self.left) * table.index_select(0, self.right)


class Model:
    """chunk: rows at a time. recompute: their activations are made again in the backward pass."""

    def __init__(self, config, tensors, way="gather", chunk=4096, recompute=False, device="cpu"):
        self.config = config
        self.tensors = {name: tensor.detach().to(device).requires_grad_()
                        for name, tensor in tensors.items()}
        self.monomials = Monomials(config["order"], way, device)
        self.factors = self.monomials.factors(config["coefficients"])
        self.chunk, self.recompute = chunk, recompute

    def compile(self):
        """The two parts of a layer by torch.compile, once for all layers; recomputation is inside,
        as outside of what is compiled it saves no memory."""
        self.keys = torch.compile(self.keys, dynamic=False)
        self.rows = torch.compile(self.rows, dynamic=False)

    def layer(self, l):
        """Tensors of a layer by the names that all layers have in common."""
        prefix = f"layers.{l}."
        return {name[len(prefix):]: tensor for name, tensor in self.tensors.items()
                if name.startswith(prefix)}

    def norm(self, x, gain):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.config["norm_epsilon"]) * gain

    def embed(self, tokens):
        window = self.config["window"]
        ones = F.one_hot(tokens, TYPES).T[None].float()
        weight = self.tensors["embedding.weight"][:, :TYPES].permute(2, 1, 0)
        return F.conv1d(ones, weight, self.tensors["embedding.bias"], padding=window)[0].T.contiguous()

    def convolve(self, layer, conv, x):
        h = self.norm(x, layer["conv.norm"]).T[None]
        weight = layer["conv.weight"].T[:, None]
        y = F.conv1d(h, weight, dilation=conv["dilation"], groups=x.shape[1],
                     padding=(conv["width"] - 1) // 2 * conv["dilation"])
        return x + y[0].T

    def bounded_monomials(self, z):
        """z [n][4 H] -> [F][H][n]."""
        z = z.view(len(z), KEY_DIM, -1).permute(1, 2, 0).contiguous()
        bound = self.config["bound"]
        return self.monomials(z * torch.sqrt(bound / (bound + z.square().sum(0))))

    def keys(self, layer, x):
        """What a chunk adds to the state [H][F][dv + 1], fp32."""
        return self.call(self.keys_once, layer, x)

    def keys_once(self, layer, x):
        heads = self.config["heads"]
        h = self.norm(x, layer["attention.norm"])
        kv = F.linear(h, layer["attention.key_value"])
        phi = self.bounded_monomials(kv[:, :KEY_DIM * heads])
        v = kv[:, KEY_DIM * heads:].reshape(len(x), -1, heads).permute(2, 0, 1)
        v = torch.cat([v, torch.ones_like(v[:, :, :1])], 2)
        return torch.bmm(phi.transpose(0, 1), v).float()

    def rows(self, layer, x, state):
        """Attention and feed-forward of a chunk."""
        return self.call(self.rows_once, layer, x, state)

    def rows_once(self, layer, x, state):
        h = self.norm(x, layer["attention.norm"])
        phi = self.bounded_monomials(F.linear(h, layer["attention.query"]))
        u = torch.bmm(phi.permute(1, 2, 0), state)  # [H][n][dv + 1]
        o = (u[:, :, :-1] / u[:, :, -1:]).permute(1, 2, 0).reshape(len(x), -1)
        x = x + F.linear(o, layer["attention.output.weight"], layer["attention.output.bias"])
        h = self.norm(x, layer["feed_forward.norm"])
        up = F.gelu(F.linear(h, layer["feed_forward.up.weight"], layer["feed_forward.up.bias"]),
                    approximate="tanh")
        return x + F.linear(up, layer["feed_forward.down.weight"], layer["feed_forward.down.bias"])

    def call(self, function, *arguments):
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def hidden(self, tokens, asked=None):
        """x behind the last layer, [n][dim], or of the rows `asked`: in that layer only those go on."""
        x = self.embed(tokens)
        for l in range(self.config["layers"]):
            layer = self.layer(l)
            if "conv.norm" in layer:
                x = self.convolve(layer, self.config["local_conv"][l], x)
            state = sum(self.keys(layer, part) for part in x.split(self.chunk))
            state = state * self.factors[:, None]
            if asked is not None and l + 1 == self.config["layers"]:
                x = x[asked]
            x = torch.cat([self.rows(layer, part, state) for part in x.split(self.chunk)])
        return x

    def log_probs(self, tokens, asked=None):
        """[n][4], or of the rows `asked`."""
        x = self.norm(self.hidden(tokens, asked), self.tensors["final_norm"])
        return F.log_softmax(F.linear(x, self.tensors["head.weight"], self.tensors["head.bias"]), 1)

    def loss_and_gradient(self, tokens, asked, targets, forward=contextlib.nullcontext()):
        """As one step of training, without the optimizer. forward: the context of that pass."""
        for tensor in self.tensors.values():
            tensor.grad = None
        with forward:
            loss = F.nll_loss(self.log_probs(tokens, asked), targets)
        loss.backward()
        return loss.item()
