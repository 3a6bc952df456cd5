#!/usr/bin/env bash
# libm5.so exports the functions that the headers of lib/m5 declare and do not define, all of them
# (what is declared can be linked) and nothing else, and the type of m5::Error, by which it is
# caught. Its SONAME is the version up to the part that may break the ABI (CONTRIBUTING.md).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=${M5_BUILD:-build/dev}
library=$build/libm5.so
[ -e "$library" ] || { echo "$library is missing"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problems=0

# The declarations as a compiler sees them.
for header in lib/m5/*.hpp; do echo "#include \"m5/$(basename "$header")\""; done >"$work/all.cpp"
clang++-14 -std=c++20 -fsyntax-only -Xclang -ast-dump=json -Xclang -ast-dump-filter=m5:: -I lib \
  "$work/all.cpp" >"$work/ast.json" || exit 1
python3 - "$work/ast.json" >"$work/declared.mangled" <<'PYTHON' || exit 1
import json, sys

text = open(sys.argv[1]).read()
decoder = json.JSONDecoder()
functions = ("FunctionDecl", "CXXMethodDecl", "CXXConstructorDecl", "CXXDestructorDecl", "CXXConversionDecl")


def walk(node):
    if node.get("kind") in functions and "mangledName" in node:
        inner = node.get("inner", [])
        defined = any(child.get("kind") == "CompoundStmt" for child in inner)
        given = ("isImplicit", "explicitlyDefaulted", "explicitlyDeleted", "pure")
        if not defined and not any(node.get(key) for key in given):
            print(node["mangledName"])
    for child in node.get("inner", []):
        walk(child)


at = 0
while at < len(text):
    if text[at].isspace():
        at += 1
        continue
    node, at = decoder.raw_decode(text, at)
    walk(node)
PYTHON
# By demangled names: a constructor has two symbols. An empty comparison would prove nothing.
{
  c++filt <"$work/declared.mangled"
  printf '%s for m5::Error\n' typeinfo "typeinfo name" vtable
} | sort -u >"$work/declared"
nm -D --defined-only -C "$library" | cut -d' ' -f3- | sort -u >"$work/exported"
[ "$(wc -l <"$work/declared")" -ge 30 ] || { echo "too few declarations were found"; exit 1; }
while IFS= read -r line; do
  case $line in
    $'\t'*) echo "exported, but not declared in lib/m5: ${line#$'\t'}" ;;
    *) echo "declared in lib/m5, but not exported (M5_API): $line" ;;
  esac
  problems=$((problems + 1))
done < <(comm -3 "$work/declared" "$work/exported")

version=$(sed -nE 's/^project\(m5 VERSION ([0-9]+\.[0-9]+)\..*/\1/p' CMakeLists.txt)
case $version in 0.*) abi=$version ;; *) abi=${version%%.*} ;; esac
soname=$(readelf -d "$library" | sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p')
if [ -z "$version" ] || [ "$soname" != "libm5.so.$abi" ]; then
  echo "SONAME '$soname', expected libm5.so.$abi"
  problems=$((problems + 1))
fi
echo "$(wc -l <"$work/exported") names exported, $problems problems"
[ "$problems" = 0 ]
