#!/usr/bin/env bash
# The Python module as it is installed: by cmake --install beside libm5.so, and as a wheel that holds
# all of m5 it needs. pyproject.toml is read as pip reads it; where its backend is installed, pip
# makes the wheel, else the commands that the backend runs do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${M5_BUILD:-build/dev}
value() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
[ "$(value M5_PYTHON)" = ON ] || { echo "$build has no Python module: nothing to check"; exit 0; }
python=$(value Python_EXECUTABLE)
# As deep in the tree as the other build folders: ccache may compare paths relative to the folder.
work=$PWD/build/wheel
trap 'rm -rf "$work"' EXIT
rm -rf "$work"
mkdir -p "$work"

# The project's version, description and minimum versions are those of CMake, and defines are options.
"$python" - >"$work/defines" <<'PYTHON'
import re, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))
cmake = open("CMakeLists.txt").read()
needs = open("share/cmake/dependencies.cmake").read()
problems = []


def same(what, ours, theirs):
    if ours != theirs:
        problems.append(f"pyproject.toml: {what} is {ours!r}, CMake has {theirs!r}")


tool = project["tool"]["scikit-build"]
same("version", project["project"]["version"], re.search(r"project\(m5 VERSION ([0-9.]+)", cmake)[1])
same("cmake.version", tool["cmake"]["version"], ">=" + re.search(r"cmake_minimum_required\(VERSION ([0-9.]+)", cmake)[1])
same("requires-python", project["project"]["requires-python"], ">=" + re.search(r"find_package\(Python ([0-9.]+)", needs)[1])
pybind11 = [need for need in project["build-system"]["requires"] if need.startswith("pybind11")]
same("pybind11", pybind11, ["pybind11>=" + re.search(r"m5_minimum\(pybind11 ([0-9.]+)", needs)[1]])
for name in tool["cmake"]["define"]:
    if not re.search(rf"(option|set)\({name} ", cmake):
        problems.append(f"pyproject.toml: {name} is no option")
for path in (project["project"]["readme"], project["project"]["license"]["file"]):
    open(path)
if problems:
    raise SystemExit("\n".join(problems))
for name, value in tool["cmake"]["define"].items():
    print(f"-D{name}={value}")
for target in tool["build"]["targets"]:
    print(f"--target={target}")
PYTHON
mapfile -t defines < <(grep '^-D' "$work/defines")
target=$(sed -n 's/^--target=//p' "$work/defines")

if "$python" -c 'import scikit_build_core' 2>/dev/null; then
  "$python" -m pip install --no-build-isolation --no-deps --no-index --target "$work/wheel" . >"$work/log" 2>&1 ||
    { tail -n 25 "$work/log"; exit 1; }
else
  options=()
  for name in CMAKE_CXX_COMPILER M5_WERROR Python_EXECUTABLE; do options+=("-D$name=$(value $name)"); done
  {
    cmake -S . -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSKBUILD=2 "${defines[@]}" "${options[@]}" &&
      cmake --build "$work/build" --target "$target" -j "$(nproc)" &&
      cmake --install "$work/build" --component python --prefix "$work/wheel"
  } >"$work/log" 2>&1 || { tail -n 25 "$work/log"; exit 1; }
fi
cmake --install "$build" --component python --prefix "$work/prefix" >"$work/log"
mkdir -p "$work/prefix/lib"
libdir=$(value CMAKE_INSTALL_LIBDIR)
cp -P "$build"/libm5.so* "$work/prefix/$libdir/"
mkdir -p "$work/prefix/share/m5"
cp -r share/models "$work/prefix/share/m5/models"

# Each is moved, and asked in another folder; both give what the module of the build gives.
program='import m5, numpy
print(m5.__version__, m5.Model().name, m5.__file__.split("/m5/")[0])
print(m5.score("ACGTTGCAACGTNACGGATC", strand="both").tobytes().hex())
print(m5.embed("ACGTTGCAACGTNACGGATC").tobytes().hex())'
site=$(cd "$work/prefix" && ls -d "$libdir"/python3*/site-packages)
mv "$work/wheel" "$work/moved-wheel"
mv "$work/prefix" "$work/moved-prefix"
ask() { (cd / && env -u M5_MODEL PYTHONPATH="$1" "$python" -B -c "$program") >"$2" || { echo "not usable: $1"; exit 1; }; }
ask "$PWD/$build/python" "$work/of-build"
ask "$work/moved-wheel" "$work/of-wheel"
ask "$work/moved-prefix/$site" "$work/of-prefix"
for kind in wheel prefix; do
  grep -q " .*/moved-$kind" "$work/of-$kind" || { echo "$kind: another module answered"; cat "$work/of-$kind"; exit 1; }
  cmp <(tail -n +2 "$work/of-build") <(tail -n +2 "$work/of-$kind")
done
head -n 1 "$work/of-wheel" | cut -d' ' -f1,2
# Of m5 the wheel needs nothing outside; one file each, no links.
if ldd "$work"/moved-wheel/m5/_m5.*.so | grep libm5; then
  echo "the wheel needs libm5.so"
  exit 1
fi
[ -z "$(find "$work/moved-wheel" -type l)" ] || { echo "links in the wheel"; exit 1; }
(cd "$work/moved-wheel" && find m5 -type f | sort)
