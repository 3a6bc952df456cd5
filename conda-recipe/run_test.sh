#!/usr/bin/env bash
# Beside the commands of meta.yaml: two runs with different threads give the same bytes.
set -euo pipefail
example=$PREFIX/share/m5/examples/lambda.fa.gz
m5 score -@ 1 --no-header -r NC_001416.1:1-5000 "$example" >one.bedgraph
m5 score -@ 2 --no-header -r NC_001416.1:1-5000 "$example" >two.bedgraph
cmp one.bedgraph two.bedgraph
test "$(cut -f 1 one.bedgraph | uniq)" = NC_001416.1
