#!/usr/bin/env bash
# m5 score --per window and --per feature: rows are what the bases of the bedGraph say.
. "$(dirname "$0")/harness.sh"

{
  record chr1 6000 1
  record chr2 1500 2 ACGTACGTACGTN
  record one 1 3
} >g.fa
columns=$(printf 'name\tsequence\tstart\tend\tstrand\tlength\tn_N\tgc\tbits\tpercentile\tz_score\tfile')

# bases: name, position, letter, bits (NA: not scored), for all positions.
bases() { # bases SCORE_OPTION...
  "$M5" score --no-header --metric bits --digits 9 "$@" g.fa 2>>.err |
    awk -F'\t' -v OFS='\t' 'NR == FNR { for (i = $2; i < $3; ++i) bits[$1, i] = $4; next }
      /^>/ { name = substr($1, 2); n = 0; next }
      { for (i = 1; i <= length($0); ++i) { print name, n, substr($0, i, 1), (name, n) in bits ? bits[name, n] : "NA"; ++n } }' \
      - g.fa
}
# expected BASES: rows of name, begin, end (; and more of them: parts) to those of the table: length to
# z_score, with tolerance left to the caller. Windows of the same length start at every 16th position.
expected() {
  awk -F'\t' -v OFS='\t' '
    function window(name, begin, n,   i, sum, scored) {
      for (i = begin; i < begin + n; ++i) if (bits[name, i] != "NA") { sum += bits[name, i]; ++scored }
      return 2 * scored < n ? "NA" : sum / scored
    }
    NR == FNR { if (!($1 in nt)) names[++records] = $1; ++nt[$1]; letter[$1, $2] = $3; bits[$1, $2] = $4; next }
    {
      length_ = n = gc = sum = 0
      for (part = 2; part <= NF; part += 2) for (i = $part; i < $(part + 1); ++i) {
        at = i % nt[$1]; ++length_
        if (bits[$1, at] == "NA") { ++n; continue }
        gc += letter[$1, at] ~ /[GC]/; sum += bits[$1, at]
      }
      scored = length_ - n
      mean = scored ? sum / scored : "NA"
      w = int(length_ / 16) * 16; if (w < 16) w = 16
      count = below = s = q = 0
      for (r = 1; r <= records; ++r) for (b = 0; b + w <= nt[names[r]]; b += 16) {
        v = window(names[r], b, w)
        if (v == "NA") continue
        values[++count] = v; s += v; below += v < mean - 1e-7 ? 1 : v < mean + 1e-7 ? 0.5 : 0
      }
      for (i = 1; i <= count; ++i) q += (values[i] - s / count) ^ 2
      percentile = z = "NA"
      if (scored && count >= 20) { percentile = 100 * below / count; z = (mean - s / count) / sqrt(q / count) }
      print length_, n, scored ? gc / scored : "NA", mean, percentile, z
    }' "$1" -
}
near() { # columns of numbers; nine digits of sums and a percentile that may be at a step of 1 / 300
  awk -F'\t' 'NR == FNR { want[FNR] = $0; n = FNR; next }
    { m = FNR; k = split(want[FNR], a); for (i = 1; i <= k; ++i) {
        if (a[i] == "NA" || $i == "NA") { if (a[i] != $i) bad = 1; continue }
        d = a[i] - $i; if (d < 0) d = -d; if (d > 2e-6) bad = 1 } if (k != NF) bad = 1 }
    END { exit bad || n != m || n == 0 }' "$1" "$2"
}
numbers() { tail -n +2 "$1" | cut -f6-11; }

bases >b.forward
ok "windows" score --no-header --digits 7 --per window --window 400 --step 300 g.fa
cp .out windows
equal "header row" "$(head -n 1 windows)" "$columns"
equal "what the rows are" "$(tail -n 7 windows | cut -f1-5,12 | tr '\t\n' ': ')" \
  "chr1:chr1:5700:6000:.:g.fa chr2:chr2:0:400:.:g.fa chr2:chr2:300:700:.:g.fa chr2:chr2:600:1000:.:g.fa chr2:chr2:900:1300:.:g.fa chr2:chr2:1200:1500:.:g.fa one:one:0:1:.:g.fa "
check "rows of windows are of their bases" near <(tail -n +2 windows | cut -f1,3,4 | expected b.forward) <(numbers windows)

