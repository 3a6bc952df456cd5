# The Nextflow modules of share/workflows. There is no Nextflow here: their script and stub blocks are run
# by bash as Nextflow would, with stand-ins for its variables (nextflow_module.py).
. "$(dirname "$0")/../cli/harness.sh"

export PATH=$(dirname "$M5"):$PATH
modules=$SOURCE/share/workflows/nextflow/modules/nf-core/m5
tool() { /usr/bin/python3 "$SOURCE/tests/workflows/nextflow_module.py" "$@"; }
train="--preset nano --segment-length 256 --steps 2 --batch-tokens 512 --seed 1"

mkdir in
record chr 1500 1 >in/g.fa
record plasmid 300 2 | gzip >in/p.fa.gz
printf 'chr\tx\tCDS\t10\t300\t.\t+\t0\tID=one\nchr\tx\tCDS\t500\t900\t.\t-\t0\tID=two\n' >in/g.gff
printf '>q\nMKV*LE\n' >in/bad.fa
cp "$MODEL" in/tiny.safetensors

# block KIND MODULE FOLDER NAME=VALUE...: runs a block in a new folder with the inputs staged; its exit code.
block() {
  local kind=$1 module=$2 folder=$3
  shift 3
  mkdir -p "$folder"
  tool "$kind" "$modules/$module" meta.id=s1 task.ext.args= task.ext.prefix= task.cpus=2 fasta=g.fa fastas=g.fa \
    task.ext.suffix= features= model= init= validation= "$@" >"$folder.sh" 2>.err || return 99
  (cd "$folder" && cp ../in/* . && bash -euo pipefail "../$folder.sh" >../.out 2>../.err)
}
# made FOLDER: what a block left beside its inputs.
made() { (cd "$1" && find . -type f -printf '%P\n' | grep -vxFf <(ls ../in) | sort | paste -sd ' '); }
# outputs_match NAME MODULE FOLDER: every declared pattern has one file, and every file a pattern.
outputs_match() {
  local emit pattern optional count=0 found
  while IFS=$'\t' read -r emit pattern optional; do
    found=$(cd "$3" && find . -name "$pattern" -printf '%P\n' | grep -vcxFf <(ls ../in))
    [ -n "$optional" ] && [ "$found" = 0 ] && continue
    equal "$1: files of $emit, $pattern" "$found" 1
    count=$((count + found))
  done < <(tool outputs "$modules/$2")
  equal "$1: files in all" "$(made "$3" | wc -w)" "$count"
}

ran=0
for path in "$modules"/*/; do
  module=$(basename "$path")
  check "$module: meta.yml and the rest say what main.nf says" tool check "$modules/$module"
  equal "$module: eval gives a bare version" "$(bash -c "$(tool version "$modules/$module")")" \
    "$("$M5" --version | head -n 1 | grep -oE '[0-9]+(\.[0-9]+)+$')"
  args=
  [ "$module" = train ] && args=$train
  i=0
  for setting in "" "task.ext.prefix=other" "task.cpus=1"; do
    i=$((i + 1))
    check "$module: script, $setting" block script "$module" "$module$i" "task.ext.args=$args" ${setting:+"$setting"}
    outputs_match "$module: script, $setting" "$module" "$module$i"
    check "$module: stub, $setting" block stub "$module" "stub$module$i" "task.ext.args=$args" ${setting:+"$setting"}
    equal "$module: the stub makes the files of the script, $setting" "$(made "stub$module$i")" "$(made "$module$i")"
  done
  for file in $(made "$module"1); do
    case $file in
      *.train.tsv) ;;  # it has times
      *) same "$module: $file is the same for one thread" "$module"1/"$file" "$module"3/"$file" ;;
    esac
    case $file in *.gz) check "$module: $file of the stub is gzip" gzip -t "stub$module"1/"$file" ;; esac
  done
  block script "$module" "bad$module" "task.ext.args=$args" fasta=bad.fa fastas=bad.fa
  equal "$module: a bad input: exit" "$?" 3
  equal "$module: and no output" "$(made "bad$module" | tr ' ' '\n' | grep -vE '^$|\.train\.tsv$')" ""
  ran=$((ran + 1))
