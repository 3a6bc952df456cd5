# Pages to look at.


rule genome_report:
    input:
        fasta=fasta_of,
        gff=gff_of,
        track="results/score/{sample}.bedgraph.gz",
    output:
        page="results/report/{sample}.html",
    log:
        "logs/genome_report/{sample}.log",
    resources:
        mem_mb=2000,
        runtime=15,
    conda:
        "../envs/report.yaml"
    script:
        "../scripts/genome_report.py"


rule multiqc:
    input:
        summaries=expand("results/summary/{sample}_mqc.tsv", sample=SAMPLES),
    output:
        page="results/multiqc_report.html",
        data=directory("results/multiqc_report_data"),
    log:
        "logs/multiqc.log",
    resources:
        mem_mb=1000,
        runtime=15,
    conda:
        "../envs/multiqc.yaml"
    container:
        "docker://quay.io/biocontainers/multiqc:1.14--pyhdfd78af_0"
    shell:
        "multiqc --force --module custom_content --title m5 --filename multiqc_report.html"
        " --outdir results {input.summaries} > {log} 2>&1"
