#!/usr/bin/env bash
# m5 itself: usage, help, version, unknown commands; streams and exit codes as samtools has them.
. "$(dirname "$0")/harness.sh"

"$M5" >out 2>err
equal "m5 alone: exit" $? 1
equal "m5 alone: nothing on stdout" "$(wc -c <out)" 0
check "m5 alone: usage on stderr" grep -q '^Usage:' err

for word in help --help; do
  "$M5" $word >out 2>err
  equal "m5 $word: exit" $? 0
  equal "m5 $word: nothing on stderr" "$(wc -c <err)" 0
  check "m5 $word: usage on stdout" grep -q '^Usage:' out
done
for command in train embed score bench; do
  check "m5 help lists $command" grep -qE "^ +$command " out
  "$M5" help $command >a 2>err
  equal "m5 help $command: exit" $? 0
  "$M5" $command --help >b 2>>err
  equal "m5 $command --help: exit" $? 0
  same "m5 help $command" a b
  check "help of $command has a usage line" grep -q "^Usage: *m5 $command" a
  equal "help of $command: nothing on stderr" "$(wc -c <err)" 0
done

fails 1 "^m5: unrecognized command 'x'$" "unknown command" x
fails 1 "^m5: unrecognized command 'x'$" "help of an unknown command" help x
fails 1 "^m5: unrecognized command '--nonsense'$" "unknown option" --nonsense

ok "version" --version
check "version: first line" grep -qE '^m5 [0-9]+\.[0-9]+\.[0-9]+$' <(head -n 1 .out)
cp .out version
check "version: htslib" grep -qE '^Using htslib [0-9]' version
check "version: oneDNN" grep -qE '^Using oneDNN [0-9]' version
check "version: SIMD" grep -qE '^SIMD: .' version
check "version: CUDA" grep -qE '^CUDA: ' version
check "version: model format" grep -qE '^Model format: [0-9]+$' version
equal "the recipe of nf-core reads a bare number" "$("$M5" --version | sed '1!d;s/.* //')" \
  "$("$M5" version | awk 'NR == 1 { print $2 }')"

if [ -w /dev/full ]; then
  "$M5" --version >/dev/full 2>err
  equal "version to a full disk: exit" $? 5
  equal "version to a full disk: one line" "$(wc -l <err)" 1
fi

for command in embed score; do
  "$M5" $command >out 2>err </dev/null
  equal "m5 $command without arguments: exit" $? 2
  equal "m5 $command without arguments: nothing on stdout" "$(wc -c <out)" 0
  check "m5 $command without arguments: usage on stderr" grep -q '^Usage:' err
  fails 2 "^m5 $command: .*--nonsense" "unknown option of $command" $command --nonsense x.fa
  fails 2 "^m5 $command: .*--threads" "threads are a number" $command -@ many x.fa
  fails 2 "^m5 $command: .*--device" "unknown device" $command --device abacus x.fa
  fails 2 "^m5 $command: .*contradict" "circular and linear" $command --circular --linear x.fa
done

if command -v bash >/dev/null && [ -f "$SOURCE/share/completion/m5.bash" ]; then
  complete_m5() (
    . "$SOURCE/share/completion/m5.bash"
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    _m5
    printf '%s\n' "${COMPREPLY[@]}"
  )
  equal "completion of a command" "$(complete_m5 m5 sc)" score
  check "completion of an option" grep -qx -- --passes <(complete_m5 m5 score --pa)
  equal "completion of a value" "$(complete_m5 m5 score --strand bo)" both
fi

finish
