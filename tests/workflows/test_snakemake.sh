# The Snakemake workflow and wrappers of share/workflows, run on three small genomes.
. "$(dirname "$0")/../cli/harness.sh"

export PATH=$(dirname "$M5"):$PATH XDG_CACHE_HOME=$WORK/cache HOME=$WORK/home MPLCONFIGDIR=$WORK/matplotlib
mkdir -p home matplotlib
workflow=$SOURCE/share/workflows/snakemake
smk() { snakemake --snakefile "$workflow/workflow/Snakefile" --nocolor "$@" </dev/null; }
# jobs FILE: rules and numbers of jobs that a run began, on one line.
jobs() { sed -nE 's/^(local)?rule ([a-z0-9_]+):$/\2/p' "$1" | sort | uniq -c | awk '{ printf "%s%s=%s", s, $2, $1; s = " " }'; }
# smk_is NAME CODE WANT_JOBS ARGS...: a run ends with CODE (0 or not) and began these jobs.
smk_is() {
  local name=$1 want=$2 want_jobs=$3 code
  shift 3
  smk "$@" >run.log 2>&1
  code=$?
  [ $code = 0 ] || code=1
  if [ $code != "$want" ]; then
    fail "$name: exit $code, not $want"
    tail -n 25 run.log
  else
    pass
  fi
  equal "$name: jobs" "$(jobs run.log)" "$want_jobs"
}

mkdir config genomes
cp "$workflow/config/config.yaml" config
record ring 9000 1 >genomes/a.fa
record drop 700 2 | gzip >genomes/b.fasta.gz
{ record c1 3000 3; record c2 40 4; record c3 1 5; } >"genomes/with space.fa"
{ echo '##gff-version 3'
  printf 'ring\tx\tCDS\t%d\t%d\t.\t+\t0\tID=g%d;gene=gene%d;product=a%%2Cb\n' 1 300 1 1 901 2000 2 2 2500 8900 3 3
} >genomes/a.gff
printf '#seq_name\tlength\tcov.\tcirc.\trepeat\nc1\t3000\t9\tY\tN\nc2\t40\t9\tN\tN\n' >"genomes/assembly info.txt"
{ printf 'sample\tfasta\tcircular\tmodel\tgff\tcircular_list\n'
  printf 'a\tgenomes/a.fa\tyes\t\tgenomes/a.gff\n'
  printf '007\tgenomes/b.fasta.gz\tno\t%s\t\n' "$MODEL"
  printf '# a remark\n\nc\tgenomes/with space.fa\t\t\t\tgenomes/assembly info.txt\n'
} >config/samples.tsv
before=$(find . -path ./.snakemake -prune -o -path ./home -prune -o -path ./cache -prune -o -type f -print | sort)

# --- lint, dry run -------------------------------------------------------------------------------
smk --lint >lint.log 2>&1
equal "lint" "$?: $(cat lint.log)" "0: Congratulations, your workflow is in a good condition!"
all="all=1 genome_report=3 m5_embed=3 m5_plan=6 m5_score=3 multiqc=1"
smk_is "dry run" 0 "$all" -n
equal "a dry run writes nothing" "$(find . -path ./.snakemake -prune -o -path ./home -prune \
  -o -path ./cache -prune -o -type f ! -name '*.log' -print | sort)" "$before"
check "memory is to be determined" grep -qF 'mem_mb=<TBD>' run.log

# --- run -----------------------------------------------------------------------------------------
smk_is "run" 0 "$all" --cores 2
smk_is "again: nothing to do" 0 "" --cores 2
no_temporaries "run"
plain() { zcat "$1" | grep -v '^#'; }
ok "a alone" score --metric bits --circular --no-header -o a.bg genomes/a.fa
same "the track is that of m5" a.bg <(plain results/score/a.bedgraph.gz)
ok "b alone" score --metric bits --linear --no-header -o b.bg genomes/b.fasta.gz
same "the track is that of m5, linear" b.bg <(plain results/score/007.bedgraph.gz)
ok "c embedded" embed --circular-list "genomes/assembly info.txt" --per window --window 1000 -o c.npy "genomes/with space.fa"
same "the vectors are those of m5" c.npy results/embed/c.npy
check "a name with a blank" grep -q '^0.c1' results/embed/c.npy.tsv
equal "the sample of the summary" "$(grep -v '^#' results/summary/007_mqc.tsv | cut -f1 | tail -n 1)" '"007"'
equal "MultiQC has the samples" \
  "$(tail -n +2 results/multiqc_report_data/multiqc_general_stats.txt | cut -f1 | sort | paste -sd ' ')" "007 a c"
