# What m5 does of a sample. Every output appears whole or not at all.


# What the job will take: rows, memory in bytes, seconds.
rule m5_plan:
    input:
        fasta=fasta_of,
        model=model_of,
        circular_list=circular_list_of,
    output:
        plan="results/plan/{sample}.{command}.tsv",
    params:
        model=model_option,
        topology=topology_option,
        extra=extra_of,
    log:
        "logs/m5_plan/{sample}.{command}.log",
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=10,
    conda:
        "../envs/m5.yaml"
    container:
        "docker://quay.io/biocontainers/m5:0.1.0--0"
    shell:
        "m5 {wildcards.command} --dry-run {params.model} {params.topology} {params.extra}"
        " -@ {threads} {input.fasta:q} > {output.plan} 2> {log}"


rule m5_score:
    input:
        fasta=fasta_of,
        model=model_of,
        circular_list=circular_list_of,
        plan="results/plan/{sample}.score.tsv",
    output:
        track="results/score/{sample}.bedgraph.gz",
        summary="results/summary/{sample}_mqc.tsv",
    params:
        model=model_option,
        topology=topology_option,
        extra=config.get("score_extra", ""),
    log:
        "logs/m5_score/{sample}.log",
    threads: threads_of
    resources:
        mem_mb=mem_mb_of,
        runtime=runtime_of,
    conda:
        "../envs/m5.yaml"
    container:
        "docker://quay.io/biocontainers/m5:0.1.0--0"
    shell:
        "m5 score --metric bits {params.model} {params.topology} {params.extra} -@ {threads}"
        " --sample {wildcards.sample} --summary {output.summary} -o {output.track}"
        " {input.fasta:q} 2> {log}"


# bigWig is for genome browsers, bedGraph for the rest: m5 writes one of them in a run.
rule m5_bigwig:
    input:
        fasta=fasta_of,
        model=model_of,
        circular_list=circular_list_of,
        plan="results/plan/{sample}.score.tsv",
    output:
        track="results/score/{sample}.bw",
    params:
        model=model_option,
        topology=topology_option,
        extra=config.get("score_extra", ""),
    log:
        "logs/m5_bigwig/{sample}.log",
    threads: threads_of
    resources:
        mem_mb=mem_mb_of,
        runtime=runtime_of,
    conda:
        "../envs/m5.yaml"
    container:
        "docker://quay.io/biocontainers/m5:0.1.0--0"
    shell:
        "m5 score --metric bits {params.model} {params.topology} {params.extra} -@ {threads}"
        " -O bigwig -o {output.track} {input.fasta:q} 2> {log}"


rule m5_embed:
    input:
        fasta=fasta_of,
        model=model_of,
        circular_list=circular_list_of,
        plan="results/plan/{sample}.embed.tsv",
    output:
        vectors="results/embed/{sample}.npy",
        rows="results/embed/{sample}.npy.tsv",
    params:
        model=model_option,
        topology=topology_option,
        extra=config.get("embed_extra", ""),
    log:
        "logs/m5_embed/{sample}.log",
    threads: threads_of
    resources:
        mem_mb=mem_mb_of,
        runtime=runtime_of,
    conda:
        "../envs/m5.yaml"
    container:
        "docker://quay.io/biocontainers/m5:0.1.0--0"
    shell:
        "m5 embed {params.model} {params.topology} {params.extra} -@ {threads}"
        " -o {output.vectors} {input.fasta:q} 2> {log}"
