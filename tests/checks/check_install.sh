#!/usr/bin/env bash
# An installation is complete and usable: files in place, the installed tool finds its model, and the
# example of the library that is part of it (share/examples/api) builds against it with find_package
# and with pkg-config, and prints the numbers of the tool.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${M5_BUILD:-build/dev}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/install.log"
libdir=$(sed -n 's/^CMAKE_INSTALL_LIBDIR:[A-Z]*=//p' "$build/CMakeCache.txt")
soname=$(readelf -d "$build/libm5.so" | sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p')
for file in bin/m5 "$libdir/libm5.so" "$libdir/$soname" include/m5/session.hpp include/m5/model.hpp \
  "$libdir/cmake/m5/m5Config.cmake" "$libdir/cmake/m5/m5ConfigVersion.cmake" "$libdir/pkgconfig/m5.pc" \
  share/man/man1/m5.1 share/man/man1/m5-score.1 share/man/man5/m5-model.5 \
  share/m5/models/m5-nano.safetensors share/m5/examples/lambda.fa.gz share/m5/examples/api/main.cpp share/m5/MODEL_CARD.md share/m5/THIRD_PARTY.md \
  share/m5/workflows/snakemake share/m5/completion share/m5/presets \
  share/bash-completion/completions/m5; do
  [ -e "$prefix/$file" ] || { echo "not installed: $file"; exit 1; }
done

# The tool finds the model beside it, wherever the prefix was moved to, and works in a folder that
# is not writable.
mv "$prefix" "$work/moved"
prefix=$work/moved
printf '>tiny\nACGTACGTAAGGCCTTNACGT\n' >"$work/tiny.fa"
(cd / && env -u M5_MODEL "$prefix/bin/m5" score -@ 1 --no-header "$work/tiny.fa") >"$work/tiny.bedgraph"
[ "$(cut -f1 "$work/tiny.bedgraph" | uniq)" = tiny ] || { echo "no scores"; exit 1; }
[ "$(awk '{n += $3 - $2} END {print n}' "$work/tiny.bedgraph")" = 20 ] ||
  { echo "20 bases to score, other in the track"; cat "$work/tiny.bedgraph"; exit 1; }

# A sanitized library needs its run time in the program that loads it.
flags=
sanitize=$(sed -n 's/^M5_SANITIZE:[A-Z]*=//p' "$build/CMakeCache.txt")
[ -n "$sanitize" ] && flags=-fsanitize=$sanitize

# No path of the sources or of the build is left in what was installed (but for debug information).
for binary in "$prefix/bin/m5" "$prefix/$libdir/libm5.so"; do
  strip -g -o "$work/stripped" "$binary"
  if grep -qaF "$PWD" "$work/stripped"; then
    echo "$binary names the checkout:"
    strings "$work/stripped" | grep -F "$PWD" | head -n 3
    exit 1
  fi
done

# Warnings of the example and of the headers are errors.
flags+=" -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
example=$prefix/share/m5/examples/api
cmake -S "$example" -B "$work/cmake" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_FLAGS="$flags" >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/cmake" >>"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
cp -r "$example" "$work/make"
make -C "$work/make" CXX="${CXX:-c++}" CXXFLAGS="$flags" >"$work/make.log" 2>&1 ||
  { cat "$work/make.log"; exit 1; }
mv "$work/make/api" "$work/by-pkg-config"
unset M5_MODEL
cd /

# Its numbers are those of the tool, for a sequence with N and ambiguous codes, linear and circular.
sequence=ACGTTGCAACGTNACGGATCRATTACAGGCTTAAGC
printf '>s\n%s\n' "$sequence" >"$work/s.fa"
for topology in linear circular; do
  "$work/cmake/api" "$sequence" $topology >"$work/cmake.txt"
  "$work/by-pkg-config" "$sequence" $topology >"$work/pkg-config.txt"
  cmp "$work/cmake.txt" "$work/pkg-config.txt"
  "$prefix/bin/m5" score -@ 2 --$topology --no-header --metric bits "$work/s.fa" |
    awk '{for (i = $2; i < $3; ++i) print i "\t" $4}' >"$work/tool.txt"
  grep -E '^[0-9]' "$work/cmake.txt" | cut -f1,3 | cmp - "$work/tool.txt"
  [ "$(wc -l <"$work/tool.txt")" = 34 ] || { echo "34 bases to score"; cat "$work/tool.txt"; exit 1; }
  "$prefix/bin/m5" embed -@ 2 --$topology --no-header -O tsv "$work/s.fa" >"$work/vector.txt"
  awk -F'\t' 'NR == 1 {for (i = 1; i <= NF; ++i) column[$i] = i; next}
    {printf "vector of %d bases:", $column["n_bases"]
     for (i = 0; i < 4; ++i) printf " %.6g", $column["e" i]; print ""}' "$work/vector.txt" \
    >"$work/tool.txt"
  grep '^vector' "$work/cmake.txt" | cmp - "$work/tool.txt"
done
head -n 4 "$work/cmake.txt"
tail -n 1 "$work/cmake.txt"
for wrong in "" "ACGT-ACGT"; do  # kUsage, kInput
  code=0
  "$work/cmake/api" "$wrong" 2>"$work/wrong.txt" || code=$?
  [ "$code" = $([ -z "$wrong" ] && echo 2 || echo 3) ] || { echo "'$wrong': exit $code"; exit 1; }
done
api() { "$work/by-pkg-config" "$sequence" circular; }

# The program finds the model from where the library is now: moved again, or through a link.
mv "$prefix" "$work/again"
prefix=$work/again
LD_LIBRARY_PATH=$prefix/$libdir api >"$work/again.txt"
cmp "$work/cmake.txt" "$work/again.txt"
mkdir "$work/farm"
ln -s "$prefix/$libdir/$soname" "$work/farm/$soname"
LD_LIBRARY_PATH=$work/farm api >"$work/farm.txt"
cmp "$work/cmake.txt" "$work/farm.txt"

# Without it the program says where it looked: in the installation and beside itself.
rm "$prefix/share/m5/models/m5-nano.safetensors"
code=0
LD_LIBRARY_PATH=$prefix/$libdir api 2>"$work/none.txt" >/dev/null || code=$?
if [ "$code" != 4 ] || ! grep -qF "$prefix/" "$work/none.txt" ||
  tr ',() ' '\n' <"$work/none.txt" | grep / | grep -vF "$work/"; then
  echo "no model: exit $code, or it looked elsewhere:"
  cat "$work/none.txt"
  exit 1
fi
echo "installation is complete"
