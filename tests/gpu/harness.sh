# shellcheck shell=bash
# Sourced by every tests/gpu/test_*.sh: tests/cli/harness.sh, with the GPU. tests/gpu/run.sh has set
#   M5, SOURCE   as for tests/cli
#   MODEL        the bundled model
#   GPU_LIBRARY  libm5_cuda.so, empty where m5 is to find it
#   DEVICE       what is tested; DIVISOR: by how much less of it
. "$(dirname "${BASH_SOURCE[0]}")/../cli/harness.sh"
export M5_CUDA_LIBRARY=$GPU_LIBRARY
# What is tested as bf16: ref has none, so that it is compared in fp32 once more.
# shellcheck disable=SC2034
BF16=bf16
[ "$DEVICE" != ref ] || BF16=fp32

# scaled NUMBER [LEAST]: divided by DIVISOR.
scaled() {
  local n=$((($1 + DIVISOR - 1) / DIVISOR)) least=${2:-1}
  echo $((n > least ? n : least))
}

# repeats NAME UNIT LENGTH: a FASTA record of a unit again and again.
repeats() {
  echo ">$1"
  command awk -v unit="$2" -v n="$3" 'BEGIN {
    for (i = 0; i < n; i += 60) {
      line = ""
      for (j = i; j < i + 60 && j < n; ++j) line = line substr(unit, j % length(unit) + 1, 1)
      print line
    }
  }'
}

# first FILE.gz LENGTH: the first record of a FASTA file, cut to a length.
first() {
  gzip -dc "$1" | command awk -v n="$2" '
    /^>/ { if (seen++) exit; print; next }
    n > 0 { $0 = substr($0, 1, n); n -= length($0); print }'
}

# differences KEYS GOT WANT: "n max mean largest" of two tables of tab-separated columns, of which the first KEYS
# say what a row is and are the same text. n: how many numbers the others have; largest: the greatest |number|
# of WANT. What is no number (headings, NA) must be the same in both; else, and where rows are missing or
# something is not finite, prints what is wrong.
differences() {
  paste <(grep -v '^#' "$2") <(grep -v '^#' "$3") | command awk -F'\t' -v keys="$1" '
    function fail(what) { print "row " NR ": " what; failed = 1; exit }
    function abs(x) { return x < 0 ? -x : x }
    NF % 2 { fail("other columns") }
    {
      k = NF / 2
      for (i = 1; i <= k; ++i) {
        number = "^-?[0-9]*[.]?[0-9]+([eE][-+]?[0-9]+)?$"
        if (i <= keys || $i !~ number || $(i + k) !~ number) {
          if ($i "" != $(i + k) "" || tolower($i) ~ /^-?(nan|inf)/) fail($i " beside " $(i + k))
          continue
        }
        d = abs($i - $(i + k))
        sum += d; ++n
        if (d > max) max = d
        if (abs($(i + k)) > largest) largest = abs($(i + k))
      }
    }
    END { if (!failed) printf "%d %.3g %.3g %.3g\n", n, max, n ? sum / n : 0, largest }'
}

# judge KEYS GOT WANT MAX MEAN [relative]: whether no number differs by more than MAX, and the mean difference
# is at most MEAN; relative: of the greatest number. $SEEN says what there was.
judge() {
  SEEN=$(differences "$1" "$2" "$3")
  command awk -v max="$4" -v mean="$5" -v relative="${6:-}" '
    { scale = relative == "" ? 1 : $4
      exit !(NF == 4 && $1 > 0 && $2 <= max * scale && $3 <= mean * scale) }' <<<"$SEEN"
}
# close NAME and what judge takes; far: that it is not so.
close() {
  local n max mean largest
  if judge "${@:2}"; then
    pass
    read -r n max mean largest <<<"$SEEN"
    echo "  $1: $n numbers to $largest, differences $max at most, mean $mean (allowed: $5, $6${7:+ of $largest})"
  else
    fail "$1: $SEEN; allowed are $5, mean $6${7:+ of the greatest number}"
  fi
}
far() {
  if judge "${@:2}"; then fail "$1: they are near: $SEEN"; else pass; fi
}
