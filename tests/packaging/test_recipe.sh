# The release and the conda recipe: the archive has the same bytes whoever makes it; the recipe that
# names it passes what can be linted here; its build script builds it into a folder, and its tests pass with nothing
# but that folder. The program then runs on processors of 2008.
. "$(dirname "$0")/../cli/harness.sh"
unset M5_MODEL

here=$SOURCE/tests/packaging
lint() { /usr/bin/python3 "$here/lint_recipe.py" "$@"; }
if ! git -C "$SOURCE" rev-parse --git-dir >/dev/null 2>&1; then
  skip "git checkout, of which a release is made"
  finish
fi

# What the working tree holds, without touching its index.
release() { (umask "$1" && TZ=$2 LC_ALL=$3 /usr/bin/python3 "$SOURCE/share/setup/make_release.py" "${@:4}"); }
cp "$(git -C "$SOURCE" rev-parse --git-path index | sed "s#^[^/]#$SOURCE/&#")" index
tree=$(cd "$SOURCE" && GIT_INDEX_FILE=$WORK/index git add -A 2>/dev/null && GIT_INDEX_FILE=$WORK/index git write-tree)
check "archive" release 022 UTC C --ref "$tree" --home https://example.org/m5 \
  --url 'https://example.org/releases/m5-{version}.tar.gz' -o one
check "again" release 077 Asia/Tokyo C.UTF-8 --ref "$tree" -o two
version=$(sed -nE 's/^project\(m5 VERSION ([0-9.]+).*/\1/p' "$SOURCE/CMakeLists.txt")
same "archives" "one/m5-$version.tar.gz" "two/m5-$version.tar.gz"
check "its sum" bash -c "cd one && sha256sum -c m5-$version.tar.gz.sha256"
equal "the recipe's sum" "$(awk '/sha256:/ {print $2}' one/m5/meta.yaml)" "$(cut -d' ' -f1 "one/m5-$version.tar.gz.sha256")"
tar -xzf "one/m5-$version.tar.gz"
equal "files" "$(cd "m5-$version" && find . -type f -o -type l | wc -l)" \
  "$(git -C "$SOURCE" ls-tree -r --name-only "$tree" | wc -l)"
check "content" bash -c "cd '$SOURCE' && git ls-tree -r --name-only $tree | head -n 50 |
  while read -r f; do cmp \"\$f\" '$WORK/m5-$version'/\"\$f\" || exit 1; done"
equal "modes" "$(tar -tvzf "one/m5-$version.tar.gz" | cut -c1-10 | sort -u | tr '\n' ' ')" '-rw-r--r-- -rwxr-xr-x '
equal "owner" "$(tar -tvzf "one/m5-$version.tar.gz" --numeric-owner | awk '{print $2}' | sort -u)" 0/0

