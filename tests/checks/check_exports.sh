#!/usr/bin/env bash
# libm5.so exports what lib/m5 marks with M5_API, and nothing else.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${M5_BUILD:-build/dev}
library=$build/libm5.so
[ -e "$library" ] || { echo "$library is missing"; exit 1; }
problems=0
names=$(nm -D --defined-only -C "$library" | cut -d' ' -f3-)
[ -z "$names" ] && { echo "nothing is exported"; exit 1; }

# Each exported name must be m5::NAME where NAME is declared in a header of lib/m5.
while IFS= read -r name; do
  bare=${name#typeinfo for }
  bare=${bare#typeinfo name for }
  bare=${bare#vtable for }
  bare=${bare#guard variable for }
  if [[ $bare != m5::* ]]; then
    echo "exported, but not in namespace m5: $name"
    problems=$((problems + 1))
    continue
  fi
  word=$(sed -E 's/^m5::([A-Za-z_0-9]+).*/\1/' <<<"$bare")
  if ! grep -qE "M5_API [^;{]*\b$word\b" lib/m5/*.hpp; then
    echo "exported, but not marked M5_API in lib/m5: $name"
    problems=$((problems + 1))
  fi
done <<<"$names"

# Each M5_API function and class must be there.
while IFS= read -r word; do
  if ! grep -qE "\bm5::$word(\(|::|$|\[)" <<<"$names"; then
    echo "marked M5_API but not exported: $word"
    problems=$((problems + 1))
  fi
done < <(grep -hoE '^(class|struct)? ?M5_API [^;{]*|^(class|struct) M5_API [A-Za-z_]+' lib/m5/*.hpp |
           sed -E 's/^(class|struct) M5_API ([A-Za-z_0-9]+).*/\2/; s/^M5_API [^(]*[ *&]([a-z_0-9]+)\(.*/\1/' |
           grep -E '^[A-Za-z_0-9]+$' | sort -u)

echo "$(wc -l <<<"$names") names exported, $problems problems"
[ "$problems" = 0 ]
