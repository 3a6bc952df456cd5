#!/usr/bin/env python3
"""Trains nano-conv, or a variant of its attention, on one GPU, with Muon and AdamW as `m5 train --optimizer muon`.

  train.py OUT_FOLDER DATA.npz [DATA.npz ...] [train=fit] [eval=held] [arms=FILE] [limit=SECONDS] [NAME=VALUE ...]

DATA: of pack.py. Writes NAME.safetensors and, to standard output, one JSON object a line. arms: a file of runs, one a
line, NAME=VALUE each; none begins after `limit` seconds. Names (DEFAULT below holds the rest):

  nt, seconds   how long: bases, or seconds of the clock (the schedule follows whichever it is)
  lr, warm, decay   peak rate, shares of the run for warm-up and for the way down to 0
  seg, at, batches  segment lengths, the share of the run at which each begins, and bases a step
  every, rate   share of segments masked as `m5 score` does (every 7th; 3 % more, seen), rate of the others (80/10/10)
  off, norm, blind, R, p, qk   as in ../evaluation/attention_ablation.py
"""

import json
import math
import queue
import sys
import threading
import time

import numpy as np
import torch
import torch.nn.functional as F
import m5_torch as M

torch.backends.cuda.matmul.allow_tf32 = True
DEV = "cuda" if torch.cuda.is_available() else "cpu"
T0 = time.time()
DEFAULT = dict(name="x", nt=0, seconds=0, lr=4e-3, warm=0.02, decay=0.3, batch=262144, seg="16384", at="0", batches="", p=4, R=2, off=0, norm=0, blind=0,
               qk=1.0, wd=0.05, every=0.5, rate=0.2, seed=0, init="")


def log(**k):
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in k.items()}), flush=True)


class Data:
    """Genomes of packed files: 2 bits a base, then runs of N."""
    def __init__(self, files, device, key):
        codes, self.start, self.len = [], [], []
        at = 0
        for f in files:
            z = np.load(f)
            if key + "_packed" not in z: continue
            p = torch.from_numpy(z[key + "_packed"]).to(device)
            c = torch.stack([p & 3, (p >> 2) & 3, (p >> 4) & 3, p >> 6], 1).view(-1)
            for s, n in z[key + "_n"]: c[s:s + n] = 4
            for n in z[key + "_len"]:
                self.start.append(at); self.len.append(int(n)); at += int(n)
            codes.append(c[:int(z[key + "_len"].sum())])
        self.codes = torch.cat(codes) if codes else None
        self.start, self.len = np.array(self.start, np.int64), np.array(self.len, np.int64)


