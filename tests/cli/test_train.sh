#!/usr/bin/env bash
# m5 train: the whole command, its files, its failures.
. "$(dirname "$0")/harness.sh"

cat >tiny.json <<'J'
{"format_version": 1, "name": "tiny", "dim": 16, "layers": 2, "heads": 8, "ff_dim": 32, "order": 2,
 "bound": 1.0, "window": 3, "norm_epsilon": 1e-5}
J
{ record "a topology=circular" 3000 1 AAACGT; record b 900 2; } >a.fa
record c 2000 3 >b.fa
record v 1500 4 >v.fa
shape=(--config tiny.json --segment-length 128,256 --batch-tokens 512)
tiny=("${shape[@]}" --steps 20 --warmup 5)
# The log without its last column, the speed.
untimed() { sed 's/\t[^\t]*$//' "$1"; }

# --- a run: model, log, nothing else -------------------------------------------------------------
ok "train" train "${tiny[@]}" a.fa b.fa --val v.fa --val-every 7 --val-tokens 1k --log log.tsv \
  -o one.safetensors -@1
equal "stdout stays empty" "$(wc -c <.out)" 0
check "a model is written" test -s one.safetensors
check "no checkpoint is left" test ! -e one.safetensors.ckpt
no_temporaries "train"
equal "one row a step and a header" "$(wc -l <log.tsv)" 21
equal "columns" "$(awk -F'\t' '{ print NF }' log.tsv | sort -u)" 18
equal "header" "$(head -n 1 log.tsv | cut -f 1-5,18)" \
  "$(printf 'step\ttokens\tsegment_length\tlr\tloss_nats\tnt_per_s')"
validated=$(awk -F'\t' 'NR > 1 && $13 != "." { printf "%s ", $1 }' log.tsv)
equal "steps validated" "$validated" "7 14 20 "
lengths=$(awk -F'\t' 'NR > 1 { ++n[$3] } END { print n[128], n[256] }' log.tsv)
equal "curriculum" "$lengths" "10 10"
equal "no nan in the log" "$(grep -ciE 'nan|inf' log.tsv)" 0
ok "the model scores" score -m one.safetensors v.fa
equal "a line for each base" "$(grep -vc '^#' .out)" 1500

# --- the bytes depend on data and options alone --------------------------------------------------
ok "threads" train "${tiny[@]}" a.fa b.fa -o two.safetensors -@2
same "-@1 = -@2, with and without validation and log" one.safetensors two.safetensors
gzip -c a.fa >a.fa.gz
printf '%s\n' a.fa.gz b.fa >list
ok "gz and list" train "${tiny[@]}" -@2 --list list -o list.safetensors
same "gz from a list = files" one.safetensors list.safetensors
ok "seed" train "${tiny[@]}" --seed 4 a.fa b.fa -o seed.safetensors
differ "the seed matters" one.safetensors seed.safetensors
ok "linear" train "${tiny[@]}" --linear a.fa b.fa -o linear.safetensors
differ "topology matters" one.safetensors linear.safetensors
ok "bf16" train "${shape[@]}" --precision bf16 --steps 4 a.fa -o bf16.safetensors
ok "ref" train "${shape[@]}" --device ref --steps 4,4 a.fa -o ref.safetensors
ok "--init" train --init one.safetensors --steps 3 --segment-length 100 --batch-tokens 300 v.fa \
  -o tuned.safetensors
check "--init is kept as provenance" grep -q "sha256:$(sha256sum <one.safetensors | cut -c 1-64)" \
  tuned.safetensors

