#!/usr/bin/env python3
"""Does linear attention learn to read its context? Variants of it on synthetic genomes that only context can teach.

  attention_ablation.py FOLDER [NAME=VALUE ...]

FOLDER holds g000.fa, g001.fa, ...: one record a file, each drawn from a random table p(next base | the two before) of
its own. The last four are looked at, the others trained on. A PyTorch model of the shape of m5 (neighbourhood
embedding, L blocks, d_k = 4), one thread; every 100 steps the bits of masked bases of the last four. Names:

  R, p     bound of |q.k| and degree of the polynomial (2, 4)      off=1   the mean of the values is taken off
  d, L     width and blocks (64, 2)                                norm=1  the output of each head is normed (RMS)
  N        segment length, nt (4096); 16,384 nt a step             blind=l keys and queries of the first l blocks see
  steps    (400)                                                           neighbours only, not their own base
  qk       learning rate of keys and queries, in that of the others (1)
"""

import glob
import json
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(0)
folder = sys.argv[1]
given = dict(word.split("=") for word in sys.argv[2:])
bound, degree = float(given.get("R", 2)), int(given.get("p", 4))
off, norm, blind = (int(given.get(name, 0)) for name in ("off", "norm", "blind"))
width, blocks = int(given.get("d", 64)), int(given.get("L", 2))
length, steps, faster = int(given.get("N", 4096)), int(given.get("steps", 400)), float(given.get("qk", 1))
heads, batch, reach, rate = width // 8, 16384 // length, 15, 4e-3


def polynomial():
    """Coefficients of least squares of the relative error to exp on [-R, R], at Chebyshev nodes."""
    x = torch.cos(math.pi * (torch.arange(400, dtype=torch.double) + 0.5) / 400) * bound
    powers = torch.stack([x**n for n in range(degree + 1)], 1) / torch.exp(x)[:, None]
    return torch.linalg.lstsq(powers, torch.ones(400, 1, dtype=torch.double)).solution[:, 0].tolist()


def monomials():
    """(exponents as sorted variables, coefficient) so that phi(q).phi(k) = P(q.k)."""
    c, all_of = polynomial(), [[()]]
    for _ in range(degree):
        all_of.append([m + (i,) for m in all_of[-1] for i in range(m[-1] if m else 0, 4)])
    for m in (m for of_degree in all_of for m in of_degree):
        ways = math.factorial(len(m)) // math.prod(math.factorial(m.count(i)) for i in range(4))
        yield m, math.sqrt(max(c[len(m)], 1e-12) * ways)


terms = list(monomials())


def phi(z):
    """[batch, head, 4, row] to [batch, head, monomial, row]."""
    variables, product = z.unbind(2), {(): torch.ones_like(z[:, :, 0])}
    for m, _ in terms[1:]:
        product[m] = product[m[:-1]] * variables[m[-1]]
    return torch.stack([product[m] * coefficient for m, coefficient in terms], 2)


def rms(x, epsilon=1e-5):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)


