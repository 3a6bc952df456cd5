# Completion of m5 for bash:  source share/completion/m5.bash
# or put this file where bash-completion looks, as m5.

_m5() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]:-}
  local command=${COMP_WORDS[1]:-} options=""
  COMPREPLY=()

  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W "train embed score bench help version --help --version" -- "$word")
    return
  fi

  # Values of the option before the cursor.
  local values=""
  case $previous in
    --device) values="cpu cuda auto ref" ;;
    --precision) values="fp32 bf16 auto" ;;
    --residual) values="fp32 bf16" ;;
    --context) values="record file" ;;
    --strand)
      case $command in
        score) values="forward reverse both" ;;
        embed) values="forward both feature" ;;
      esac
      ;;
    --metric) values="perplexity bits nll entropy" ;;
    --per) values="record window base feature file" ;;
    --pool) values="mean max" ;;
    --dtype) values="float32 float16" ;;
    --memory) values="on off" ;;
    --learn) values="all memory" ;;
    --preset) values="nano small base nano-conv" ;;
    --mode) values="forward train" ;;
    --optimizer) values="adamw muon" ;;
    --schedule) values="cosine linear trapezoid" ;;
    -O | --output-fmt)
      case $command in
        score) values="bedgraph bigwig tsv" ;;
        embed) values="npy npz tsv" ;;
      esac
      ;;
  esac
  if [ -n "$values" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
    return
  fi

  local common="--help --model --output --threads --device --precision --verbosity"
  local input="--circular --linear --circular-list --skip-empty --allow-no-eof"
  case $command in
    help)
      mapfile -t COMPREPLY < <(compgen -W "train embed score bench" -- "$word")
      return
      ;;
    score)
      options="$common $input --region --regions-file --flank --output-fmt --passes --strand --metric --bin
        --per --window --step --features --feature-type --feature-name --digits --memory --unmasked --summary --sample --chrom-sizes --track-line --write-index --rename --context --dry-run --max-memory
        --residual --block-rows --no-header --no-PG"
      ;;
    embed)
      options="$common $input --region --regions-file --output-fmt --per --strand --window --step --features
        --feature-type --feature-name --layer --pool --dtype --write-index --rename --context --dry-run --max-memory --residual
        --block-rows --no-header --no-PG"
      ;;
    train)
      options="--help --output --threads --device --precision --verbosity $input --list --preset
        --config --init --memory --learn --memory-records --memory-round --memory-own --segment-length --steps --batch-tokens --accumulate --optimizer --lr
        --muon-lr --qk-lr --min-lr --schedule --warmup --weight-decay --beta1 --beta2 --clip --ema
        --mask-rate --mask-every --mask-shares --reverse-complement --val --val-every --val-tokens --log --checkpoint --checkpoint-every --resume --seed --dry-run
        --max-memory --block-rows"
      ;;
    bench)
      if [ "$COMP_CWORD" -eq 2 ]; then
        mapfile -t COMPREPLY < <(compgen -W "speed ops attention loss --help" -- "$word")
        return
      fi
      case ${COMP_WORDS[2]} in
        speed)
          options="$common --preset --lengths --mode --repeats --residual --block-rows --breakdown
            --json"
          ;;
        ops) options="--help --output --device --precision --verbosity --filter --repeats --json" ;;
        attention)
          options="$common --preset --lengths --layer --queries --skip-empty --allow-no-eof --json"
          ;;
        loss)
          options="$common $input --preset --lengths --max-tokens --mask-rate --seed --as-scored --passes
            --memory --plot --baseline-train --baseline-list --baseline-cache --baseline-only --json"
          ;;
      esac
      ;;
  esac
  case $word in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
  esac
}

complete -o filenames -F _m5 m5
