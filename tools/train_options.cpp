#include "tools/train_options.hpp"

#include <system_error>

#include <sys/stat.h>

#include "base/numbers.hpp"
#include "base/system.hpp"
#include "kernels/devices.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

void parse_shares(const std::string& text, MaskOptions& mask) {
  double* const shares[] = {&mask.masked, &mask.substituted, &mask.kept};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    const auto [next, error] = parse_number(at, end, *shares[i]);
    if (error != std::errc() || (i < 2 ? next == end || *next != ',' : next != end)) {
      throw Error(ErrorKind::kUsage,
                  "--mask-shares: '" + text + "' is not three numbers such as 0.8,0.1,0.1");
    }
    at = next + 1;
  }
}

// Opening one waits for its other end, and what is read from it is no model.
void refuse_pipe(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode))) {
    throw Error(ErrorKind::kUsage,
                path + ": is a pipe: models and checkpoints are written to files only");
  }
}

}  // namespace

void add_train_options(CLI::App& app, TrainOptions& o) {
  TrainSettings& s = o.settings;
  app.add_option("FILE", o.files, "FASTA or FASTQ, plain, gz or bgzip; - for stdin");
  app.add_option("--list", o.list, "file with the path of one sequence file a line")
      ->option_text("FILE");
  app.add_option("-o,--output", o.common.output, "model file to write (required)")
      ->option_text("MODEL");
  // What training starts from: one of three.
  const auto preset =
      app.add_option("--preset", o.preset, "nano-conv (default), nano, small or base")
          ->option_text("NAME");
  const auto config = app.add_option("--config", o.config, "instead: model configuration, JSON")
                          ->option_text("FILE")
                          ->excludes(preset);
  app.add_option("--init", o.init, "instead: model whose parameters to start from")
      ->option_text("MODEL")
      ->excludes(preset)
      ->excludes(config);
  add_memory(app, o.common);
  app.add_option("--learn", o.learn,
                 "what is trained: all (default), or the memory's network alone")
      ->option_text("all|memory")
      ->check(CLI::IsMember({"all", "memory"}));
  app.add_option("--memory-records", s.memory_records,
                 "whole records that have a genome memory at a time [4]");
  add_size(app, "--memory-round", s.memory_round, "steps that they serve for [50]", 1);
  app.add_option("--memory-own", s.memory_own_share,
                 "share of windows with a memory of their own nt alone [0.5]");
  add_sizes(app, "--segment-length", o.segment_lengths,
            "nt of a training window, one for each stage of the curriculum [4096]", 1);
  add_sizes(app, "--steps", o.steps,
            "steps (required): one number, split evenly over the stages, or one for each", 1);
  add_sizes(app, "--batch-tokens", o.batch_tokens,
            "nt of a micro-batch: one number, or one for each stage [16384]", 1);
  add_size(app, "--accumulate", s.accumulate, "micro-batches a step [1]", 1);
  app.add_option("--optimizer", o.optimizer,
                 "of the matrices of the blocks: adamw (default) or muon; of the rest: adamw")
      ->option_text("NAME");
  app.add_option("--lr", s.learning_rate, "learning rate after warm-up [1e-3]");
  app.add_option("--muon-lr", s.muon_learning_rate, "of the matrices under muon [that of --lr]");
  app.add_option(
      "--qk-lr", s.key_query_factor,
      "learning rate of query and key weights, as a multiple of the other matrices' [1]");
  app.add_option("--min-lr", s.min_learning_rate,
                 "last learning rate, as a fraction of --lr [0.1]");
  app.add_option("--schedule", o.schedule,
                 "how it falls to that: cosine (default), linear, or trapezoid (in the last 0.3)")
      ->option_text("NAME");
  add_size(app, "--warmup", s.warmup, "steps of linear warm-up [100]");
  app.add_option("--weight-decay", s.weight_decay, "of matrices [0.05]");
  app.add_option("--beta1", s.beta1, "AdamW [0.9]");
  app.add_option("--beta2", s.beta2, "AdamW [0.98]");
  app.add_option("--clip", s.clip, "greatest norm of the gradient, 0: off [1]");
  app.add_option("--ema", s.average,
                 "the model is the exponential average of the weights with this decay, 0: off [0]")
      ->option_text("DECAY");
  const auto rate =
      app.add_option("--mask-rate", s.mask.rate, "share of the bases that is asked about [0.15]");
  add_size(app, "--mask-every", s.mask.every,
           "instead: every K-th base, from a random first one, as m5 score does", 1)
      ->excludes(rate);
  app.add_option("--mask-shares", o.mask_shares,
                 "of those: masked, substituted, kept [0.8,0.1,0.1]")
      ->option_text("A,B,C");
  app.add_option("--reverse-complement", s.reverse_complement,
                 "probability that a window is reverse-complemented [0.5]")
      ->option_text("P");
  add_repeatable(app, "--val", o.validation_files, "sequences held out for validation; repeatable")
      ->option_text("FILE");
  add_size(app, "--val-every", o.validate_every, "steps between validations, 0: at the end [500]");
  add_size(app, "--val-tokens", o.validation_tokens, "nt of a validation [262144]", 1);
  app.add_option("--log", o.log, "table of every step (TSV), - for stdout")->option_text("FILE");
  app.add_option("--checkpoint", o.checkpoint, "where the state is kept [MODEL.ckpt]")
      ->option_text("FILE");
  add_size(app, "--checkpoint-every", o.checkpoint_every,
           "steps between checkpoints, 0: only when interrupted [500]");
  app.add_flag("--resume", o.resume, "continue from the checkpoint of an interrupted run");
  app.add_option("--seed", s.seed, "seed of weights, windows and masks [1]")->check(whole_number);
  add_threads(app, o.common);
  add_device(app, o.common);
  add_block_rows(app, o.common);
  add_topology(app, o.common);
  add_input(app, o.common);
  add_dry_run(app, o.common);
  add_verbosity(app, o.common);
}

void check_train_options(TrainOptions& o) {
  check_common(o.common, "train");
  if (o.common.output == "-") {
    throw Error(ErrorKind::kUsage, "-o MODEL.safetensors is required");
  }
  if (o.steps.empty()) throw Error(ErrorKind::kUsage, "--steps is required");
  if (o.files.empty() && o.list.empty()) {
    throw Error(ErrorKind::kUsage, "no sequence files given (FILE... or --list)");
  }
  if (!o.mask_shares.empty()) parse_shares(o.mask_shares, o.settings.mask);
  o.settings.curriculum = make_curriculum(o.segment_lengths, o.steps, o.batch_tokens);
  o.settings.optimizer = optimizer_named(o.optimizer);
  o.settings.decay = decay_named(o.schedule);
  o.settings.device = kernels::names_cuda(o.common.device) ? "cuda" : o.common.device;
  o.settings.precision = o.common.precision;
  o.settings.check();
  if (o.checkpoint.empty()) o.checkpoint = o.common.output + ".ckpt";
  refuse_pipe(o.common.output);
  refuse_pipe(o.checkpoint);
}

}  // namespace m5
