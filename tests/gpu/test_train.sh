#!/usr/bin/env bash
# m5 train on a GPU: beside the CPU, run by run, interrupted and resumed.
. "$(dirname "$0")/harness.sh"

# A shape that has the kernels of tensor cores (orders 2, 4 and 6, eight values a head) in bf16.
cat >shape.json <<'J'
{"format_version": 1, "name": "shape", "dim": 64, "layers": 3, "heads": 8, "ff_dim": 160, "order": 4,
 "bound": 1.0, "window": 3, "norm_epsilon": 1e-5,
 "local_conv": [{"width": 5, "dilation": 1}, {"width": 0, "dilation": 1}, {"width": 3, "dilation": 9}]}
J
first "$SOURCE/share/examples/lambda.fa.gz" "$(scaled 48502 2000)" >lambda.fa
{ record "plasmid topology=circular" 3000 1 AAACGT; record b 900 2; } >others.fa
record v 1500 4 >v.fa
long=$(scaled 4096 256)
data=(--config shape.json lambda.fa others.fa)
shape=("${data[@]}" --segment-length "256,$long" --batch-tokens "512,$((2 * long))")

# columns LOG: steps, loss in nats, its bits, that of masked bases, norm of the gradient, validation.
columns() { tail -n +2 "$1" | cut -f 1,5-7,11-13; }
untimed() { sed 's/\t[^\t]*$//' "$1"; }  # the last column is the speed

for run in "fp32 adamw 1e-3 1e-4" "$BF16 adamw 0.03 3e-3" "fp32 muon 1e-3 1e-4" "$BF16 muon 0.03 3e-3"; do
  read -r precision optimizer most mean <<<"$run"
  name="$precision, $optimizer"
  short=(train "${shape[@]}" --steps "$(scaled 40 6)" --warmup 4 --optimizer "$optimizer" --ema 0.9
    --val v.fa --val-tokens 1k)
  # Both begin with the same parameters. In fp32 all printed digits of the first steps are the same; then
  # differences of the last bits grow from step to step.
  ok "$name" "${short[@]}" --device "$DEVICE" --precision "$precision" --log one.log -o one.model -@ 1
  ok "$name, cpu in fp32" "${short[@]}" --device cpu --log cpu.log -o cpu.model
  close "$name: losses and norms" 1 <(columns one.log) <(columns cpu.log) "$most" "$mean"
  ok "$name, again" "${short[@]}" --device "$DEVICE" --precision "$precision" --log two.log -o two.model -@ 2
  same "$name: two runs, one model" one.model two.model
  equal "$name: two runs, one log" "$(untimed two.log)" "$(untimed one.log)"
  ok "$name: the CPU scores with it" score --device cpu -m one.model v.fa
  equal "$name: every base" "$(grep -vc '^#' .out)" 1500
done
ok "another seed" "${short[@]}" --device cpu --seed 2 --log seed.log -o seed.model
far "another seed: losses" 1 <(columns seed.log) <(columns cpu.log) 0.03 3e-3

# --- interrupted and resumed -------------------------------------------------------------------------------
for run in "fp32 adamw" "$BF16 muon"; do
  read -r precision optimizer <<<"$run"
  name="$precision, $optimizer"
  rm -f ./*.model*
  words=(train "${data[@]}" --segment-length "128,256" --batch-tokens 512 --steps "$(scaled 2000 40)"
    --warmup 4 --optimizer "$optimizer" --ema 0.9 --device "$DEVICE" --precision "$precision" --checkpoint-every 0)
  "$M5" "${words[@]}" --log long.log -o long.model >long.out 2>long.err &
  pid=$!
  while kill -0 $pid 2>/dev/null && [ "$(cat long.log 2>/dev/null | wc -l)" -lt 6 ]; do sleep 0.01; done
  kill -TERM $pid
  wait $pid
  equal "$name: SIGTERM ends with" "$?" 143
  check "$name: a checkpoint, no model" test -s long.model.ckpt -a ! -e long.model
  stopped=$(($(wc -l <long.log) - 1))
  check "$name: stopped in the middle ($stopped)" test "$stopped" -lt "$(scaled 2000 40)"
  ok "$name: --resume" "${words[@]}" --log long.log -o long.model --resume
  ok "$name: straight" "${words[@]}" --log straight.log -o straight.model
  same "$name: resumed = straight" long.model straight.model
  equal "$name: resumed log = straight log" "$(untimed long.log)" "$(untimed straight.log)"
  rm -f long.log
done

# --- the bundled model, with its genome memory -------------------------------------------------------------
tune=(train --init "$MODEL" --steps "$(scaled 6 2)" --segment-length "$long" --batch-tokens "$((2 * long))"
  --warmup 2 lambda.fa)
for learn in all memory; do
  ok "--learn $learn" "${tune[@]}" --learn $learn --device "$DEVICE" --log gpu.log -o gpu.model
  ok "--learn $learn, cpu" "${tune[@]}" --learn $learn --device cpu --log cpu.log -o cpu.model
  close "--learn $learn: losses and norms" 1 <(columns gpu.log) <(columns cpu.log) 1e-3 2e-4
done
no_temporaries train

finish