check "a page with its genes" grep -q 'gene3<td>a,b' results/report/a.html
check "a page without" grep -q 'windows of 1,000 nt' results/report/c.html

smk_is "bigWig by its name" 0 "m5_bigwig=1" --cores 2 results/score/a.bw
check "bigWig: the values of the bedGraph" /usr/bin/python3 - <<'P'
import gzip, pyBigWig
wanted = {}
for line in gzip.open("results/score/a.bedgraph.gz", "rt"):
    if not line.startswith("#"):
        name, start, end, value = line.split("\t")
        wanted.update({i: float(value) for i in range(int(start), int(end))})
got = pyBigWig.open("results/score/a.bw").values("ring", 0, 9000)
assert len(wanted) == 9000 and max(abs(got[i] - wanted[i]) for i in wanted) < 1e-5
P
smk -n --config bigwig=true >bigwig.log 2>&1
equal "bigwig: true asks for those of all samples" "$(jobs bigwig.log)" "all=1 m5_bigwig=2"

# --- one output is gone, an input is newer -------------------------------------------------------
cp results/embed/007.npy kept.npy
rm results/embed/007.npy
smk_is "one output deleted" 0 "all=1 m5_embed=1" --cores 2
same "it is back, byte for byte" results/embed/007.npy kept.npy
rm results/summary/a_mqc.tsv
smk_is "a summary deleted" 0 "all=1 genome_report=1 m5_score=1 multiqc=1" --cores 2

# --- as a cluster profile submits it -------------------------------------------------------------
mkdir profile
cat >profile/config.yaml <<'P'
cluster-sync: "bash profile/submit.sh {rule} {threads} {resources.mem_mb} {resources.runtime}"
jobs: 2
keep-going: true
P
cat >profile/submit.sh <<'P'
echo "$1 $2 $3 $4" >>submitted
bash "$5" >>jobs.log 2>&1
P
rm -r results/plan/a.score.tsv results/score/a.bedgraph.gz
cp config/config.yaml config/two.yaml
sed -i 's/^threads: .*/threads: 2/' config/two.yaml
smk_is "by a profile" 0 "m5_plan=1 m5_score=1" results/score/a.bedgraph.gz \
  --profile profile --configfile config/two.yaml
memory=$(awk -F'\t' '$1 == "memory_bytes" { print int(($2 + 999999) / 1e6) + 500 }' results/plan/a.score.tsv)
equal "threads and memory that are asked for" "$(awk '$1 == "m5_score" { print $2, $3 }' submitted)" "1 $memory"
check "minutes are a number" grep -qE '^m5_score 1 [0-9]+ [1-9][0-9]*$' submitted
sed -i 's/^rows.*/rows\t50000/' results/plan/a.score.tsv
smk --cores 8 --configfile config/two.yaml --rerun-triggers mtime -n --forcerun m5_score >threads.log 2>&1
equal "a longer genome: as many threads as the config allows" \
  "$(grep -A12 'results/score/a.bedgraph.gz' threads.log | sed -n 's/ *threads: //p' | head -n 1)" 2

# --- what cannot be scored -----------------------------------------------------------------------
rm -r results logs
printf '>p\nACGTACGT\n>q\nMKV*LE\n' >genomes/bad.fa
printf 'bad\tgenomes/bad.fa\n' >>config/samples.tsv
smk --cores 2 --keep-going results/score/{bad,007}.bedgraph.gz results/embed/bad.npy >run.log 2>&1
equal "a bad genome: exit" "$?" 1
equal "it leaves nothing" "$(find results -name 'bad*')" ""
equal "the others are done" "$(find results -type f ! -name '.*' | sort | paste -sd ' ')" \
  "results/plan/007.score.tsv results/score/007.bedgraph.gz results/summary/007_mqc.tsv"
