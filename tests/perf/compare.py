#!/usr/bin/env python3
"""m5 beside PyTorch: the same model, sequence length and number of threads. Run it by compare.sh.

First the log-probabilities of both are compared; the comparison ends there if they differ by more
than 1e-4. Then runs of m5 and of PyTorch alternate, and the best of each counts:

  forward   log-probabilities of every row
  train     loss on 15 % of the rows, gradient of every parameter

of `m5 bench speed` and of pytorch_model.py. PyTorch stands there twice: with chunks of so many rows
that memory does not matter ("plain"), and "tuned": whichever of its ways (Monomials), chunks that fit a
cache, and recomputation is the fastest on a shorter sequence. AdamW is no part of `train` on either
side; the time PyTorch takes for it is printed.

Wall time means little on a machine with other users. --cpu-time compares CPU time, on one thread.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import torch

import pytorch_model

TOLERANCE = 1e-4
PLAIN_CHUNK = 16384
HERE = pathlib.Path(__file__).resolve().parent


def run_m5(m5, *arguments):
    command = [m5, *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"compare.py: exit code {result.returncode} of {' '.join(command)}")
    return result.stdout


def write_fasta(path, length, seed):
    letters = random.Random(seed).choices("ACGT", k=length)
    path.write_text(">random\n" + "".join(letters) + "\n")
    return torch.tensor(["ACGT".index(c) for c in letters])


def make_model(preset, folder):
    path = folder / f"{preset}.safetensors"
    config = pytorch_model.read_preset(preset)
    tensors = {name: tensor.numpy()
               for name, tensor in pytorch_model.random_tensors(config, 1).items()}
    pytorch_model.model_files().write(path, json.dumps(config), {}, tensors)
    return path


def check_outputs(m5, path, threads, folder):
    """The greatest difference of a log-probability between m5 and PyTorch, and what it is of."""
    fasta = folder / "check.fa"
    tokens = write_fasta(fasta, 6000, 2)
    lines = run_m5(m5, "score", "-m", path, "-O", "tsv", "--unmasked", "--digits", 9, "--no-header",
                   "-@", threads, "--verbosity", 1, fasta).splitlines()
    names = lines[0].lstrip("#").split("\t")
    columns = [names.index(f"p{base}") for base in "ACGT"]
    theirs = torch.tensor([[float(line.split("\t")[c]) for c in columns] for line in lines[1:]],
                          dtype=torch.float64).log()
    model, worst = pytorch_model.read_model(path), 0.0
    with torch.no_grad():
        for way in ("recurrence", "gather"):
            ours = pytorch_model.Model(*model, way, 1000).log_probs(tokens).double()
            assert ours.shape == theirs.shape
            worst = max(worst, (ours - theirs).abs().max().item())
        # The check can fail: without the attention the difference is another.
        broken = pytorch_model.Model(*model)
        for name, tensor in broken.tensors.items():
            if name.endswith("attention.output.weight"):
                tensor.zero_()
        without = (broken.log_probs(tokens).double() - theirs).abs().max().item()
    return worst, without


def timed(run, clock):
    start = clock()
    run()
    return clock() - start


def torch_task(path, mode, nt, way, chunk, recompute):
    """One pass of PyTorch as a function, and its model."""
    model = pytorch_model.Model(*pytorch_model.read_model(path), way, chunk, recompute)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, pytorch_model.BASES, (nt,), generator=generator)
    if mode == "forward":
        def forward():
            with torch.no_grad():
                model.log_probs(tokens)
        return forward, model
    asked = torch.randperm(nt, generator=generator)[:round(0.15 * nt)].sort().values
    targets = tokens[asked]
    masked = tokens.clone()
    masked[asked[torch.rand(len(asked), generator=generator) < 0.8]] = 5
    return lambda: model.loss_and_gradient(masked, asked, targets), model


def activations_fit(model, nt):
    """Whether a step without recomputation fits the memory that is free."""
    c = model.config
    per_row = 8 * len(model.factors) * c["heads"] + 30 * c["dim"] + 4 * c["ff_dim"]
    meminfo = pathlib.Path("/proc/meminfo").read_text(encoding="ascii").split()
    available = 1024 * int(meminfo[meminfo.index("MemAvailable:") + 1])
    return 4 * nt * c["layers"] * per_row < 0.8 * available


def settings(path, mode, nt, clock):
    """(way, rows of a chunk, whether to recompute) by name: of plain code, and of the fastest."""
    some = torch_task(path, mode, 1, "gather", 1, False)[1]
    tight = mode == "train" and not activations_fit(some, nt)
    seconds = {}
    for way in ("gather", "recurrence"):
        for chunk in (256, 512, 1024):
            for recompute in (False, True) if mode == "train" else (False,):
                if tight and not recompute:
                    continue
                run, _ = torch_task(path, mode, min(nt, 4096), way, chunk, recompute)
                run()
                seconds[way, chunk, recompute] = min(timed(run, clock) for _ in range(2))
    best = min(seconds, key=seconds.get)
    return {"plain": (best[0], PLAIN_CHUNK, tight), "tuned": best}


def m5_rate(options, path, mode):
    """Nucleotides a second of m5, by wall or CPU time."""
    report = json.loads(run_m5(
        options.m5, "bench", "speed", "-m", path, "--lengths", options.nt, "--threads",
        options.threads, "--mode", mode, "--repeats", 1, "--breakdown", "--json", "--verbosity", 1))
    if options.cpu_time:
        return options.nt / sum(row["seconds"] for row in report["breakdown"])
    return report["rows"][0]["nt_per_s"]


def compare(options, preset, mode, path, clock):
    """Rows of the table: (preset, mode, name of the setting, rate of m5, rate of PyTorch)."""
    by_name = settings(path, mode, options.nt, clock)
    for name, (way, chunk, recompute) in by_name.items():
        print(f"# {preset} {mode}: {name} PyTorch has monomials by {way}, chunks of {chunk}, "
              f"{'recomputation' if recompute else 'nothing recomputed'}", flush=True)
    tasks = {name: torch_task(path, mode, options.nt, *s) for name, s in by_name.items()}
    ours, theirs = 0.0, dict.fromkeys(tasks, 0.0)
    for _ in range(options.repeats):
        ours = max(ours, m5_rate(options, path, mode))
        for name, (run, _) in tasks.items():
            theirs[name] = max(theirs[name], options.nt / timed(run, clock))
    if mode == "train":
        parameters = tasks["plain"][1].tensors.values()
        adamw = torch.optim.AdamW(parameters, foreach=True)
        adamw.step()
        seconds = min(timed(adamw.step, clock) for _ in range(5))
        print(f"# {preset}: AdamW of PyTorch, not in its rates, {seconds:.4f} s a step", flush=True)
    return [(preset, mode, name, ours, rate) for name, rate in theirs.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--m5", default=str(HERE.parent.parent / "build/release/tools/m5"))
    parser.add_argument("--models", default="nano,small", help="presets (default nano,small)")
    parser.add_argument("--modes", default="forward,train")
    parser.add_argument("--nt", type=int, default=65536, help="length of the sequence")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many runs counts")
    parser.add_argument("--check-only", action="store_true", help="compare outputs, time nothing")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time, with --threads 1")
    options = parser.parse_args()
    if options.cpu_time and options.threads != 1:
        parser.error("--cpu-time needs --threads 1: threads that wait take CPU time, too")
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(options.threads)
    print(f"# {run_m5(options.m5, '--version').splitlines()[0]}, PyTorch {torch.__version__}, "
          f"threads: {options.threads}, {options.nt} nt, best of {options.repeats}, "
          f"{'CPU' if options.cpu_time else 'wall'} time", flush=True)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for preset in options.models.split(","):
            path = make_model(preset, folder)
            worst, without = check_outputs(options.m5, path, options.threads, folder)
            print(f"# {preset}: greatest difference of a log-probability {worst:.1e} "
                  f"(without attention {without:.1e})", flush=True)
            if not worst <= TOLERANCE < without:
                sys.exit(f"compare.py: {preset}: the outputs differ by more than {TOLERANCE}, "
                         "or the attention has no part in them")
            for mode in [] if options.check_only else options.modes.split(","):
                lines += compare(options, preset, mode, path, clock)
    if lines:
        print("model     mode     pytorch  m5_nt_per_s  torch_nt_per_s  ratio")
    for preset, mode, name, ours, theirs in lines:
        print(f"{preset:9} {mode:8} {name:7} {ours:12.0f} {theirs:15.0f} {ours / theirs:6.2f}")


if __name__ == "__main__":
    main()
