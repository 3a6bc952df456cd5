"""The model of m5 in plain PyTorch: what the speed of m5 is compared with (compare.py).

Written the way one would write it for use: functional operations, attention by matrix products of
monomials, rows in chunks so that the monomials fit a cache, activations recomputed where that pays.
One linear sequence at a time.
"""

import math
import os
import sys

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../share/training"))
import model_file  # noqa: E402

BASES = 4
TYPES = 6  # A C G T N MASK; PAD embeds to zero
KEY_DIM = 4


def read_model(path):
    """Config and tensors of a model file."""
    config, tensors = model_file.read(path)
    return config, {name: torch.from_numpy(values) for name, values in tensors.items()}


class Monomials:
    """Monomials of degree <= p of the 4 components: z [4][H][n] -> [F][H][n].

    Two ways to the same numbers. "recurrence": those of a degree are those of the degree before, each
    times a component. "gather": all are products of two of degree <= p/2, as gathers and one product.
    """

    def __init__(self, order, way):
        self.way = way
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
            self.steps.append((torch.tensor(parents), torch.tensor(components)))
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
        self.left, self.right = torch.tensor(left), torch.tensor(right)

    def factors(self, coefficients):
        """c_|a| |a|! / a!: the polynomial of q.k as a scalar product of monomials."""
        return torch.tensor([
            coefficients[sum(e)] * math.factorial(sum(e)) / math.prod(map(math.factorial, e))
            for e in self.exponents])

    def __call__(self, z):
        degrees = [torch.ones_like(z[:1])]
        for parents, components in self.half_steps if self.way == "gather" else self.steps:
            degrees.append(degrees[-1].index_select(0, parents) * z.index_select(0, components))
        table = torch.cat(degrees)
        if self.way == "recurrence":
            return table
        return table.index_select(0, self.left) * table.index_select(0, self.right)


class Model:
    def __init__(self, path, way="gather", chunk=4096, recompute=False):
        self.config, self.tensors = read_model(path)
        for tensor in self.tensors.values():
            tensor.requires_grad_()
        self.monomials = Monomials(self.config["order"], way)
        self.factors = self.monomials.factors(self.config["coefficients"])
        self.chunk, self.recompute = chunk, recompute

    def layer(self, l, name):
        return self.tensors[f"layers.{l}.{name}"]

    def norm(self, x, gain):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.config["norm_epsilon"]) * gain

    def embed(self, tokens):
        window = self.config["window"]
        ones = F.one_hot(tokens, TYPES).T[None].float()
        weight = self.tensors["embedding.weight"][:, :TYPES].permute(2, 1, 0)
        return F.conv1d(ones, weight, self.tensors["embedding.bias"], padding=window)[0].T.contiguous()

    def convolve(self, l, x):
        conv = self.config["local_conv"][l]
        h = self.norm(x, self.layer(l, "conv.norm")).T[None]
        weight = self.layer(l, "conv.weight").T[:, None]
        y = F.conv1d(h, weight, dilation=conv["dilation"], groups=x.shape[1],
                     padding=(conv["width"] - 1) // 2 * conv["dilation"])
        return x + y[0].T

    def bounded_monomials(self, z):
        """z [n][4 H] -> [F][H][n]."""
        z = z.view(len(z), KEY_DIM, -1).permute(1, 2, 0).contiguous()
        bound = self.config["bound"]
        return self.monomials(z * torch.sqrt(bound / (bound + z.square().sum(0))))

    def keys(self, l, x):
        """What a chunk adds to the state [H][F][dv + 1]."""
        heads = self.config["heads"]
        h = self.norm(x, self.layer(l, "attention.norm"))
        kv = F.linear(h, self.layer(l, "attention.key_value"))
        phi = self.bounded_monomials(kv[:, :KEY_DIM * heads])
        v = kv[:, KEY_DIM * heads:].reshape(len(x), -1, heads).permute(2, 0, 1)
        v = torch.cat([v, torch.ones_like(v[:, :, :1])], 2)
        return torch.bmm(phi.transpose(0, 1), v)

    def rows(self, l, x, state):
        """Attention and feed-forward of a chunk."""
        h = self.norm(x, self.layer(l, "attention.norm"))
        phi = self.bounded_monomials(F.linear(h, self.layer(l, "attention.query")))
        u = torch.bmm(phi.permute(1, 2, 0), state)  # [H][n][dv + 1]
        o = (u[:, :, :-1] / u[:, :, -1:]).permute(1, 2, 0).reshape(len(x), -1)
        x = x + F.linear(o, self.layer(l, "attention.output.weight"),
                         self.layer(l, "attention.output.bias"))
        h = self.norm(x, self.layer(l, "feed_forward.norm"))
        up = F.gelu(F.linear(h, self.layer(l, "feed_forward.up.weight"),
                             self.layer(l, "feed_forward.up.bias")), approximate="tanh")
        return x + F.linear(up, self.layer(l, "feed_forward.down.weight"),
                            self.layer(l, "feed_forward.down.bias"))

    def call(self, function, *arguments):
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False)
        return function(*arguments)

    def log_probs(self, tokens, asked=None):
        """[n][4], or of the rows `asked`. In the last layer only those rows go on."""
        x = self.embed(tokens)
        for l in range(self.config["layers"]):
            if self.config["local_conv"] and self.config["local_conv"][l]["width"] > 0:
                x = self.convolve(l, x)
            state = sum(self.call(self.keys, l, part) for part in x.split(self.chunk))
            state = state * self.factors[:, None]
            if asked is not None and l + 1 == self.config["layers"]:
                x = x[asked]
            x = torch.cat([self.call(self.rows, l, part, state) for part in x.split(self.chunk)])
        x = self.norm(x, self.tensors["final_norm"])
        return F.log_softmax(F.linear(x, self.tensors["head.weight"], self.tensors["head.bias"]), 1)

    def loss_and_gradient(self, tokens, asked, targets):
        """As one step of training, without the optimizer."""
        for tensor in self.tensors.values():
            tensor.grad = None
        loss = F.nll_loss(self.log_probs(tokens, asked), targets)
        loss.backward()
        return loss.item()
