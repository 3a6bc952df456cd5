#!/usr/bin/env bash
# An installation is complete and usable: files in place, the installed tool finds its model, and a
# project of ten lines (tests/checks/consumer) builds against it with find_package and pkg-config.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${M5_BUILD:-build/dev}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/install.log"
libdir=$(sed -n 's/^CMAKE_INSTALL_LIBDIR:[A-Z]*=//p' "$build/CMakeCache.txt")
for file in bin/m5 "$libdir/libm5.so" "$libdir/libm5.so.0" include/m5/session.hpp include/m5/model.hpp \
  "$libdir/cmake/m5/m5Config.cmake" "$libdir/cmake/m5/m5ConfigVersion.cmake" "$libdir/pkgconfig/m5.pc" \
  share/man/man1/m5.1 share/man/man1/m5-score.1 share/man/man5/m5-model.5 \
  share/m5/models/m5-nano.safetensors share/m5/examples/lambda.fa.gz share/m5/MODEL_CARD.md share/m5/THIRD_PARTY.md \
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

consumer=$PWD/tests/checks/consumer
cmake -S "$consumer" -B "$work/consumer" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
  -DCMAKE_CXX_FLAGS="$flags" >"$work/consumer.log" 2>&1 || { cat "$work/consumer.log"; exit 1; }
cmake --build "$work/consumer" >>"$work/consumer.log" 2>&1 || { cat "$work/consumer.log"; exit 1; }
unset M5_MODEL
cd /
"$work/consumer/consumer" | tee "$work/cmake.txt"

export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
${CXX:-c++} -std=c++20 $flags "$consumer/main.cpp" -o "$work/by-pkg-config" \
  $(pkg-config --cflags --libs m5) -Wl,-rpath,"$prefix/$libdir"
"$work/by-pkg-config" >"$work/pkg-config.txt"
cmp "$work/cmake.txt" "$work/pkg-config.txt"

# The program finds the model from where the library is now: moved again, or through a link.
mv "$prefix" "$work/again"
prefix=$work/again
LD_LIBRARY_PATH=$prefix/$libdir "$work/by-pkg-config" >"$work/again.txt"
cmp "$work/cmake.txt" "$work/again.txt"
mkdir "$work/farm"
ln -s "$prefix/$libdir/libm5.so.0" "$work/farm/libm5.so.0"
LD_LIBRARY_PATH=$work/farm "$work/by-pkg-config" >"$work/farm.txt"
cmp "$work/cmake.txt" "$work/farm.txt"

# Without it the program says where it looked: in the installation and beside itself.
rm "$prefix/share/m5/models/m5-nano.safetensors"
code=0
LD_LIBRARY_PATH=$prefix/$libdir "$work/by-pkg-config" 2>"$work/none.txt" || code=$?
if [ "$code" != 4 ] || ! grep -qF "$prefix/" "$work/none.txt" ||
  tr ',() ' '\n' <"$work/none.txt" | grep / | grep -vF "$work/"; then
  echo "no model: exit $code, or it looked elsewhere:"
  cat "$work/none.txt"
  exit 1
fi
echo "installation is complete"
