#!/usr/bin/env python3
"""Registers of every kernel of libm5_cuda.so on every architecture, as a table for kernels/cuda/NOTES.md:

  cuobjdump --dump-resource-usage build/cuda/lib/libm5_cuda.so | c++filt | tests/perf/registers.py

A row is a kernel and the arguments of its template, in the order of the registers. Exits with 1 where a
kernel has a stack or local memory: a spill.
"""
import collections
import re
import sys

registers = collections.defaultdict(dict)  # kernel: arguments: architecture: registers
spills, architecture, kernel = [], "", None
for line in sys.stdin:
    if found := re.match(r"arch = (sm_\w+)", line):
        architecture = found[1]
    elif found := re.search(r"Function .*?(\w+)_kernel(<.*>)?\(", line):
        arguments = re.sub(r"m5::kernels::cuda::|\(\w+\)|[<> ]", "", found[2] or "")
        wgmma = ", sm_90a" if architecture == "sm_90a" else ""
        kernel = found[1] + wgmma, arguments.replace("true", "1").replace("false", "0")
    elif (found := re.search(r"REG:(\d+) STACK:(\d+).* LOCAL:(\d+)", line)) and kernel:
        name, arguments = kernel
        registers[name].setdefault(arguments, {})[architecture[:5]] = int(found[1])
        if found[2] != "0" or found[3] != "0":
            spills.append(f"{name}{arguments} on {architecture}")


def in_order(arguments):
    return [int(part) if part.isdigit() else part for part in re.findall(r"\d+|\D+", arguments)]


architectures = sorted({a for kernels in registers.values() for by in kernels.values() for a in by})
print("| kernel |", " | ".join(architectures), "|")
print("|---" * (len(architectures) + 1) + "|")
for name, kernels in sorted(registers.items()):
    arguments = sorted(kernels, key=in_order)
    rows = [[str(kernels[k].get(a, "")) for a in architectures] for k in arguments]
    cells = [", ".join(column).strip(", ") for column in zip(*rows)]
    shown = " ".join(f"<{k}>" for k in arguments if k)
    print(f"| `{name}{' ' if shown else ''}{shown}` |", " | ".join(cells), "|")
for spill in spills:
    print(f"registers.py: {spill} has local memory", file=sys.stderr)
sys.exit(1 if spills or not registers else 0)
