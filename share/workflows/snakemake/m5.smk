# m5 as Snakemake rules. In a Snakefile:
#
#   configfile: "config.yaml"      # m5_model: a .safetensors file; without it the bundled model
#   include: ".../share/m5/workflows/snakemake/m5.smk"
#   rule all:
#       input: expand("scores/{sample}.bedgraph.gz", sample=["mg1655"])
#
# Genomes are genomes/SAMPLE.fa.gz.


def m5_model(wildcards):
    return [config["m5_model"]] if config.get("m5_model") else []


rule m5_score:
    input:
        fasta="genomes/{sample}.fa.gz",
        model=m5_model,
    output:
        track="scores/{sample}.bedgraph.gz",
        summary="scores/{sample}.summary.tsv",
    params:
        model=lambda wildcards, input: f"-m {input.model}" if input.model else "",
        extra="",
    log:
        "logs/m5_score/{sample}.log",
    threads: 4
    shell:
        "m5 score {params.model} -@ {threads} --summary {output.summary} {params.extra}"
        " -o {output.track} {input.fasta} 2> {log}"


rule m5_embed:
    input:
        fasta="genomes/{sample}.fa.gz",
        model=m5_model,
    output:
        vectors="embeddings/{sample}.npy",
        rows="embeddings/{sample}.npy.tsv",
    params:
        model=lambda wildcards, input: f"-m {input.model}" if input.model else "",
        extra="--per window --window 1000",
    log:
        "logs/m5_embed/{sample}.log",
    threads: 4
    shell:
        "m5 embed {params.model} -@ {threads} {params.extra}"
        " -o {output.vectors} {input.fasta} 2> {log}"
