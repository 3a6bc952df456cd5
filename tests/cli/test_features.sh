#!/usr/bin/env bash
# The table of features (share/features.md): its commands run, and its answers are counted.
. "$(dirname "$0")/harness.sh"

table=$SOURCE/share/features.md
{ record chr 1200 1; record plasmid 300 2; } >g.fa
bgzip -c g.fa >g.fa.gz
record other 400 3 >h.fa
printf 'chr\tx\tCDS\t10\t300\t.\t+\t0\tID=one\nchr\tx\tCDS\t500\t900\t.\t-\t0\tID=two\n' >genes.gff3
printf 'chr\t9\t300\tone\nchr\t499\t900\ttwo\n' >genes.bed
export PATH=$(dirname "$M5"):$PATH

rows=$(grep -E '^\| [0-9]+ \|' "$table")
equal "fifty features" "$(cut -d'|' -f2 <<<"$rows" | tr -d ' ' | tr '\n' ' ')" "$(seq -s ' ' 50) "
equal "answers" "$(cut -d'|' -f4 <<<"$rows" | tr -d ' ' | sort -u | tr '\n' ' ')" "N P Y "
yes=$(grep -cE '^\| [0-9]+ \|[^|]*\| Y \|' <<<"$rows")
check "$yes of them yes, at least 42" [ "$yes" -ge 42 ]
equal "a command or a place for every yes" "$(grep -E '\| Y \| *\|$' <<<"$rows")" ""

ran=0
while IFS= read -r command; do
  ran=$((ran + 1))
  if bash -c "$command" >.out 2>.err </dev/null; then pass; else fail "$command"; fi
  [ -s .out ] || [[ "$command" == *" -o "* ]] || fail "$command: no output"
done < <(grep -oE '`m5 [^`]*`' "$table" | tr -d '`' | sort -u)
check "commands were run: $ran" [ "$ran" -ge 25 ]
for place in $(grep -oE '`(share|tests|conda-recipe|LICENSE|THIRD)[^`]*`' "$table" | tr -d '`'); do
  check "$place is there" [ -e "$SOURCE/$place" ]
done
finish
