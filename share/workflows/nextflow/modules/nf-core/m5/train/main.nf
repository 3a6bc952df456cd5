process M5_TRAIN {
    tag "$meta.id"
    label 'process_high'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine == 'singularity' && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/m5:0.1.0--0' :
        'biocontainers/m5:0.1.0--0' }"

    input:
    tuple val(meta), path(fastas), path(validation)
    path init

    output:
    tuple val(meta), path("*.safetensors"), emit: model
    tuple val(meta), path("*.train.tsv"), emit: log
    tuple val("${task.process}"), val('m5'), eval("m5 --version | sed '1!d;s/.* //'"), topic: versions, emit: versions_m5

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def start = init ? "--init ${init}" : ''
    def held_out = validation ? "--val ${validation}" : ''
    if ("${init}" == "${prefix}.safetensors") error "Input and output names are the same, set prefix in module configuration to disambiguate!"
    """
    m5 train \\
        ${start} \\
        ${held_out} \\
        --threads ${task.cpus} \\
        --log ${prefix}.train.tsv \\
        ${args} \\
        --output ${prefix}.safetensors \\
        ${fastas}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.safetensors
    touch ${prefix}.train.tsv
    """
}
