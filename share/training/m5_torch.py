"""The encoder of m5 (preset nano-conv and variants of its attention) in PyTorch, with kernels.cu.

Segments of one length N, linear, tokens [B][N]; rows = B N. Attention runs over chunks of T rows (T divides N),
matrix products are of bf16 with fp32 sums, the residual stream is fp32. On a CPU the kernels run as loops: slow,
for tests.
"""

import ctypes
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

import model_file
from monomials import monomials, padded

HERE = os.path.dirname(os.path.abspath(__file__))
HEADS, D, EPS = 16, 128, 1e-5
_libs = {}


def call(name, x, *args):
    kind = "gpu" if x.is_cuda else "cpu"
    if kind not in _libs: _libs[kind] = ctypes.CDLL(f"{HERE}/kernels_{kind}.so")
    def c(a):
        if a is None: return ctypes.c_void_p(0)
        if torch.is_tensor(a): return ctypes.c_void_p(a.data_ptr())
        if isinstance(a, float): return ctypes.c_float(a)
        return a
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream if x.is_cuda else 0)
    rc = getattr(_libs[kind], name)(*[c(a) for a in args], stream)
    assert rc == 0, (name, rc)


I64 = ctypes.c_longlong


def weights(p, coefficients):
    """c_|e| |e|! / e! of the monomials, e their exponents; zeros behind them."""
    exponents, w = [], []
    for degree, parent, variable in monomials(p):
        e = list(exponents[parent]) if degree else [0] * 4
        e[variable] += degree > 0
        exponents.append(e)
        w.append(coefficients[degree] * math.factorial(degree) / math.prod(map(math.factorial, e)))
    return torch.tensor(w + [0.0] * (padded(p) - len(w)))


def minimax(p, R):
    """Least relative error on [-R, R], by least squares at Chebyshev nodes (near enough for trials)."""
    x = np.cos(np.pi * (np.arange(2000) + .5) / 2000) * R
    v = np.vander(x, p + 1, increasing=True) / np.exp(x)[:, None]
    return np.linalg.lstsq(v, np.ones(len(x)), rcond=None)[0].tolist()


def bmm32(a, b):
    """bf16 x bf16 -> fp32."""
    if a.is_cuda: return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())


def of_chunks(state, chunks):
    """What each chunk reads of its segment: [B, H, FP, 16] -> [B chunks H, FP, 16]."""
    return state[:, None].expand(-1, chunks, -1, -1, -1).flatten(0, 2)


def of_segments(parts, B):
    """The sum of what the chunks of a segment have: [B chunks H, FP, 16] -> [B, H, FP, 16]."""
    return parts.view(B, -1, HEADS, *parts.shape[1:]).sum(1)