check "the log says why" grep -q "^m5 score: genomes/bad.fa: .*q" logs/m5_plan/bad.score.log
# It was fit to be planned, and is cut short afterwards: the job itself fails.
cp results/plan/007.score.tsv results/plan/bad.score.tsv
smk --cores 2 results/score/bad.bedgraph.gz >run.log 2>&1
equal "a job that fails: exit" "$?" 1
equal "it leaves neither track nor summary" "$(find results ! -path '*plan*' -name 'bad*')" ""
check "the log of the job says why" grep -q "^m5 score: genomes/bad.fa: .*q" logs/m5_score/bad.log

# --- sheets --------------------------------------------------------------------------------------
bad_sheet() {
  printf "$2" >sheet.tsv
  smk -n --config samples=sheet.tsv >run.log 2>&1
  equal "$1: exit" "$?" 1
  check "$1" grep -qF "sheet.tsv: $3" run.log
}
bad_sheet "no fasta column" 'sample\tfile\nx\ty\n' "the columns are"
bad_sheet "an unknown column" 'sample\tfasta\tcircle\nx\ty\tyes\n' "the columns are"
bad_sheet "a sample twice" 'sample\tfasta\nx\ty\nx\tz\n' "sample 'x' occurs twice"
bad_sheet "a sample that is a path" 'sample\tfasta\na/b\ty\n' "'a/b' cannot be part"
bad_sheet "circular" 'sample\tfasta\tcircular\nx\ty\tmaybe\n' "sample 'x': circular is"
bad_sheet "circular twice" 'sample\tfasta\tcircular\tcircular_list\nx\ty\tyes\tl\n' "sample 'x': circular or circular_list"
bad_sheet "no fasta" 'sample\tfasta\nx\t\n' "sample 'x' has no fasta"
bad_sheet "a cell too many" 'sample\tfasta\nx\ty\tz\n' "sample 'x': more cells"
bad_sheet "no samples" 'sample\tfasta\n' "no samples"

# --- wrappers ------------------------------------------------------------------------------------
wrappers=$SOURCE/share/workflows/snakemake-wrappers
mkdir master
cp -r "$wrappers/bio" master
for name in "$wrappers"/bio/m5/*/; do
  name=$(basename "$name")
  case $name in
    score) targets="genome.bedgraph.gz genome_mqc.tsv genome.sizes" ;;
    embed) targets="genome.npy genome.npy.tsv" ;;
    *) targets=; fail "wrapper $name: this test does not know it" ;;
  esac
  check "wrapper $name: meta.yaml and environment.yaml" /usr/bin/python3 - "$wrappers/bio/m5/$name" <<'P'
import sys, yaml
meta = yaml.safe_load(open(sys.argv[1] + "/meta.yaml"))
assert set(meta) >= {"name", "description", "url", "authors", "input", "output", "params"}, meta.keys()
assert meta["name"] == "m5 " + sys.argv[1].rsplit("/", 1)[1]
environment = yaml.safe_load(open(sys.argv[1] + "/environment.yaml"))
assert environment["channels"] == ["conda-forge", "bioconda", "nodefaults"]
assert all("=" in package for package in environment["dependencies"])
P
  # shellcheck disable=SC2086
  check "wrapper $name" snakemake --directory "master/bio/m5/$name/test" --cores 2 \
    --snakefile "master/bio/m5/$name/test/Snakefile" --wrapper-prefix "file://$WORK/" $targets
  cat "master/bio/m5/$name/test/logs/m5_$name/genome.log" >.err
done
check "wrapper score: track" grep -q '^plasmid.59.60' <(zcat master/bio/m5/score/test/genome.bedgraph.gz)
equal "wrapper score: sizes" "$(paste -sd ' ' master/bio/m5/score/test/genome.sizes)" \
  "$(printf 'chr\t120 plasmid\t60')"
cd master/bio/m5/embed/test || exit 1
ok "embed alone" embed --per window --window 50 -o alone.npy genome.fasta
same "wrapper embed: the vectors are those of m5" alone.npy genome.npy
cd "$WORK" || exit 1
finish