# The recipe: nothing to lint; each rule finds its fault.
equal "lint" "$(lint one/m5/meta.yaml 2>&1)" ""
broken() {  # NAME SED: the lint says NAME of a recipe changed by SED
  mkdir -p "broken/m5"
  sed -E "$2" one/m5/meta.yaml >broken/m5/meta.yaml
  if cmp -s one/m5/meta.yaml broken/m5/meta.yaml; then fail "lint of $1: the recipe did not change"; fi
  lint broken/m5/meta.yaml >.out 2>.err
  if grep -q "$1" .out; then pass; else fail "lint: $1 is not found"; fi
}
broken missing_hash 's/sha256: .*/sha256: 12/'
broken uses_vcs_url 's/url: https.*tar.gz/git_url: https:\/\/example.org\/m5.git/'
broken 'url does not follow' "s/m5-\{\{ version \}\}.tar/m5-$version.tar/"
broken missing_home '/^  home:/d'
broken missing_doc_url '/doc_url:/d'
broken missing_license 's/^  license: .*//'
broken license_file '/THIRD_PARTY/d'
broken missing_build_number 's/  number: 0//'
broken run_exports 's/max_pin="x.x"/max_pin="x"/'
broken compiler_needs_stdlib_c '/stdlib/d'
broken compilers_must_be_in_build 's/\{\{ compiler\("cxx"\) \}\}/cmake/'
broken version_starts_with_v 's/set version = "/set version = "v/'
broken 'longer than 120' 's/^  summary: /&a summary which is far too long for a page of packages, as it does not come to its end /'
broken extra_identifiers 's/doi:10/10/'
broken additional-platforms 's/osx-arm64/amiga/'
broken 'recipe-maintainers' '/maintainers|m5-developers/d'
broken 'is not a name' 's/- ninja/- ninja ?/'
mkdir other && cp one/m5/meta.yaml other/
lint other/meta.yaml >.out
if grep -q folder_and .out; then pass; else fail "lint: a folder of another name"; fi
equal "the checkout's own lacks a release, and nothing else" \
  "$(mkdir -p own/m5 && cp "$SOURCE/conda-recipe/meta.yaml" own/m5/ && lint own/m5/meta.yaml | tr '\n' ';')" \
  'missing_hash;uses_vcs_url, or no archive;'

# The build script, with what conda-build gives it. -Werror as in the build under test, whose objects it shares.
prefix=$WORK/staging
code=0
mkdir home
(cd "m5-$version" && env -i PATH=/usr/bin:/bin HOME="$WORK/home" CCACHE_DIR="$(ccache -k cache_dir)" \
  CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1 PREFIX="$prefix" SRC_DIR="$PWD" CPU_COUNT=2 CMAKE_ARGS="-DM5_WERROR=ON" \
  bash -x "$WORK/one/m5/build.sh") >build.log 2>&1 || code=$?
equal "build.sh" "$code" 0
[ "$code" = 0 ] || tail -n 5 build.log
equal "nothing is left in the home folder" "$(find home -type f | wc -l)" 0
mv "m5-$version" gone  # nothing of the source may be needed from here on

# alone COMMAND: in an empty folder, with the package, a shell and its tools.
mkdir test_tmp
alone() { (cd test_tmp && env -i PATH="$prefix/bin:/usr/bin:/bin" HOME="$WORK" PREFIX="$prefix" SHLIB_EXT=.so bash -c "$1"); }
lines=0
while IFS= read -r line; do
  lines=$((lines + 1))
  check "test command: $line" alone "set -o pipefail; $line"
done < <(lint --commands one/m5/meta.yaml)
check "there are test commands" [ "$lines" -ge 10 ]
check "run_test.sh" alone "bash $WORK/one/m5/run_test.sh"

# Processors without AVX: what is built for the baseline of x86-64 runs there, and gives the bytes that the
# SIMD target chosen there gives here.
if [ "$(uname -m)" != x86_64 ] || ! command -v qemu-x86_64 >/dev/null; then
  skip "qemu-x86_64 on x86-64"
else
  { record a 900 1; record b 40 2; } >small.fa
  score() { "$@" score -@ 2 --no-header -O tsv small.fa; }
  for processor in Nehalem Westmere; do
    check "$processor: version" qemu-x86_64 -cpu $processor "$prefix/bin/m5" --version
    isa=$(sed -nE 's/.*SIMD[^A-Z]*([A-Z0-9]+).*/\1/p' .checked | head -n 1)
    check "$processor: no AVX ($isa)" grep -qE '^(SCALAR|SSE2|SSSE3|SSE4)$' <<<"$isa"
    score qemu-x86_64 -cpu $processor "$prefix/bin/m5" >there.tsv 2>.err
    equal "$processor: rows" "$(wc -l <there.tsv)" 941
    M5_CPU_ISA=$isa score "$prefix/bin/m5" >here.tsv 2>.err
    same "$processor: scores" here.tsv there.tsv
  done
fi
finish