done
equal "all three modules" "$ran" 3

# --- what the options of each do -----------------------------------------------------------------
ok "score alone" score --no-header -o alone.bg in/g.fa
same "score: the track is that of m5" alone.bg <(zcat score1/s1.bedgraph.gz)
equal "score: the sample is the prefix" "$(grep -v '^#' score2/other_mqc.tsv | tail -n 1 | cut -f1)" other
M5_MODEL=no/such block script score model "task.ext.args=--metric bits --circular" model=tiny.safetensors fasta=p.fa.gz
equal "score: with a model that is an input" "$?" 0
ok "score with options alone" score --no-header --metric bits --circular -o alone.bg in/p.fa.gz
same "score: ext.args are those of m5" alone.bg <(zcat model/s1.bedgraph.gz)

check "score: bigWig" block script score bigwig task.ext.suffix=bw
outputs_match "score: bigWig" score bigwig
equal "score: bigWig in place of the bedGraph" "$(made bigwig)" "s1.bw s1_mqc.tsv"
block stub score stubbigwig task.ext.suffix=bw
equal "score: its stub" "$? $(made stubbigwig)" "0 s1.bw s1_mqc.tsv"
check "score: a bigWig" /usr/bin/python3 -c 'import pyBigWig; assert pyBigWig.open("bigwig/s1.bw").chroms() == {"chr": 1500}'

check "embed: genes" block script embed genes features=g.gff "task.ext.args=--feature-type CDS"
equal "embed: a row a gene" "$(grep -v '^#' genes/s1.npy.tsv | cut -f2 | paste -sd ' ')" "name one two"
equal "embed: a row a record" "$(grep -v '^#' embed1/s1.npy.tsv | cut -f2 | paste -sd ' ')" "name chr"

check "train: two files, one held out, a start" block script train start "task.ext.args=${train/--preset nano/}" \
  "fastas=g.fa g.fa" validation=p.fa.gz init=tiny.safetensors
check "train: a model that scores" "$M5" score -m start/s1.safetensors -o /dev/null in/g.fa
equal "train: a row a step" "$(grep -vc '^#' train1/s1.train.tsv)" 3
block script train self "task.ext.args=$train" task.ext.prefix=tiny init=tiny.safetensors
equal "train: output and start of one name" "$? $(made self)" "99 "
cp .err said
check "train: it says so" grep -q 'set prefix in module configuration' said

# --- the check can fail --------------------------------------------------------------------------
# broken NAME SED_EXPRESSION FILE: the check refuses the module with this change.
broken() {
  rm -rf copy
  cp -r "$modules" copy
  sed -i "$2" "copy/score/$3"
  if cmp -s "copy/score/$3" "$modules/score/$3"; then fail "$1: nothing was changed"; fi
  if tool check copy/score >/dev/null 2>&1; then fail "$1: accepted"; else pass; fi
}
broken "an output that meta.yml lacks" 's/emit: summary/emit: table/' main.nf
broken "another pattern" 's/"\*_mqc.tsv"/"*.tsv"/' main.nf
broken "an input that meta.yml lacks" 's/path model/path weights/' main.nf
broken "an input as a value" 's/^    - fasta:/    - sequences:/' meta.yml
broken "another version command" "s/'1!d;/'2!d;/" main.nf
broken "no topic" 's/topic: versions, //' main.nf
broken "no topics" 's/^topics:/themes:/' meta.yml
broken "a tuple that is none" 's/path model/tuple path(model)/' main.nf
broken "a type" '0,/type: file/s//type: map/' meta.yml
broken "another container" 's/biocontainers\/m5:0.1.0/biocontainers\/m5:0.0.9/' main.nf
broken "no schema line" '/yaml-language-server/d' environment.yml
broken "no stub in the test" 's/options "-stub"//' tests/main.nf.test
broken "a channel less in the test" '/input\[1\]/d' tests/main.nf.test
finish