def producer(data, plan, o, out, stop, k):
    """Batches: starts, strands, chosen rows, what becomes of them. plan(): (N, B) of now."""
    rng = np.random.default_rng([int(o["seed"]), 77, k])
    while not stop.is_set():
        N, B = plan()
        room = np.maximum(data.len - N + 1, 0).astype(float)
        rec = rng.choice(len(room), B, p=room / room.sum())
        starts = data.start[rec] + (rng.random(B) * room[rec]).astype(np.int64)
        rc = rng.random(B) < .5
        u = rng.random((B, N), dtype=np.float32)
        regular = rng.random(B) < o["every"]
        chosen = u < o["rate"]
        for b in np.nonzero(regular)[0]:
            chosen[b] = u[b] < .03
            chosen[b, rng.integers(7)::7] = True
        rows = np.nonzero(chosen.reshape(-1))[0]
        fate = rng.random(len(rows), dtype=np.float32)
        reg = regular[rows // N]
        on_grid = reg & (u.reshape(-1)[rows] >= .03)
        kind = np.where(on_grid, 0, np.where(reg, np.where(fate < .5, 1, 2), np.where(fate < .8, 0, np.where(fate < .9, 1, 2)))).astype(np.uint8)
        shift = rng.integers(1, 4, len(rows), dtype=np.uint8)
        item = [torch.from_numpy(x) for x in (starts, rc, rows, kind, shift)]
        if DEV == "cuda": item = [x.pin_memory() for x in item]
        while not stop.is_set():
            try: out.put((N, B, item), timeout=.2); break
            except queue.Full: pass


def gather(data, starts, rc, N):
    i = torch.arange(N, device=DEV)[None]
    i = torch.where(rc[:, None], N - 1 - i, i) + starts[:, None]
    t = data.codes[i]
    return torch.where(rc[:, None] & (t < 4), 3 - t, t).contiguous()


class Muon:
    def __init__(self, model, o):
        self.groups, P = {}, model.P
        mats = [k for k in P if any(k.endswith(m) for m in M.Model.MATRICES)]
        for k in mats: self.groups.setdefault(tuple(P[k].shape), []).append(k)
        self.model, self.o = model, o
        self.m = {s: torch.zeros(len(ks), *s, device=DEV) for s, ks in self.groups.items()}
        rest = [P[k] for k in P if k not in mats]
        self.adam = torch.optim.AdamW(rest, lr=1, betas=(.9, .98), eps=1e-8, weight_decay=0, **({"fused": True} if DEV == "cuda" else {}))
        self.all = [P[k] for k in P]

    @torch.no_grad()
    def step(self, lr):
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm([p.grad for p in self.all])))
        scale = torch.clamp(1 / norm, max=1.0)
        torch._foreach_mul_([p.grad for p in self.all], scale)
        for g in self.adam.param_groups: g["lr"] = lr
        self.adam.step()
        for s, ks in self.groups.items():
            P = [self.model.P[k] for k in ks]
            G = torch.stack([p.grad for p in P])
            m = self.m[s].lerp_(G, .05)
            x = m.mul(.95).add_(G, alpha=.05)
            turned = s[0] > s[1]
            if turned: x = x.transpose(1, 2)
            x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-30)).contiguous()
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
            if turned: x = x.transpose(1, 2)
            move = .2 * math.sqrt(max(s))
            for k, p, xi in zip(ks, P, x):
                f = self.o["qk"] if k.endswith("query") or k.endswith("key") else 1
                p.mul_(1 - lr * f * self.o["wd"]).add_(xi, alpha=-lr * f * move)
        return norm


@torch.no_grad()
def evaluate(model, data, N):
    """Bits of every 7th base, hidden, in all whole segments of N."""
    tot = n = 0
    for s, length in zip(data.start, data.len):
        count = length // N
        if count == 0: continue
        t = data.codes[s:s + count * N].view(count, N).clone()
        rows = torch.arange(3, count * N, 7, device=DEV)
        flat = t.view(-1); tgt = flat[rows].long(); flat[rows] = 5
        lp = F.log_softmax(model.logits(t, rows), 1)
        ok = tgt < 4
        tot += -(lp.gather(1, tgt.clamp(max=3)[:, None])[:, 0] * ok).sum().item(); n += ok.sum().item()
    return tot / n / math.log(2)


