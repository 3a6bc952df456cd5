# The table of m5 score --summary as custom content of MultiQC, as it stands.
. "$(dirname "$0")/../cli/harness.sh"

export HOME=$WORK MPLCONFIGDIR=$WORK/matplotlib
mkdir matplotlib one
record a 500 1 >007.fa
{ record b 300 2; record n 50 3 N; } | gzip >k12.fna.gz
printf '>none\nNNN\n' >none.fa
record c 200 4 >one/c.fa
cp one/c.fa one/007.fa
score=(score -k 2 -o /dev/null)
ok "four files in a table" "${score[@]}" --summary many_mqc.tsv 007.fa k12.fna.gz none.fa
ok "one more, with a name" "${score[@]}" --sample 1e5 --summary one_mqc.tsv one/c.fa
ok "a comment" "${score[@]}" --sample '#x' --no-header --summary comment_mqc.tsv one/c.fa

multiqc --lint --no-ansi --outdir report . >multiqc.log 2>&1
equal "multiqc --lint" "$?" 0
equal "no warning, no error" "$(grep -iE 'warn|error|lint:|not able|traceback' multiqc.log)" ""
stats=report/multiqc_data/multiqc_general_stats.txt
equal "a row a sample" "$(tail -n +2 $stats | cut -f1 | sort | paste -sd ' ')" "#x 007 1e5 k12 none"
equal "the columns" "$(head -n 1 $stats | sed 's/[^\t]*-m5-//g')" \
  "$(printf 'Sample\tmean_bits\tperplexity\taccuracy\tn_scored\tn_records')"
cell() { awk -F'\t' -v s="$1" -v c="$2" 'NR == 1 { for (i = 1; i <= NF; ++i) if ($i ~ c "$") k = i } $1 == s { print $k }' $stats; }
own() { grep -v '^#' many_mqc.tsv | awk -F'\t' -v c="$1" -v r="$2" \
  'NR == 1 { for (i = 1; i <= NF; ++i) if ($i == c) k = i } NR == r + 1 { print $k }'; }
equal "bits are those of the table" "$(cell k12 mean_bits)" "$(own mean_bits 2)"
equal "accuracy is that of the table" "$(cell 007 accuracy)" "$(own accuracy 1)"
equal "scored" "$(cell k12 n_scored) $(cell k12 n_records)" "300.0 2.0"
equal "nothing over no base" "$(cell none mean_bits)" ""
check "the page has the columns" grep -q 'Guessed right' report/multiqc_report.html
check "and what they mean" grep -q 'mean -log2 p of a hidden base' report/multiqc_report.html

# The lint of this MultiQC can fail: a column type it does not know.
mkdir broken
sed 's/^# plot_type.*/# plot_type: table/; s/^# pconfig:/# headers:/' many_mqc.tsv | sed '/^#/s/^\(.*mean_bits\):/\1 x/' >broken/b_mqc.tsv
multiqc --lint --no-ansi --outdir broken/report broken >broken.log 2>&1
check "a broken header is said" grep -qiE 'could not parse|not found|warn|error' broken.log
finish
