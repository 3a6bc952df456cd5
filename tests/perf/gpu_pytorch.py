#!/usr/bin/env python3
"""The speed of PyTorch on a GPU with a model of m5 (pytorch_model.py), plain and by torch.compile.

Needs PyTorch alone: no m5, no model file. Parameters and sequence are random, products bf16 by
autocast. `forward` ends behind the last layer, of every row, before the final norm and the head, as
m5's; `training` gives the loss of every seventh row and all gradients, without an optimizer (which
m5 has in its times). Lengths grow until memory ends:
first with the whole sequence at once, from there on in chunks of rows whose activations are made
again in the backward pass. What is compiled begins at the longest whole sequence that plain code
held, as each length takes its time to compile. The first result of each is compared with fp32.

--gpu-check PROGRAM: gpu_check (gpu.sh), which then times m5, as the program runs it, at the same
lengths: the longest that PyTorch held, and that of its best rate. --rows FILE: where the rows of
gpu.sh's table go, the ratios at the longest.
"""

import argparse
import gc
import itertools
import math
import os
import re
import subprocess
import sys
import time
import typing

import torch

import pytorch_model

LENGTHS = "65536,131072,196608,262144,524288,1048576,2097152,4194304,8388608"
CHUNKS = (None, 32768)  # rows at once; None: the whole sequence
BAR = 3  # times as fast
# Of a result, the norm of its difference to fp32 beside its own norm. Seen on a CPU, with small and
# nano, orders 4 and 6: up to 0.5 % and 1.3 %.
TOLERANCE = {"forward": 0.015, "training": 0.04}


class Row(typing.NamedTuple):
    """A time of PyTorch."""
    way: str
    mode: str
    chunk: typing.Optional[int]
    nt: int
    rate: float  # Mnt/s


def time_m5(program, preset, mode, nt):
    """Mnt/s of m5."""
    result = subprocess.run([program, f"--pass={mode}", f"--preset={preset}", f"--nt={nt}"],
                            stdout=subprocess.PIPE, text=True, check=False)
    seconds = re.search(r": ([0-9.]+) s$", result.stdout.strip())
    if result.returncode != 0 or not seconds:
        raise RuntimeError(f"gpu_check, exit code {result.returncode}: {result.stdout.strip()}")
    return nt / float(seconds[1]) / 1e6


def read_config(options):
    config = pytorch_model.read_preset(options.preset)
    if options.order and options.order != config["order"]:
        config["order"] = options.order  # the speed does not depend on the coefficients
        config["coefficients"] = [1 / math.factorial(k) for k in range(options.order + 1)]
    return config


def make_pass(device, config, way, mode, nt, chunk):
    """A pass as a function that returns its result as tensors. way "fp32": plain, in fp32."""
    model = pytorch_model.Model(config, pytorch_model.random_tensors(config, 1), chunk=chunk or nt,
                                recompute=chunk is not None, device=device)
    if way == "compiled":
        model.compile()
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, pytorch_model.BASES, (nt,), generator=generator).to(device)
    asked = torch.arange(0, nt, 7, device=device)
    targets = tokens[asked]
    precision = torch.autocast(device, torch.bfloat16, enabled=way != "fp32")
    if mode == "forward":
        def forward():
            with torch.no_grad(), precision:
                return [model.hidden(tokens)]
        return forward
    masked = tokens.clone()
    masked[asked] = pytorch_model.MASK

    def step():
        model.loss_and_gradient(masked, asked, targets, precision)
        return [tensor.grad for tensor in model.tensors.values()]
    return step


def error_of(device, config, mode, nt, run):
    """Norm of the difference to what fp32 gives, beside the norm of that."""
    def numbers(values):
        return torch.cat([value.float().flatten() for value in values]).cpu().double()
    ours = numbers(run())
    theirs = numbers(make_pass(device, config, "fp32", mode, nt, 4096)())
    return ((ours - theirs).norm() / theirs.norm()).item()


def is_out_of_memory(error):
    """By its words: the compiler wraps errors in those of its own."""
    return isinstance(error, MemoryError) or re.search(
        r"out of memory|can't allocate memory", str(error), re.IGNORECASE) is not None