def run(o, data, evals, out):
    text = open(f"{M.HERE}/../presets/nano-conv.json", encoding="utf-8").read()
    config = json.loads(text)
    torch.manual_seed(int(o["seed"]))
    model = M.Model(DEV, p=int(o["p"]), R=o["R"], off=int(o["off"]), norm=int(o["norm"]), blind=int(o["blind"]), seed=int(o["seed"]),
                    coefficients=config["coefficients"] if (o["p"], o["R"]) == (config["order"], config["bound"]) else None)
    if o["init"]:
        model.load(o["init"])
    opt = Muon(model, o)
    segs, ats = [int(x) for x in str(o["seg"]).split(",")], [float(x) for x in str(o["at"]).split(",")]
    batches = [int(x) for x in str(o["batches"] or o["batch"]).split(",")]
    if len(batches) < len(segs): batches = batches * len(segs)
    done, t0 = 0, time.time()
    def frac(): return (time.time() - t0) / o["seconds"] if o["seconds"] else done / o["nt"]
    def plan():
        i = max(j for j, a in enumerate(ats) if frac() >= a)
        return segs[i], batches[i] // segs[i]
    q, stop = queue.Queue(6), threading.Event()
    ths = [threading.Thread(target=producer, args=(data, plan, o, q, stop, k), daemon=True) for k in range(4)]
    for t in ths: t.start()
    step, recent, saved = 0, [], t0
    while frac() < 1:
        N, B, item = q.get()
        starts, rc, rows, kind, shift = [x.to(DEV, non_blocking=True) for x in item]
        tok = gather(data, starts, rc, N)
        flat = tok.view(-1); tgt = flat[rows]
        new = torch.where(kind == 0, torch.full_like(tgt, 5), torch.where(kind == 1, (tgt + shift) % 4, tgt))
        flat[rows] = torch.where(tgt < 4, new, tgt)
        ok = (tgt < 4).float()
        loss = (F.cross_entropy(model.logits(tok, rows), tgt.clamp(max=3).long(), reduction="none") * ok).sum() / len(rows)
        for p in opt.all: p.grad = None
        loss.backward()
        f = min(frac(), 1)
        h = min(1, (f + 1e-9) / o["warm"]) * min(1, max(0, 1 - f) / o["decay"])
        norm = opt.step(o["lr"] * h)
        step += 1; done += N * B
        recent.append(loss.detach())
        if step in (1, 10, 20, 30, 50): log(arm=o["name"], step=step, loss=loss.item(), norm=norm.item(), seconds=time.time() - t0)
        if step % 100 == 0:
            if step % 400 == 0 or step == 100: log(arm=o["name"], step=step, nt=done, loss=torch.stack(recent).mean().item(), norm=norm.item(), lr=o["lr"] * h, seconds=time.time() - t0, rate=done / (time.time() - t0), N=N)
            recent = []
            if o["seconds"] > 30 and time.time() - saved > 50:
                saved = time.time(); model.save(f"{out}/{o['name']}.part.safetensors", text, {})
        elif len(recent) > 8 and step % 8 == 0: recent[-8].cpu()  # no more than 8 steps ahead of the GPU
    stop.set()
    if DEV == "cuda": torch.cuda.synchronize()
    took = time.time() - t0
    if not (o["off"] or o["norm"] or o["blind"] or o["p"] != config["order"] or o["R"] != config["bound"]):
        model.save(f"{out}/{o['name']}.safetensors", text, {"trainer": "share/training/train.py", "nt": str(done), **{k: str(v) for k, v in o.items()}})
    res = {f"bits{N}": evaluate(model, evals, N) for N in (4096, 131072) if any(evals.len >= N)}
    log(result=o["name"], step=step, nt=done, seconds=took, rate=done / took, memory=torch.cuda.max_memory_allocated() / 1e9 if DEV == "cuda" else 0., at=time.time() - T0, **res)


def main():
    out, files, opt = sys.argv[1], [a for a in sys.argv[2:] if "=" not in a], dict(a.split("=", 1) for a in sys.argv[2:] if "=" in a)
    arms, limit = opt.pop("arms", ""), float(opt.pop("limit", 1e9))
    data, evals = Data(files, DEV, opt.pop("train", "fit")), Data(files, DEV, opt.pop("eval", "held"))
    log(records=len(data.len), nt=int(data.len.sum()), eval_nt=int(evals.len.sum()), at=time.time() - T0)
    lines, failed = [l.split() for l in open(arms)] if arms else [[]], 0
    for line in lines:
        if time.time() - T0 > limit: log(skipped=line); continue
        o = dict(DEFAULT); o.update(opt); o.update(dict(a.split("=", 1) for a in line))
        for k, v in o.items():
            if not isinstance(v, str) or k in ("name", "seg", "at", "batches", "init"): continue
            o[k] = float(v)
        o["batch"] = int(o["batch"])
        try: run(o, data, evals, out)
        except Exception as e:
            failed += 1
            log(failed=o["name"], error=repr(e)[:500])
        if DEV == "cuda": torch.cuda.empty_cache()
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
