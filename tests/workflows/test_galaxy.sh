# The Galaxy tools of share/workflows/galaxy: their own tests, run by galaxy_tool.py as Galaxy would run them.
. "$(dirname "$0")/../cli/harness.sh"

export PATH=$(dirname "$M5"):$PATH
cp -r "$SOURCE/share/workflows/galaxy" galaxy
tool() { /usr/bin/python3 "$SOURCE/tests/workflows/galaxy_tool.py" "$@"; }

for name in score embed; do
  tool galaxy/m5_$name.xml >$name.log 2>.err
  equal "m5_$name" "$(grep -v 'passed$' $name.log)$(cat .err)" ""
  equal "tests of m5_$name" "$(grep -c 'passed$' $name.log)" 3
  for option in $(sed -n '/<command/,/<\/command>/p' galaxy/m5_$name.xml | grep -oE -- '--[a-z-]+' | sort -u); do
    check "m5 $name has $option" grep -q -- "$option" <("$M5" $name --help)
  done
done
equal "version" "$(sed -nE 's/.*@TOOL_VERSION@">([0-9.]+)<.*/\1/p' galaxy/macros.xml)" \
  "$(sed -nE 's/^project\(m5 VERSION ([0-9.]+).*/\1/p' "$SOURCE/CMakeLists.txt")"

# Tests that cannot hold are seen to fail.
broken() {  # NAME SED
  sed -E "$2" "$SOURCE/share/workflows/galaxy/m5_score.xml" >galaxy/m5_score.xml
  if tool galaxy/m5_score.xml >broken.log 2>&1; then fail "$1 passes"; else pass; fi
}
broken "another option" 's/--passes \$passes/--pass $passes/'
broken "another assertion" 's/chr\\t0\\t1/chr\\t0\\t2000/'
broken "a value that is no option" 's/name="strand" value="both"/name="strand" value="neither"/'
broken "a parameter that is not there" 's/name="strand" value="both"/name="strands" value="both"/'
finish
