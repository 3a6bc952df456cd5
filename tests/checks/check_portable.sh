#!/usr/bin/env bash
# What calls the system has a form without Linux and glibc: the files that have one are built with it
# (M5_ONLY_POSIX), and say what the usual form says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${M5_BUILD:-build/dev}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
archive=$(find "$build" -name libm5_core.a)

# Each use of a call or file that only Linux or glibc has stands in one of these.
portable=(lib/base/numbers.cpp lib/base/system.cpp lib/base/memory.cpp lib/io/byte_source.cpp kernels/cpu/blocks.cpp)
used=$(grep -rlE 'sched_getaffinity|<malloc\.h>|MADV_|posix_fadvise|"/proc/' --include='*.[ch]pp' lib kernels tools)
# /proc where nothing depends on it: the own program (another way is beside it), the tag of a start
# of the machine, the measurement of peaks.
extra=(lib/base/location.cpp lib/base/temporaries.cpp tools/bench_report.cpp)
for file in $used; do
  [[ " ${portable[*]} ${extra[*]} " == *" $file "* ]] || { echo "$file calls Linux alone"; exit 1; }
done

flags=(-std=c++20 -O1 -Wall -Wextra -Werror -I. -Ilib)
for file in "${portable[@]}"; do
  ${CXX:-c++} "${flags[@]}" -DM5_ONLY_POSIX -c "$file" -o "$work/$(basename "$file" .cpp).o"
  if nm -uC "$work/$(basename "$file" .cpp).o" | grep -E 'sched_|mallopt|madvise|fadvise'; then
    echo "$file: the portable form calls Linux alone"
    exit 1
  fi
done
${CXX:-c++} "${flags[@]}" -c tests/checks/portable/main.cpp -o "$work/main.o"
${CXX:-c++} "$work/main.o" "$archive" -lpthread -o "$work/usual"
# Objects come before the archive, so that theirs are taken.
${CXX:-c++} "$work/main.o" "$work/numbers.o" "$work/system.o" "$archive" -lpthread -o "$work/portable"
"$work/usual" >"$work/usual.txt"
"$work/portable" >"$work/portable.txt"
[ "$(wc -l <"$work/usual.txt")" -gt 100 ]
diff "$work/usual.txt" "$work/portable.txt"
LC_ALL=de_DE.UTF-8 "$work/portable" | cmp - "$work/usual.txt"
"$work/usual" machine | tail -n 4 >"$work/usual.txt"
"$work/portable" machine | tail -n 4 >"$work/portable.txt"
diff "$work/usual.txt" "$work/portable.txt"
if grep -v ' sane$' "$work/portable.txt"; then exit 1; fi
echo "the portable forms agree"
