#!/bin/bash
# Threads that the system refuses: one line, exit 6, and nothing is left.
. "$(dirname "$0")/harness.sh"

failing=$(dirname "$M5")/../tests/cli/fail_thread.so
# preloaded VARIABLE VALUE ARGS...: m5 so, in an empty folder. A thread that oneDNN started of
# itself would end the program when it is refused.
preloaded() {
  local setting=$1=$2
  shift 2
  rm -rf run
  mkdir run
  (cd run && OMP_NUM_THREADS=4 timeout 120 env LD_PRELOAD="$failing" "$setting" "$M5" "$@" \
    >../.out 2>../said </dev/null)
}
record chr1 3000 1 >g.fa
input=$WORK/g.fa

if ! preloaded M5_FAIL_COUNT /dev/null --version; then  # sanitizers
  skip "preloading"
  finish
  exit
fi
for command in "score -o o.bg.gz --summary s.json $input" "embed -o o.npy $input" \
  "train --preset nano --steps 2 --segment-length 512 --batch-tokens 1024 -o m --log l $input" \
  "train --preset nano --steps 1 --optimizer muon --segment-length 512 --batch-tokens 512 -o m $input" \
  "bench speed --preset nano --lengths 300 --repeats 1 -o o" \
  "bench attention --lengths 1000 --queries 4 -o o $input" \
  "bench loss --lengths 100 -o o $input"; do
  # shellcheck disable=SC2086
  preloaded M5_FAIL_COUNT "$WORK/count" $command -@ 3
  equal "$command: exit" $? 0
  threads=$(cat count)
  check "$command: starts threads" test "$threads" -ge 2
  for n in $(seq "$threads"); do
    # shellcheck disable=SC2086
    preloaded M5_FAIL_AT "$n" $command -@ 3 --verbosity 1
    equal "$command: thread $n is refused: exit" $? 6
    equal "$command: thread $n is refused: lines" "$(wc -l <said)" 1
    check "$command: thread $n is refused" grep -q "started (.*--threads" said
    equal "$command: thread $n is refused: left" "$(ls -A run)" ""
  done
done

finish