def bounded(z):
    return z * torch.sqrt(bound / (bound + z.pow(2).sum(-1, keepdim=True)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        def many(i, o, bias=True):
            return nn.ModuleList(nn.Linear(i, o, bias=bias) for _ in range(blocks))
        self.embed = nn.Conv1d(7, width, 2 * reach + 1, padding=reach)
        nn.init.normal_(self.embed.weight, 0, 0.1)
        if blind:
            self.neighbours = nn.Conv1d(7, width, 2 * reach + 1, padding=reach)
            nn.init.normal_(self.neighbours.weight, 0, 0.1)
        self.q, self.k, self.v = many(width, 4 * heads, False), many(width, 4 * heads, False), many(width, width, False)
        self.out, self.up, self.down = many(width, width), many(width, 4 * width), many(4 * width, width)
        self.head = nn.Linear(width, 4)
        self.gain = nn.ParameterList(nn.Parameter(torch.ones(width)) for _ in range(2 * blocks + 1))
        for weight in self.keys_and_queries():
            nn.init.normal_(weight, 0, 1 / math.sqrt(width))

    def keys_and_queries(self):
        return [part.weight for part in [*self.q, *self.k]]

    def forward(self, tokens):
        letters = F.one_hot(tokens, 7).float().transpose(1, 2)
        x = self.embed(letters).transpose(1, 2)
        rows = x.shape[1]
        if blind:
            weight = self.neighbours.weight.clone()
            weight[:, :, reach] = 0
            around = rms(F.conv1d(letters, weight, self.neighbours.bias, padding=reach).transpose(1, 2))
        for l in range(blocks):
            y = rms(x) * self.gain[2 * l]
            source = around if l < blind else y
            q, k = (phi(bounded(w[l](source).view(-1, rows, heads, 4)).permute(0, 2, 3, 1)) for w in (self.q, self.k))
            v = self.v[l](y).view(-1, rows, heads, 8).transpose(1, 2)
            state = torch.matmul(k, torch.cat([v, torch.ones_like(v[..., :1])], -1))
            o = torch.matmul(q.transpose(2, 3), state)
            o = o[..., :8] / o[..., 8:]
            if off:
                o = o - v.mean(2, keepdim=True)
            if norm:
                o = rms(o, 1e-6)
            x = x + self.out[l](o.transpose(1, 2).reshape(-1, rows, width))
            x = x + self.down[l](F.gelu(self.up[l](rms(x) * self.gain[2 * l + 1]), approximate="tanh"))
        return self.head(rms(x) * self.gain[2 * blocks])


def read(path):
    with open(path) as file:
        return torch.tensor(["ACGT".index(letter) for letter in "".join(file.read().split("\n")[1:])])


def windows(genomes, generator):
    """Input, truth, chosen and masked positions."""
    def draw(most):
        return torch.randint(most, (1,), generator=generator).item()
    picked = []
    for _ in range(batch):
        genome = genomes[draw(len(genomes))]
        start = draw(len(genome) - length + 1)
        picked.append(genome[start:start + length])
    truth = torch.stack(picked)
    chosen, kind = (torch.rand(truth.shape, generator=generator) for _ in range(2))
    chosen = chosen < 0.15
    masked, other = chosen & (kind < 0.8), chosen & (kind >= 0.8) & (kind < 0.9)
    tokens = truth.clone()
    tokens[masked] = 5
    tokens[other] = (truth[other] + torch.randint(1, 4, (int(other.sum()),), generator=generator)) % 4
    return tokens, truth, chosen, masked


def validation(model, genomes):
    generator, total, count = torch.Generator().manual_seed(9), 0.0, 0
    with torch.no_grad():
        for genome in genomes:
            tokens, truth, _, masked = windows([genome], generator)
            total += F.cross_entropy(model(tokens)[masked], truth[masked], reduction="sum").item()
            count += int(masked.sum())
    return total / count / math.log(2)


def main():
    genomes = [read(path) for path in sorted(glob.glob(f"{folder}/g*.fa"))]
    model = Model()
    special = {id(weight) for weight in model.keys_and_queries()}
    others = [p for p in model.parameters() if id(p) not in special]
    groups = [{"params": others, "times": 1.0}, {"params": model.keys_and_queries(), "times": faster}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    generator, started = torch.Generator().manual_seed(1), time.process_time()
    for step in range(steps + 1):
        if step % 100 == 0:
            seconds = time.process_time() - started
            print(json.dumps(given), f"step {step}: {validation(model, genomes[-4:]):.4f} bits, {seconds:.0f} s CPU", flush=True)
        now = rate * min(1, (step + 1) / 30) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = now * group["times"]
        tokens, truth, chosen, _ = windows(genomes[:-4], generator)
        loss = F.cross_entropy(model(tokens)[chosen], truth[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


if __name__ == "__main__":
    main()
