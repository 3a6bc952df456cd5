#!/usr/bin/env bash
# How a GPU is named, chosen and told of.
. "$(dirname "$0")/harness.sh"

record a "$(scaled 3000)" 1 >a.fa
steps=(train --preset nano --steps 2 --segment-length 256 --batch-tokens 512 --dry-run -o x.model a.fa)
# value KEY: of the dry run just made.
value() { command awk -F'\t' -v k="$1" '$1 == k { print $2 }' .out; }
number() { [[ $1 =~ ^[0-9]+$ ]] && [ "$1" -gt "$2" ]; }

for command in score embed; do
  ok "$command --dry-run" $command --device "$DEVICE" --dry-run a.fa
  check "$command --dry-run: the device ($(value device))" test "${DEVICE%:*}" = "$(value device | sed 's/[: ,].*//')"
  equal "$command --dry-run: it fits" "$(value memory_fits)" yes
  [[ $DEVICE == cuda* ]] || continue
  check "$command --dry-run: device_memory_bytes" number "$(value device_memory_bytes)" 1000000
  check "$command --dry-run: that much is there" number "$(value device_memory_available_bytes)" "$(value device_memory_bytes)"
done
if [[ $DEVICE == cuda* ]]; then
  ok "bench speed" bench speed --device "$DEVICE" --lengths "$(scaled 200000 100)" --repeats 1 --json
  equal "bench speed: two rows with a speed" "$(grep -cE '"nt_per_s": [0-9.]*[1-9]' .out)" 2
  check "bench speed: names the GPU" grep -q '"device": "cuda:' .out

  for precision in fp32 bf16; do
    ok "train --dry-run, $precision" "${steps[@]}" --device "$DEVICE" --precision $precision
    check "train --dry-run: device_memory_bytes" number "$(value device_memory_bytes)" 1000000
    check "train --dry-run: that much is free" number "$(value device_memory_available_bytes)" "$(value device_memory_bytes)"
  done

  # auto is the first GPU, and says which.
  ok "score --device cuda" score --no-header --device cuda a.fa && cp .out first
  for command in score embed; do
    ok "$command --device auto" $command --device auto --no-header a.fa
    equal "$command --device auto: says so once" "$(grep -c -- '--device auto: cuda:0 ' .err)" 1
    [ $command = embed ] || same "auto = cuda" .out first
  done
  ok "train --device auto" "${steps[@]}" --device auto
  check "train --device auto: the GPU" number "$(value device_memory_bytes)" 1000000
  ok "--precision auto" score --device auto --precision auto a.fa
  check "--precision auto: bf16" grep -q '^#settings: .*device=cuda precision=bf16' .out

  # One that is not there; no other is taken in its place.
  for command in score embed; do
    fails 6 'device cuda:99: there are [0-9]+ GPUs, numbered from 0|there is one' "$command on cuda:99" \
      $command --device cuda:99 a.fa
    equal "$command on cuda:99: nothing is written" "$(wc -c <.out)" 0
  done
  fails 6 'device cuda' "train on cuda:99" "${steps[@]}" --device cuda:99
  fails 6 'device cuda' "bench speed on cuda:99" bench speed --device cuda:99 --lengths 100
  M5_CUDA_LIBRARY=$WORK/none.so fails 6 'none.so' "another library is not searched for" score --device cuda a.fa
else
  skip "GPU: $DEVICE is tested; auto, cuda:99 and the memory of a device are not"
fi

finish
