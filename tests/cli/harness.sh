# shellcheck shell=bash
# Sourced by every test_*.sh. The caller has set:
#   M5      the program, an absolute path
#   MODEL   a tiny model
#   WILD_MODEL  one whose values overflow
#   SURE_MODEL  one whose perplexities overflow, though its log-probabilities do not
#   SOURCE  the top of the source tree
# Each test runs in a folder of its own, $WORK, which goes away.
set -uo pipefail
PASSED=0
FAILED=0
TEST=$(basename "$0" .sh)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
unset M5_MODEL
# No GPU, also where there is one: the results are those of the CPU.
export M5_MODEL=$MODEL LC_ALL=C M5_CUDA_LIBRARY=$WORK/none.so

# Numbers that awk prints keep their digits.
awk() { command awk -v OFMT=%.12g "$@"; }

pass() { PASSED=$((PASSED + 1)); }
fail() {
  FAILED=$((FAILED + 1))
  echo "FAIL $TEST: $1"
  [ -s "$WORK/.err" ] && head -n 3 "$WORK/.err" | sed 's/^/     stderr: /'
  return 0
}

# check NAME COMMAND...: the command succeeds.
check() {
  local name=$1
  shift
  if "$@" >"$WORK/.checked" 2>"$WORK/.err"; then pass; else fail "$name"; fi
}

# ok NAME ARGS...: m5 ARGS exits 0; stdout is kept in $WORK/.out.
ok() {
  local name=$1 code
  shift
  "$M5" "$@" >"$WORK/.out" 2>"$WORK/.err" </dev/null
  code=$?
  if [ "$code" = 0 ]; then pass; else fail "$name: exit $code"; fi
}

# fails CODE PATTERN NAME ARGS...: m5 ARGS exits with CODE and one line on stderr that matches the
# extended regular expression.
fails() {
  local want=$1 pattern=$2 name=$3 code
  shift 3
  "$M5" "$@" >"$WORK/.out" 2>"$WORK/.err" </dev/null
  code=$?
  if [ "$code" != "$want" ]; then
    fail "$name: exit $code, not $want"
  elif [ "$(wc -l <"$WORK/.err")" != 1 ]; then
    fail "$name: stderr is not one line"
  elif ! grep -qE -- "$pattern" "$WORK/.err"; then
    fail "$name: stderr does not match '$pattern'"
  else
    pass
  fi
}

# same NAME A B: two files are equal byte for byte.
same() {
  if cmp -s "$2" "$3"; then pass; else fail "$1: $2 and $3 differ"; fi
}
differ() {
  if cmp -s "$2" "$3"; then fail "$1: $2 and $3 are equal"; else pass; fi
}
# equal NAME GOT WANT: two texts are equal.
equal() {
  if [ "$2" = "$3" ]; then pass; else fail "$1: got '$2', want '$3'"; fi
}

# skip WHAT: a tool that some checks need is not here.
skip() { echo "skip $TEST: no $1"; }

# sequence LENGTH SEED [ALPHABET]: random bases on one line, the same for the same arguments.
sequence() {
  awk -v n="$1" -v seed="$2" -v letters="${3:-ACGT}" 'BEGIN {
    state = seed * 7919 + 17
    for (i = 0; i < n; ++i) {
      state = (state * 69069 + 12345) % 4294967296
      printf "%s", substr(letters, int(state / 65536) % length(letters) + 1, 1)
    }
    print ""
  }'
}

# record NAME LENGTH SEED [ALPHABET]: a FASTA record with lines of 60.
record() {
  echo ">$1"
  sequence "$2" "$3" "${4:-ACGT}" | fold -w 60
}

# no_temporaries NAME: nothing unfinished lies in the folder.
no_temporaries() {
  local left
  left=$(find . -name '*.tmp*' -o -name '.*.m5*')
  equal "$1: no temporary files" "$left" ""
}

finish() {
  echo "$TEST: $PASSED passed, $FAILED failed"
  [ "$FAILED" = 0 ]
}