class Bench:
    """Times, one after the other, each printed as soon as it is there."""

    def __init__(self, options):
        self.options, self.device, self.config = options, options.device, read_config(options)
        self.rows, self.failures = [], 0
        self.unfinished = set()  # passes of which more than the longest row may fit

    def say(self, way, mode, chunk, nt, text):
        print(f"{way:9} {mode:9} {chunk or 'all':>12} {nt:>9}  {text}", flush=True)

    def run(self, ways):
        begin, parts = time.perf_counter(), list(itertools.product(ways, ("forward", "training")))
        for i, (way, mode) in enumerate(parts):
            until = begin + self.options.seconds * (i + 1) / len(parts)
            held = [row.nt for row in self.rows if row.mode == mode and not row.chunk]
            lengths = [n for n in self.options.lengths if n >= max(held, default=0)]
            try:
                self.lengths(way, mode, lengths, until)
            except Exception as error:  # pylint: disable=broad-exception-caught
                self.failures += way == "plain"
                words = (str(error).strip() or "-").splitlines()[0][:160]
                self.say(way, mode, None, "-", f"did not work: {type(error).__name__}: {words}")
            self.release_memory()

    def lengths(self, way, mode, lengths, until):
        chunks, seconds_per_nt, check = list(CHUNKS), 0.0, True
        for nt in lengths:
            while chunks:
                if time.perf_counter() + 2 * seconds_per_nt * nt > until:
                    self.say(way, mode, chunks[0], nt, "and longer: left out, no time is left")
                    self.unfinished.add(mode)
                    return
                result = self.measure(way, mode, nt, chunks[0], until, check)
                self.release_memory()
                if result:
                    break
                self.say(way, mode, chunks[0], nt, "out of memory")
                chunks.pop(0)
            else:
                return
            seconds, used, error = result
            seconds_per_nt = seconds / nt
            self.rows.append(Row(way, mode, chunks[0], nt, nt / seconds / 1e6))
            text = f"{1e3 * seconds:9.1f} {nt / seconds / 1e6:8.3f} {used:>8}"
            if check:
                text += f"  {100 * error:.2f} % from fp32"
                if not error <= TOLERANCE[mode]:
                    text += f": FAILED, {100 * TOLERANCE[mode]:g} % are allowed"
                    self.failures += 1
            self.say(way, mode, chunks[0], nt, text)
            check = False
        self.unfinished.add(mode)

    def measure(self, way, mode, nt, chunk, until, check):
        """Seconds, GB as text, and the error if it is to be checked; None: out of memory."""
        try:
            if way == "compiled":
                torch.compiler.reset()
            if self.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            run = make_pass(self.device, self.config, way, mode, nt, chunk)
            seconds = self.timed(run, until)
            used = "-"
            if self.device == "cuda":
                used = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}"
            return seconds, used, error_of(self.device, self.config, mode, nt, run) if check else 0
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def timed(self, run, until):
        """Seconds of the best run, after one that does not count; one at least."""
        run()
        best = math.inf
        for _ in range(self.options.repeats):
            self.synchronise()
            begin = time.perf_counter()
            run()
            self.synchronise()
            best = min(best, time.perf_counter() - begin)
            if time.perf_counter() > until:
                break
        return best

    def synchronise(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def release_memory(self):
        """Not in measure(): an error that is being handled holds the tensors."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def ratio(self, program, row, why):
        """Of m5's rate to that of a row."""
        m5 = time_m5(program, self.config["name"], row.mode, row.nt)
        print(f"{row.mode}, {self.config['name']}, {row.nt} nt: m5 {m5:.2f} Mnt/s is "
              f"{m5 / row.rate:.2f} times PyTorch's {row.rate:.3f} ({row.way}, {why})", flush=True)
        return m5 / row.rate

    def ratios(self, program, table):
        """A line and a row of the table for each pass: m5 beside PyTorch at its longest length; and
        at its fastest."""
        name = self.config["name"]
        for mode in ("forward", "training"):
            rows = [row for row in self.rows if row.mode == mode]
            what, value, note = f"{mode}, {name}", "-", "no time of PyTorch"
            if rows:
                longest = max(rows, key=lambda row: (row.nt, row.rate))
                fastest = max(rows, key=lambda row: row.rate)
                limit = "longest timed" if mode in self.unfinished else "longest that fits"
                what += f", {longest.nt} nt"
                try:
                    ratio = self.ratio(program, longest, limit)
                    value, note = f"{ratio:.2f}", f"{longest.way}, {limit}"
                    if fastest != longest:
                        self.ratio(program, fastest, "its best rate")
                except (RuntimeError, OSError) as error:
                    note = str(error) if value == "-" else note
                    print(f"{mode}, {name}: {error}", flush=True)
            print(f"{what}: times as fast as PyTorch", value, "x", ">=", BAR,
                  " ".join(note.split()), sep="\t", file=table, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--preset", default="small",
                        help="name in share/presets, or a .json file (default small)")
    parser.add_argument("--order", type=int, help="of the attention, instead of the preset's")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--ways", default="plain,compiled")
    parser.add_argument("--lengths", default=LENGTHS, help=f"nt (default {LENGTHS})")
    parser.add_argument("--seconds", type=float, default=90,
                        help="nothing begins that would end later, but for compiling (default 90)")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many runs counts")
    parser.add_argument("--gpu-check", metavar="PROGRAM", help="times m5 at the same lengths")
    parser.add_argument("--rows", metavar="FILE", default=os.devnull, help="for rows of the table")
    options = parser.parse_args()
    if options.gpu_check and options.order:
        parser.error("--gpu-check times the order of the preset, not another one")
    options.lengths = sorted(map(int, options.lengths.split(",")))
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_pytorch.py: PyTorch finds no GPU")
    bench, ways = Bench(options), options.ways.split(",")
    config = bench.config
    print(f"PyTorch {torch.__version__}, "
          f"{torch.cuda.get_device_name() if options.device == 'cuda' else 'CPU'}: "
          f"{config['name']} (dim {config['dim']}, {config['layers']} layers, "
          f"order {config['order']}), best of {options.repeats}")
    if "compiled" in ways and not hasattr(torch, "compile"):
        ways.remove("compiled")
        print("compiled: left out, this PyTorch has no torch.compile")
    print(f"{'way':9} {'pass':9} {'rows at once':>12} {'nt':>9}  {'ms':>9} {'Mnt/s':>8} {'GB':>8}",
          flush=True)
    bench.run(ways)
    if options.gpu_check:
        with open(options.rows, "a", encoding="utf-8") as table:
            bench.ratios(options.gpu_check, table)
    sys.exit(bench.failures > 0)


if __name__ == "__main__":
    main()
