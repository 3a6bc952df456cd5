"""m5_report.py as a Snakemake script."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import m5_report  # noqa: E402

with open(snakemake.log[0], "w", encoding="utf-8") as log:  # noqa: F821
    sys.stderr = log
    arguments = ["--fasta", snakemake.input.fasta, "--track", snakemake.input.track]  # noqa: F821
    if snakemake.input.gff:  # noqa: F821
        arguments += ["--gff", str(snakemake.input.gff)]  # noqa: F821
    arguments += ["--title", snakemake.wildcards.sample, "-o", snakemake.output.page]  # noqa: F821
    code = m5_report.main(arguments)
sys.exit(code)
