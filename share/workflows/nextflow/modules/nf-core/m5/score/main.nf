process M5_SCORE {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine == 'singularity' && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/m5:0.1.0--0' :
        'biocontainers/m5:0.1.0--0' }"

    input:
    tuple val(meta), path(fasta)
    path model

    output:
    tuple val(meta), path("*.bedgraph.gz"), emit: bedgraph, optional: true
    tuple val(meta), path("*.bw"), emit: bigwig, optional: true
    tuple val(meta), path("*_mqc.tsv"), emit: summary
    tuple val("${task.process}"), val('m5'), eval("m5 --version | sed '1!d;s/.* //'"), topic: versions, emit: versions_m5

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def suffix = task.ext.suffix ?: "bedgraph.gz"
    def weights = model ? "--model ${model}" : ''
    """
    m5 score \\
        ${weights} \\
        --threads ${task.cpus} \\
        --no-header \\
        --sample ${prefix} \\
        --summary ${prefix}_mqc.tsv \\
        ${args} \\
        --output ${prefix}.${suffix} \\
        ${fasta}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    def suffix = task.ext.suffix ?: "bedgraph.gz"
    """
    echo "" | gzip > ${prefix}.${suffix}
    touch ${prefix}_mqc.tsv
    """
}
