// m5 score as a Nextflow process, in the manner of an nf-core module.
//
//   include { M5_SCORE } from './main'
//   workflow {
//       genomes = Channel.fromPath('genomes/*.fa.gz').map { file -> [[id: file.simpleName], file] }
//       M5_SCORE(genomes, [])        // [] : the bundled model; else file('model.safetensors')
//   }
process M5_SCORE {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(fasta)
    path model

    output:
    tuple val(meta), path("*.bedgraph.gz"), emit: bedgraph
    tuple val(meta), path("*.summary.tsv"), emit: summary
    tuple val("${task.process}"), val('m5'), eval("m5 --version | sed '1!d;s/.* //'"), topic: versions, emit: versions_m5

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def weights = model ? "-m ${model}" : ''
    """
    m5 score \\
        ${weights} \\
        -@ ${task.cpus} \\
        --no-header \\
        --summary ${prefix}.summary.tsv \\
        ${args} \\
        -o ${prefix}.bedgraph.gz \\
        ${fasta}
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo "" | gzip > ${prefix}.bedgraph.gz
    touch ${prefix}.summary.tsv
    """
}