printf '##gff-version 3\n' >f.gff
gff() { printf '%s\t.\t%s\t%d\t%d\t.\t%s\t.\tID=%s;gene=%s\n' "$@" >>f.gff; }
gff chr2 CDS 101 700 - b B
gff chr1 CDS 1 900 + a A
gff chr1 CDS 2001 2300 + s S
gff chr2 gene 101 700 - n N
gff chr1 CDS 2501 2777 + s S
gff one CDS 1 1 + o O
gff chr1 CDS 17 32 . x X
ok "features" score --no-header --digits 7 --per feature --features f.gff --feature-type CDS g.fa
cp .out features
equal "rows are in the order of the file, of several parts as one" \
  "$(tail -n +2 features | cut -f1-6 | tr '\t\n' ': ')" \
  "b:chr2:100:700:-:600 a:chr1:0:900:+:900 s:chr1:2000:2777:+:577 o:one:0:1:+:1 x:chr1:16:32:.:16 "
printf '%s\n' 'chr2 100 700' 'chr1 0 900' 'chr1 2000 2300 2500 2777' 'one 0 1' 'chr1 16 32' |
  tr ' ' '\t' >places
check "rows of features are of their bases" near <(expected b.forward <places) <(numbers features)
ok "--feature-name" score --no-header --per feature --features f.gff --feature-name gene g.fa
equal "--feature-name" "$(tail -n +2 .out | cut -f1 | paste -sd ' ')" "B A S N O X"
ok "embed has the same rows" embed --no-header --per feature --features f.gff --feature-type CDS g.fa
same "embed has the same rows" <(cut -f1-5 .out) <(cut -f1-5 features)
ok "embed has the same windows" embed --no-header --per window --window 400 --step 300 g.fa
same "embed has the same windows" <(cut -f1-5 .out) <(cut -f1-5 windows)
for options in "--strand both" "-k 3" "--unmasked" "--circular" "--context file"; do
  # shellcheck disable=SC2086
  {
    bases $options >b.other
    ok "$options" score --no-header --digits 7 $options --per feature --features f.gff --feature-type CDS g.fa
    check "$options" near <(expected b.other <places) <(numbers .out)
    differ "$options is another score" .out features
  }
done

# Over the end of a circular record; N alone; records of one base.
printf '##gff-version 3\nchr1\t.\tgene\t5901\t6100\t.\t+\t.\tID=around\n' >around.gff
ok "around" score --no-header --digits 7 --circular --per feature --features around.gff g.fa
equal "around the origin" "$(tail -n 1 .out | cut -f1-6)" "$(printf 'around\tchr1\t5900\t6100\t+\t200')"
bases --circular >b.circle
check "around the origin: its bases" near <(printf 'chr1\t5900\t6100\n' | expected b.circle) <(numbers .out)
{ echo '>n'; for _ in $(seq 30); do printf 'N%.0s' $(seq 50); echo; done; sequence 900 4; } >n.fa
printf 'n\t100\t700\tall\nn\t1400\t1600\thalf\nn\t1500\t2400\tbases\n' >n.bed
ok "N" score --no-header --per feature --features n.bed n.fa
equal "only N: no numbers" "$(sed -n 2p .out | cut -f6-11)" "$(printf '600\t600\tNA\tNA\tNA\tNA')"
equal "half N: counted" "$(sed -n 3p .out | cut -f6,7)" "$(printf '200\t100')"
equal "half N: numbers" "$(sed -n 3,4p .out | grep -c NA)" 0
printf '>n\nNNNN\n' >nn.fa
ok "nothing but N" score --no-header --per window nn.fa
equal "nothing but N" "$(tail -n +2 .out | cut -f3-11)" "$(printf '0\t4\t.\t4\t4\tNA\tNA\tNA\tNA')"
printf '>o\nG\n' >o.fa
ok "a record of 1 nt" score --no-header --per window o.fa
equal "a record of 1 nt" "$(tail -n +2 .out | cut -f3-8,10,11)" "$(printf '0\t1\t.\t1\t0\t1.0000\tNA\tNA')"

