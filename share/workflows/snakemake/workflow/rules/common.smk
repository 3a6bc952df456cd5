# The sample sheet, and what a job needs by the dry run of m5.
import csv
import math
import os
import re
import shlex

from snakemake.exceptions import WorkflowError

COLUMNS = ["sample", "fasta", "circular", "circular_list", "model", "gff"]
TOPOLOGY = {"": "", "yes": "--circular", "no": "--linear"}


def read_samples(path):
    """{sample: row} of the sheet; whatever is wrong in it is said before a job is run."""
    samples = {}
    with open(path, newline="") as sheet:
        lines = (line for line in sheet if line.strip() and not line.startswith("#"))
        rows = csv.DictReader(lines, delimiter="\t", restval="")
        unknown = set(rows.fieldnames or []) - set(COLUMNS)
        if unknown or not {"sample", "fasta"} <= set(rows.fieldnames or []):
            raise WorkflowError(
                f"{path}: the columns are {', '.join(COLUMNS)}, tab-separated, and the first two must"
                f" be there; found: {', '.join(rows.fieldnames or [])}"
            )
        for row in rows:
            sample = row["sample"]
            if None in row:
                raise WorkflowError(f"{path}: sample '{sample}': more cells than columns")
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", sample):
                raise WorkflowError(f"{path}: '{sample}' cannot be part of a file's name")
            if sample in samples:
                raise WorkflowError(f"{path}: sample '{sample}' occurs twice")
            if not row["fasta"]:
                raise WorkflowError(f"{path}: sample '{sample}' has no fasta")
            if row.get("circular", "") not in TOPOLOGY:
                raise WorkflowError(f"{path}: sample '{sample}': circular is yes, no or empty")
            if row.get("circular") and row.get("circular_list"):
                raise WorkflowError(f"{path}: sample '{sample}': circular or circular_list, not both")
            samples[sample] = {column: row.get(column) or "" for column in COLUMNS}
    if not samples:
        raise WorkflowError(f"{path}: no samples")
    return samples


SAMPLES = read_samples(config["samples"])


wildcard_constraints:
    sample="|".join(re.escape(sample) for sample in SAMPLES),
    command="score|embed",


def fasta_of(wildcards):
    return SAMPLES[wildcards.sample]["fasta"]


def gff_of(wildcards):
    gff = SAMPLES[wildcards.sample]["gff"]
    return [gff] if gff else []


def model_of(wildcards):
    """The model of the sample, else that of the config; none of both: the bundled model."""
    model = SAMPLES[wildcards.sample]["model"] or config.get("model") or ""
    return [model] if model else []


def model_option(wildcards, input):
    return f"-m {shlex.quote(str(input.model))}" if input.model else ""


def circular_list_of(wildcards):
    circular_list = SAMPLES[wildcards.sample]["circular_list"]
    return [circular_list] if circular_list else []


def topology_option(wildcards, input):
    if input.circular_list:
        return f"--circular-list {shlex.quote(str(input.circular_list))}"
    return TOPOLOGY[SAMPLES[wildcards.sample]["circular"]]


def extra_of(wildcards):
    return config.get(f"{wildcards.command}_extra", "")


def read_plan(path):
    with open(path) as plan:
        return dict(line.rstrip("\n").split("\t", 1) for line in plan)


# Snakemake asks for these before there is a plan, to draw up its jobs, and again when the job is
# about to start. Memory is <TBD> until then. Versions around 7.21 stop at threads and times of which
# they know as little: what is given in their place is never used.


# A thread more is worth its while for every 16,384 nt.
def threads_of(wildcards, input):
    most = int(config["threads"])
    if not os.path.exists(input.plan):
        return most
    return max(1, min(most, math.ceil(int(read_plan(input.plan)["rows"]) / 16384)))


# What m5 says it takes at most, and 500 MB for the Snakemake that starts it on the node of a cluster.
# A repeated job (--retries) asks for more.
def mem_mb_of(wildcards, input, attempt):
    return attempt * (500 + math.ceil(int(read_plan(input.plan)["memory_bytes"]) / 1e6))


# Minutes: the dry run may have met another machine, or a busy one.
def runtime_of(wildcards, input, attempt):
    if not os.path.exists(input.plan):
        return None
    return attempt * math.ceil(5 + 3 * float(read_plan(input.plan)["expected_seconds"]) / 60)
