#!/usr/bin/env bash
# Every command has help, a man page that names each long option of that help, a test of the command
# line and a place in the shell completion.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
m5=${M5_BUILD:-build/dev}/tools/m5
[ -x "$m5" ] || { echo "$m5 is missing"; exit 1; }
problems=0
problem() {
  echo "$1"
  problems=$((problems + 1))
}

# The text of a page as a reader sees it; every dash as '-'.
page_text() { mandoc -T utf8 "$1" | sed -e 's/.\x08//g' -e 's/‐/-/g; s/−/-/g; s/–/-/g'; }

mapfile -t commands < <(ls tools/cmd_*.cpp | sed -E 's#tools/cmd_(.*)\.cpp#\1#' | grep -v _)
[ "${#commands[@]}" -ge 4 ] || problem "tools/ has only these commands: ${commands[*]}"
completion=share/completion/m5.bash
[ -f "$completion" ] || { echo "$completion is missing"; exit 1; }
usage=$("$m5" --help)
overview=$(page_text man/m5.1)
options=0

# check_options WHAT PAGE_TEXT HELP_TEXT COMMAND
check_options() {
  local option
  for option in $(grep -oE -- '--[A-Za-z][A-Za-z0-9-]*' <<<"$3" | sort -u); do
    options=$((options + 1))
    grep -qE -- "(^|[^A-Za-z0-9-])$option([^A-Za-z0-9-]|$)" <<<"$2" ||
      problem "man/m5-$4.1 does not name $option of '$1 --help'"
    grep -qE -- "(^|[^A-Za-z0-9-])$option([^A-Za-z0-9-]|$)" "$completion" ||
      problem "share/completion/m5.bash does not offer $option of '$1 --help'"
  done
}

for command in "${commands[@]}"; do
  grep -qE "^ +$command " <<<"$usage" || problem "'m5 --help' does not list $command"
  help=$("$m5" "$command" --help) || problem "'m5 $command --help' fails"
  [ "$help" = "$("$m5" help "$command")" ] ||
    problem "'m5 help $command' and 'm5 $command --help' differ"
  ls tests/cli/*"$command"* >/dev/null 2>&1 || problem "tests/cli has no test of $command"
  grep -qw "$command" "$completion" || problem "share/completion/m5.bash: no $command"
  grep -q "m5-$command" <<<"$overview" || problem "man/m5.1 does not point to m5-$command"
  if [ ! -f "man/m5-$command.1" ]; then
    problem "man/m5-$command.1 is missing"
    continue
  fi
  page=$(page_text "man/m5-$command.1")
  for section in NAME SYNOPSIS DESCRIPTION OPTIONS EXAMPLES 'EXIT STATUS' 'SEE ALSO'; do
    grep -q "^$section" <<<"$page" || problem "man/m5-$command.1 has no section $section"
  done
  check_options "m5 $command" "$page" "$help" "$command"
  # Commands of a command (m5 bench speed): the words at the start of a line of the help's list.
  for word in $(sed -nE '/^(Sub)?[Cc]ommands|^SUBCOMMANDS/,/^$/s/^ +([a-z]+) .*/\1/p' <<<"$help"); do
    check_options "m5 $command $word" "$page" "$("$m5" "$command" "$word" --help)" "$command"
  done
done

echo "${#commands[@]} commands, $options options, $problems problems"
[ "$problems" = 0 ] && [ "$options" -gt 0 ]
