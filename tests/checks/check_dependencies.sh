#!/usr/bin/env bash
# A dependency that is too old ends the configuration with a line that names it, its version and the
# one that is needed; README.md and conda-recipe/meta.yaml name the same minimum versions, and
# THIRD_PARTY.md the licence.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problems=0
problem() {
  echo "$1"
  problems=$((problems + 1))
}

# One stand-in of an old version each, by the way in which CMake looks for it.
mkdir -p "$work/old/openssl" "$work/old/oneapi/dnnl"
for name in htslib libhwy; do
  printf 'Name: %s\nDescription: old\nVersion: 0.0.1\nLibs:\nCflags:\n' "$name" >"$work/old/$name.pc"
done
for name in CLI11 nlohmann_json GTest pybind11; do
  printf 'set(%s_FOUND TRUE)\nset(%s_VERSION 0.0.1)\n' "$name" "$name" >"$work/old/${name}Config.cmake"
done
echo '#define ZLIB_VERSION "0.0.1"' >"$work/old/zlib.h"
echo '# define OPENSSL_VERSION_STR "0.0.1"' >"$work/old/openssl/opensslv.h"
printf '#define DNNL_VERSION_%s\n' 'MAJOR 0' 'MINOR 0' 'PATCH 1' >"$work/old/oneapi/dnnl/dnnl_version.h"
echo '#define LIBBIGWIG_VERSION 0.0.1' >"$work/old/bigWig.h"
declare -A stand_in=(
  [htslib]=PKG_CONFIG_PATH [Highway]=PKG_CONFIG_PATH
  [zlib]=-DZLIB_INCLUDE_DIR=$work/old [OpenSSL]=-DOPENSSL_INCLUDE_DIR=$work/old
  [CLI11]=-DCLI11_DIR=$work/old [nlohmann_json]=-Dnlohmann_json_DIR=$work/old
  [oneDNN]=-DDNNL_INCLUDE_DIR=$work/old [libBigWig]=-DBIGWIG_INCLUDE_DIR=$work/old
  [GoogleTest]=-DGTest_DIR=$work/old [pybind11]=-Dpybind11_DIR=$work/old
)
declare -A conda=([htslib]=htslib [Highway]=libhwy [zlib]=zlib [OpenSSL]=openssl [CLI11]=cli11
  [libBigWig]=libbigwig [nlohmann_json]=nlohmann_json [oneDNN]=onednn)

configure() { cmake -S . -B "$work/build" -G Ninja -DM5_CUDA=OFF -DM5_PYTHON=ON "$@" >"$work/log" 2>&1; }
configure || { tail -n 20 "$work/log"; exit 1; }
cp "$work/build/CMakeCache.txt" "$work/cache"

checked=0
while read -r name minimum; do
  checked=$((checked + 1))
  grep -qE "^\| $name +\| $minimum " README.md || problem "README.md: no row '| $name | $minimum |'"
  if [ -n "${conda[$name]:-}" ]; then
    grep -qE "^ +- ${conda[$name]} >=$minimum( |$)" conda-recipe/meta.yaml ||
      problem "conda-recipe/meta.yaml: no '${conda[$name]} >=$minimum'"
  fi
  [ "$name" = GoogleTest ] || grep -qE "^\| $name \|" THIRD_PARTY.md ||
    problem "THIRD_PARTY.md: no row for $name"
  option=${stand_in[$name]:-}
  [ -z "$option" ] && { problem "no stand-in for $name"; continue; }
  cp "$work/cache" "$work/build/CMakeCache.txt"
  if [ "$option" = PKG_CONFIG_PATH ]; then
    mkdir -p "$work/$name"
    pc=htslib
    [ "$name" = Highway ] && pc=libhwy
    cp "$work/old/$pc.pc" "$work/$name/"
    PKG_CONFIG_PATH=$work/$name configure -U 'HTSLIB*' -U 'HWY*' -U '__pkg_config*'
  else
    configure "$option"
  fi && problem "$name 0.0.1 is accepted"
  grep -qF "m5 needs $name $minimum or newer; found '0.0.1'" "$work/log" ||
    { problem "$name 0.0.1: the message is another"; tail -n 15 "$work/log"; }
done < <(sed -nE 's/^ *m5_minimum\(([A-Za-z0-9_]+) ([0-9.]+) .*/\1 \2/p' share/cmake/dependencies.cmake)
[ "$checked" -ge 8 ] || problem "only $checked dependencies in share/cmake/dependencies.cmake"
echo "$checked dependencies, $problems problems"
[ "$problems" = 0 ]