# --- what does not matter, and what does ----------------------------------------------------------------
for run in "1 128" "3 512"; do
  for units in "feature --features f.gff" "window --window 33"; do
    # shellcheck disable=SC2086
    {
      ok "$units, $run" score --no-header -@ ${run% *} --block-rows ${run#* } --per $units g.fa
      cp .out "units.${units%% *}.${run% *}"
      same "--per $units: -@, --block-rows $run" "units.${units%% *}.${run% *}" "units.${units%% *}.1"
    }
  done
done
ok "-@ in the header" score -@ 1 --per window g.fa && cp .out t1
ok "-@ in the header" score -@ 3 --per window g.fa && same "threads change no byte" .out t1
check "settings" grep -q '^#settings: passes=7 strand=forward per=window window=1000 step=1000 context=' t1
check "note" grep -q '^#note: percentile and z_score: ' t1
# A file is a genome: its rows do not know the others.
record other 9000 5 ACGTAAT >h.fa
ok "two files" score --no-header --per window h.fa g.fa h.fa --verbosity 1 && cp .out three
ok "g" score --no-header --per window g.fa && cp .out alone.g
ok "h" score --no-header --per window h.fa && cp .out alone.h
same "files are genomes of their own" <(tail -n +2 three) <(tail -qn +2 alone.h alone.g alone.h)
printf 'other\t0\t800\tz\nchr1\t0\t900\ta\nother\t800\t1800\ty\n' >two.bed
ok "features of two files" score --no-header --digits 7 --per feature --features two.bed g.fa h.fa
equal "features of two files" "$(tail -n +2 .out | cut -f1,12 | tr '\t\n' ': ')" "z:h.fa a:g.fa y:h.fa "
same "a feature is as with its own file alone" <(grep '^a' .out | cut -f3-4,6-12) <(grep '^a' features | cut -f3-4,6-12)
# Regions: windows in them, percentiles among all.
ok "regions" score --no-header --digits 7 --per window --window 300 g.fa chr1:301-900 chr1:1-300
cp .out regions
equal "regions" "$(tail -n +2 regions | cut -f3,4 | tr '\t\n' ': ')" "300:600 600:900 0:300 "
ok "all" score --no-header --digits 7 --per window --window 300 g.fa
check "a region changes no number" eval '[ "$(grep -cFxf <(tail -n +2 regions) .out)" = 3 ]'
"$M5" score --no-header --per window --summary s.json --chrom-sizes s.sizes -o w.tsv.gz - <g.fa 2>.err
same "BGZF, beside summary and sizes" <(zcat w.tsv.gz | cut -f1-11) <(cut -f1-11 alone.g)
check "the summary is of all" grep -q '"n_bases": 7501' s.json
equal "sizes" "$(wc -l <s.sizes)" 3
ok "the columns sort" score --per feature --features f.gff --feature-type CDS g.fa
equal "in one command" "$(grep -v '^#' .out | tail -n +2 | sort -t "$(printf '\t')" -k9,9gr | cut -f9 | paste -sd ' ')" \
  "$(grep -v '^#' .out | tail -n +2 | cut -f9 | sort -gr | paste -sd ' ')"
ok "--dry-run" score --dry-run --per feature --features f.gff -o never.tsv g.fa
check "--dry-run writes nothing" test ! -e never.tsv

# --- what is refused -----------------------------------------------------------------------------------
fails 2 "--per feature needs --features" "no file" score --per feature g.fa
fails 2 "--features goes with --per feature" "no --per" score --features f.gff g.fa
fails 2 "--window and --step go with --per window" "--window alone" score --window 5 g.fa
fails 2 "--feature-type needs" "--feature-type alone" score --feature-type CDS g.fa
fails 2 "--per" "a unit that is none" score --per base g.fa
for option in "--bin 5" "--metric bits" "--track-line" "--flank 5"; do
  # shellcheck disable=SC2086
  fails 2 "${option% *} does not go with --per window" "$option" score --per window $option g.fa
done
for output in "-o x.bg" "-o x.bw" "-o x.npz" "-O bedgraph" "-O npz"; do
  # shellcheck disable=SC2086
  fails 2 "--per window writes a table" "$output" score --per window $output g.fa
done
fails 2 "takes no regions" "features and regions" score --per feature --features f.gff g.fa chr1
printf 'chr1\t5000\t6001\tlong\n' >long.bed
fails 3 "long.bed: line 1: " "past the end" score --per feature --features long.bed g.fa
printf 'chr9\t0\t10\tx\n' >absent.bed
fails 3 "no record 'chr9'" "a record that is not there" score --per feature --features absent.bed g.fa
printf 'chr1\t0\t10\t#x\n' >hash.bed
fails 3 "hash.bed: name '#x'" "a name that is a comment" score --per feature --features hash.bed g.fa
: >empty.fa
fails 3 "empty.fa" "empty input" score --per window empty.fa
M5_MODEL=$WILD_MODEL fails 7 "not finite" "a value that is none" score --per window -o x.tsv g.fa
fails 2 "f.gff" "output over the features" score --per feature --features f.gff -O tsv -o f.gff g.fa
"$M5" score --per window g.fa >/dev/full 2>.err
equal "/dev/full" $? 5
no_temporaries "score table"

finish