class Attention(torch.autograd.Function):
    """zq, zk [rows, 4H], v [rows, 8H] bf16 -> o [rows, 8H] bf16."""

    @staticmethod
    def forward(ctx, zq, zk, v, w, N, T, R, p, off, norm, eps):
        rows, H, FP = zq.shape[0], HEADS, padded(p)
        C, B = rows // T, rows // N
        new = lambda *s, t=torch.bfloat16: torch.empty(*s, dtype=t, device=zq.device)
        assert zq.is_contiguous() and zk.is_contiguous() and v.is_contiguous()
        phik, phiq, v1 = new(C * H, FP, T), new(C * H, FP, T), new(C * H, T, 16)
        call(f"k_phi_fwd_{p}", zk, zk, 4 * H, phik, I64(rows), T, H, R)
        call(f"k_phi_fwd_{p}", zq, zq, 4 * H, phiq, I64(rows), T, H, R)
        call("k_pack", v, v, 8 * H, v1, I64(rows), T, H)
        S = of_segments(bmm32(phik, v1), B) / N                            # [B,H,FP,16] of means
        scaled = (S * w[:, None]).bfloat16()
        u = bmm32(phiq.transpose(1, 2), of_chunks(scaled, N // T))                              # [C H, T, 16]
        mean = (scaled[:, :, 0, :8].float() / scaled[:, :, 0, 8:9].float()).contiguous() if off else None
        o = new(rows, 8 * H)
        call("k_finish", u, u, mean, o, I64(rows), T, H, I64(N), int(norm), eps)
        ctx.save_for_backward(zq, zk, phik, phiq, v1, scaled, u, mean, w)
        ctx.sizes = (N, T, R, p, norm, eps)
        return o

    @staticmethod
    def backward(ctx, do):
        zq, zk, phik, phiq, v1, scaled, u, mean, w = ctx.saved_tensors
        N, T, R, p, norm, eps = ctx.sizes
        rows, H, FP = zq.shape[0], HEADS, padded(p)
        C, B = rows // T, rows // N
        new = lambda *s, t=torch.bfloat16: torch.empty(*s, dtype=t, device=zq.device)
        do = do.contiguous()
        du = new(C * H, T, 16)
        g = new(C * H, T, 8, t=torch.float32) if mean is not None else None
        call("k_finish_bwd", u, u, mean, do, du, g, I64(rows), T, H, I64(N), int(norm), eps)
        dS = of_segments(bmm32(phiq, du), B)                               # of the scaled state
        if g is not None:
            G = g.view(B, N // T, H, T, 8).sum((1, 3))                     # [B,H,8]
            s0 = scaled[:, :, 0].float()
            dS[:, :, 0, :8] -= G / s0[..., 8:9]
            dS[:, :, 0, 8] += (G * s0[..., :8]).sum(-1) / s0[..., 8] ** 2
        dphi = torch.bmm(of_chunks(scaled, N // T), du.transpose(1, 2))                         # [C H, FP, T]
        dzq = torch.empty_like(zq)
        call(f"k_phi_bwd_{p}", zq, zq, 4 * H, dphi, dzq, I64(rows), T, H, R)
        each = of_chunks((dS * (w / N)[:, None]).bfloat16(), N // T)
        torch.bmm(each, v1.transpose(1, 2), out=dphi)
        dzk = torch.empty_like(zk)
        call(f"k_phi_bwd_{p}", zk, zk, 4 * H, dphi, dzk, I64(rows), T, H, R)
        dv1 = torch.bmm(phik.transpose(1, 2), each)
        dv = new(rows, 8 * H)
        call("k_unpack", dv1, dv1, dv, 8 * H, I64(rows), T, H)
        return dzq, dzk, dv, None, None, None, None, None, None, None, None


class Rms(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gain):
        h = torch.empty(x.shape, dtype=torch.bfloat16, device=x.device)
        call("k_rms", x, x, gain, h, I64(x.shape[0]), EPS)
        ctx.save_for_backward(x, gain)
        return h

    @staticmethod
    def backward(ctx, dh):
        x, gain = ctx.saved_tensors
        dh, per = dh.contiguous(), 64
        dx = torch.empty_like(x)
        part = torch.empty((x.shape[0] + per - 1) // per, D, device=x.device)
        call("k_rms_bwd", x, x, gain, dh, dx, part, I64(x.shape[0]), per, EPS)
        return dx, part.sum(0)


class Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, w, N, dilation):
        y = torch.empty_like(h)
        call("k_conv", h, h, w, y, I64(h.shape[0]), I64(N), D, dilation, 0)
        ctx.save_for_backward(h, w)
        ctx.sizes = (N, dilation)
        return y

    @staticmethod
    def backward(ctx, dy):
        h, w = ctx.saved_tensors
        N, dilation = ctx.sizes
        dy, per = dy.contiguous(), 128
        dh = torch.empty_like(h)
        call("k_conv", dy, dy, w, dh, I64(h.shape[0]), I64(N), D, dilation, 1)
        part = torch.empty((h.shape[0] + per - 1) // per, 9, D, device=h.device)
        call("k_conv_weight", h, h, dy, part, I64(h.shape[0]), I64(N), D, dilation, per)
        return dh, part.sum(0), None, None


class Model:
    def __init__(self, device, layers=4, p=4, R=2.0, coefficients=None, off=0, norm=0, blind=0, seed=0):
        self.p, self.R, self.off, self.norm, self.blind, self.layers = p, float(R), off, norm, blind, layers
        self.coefficients = coefficients or minimax(p, R)
        self.w = weights(p, self.coefficients).to(device)
        g = torch.Generator().manual_seed(seed)
        n = lambda *s, scale: (torch.randn(*s, generator=g) * scale).to(device).requires_grad_()
        full = lambda *s, v: torch.full(s, float(v)).to(device).requires_grad_()
        H, P = HEADS, {}
        P["embedding.weight"] = n(31 * 7, D, scale=31 ** -.5)
        P["embedding.bias"] = full(D, v=0)
        res = 1 / math.sqrt(2 * layers)
        for l in range(layers):
            k = f"layers.{l}."
            P[k + "conv.norm"] = full(D, v=1); P[k + "conv.weight"] = n(9, D, scale=.5 / 3)
            P[k + "attention.key"] = n(4 * H, D, scale=D ** -.5); P[k + "attention.value"] = n(8 * H, D, scale=D ** -.5)
            P[k + "attention.norm"] = full(D, v=1); P[k + "attention.query"] = n(4 * H, D, scale=D ** -.5)
            P[k + "attention.output.weight"] = n(D, 8 * H, scale=res * D ** -.5); P[k + "attention.output.bias"] = full(D, v=0)
            P[k + "feed_forward.norm"] = full(D, v=1)
            P[k + "feed_forward.up.weight"] = n(512, D, scale=D ** -.5); P[k + "feed_forward.up.bias"] = full(512, v=0)
            P[k + "feed_forward.down.weight"] = n(D, 512, scale=res * 512 ** -.5); P[k + "feed_forward.down.bias"] = full(D, v=0)
        P["final_norm"] = full(D, v=1); P["head.weight"] = n(4, D, scale=.5 * D ** -.5); P["head.bias"] = full(4, v=0)
        if blind: P["blind.weight"] = n(31 * 7, D, scale=31 ** -.5); P["blind.norm"] = full(D, v=1)
        self.P = P

    MATRICES = ("attention.key", "attention.value", "attention.query", "attention.output.weight", "feed_forward.up.weight", "feed_forward.down.weight")

    def hidden(self, tokens):
        """tokens [B, N] uint8 -> residual stream [B N, D] fp32."""
        B, N = tokens.shape
        P, b = self.P, torch.bfloat16
        T = min(N, 4096)
        ones = torch.empty(B * N, 224, dtype=b, device=tokens.device)
        call("k_one_hot", tokens, tokens, ones, I64(B * N), I64(N))
        table = lambda k: F.pad(P[k], (0, 0, 0, 7)).to(b)
        x = (ones @ table("embedding.weight")).float() + P["embedding.bias"]
        if self.blind:
            keep = torch.ones(217, 1, device=tokens.device); keep[15 * 7:16 * 7] = 0
            xb = Rms.apply((ones @ F.pad(P["blind.weight"] * keep, (0, 0, 0, 7)).to(b)).float(), P["blind.norm"])
        for l in range(self.layers):
            k = f"layers.{l}."
            q = lambda n: P[k + n].to(b)
            x = x + Conv.apply(Rms.apply(x, P[k + "conv.norm"]), P[k + "conv.weight"], N, 3 ** l)
            h = Rms.apply(x, P[k + "attention.norm"])
            s = xb if l < self.blind else h
            o = Attention.apply(F.linear(s, q("attention.query")), F.linear(s, q("attention.key")), F.linear(h, q("attention.value")),
                                self.w, N, T, self.R, self.p, self.off, self.norm, 1e-3)
            x = x + F.linear(o, q("attention.output.weight"), q("attention.output.bias"))
            h = Rms.apply(x, P[k + "feed_forward.norm"])
            h = F.gelu(F.linear(h, q("feed_forward.up.weight"), q("feed_forward.up.bias")), approximate="tanh")
            x = x + F.linear(h, q("feed_forward.down.weight"), q("feed_forward.down.bias"))
        return x

    def logits(self, tokens, rows):
        x = self.hidden(tokens).index_select(0, rows)
        P = self.P
        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPS) * P["final_norm"]
        return F.linear(x, P["head.weight"], P["head.bias"])

    # --- model files of m5 (m5-model(5))

    def save(self, path, config, provenance):
        """config: the JSON text of a preset."""
        own = {k: v.detach().float().cpu().numpy() for k, v in self.P.items()}
        names = ["embedding.weight", "embedding.bias"]
        for l in range(self.layers):
            names += [f"layers.{l}.{n}" for n in (
                "conv.norm", "conv.weight", "attention.key_value", "attention.norm", "attention.query",
                "attention.output.weight", "attention.output.bias", "feed_forward.norm", "feed_forward.up.weight",
                "feed_forward.up.bias", "feed_forward.down.weight", "feed_forward.down.bias")]
        tensors = {}
        for name in names + ["final_norm", "head.weight", "head.bias"]:
            if name.endswith("key_value"):
                tensors[name] = np.concatenate([own[name[:-9] + "key"], own[name[:-9] + "value"]])
            else:
                tensors[name] = own[name]
        tensors["embedding.weight"] = tensors["embedding.weight"].reshape(31, 7, D)
        model_file.write(path, config, provenance, tensors)

    def load(self, path):
        tensors = model_file.read(path)[1]
        with torch.no_grad():
            for k, v in self.P.items():
                if k.endswith("attention.key"): t = tensors[k[:-3] + "key_value"][:4 * HEADS]
                elif k.endswith("attention.value"): t = tensors[k[:-5] + "key_value"][4 * HEADS:]
                else: t = tensors[k]
                v.copy_(torch.from_numpy(t.reshape(v.shape)))
