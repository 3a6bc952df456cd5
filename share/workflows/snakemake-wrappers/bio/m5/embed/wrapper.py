"""Snakemake wrapper for m5 embed."""

__author__ = "The m5 developers"
__copyright__ = "Copyright 2026, The m5 developers"
__license__ = "MIT"

import shlex

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

vectors = str(snakemake.output[0])
rows = snakemake.output.get("rows")
if rows and str(rows) != f"{vectors}.tsv":
    raise ValueError(f"output 'rows' must be {vectors}.tsv: m5 embed writes it beside {vectors}")

options = ""
if snakemake.input.get("model"):
    options += f" --model {shlex.quote(str(snakemake.input.model))}"
if snakemake.input.get("features"):
    options += f" --per feature --features {shlex.quote(str(snakemake.input.features))}"
fasta = snakemake.input.get("fasta") or snakemake.input[0]

shell(
    "m5 embed --threads {snakemake.threads}{options} {extra}"
    " --output {vectors:q} {fasta:q} {log}"
)