# --- every option that shapes a run, resumed -------------------------------------------------------
# all [OPTION VALUE...]: such a run, the values of some options being others.
all() {
  local -A value=([--config]=tiny.json [--segment-length]=128,256 [--steps]=400 [--ema]=0.9
    [--batch-tokens]=512,768 [--optimizer]=muon [--muon-lr]=3e-3 [--qk-lr]=2 [--mask-every]=6
    [--schedule]=trapezoid [--mask-shares]=1,0,0 [-o]=all.safetensors [--log]=all.log [-@]=1)
  while [ $# -gt 1 ]; do
    value[$1]=$2
    shift 2
  done
  [ "${value[--optimizer]}" = muon ] || unset 'value[--muon-lr]'
  words=(train a.fa b.fa "$@")
  for option in "${!value[@]}"; do words+=("$option" "${value[$option]}"); done
}
all
ok "all options" "${words[@]}"
for fact in optimizer:muon muon-lr:0.003 qk-lr:2 schedule:trapezoid ema:0.9 mask-every:6 \
  batch-tokens:512,768; do
  check "provenance: $fact" grep -aqF "train.${fact%:*}\\\":\\\"${fact#*:}\\\"" all.safetensors
done
equal "what is asked about is hidden" \
  "$(awk -F'\t' 'NR > 1 && ($7 == "." || $9 != "." || $10 != ".")' all.log | wc -l)" 0
all -o again.safetensors --log again.log -@ 2
"$M5" "${words[@]}" 2>/dev/null &
pid=$!
while kill -0 $pid 2>/dev/null && [ "$(cat again.log 2>/dev/null | wc -l)" -lt 15 ]; do
  sleep 0.01
done
kill -TERM $pid
wait $pid
equal "all options: stopped" "$?" 143
for change in '--ema 0.8' '--ema 0' '--optimizer adamw' '--muon-lr 4e-3' '--qk-lr 3' \
  '--schedule linear' '--mask-every 7' '--batch-tokens 512'; do
  all -o again.safetensors --verbosity 1 ${change% *} ${change#* } --resume
  key=${change% *}
  [ "$key" = --optimizer ] && key='--muon-lr'  # the first that differs
  fails 2 "$key was" "--resume with $change" "${words[@]}"
done
all -o again.safetensors --log again.log --resume
ok "all options: --resume" "${words[@]}"
same "all options: resumed = straight" again.safetensors all.safetensors
equal "all options: resumed log = straight log" "$(untimed again.log)" "$(untimed all.log)"

# --- signals, resume -----------------------------------------------------------------------------
for signal in TERM INT HUP; do
  code=$((128 + $(kill -l $signal)))
  rm -f long.*
  long=(train "${shape[@]}" --steps 3000 a.fa b.fa --val v.fa --val-every 500 --val-tokens 1k
    --log long.log -o long.safetensors --checkpoint-every 0 -@1)
  # A background job ignores SIGINT unless job control gives it a group of its own.
  set -m
  "$M5" "${long[@]}" >long.out 2>long.err &
  pid=$!
  set +m
  while kill -0 $pid 2>/dev/null && [ "$(cat long.log 2>/dev/null | wc -l)" -lt 15 ]; do
    sleep 0.01
  done
  kill -$signal $pid
  wait $pid
  equal "SIG$signal ends with" "$?" $code
  check "SIG$signal: a checkpoint" test -s long.safetensors.ckpt
  check "SIG$signal: no model" test ! -e long.safetensors
  check "SIG$signal: says how to go on" grep -q -- --resume long.err
  no_temporaries "SIG$signal"
  stopped=$(($(wc -l <long.log) - 1))
  check "SIG$signal: stopped in the middle ($stopped)" test "$stopped" -lt 3000
  fails 2 'unfinished run.*--resume' "a new run does not overwrite the checkpoint" "${long[@]}"
  fails 2 '--lr was 0.001, now 0.002' "--resume with another --lr" "${long[@]}" --resume --lr 2e-3 \
    --verbosity 1
  fails 2 'training sequences differ' "--resume with other sequences" \
    train "${shape[@]}" --steps 3000 a.fa -o long.safetensors --resume --verbosity 1
  cp long.safetensors.ckpt kept.ckpt
  ok "--resume" "${long[@]}" --resume
  check "SIG$signal: the checkpoint is gone in the end" test ! -e long.safetensors.ckpt
  if [ $signal = TERM ]; then
    ok "straight" train "${shape[@]}" --steps 3000 a.fa b.fa --val v.fa --val-every 500 \
      --val-tokens 1k --log straight.log -o straight.safetensors -@2
  fi
  same "SIG$signal: resumed = straight" long.safetensors straight.safetensors
  equal "SIG$signal: resumed log = straight log" "$(untimed long.log)" "$(untimed straight.log)"
done
# A step without end: the second signal does not wait for it.
set -m
"$M5" train "${shape[@]}" --steps 2 --accumulate 1M a.fa --log endless.log -o endless.safetensors \
  >endless.out 2>endless.err &
pid=$!
set +m
while kill -0 $pid 2>/dev/null && [ ! -s endless.log ]; do sleep 0.01; done
kill -TERM $pid
sleep 0.2
check "the first signal lets the step go on" kill -0 $pid
kill -TERM $pid
wait $pid
equal "the second SIGTERM ends at once" "$?" 143
check "the second SIGTERM: no checkpoint" test ! -e endless.safetensors.ckpt
no_temporaries "the second SIGTERM"

fails 5 'no checkpoint' "--resume without a checkpoint" \
  train "${tiny[@]}" a.fa -o none.safetensors --resume
head -c 500 kept.ckpt >cut.ckpt
fails 4 'cut.ckpt' "a cut checkpoint" "${long[@]}" --resume --verbosity 1 --checkpoint cut.ckpt
fails 4 'not a checkpoint' "a model as checkpoint" "${long[@]}" --resume --verbosity 1 \
  --checkpoint one.safetensors

# --- it blows up ---------------------------------------------------------------------------------
fails 7 'step [0-9]+: .* not finite; no checkpoint' "a learning rate beyond reason" \
  train "${tiny[@]}" a.fa --lr 1e30 --weight-decay 1 --verbosity 2 -o nan.safetensors
check "exit 7: no model" test ! -e nan.safetensors
fails 7 'the checkpoint of step 1 is kept in nan.ckpt' "the last good checkpoint is named" \
  train "${shape[@]}" --steps 20 a.fa --lr 1e16 --warmup 0 --weight-decay 1 --verbosity 2 \
  --checkpoint nan.ckpt --checkpoint-every 1 -o nan.safetensors
check "exit 7: checkpoint kept" test -s nan.ckpt
no_temporaries "exit 7"

# --- dry run -------------------------------------------------------------------------------------
ok "--dry-run" train "${tiny[@]}" a.fa b.fa --dry-run -o dry.safetensors
check "--dry-run: nothing is written" test ! -e dry.safetensors
for key in rows:512 steps:20 planned_tokens:10240 nt:5900; do
  value=$(awk -F'\t' -v k="${key%:*}" '$1 == k { print $2 }' .out)
  equal "--dry-run: ${key%:*}" "$value" "${key#*:}"
done
commas() { sed -E ':a; s/([0-9])([0-9]{3})($|,)/\1,\2\3/; ta' <<<"$1"; }
# field KEY: its value in the dry run just made.
field() { awk -F'\t' -v k="$1" '$1 == k { print $2 }' .out; }
memory=$(field memory_bytes)
check "--dry-run: memory" test "$memory" -gt 100000
equal "--dry-run: every layer is kept" "$(field keep_every_layers)" 1
ok "--dry-run that does not fit" \
  train "${tiny[@]}" a.fa --dry-run --max-memory 1k -o dry2.safetensors

# --- memory: less of it, the same bytes -----------------------------------------------------------
cat >deep.json <<'J'
{"format_version": 1, "name": "deep", "dim": 16, "layers": 9, "heads": 8, "ff_dim": 32, "order": 2,
 "bound": 1.0, "window": 3, "norm_epsilon": 1e-5,
 "local_conv": [{"width": 3, "dilation": 1}, {"width": 3, "dilation": 3}, NONE]}
J
none='{"width": 0, "dilation": 1}'
sed -i "s/NONE/$none, $none, $none, $none, $none, $none, $none/" deep.json
record long 60000 5 >long.fa
deep=(train --config deep.json --segment-length 60k --batch-tokens 60k --steps 2 --val v.fa long.fa)
ok "all layers kept" "${deep[@]}" -o kept.safetensors
equal "the start line says the bytes" "$(grep -cE 'memory [0-9,]+ bytes$' .err)" 1
ok "memory of all layers" "${deep[@]}" -o dry.safetensors --dry-run
need=$(field memory_bytes)
for layers in 2 3; do
  ok "less memory" "${deep[@]}" -o dry.safetensors --dry-run --max-memory $((need - 2500000))
  equal "less memory: layers" "$(field keep_every_layers)" $layers
  need=$(field memory_bytes)
  ok "checkpoint every $layers layers" "${deep[@]}" -o less.safetensors --max-memory "$need"
  equal "the start line says so" "$(grep -c "activation checkpoint every $layers layers" .err)" 1
  same "checkpoint every $layers layers: the same model" less.safetensors kept.safetensors
done
fails 6 "training.*--batch-tokens.*: needs [0-9,]+ bytes" \
  "--max-memory that no recomputation meets" \
  "${deep[@]}" -o dry.safetensors --max-memory $((need - 2500000))

# --- usage and input -----------------------------------------------------------------------------
base=(--config tiny.json -o x.safetensors)
fails 2 'no sequence files' "no files" train "${base[@]}" --steps 2
fails 2 '-o MODEL' "no output" train --config tiny.json --steps 2 a.fa
fails 2 '--steps is required' "no steps" train "${base[@]}" a.fa
fails 2 '--segment-length' "segment length 0" train "${base[@]}" --steps 2 --segment-length 0 a.fa
fails 2 '--steps' "steps 0" train "${base[@]}" --steps 0 a.fa
fails 2 '--steps' "steps and lengths" train "${base[@]}" --steps 1,2,3 --segment-length 4,8 a.fa
fails 2 '--lr' "--lr nan" train "${base[@]}" --steps 2 --lr nan a.fa
fails 2 '--mask-rate' "--mask-rate 0" train "${base[@]}" --steps 2 --mask-rate 0 a.fa
fails 2 '--mask-every' "--mask-every and --mask-rate" train "${base[@]}" --steps 2 --mask-every 7 \
  --mask-rate .2 a.fa
fails 2 '--mask-every' "--mask-every 0" train "${base[@]}" --steps 2 --mask-every 0 a.fa
fails 2 '--optimizer' "--optimizer sgd" train "${base[@]}" --steps 2 --optimizer sgd a.fa
fails 2 '--muon-lr' "--muon-lr without muon" train "${base[@]}" --steps 2 --muon-lr 1e-3 a.fa
fails 2 '--schedule' "--schedule step" train "${base[@]}" --steps 2 --schedule step a.fa
fails 2 '--ema' "--ema 1" train "${base[@]}" --steps 2 --ema 1 a.fa
fails 2 '--qk-lr' "--qk-lr -1" train "${base[@]}" --steps 2 --qk-lr=-1 a.fa
fails 2 '--batch-tokens' "batches and lengths" train "${base[@]}" --steps 4 \
  --segment-length 4,8,16 --batch-tokens 16,32 a.fa
fails 2 '--mask-shares' "--mask-shares, sum" train "${base[@]}" --steps 2 \
  --mask-shares .8,.1,.2 a.fa
fails 2 '--mask-shares' "--mask-shares, two" train "${base[@]}" --steps 2 --mask-shares .8,.2 a.fa
fails 2 '--reverse-complement' "--reverse-complement 2" train "${base[@]}" --steps 2 \
  --reverse-complement 2 a.fa
fails 2 'preset' "an unknown preset" train --preset huge -o x.safetensors --steps 2 a.fa
fails 2 '' "preset and config" train "${base[@]}" --preset nano --steps 2 a.fa
fails 2 'circular' "circular and linear" train "${base[@]}" --steps 2 --circular --linear a.fa
echo '{' >bad.json
fails 4 'bad.json' "a broken config" train --config bad.json -o x.safetensors --steps 2 a.fa
fails 2 'are the same file' "the checkpoint is the model" train "${base[@]}" --steps 2 a.fa \
  --checkpoint ./x.safetensors
fails 2 'are the same file' "the log is the checkpoint" train "${base[@]}" --steps 2 a.fa \
  --log x.safetensors.ckpt
fails 6 'cuda' "--device cuda" train "${base[@]}" --steps 2 --device cuda a.fa
fails 5 'missing.fa' "a missing file" train "${base[@]}" --steps 2 missing.fa
printf 'a.fa\nmissing.fa\n' >files
fails 3 'files: line 2: .*missing.fa' "a list with a missing file" train "${base[@]}" --steps 2 \
  --list files
: >empty
fails 3 'empty' "an empty list" train "${base[@]}" --steps 2 --list empty
fails 3 'empty' "an empty file" train "${base[@]}" --steps 2 empty
printf '>x\nAC-GT\n' >gap.fa
fails 3 "gap.fa.*'?x'?" "a gap" train "${base[@]}" --steps 2 gap.fa
fails 5 'no/such' "a folder that is not there" train --config tiny.json --steps 2 a.fa \
  -o no/such/x.safetensors
fails 5 'no/such' "a log folder that is not there" train "${base[@]}" --steps 2 a.fa \
  --log no/such/log --verbosity 1
if [ -w /dev/full ]; then
  fails 5 '/dev/full' "a full disk under the log" train "${base[@]}" --steps 2 --verbosity 1 a.fa \
    --log /dev/full
fi
check "no output of failed runs" test ! -e x.safetensors
no_temporaries "failed runs"

finish
