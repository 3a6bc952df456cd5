"""Snakemake wrapper for m5 score."""

__author__ = "The m5 developers"
__copyright__ = "Copyright 2026, The m5 developers"
__license__ = "MIT"

import shlex

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

options = ""
if snakemake.input.get("model"):
    options += f" --model {shlex.quote(str(snakemake.input.model))}"
if snakemake.output.get("summary"):
    options += f" --summary {shlex.quote(str(snakemake.output.summary))}"
if snakemake.output.get("chrom_sizes"):
    options += f" --chrom-sizes {shlex.quote(str(snakemake.output.chrom_sizes))}"
fasta = snakemake.input.get("fasta") or snakemake.input[0]

shell(
    "m5 score --threads {snakemake.threads}{options} {extra}"
    " --output {snakemake.output[0]:q} {fasta:q} {log}"
)
