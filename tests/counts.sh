# shellcheck shell=bash
# Sourced by what runs tests whose last line is "NAME: N passed, N failed" or "N passed, N failed".
passed=0 failed=0

# add_counts NAME LOG: adds what the last line of LOG says to passed and failed. Where it says nothing the test
# did not finish, which is one more that failed.
add_counts() {
  local counts
  counts=$(tail -n 1 "$2" | sed -nE 's/^(.*: )?([0-9]+) passed, ([0-9]+) failed$/\2 \3/p')
  if [ -z "$counts" ]; then
    echo "FAIL $1: it did not finish"
    failed=$((failed + 1))
    return
  fi
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
}

# print_counts: the last line; whether nothing failed and something passed.
print_counts() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
