process M5_EMBED {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine == 'singularity' && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/m5:0.1.0--0' :
        'biocontainers/m5:0.1.0--0' }"

    input:
    tuple val(meta), path(fasta), path(features)
    path model

    output:
    tuple val(meta), path("*.npy"), emit: npy
    tuple val(meta), path("*.npy.tsv"), emit: rows
    tuple val("${task.process}"), val('m5'), eval("m5 --version | sed '1!d;s/.* //'"), topic: versions, emit: versions_m5

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def weights = model ? "--model ${model}" : ''
    def units = features ? "--per feature --features ${features}" : ''
    """
    m5 embed \\
        ${weights} \\
        ${units} \\
        --threads ${task.cpus} \\
        --no-header \\
        ${args} \\
        --output ${prefix}.npy \\
        ${fasta}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.npy
    touch ${prefix}.npy.tsv
    """
}
