#include "train/training.hpp"

#include <chrono>
#include <utility>

#include "m5/error.hpp"
#include "m5/version.hpp"
#include "train/checkpoint.hpp"
#include "train/trainer.hpp"

namespace m5 {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string numeric_message(const Error& error, const TrainingRun& run, std::int64_t step,
                            std::int64_t saved_step) {
  std::string message = "step " + std::to_string(step) + ": " + error.what() + "; ";
  message += saved_step > 0 ? "the checkpoint of step " + std::to_string(saved_step) +
                                  " is kept in " + run.checkpoint
                            : "no checkpoint had been written";
  return message + "; a lower --lr or --clip, or a longer --warmup, may help";
}

void fill_provenance(const TrainingRun& run, const SettingTexts& texts, const TrainState& state,
                     Model& model) {
  auto& facts = model.provenance;
  facts["m5_version"] = version();
  facts["train.tokens"] = std::to_string(state.tokens);
  facts["train.files"] = std::to_string(run.training->files.size());
  facts["train.records"] = std::to_string(run.training->records.size());
  facts["train.nucleotides"] = std::to_string(run.training->total());
  for (const auto& [option, value] : texts) {
    // The configuration is in the model file anyway.
    if (option != "config") facts["train." + option] = value;
  }
}

}  // namespace

bool run_training(const TrainingRun& run, kernels::Device& device, Model& model) {
  const TrainSettings& settings = run.settings;
  SettingTexts texts = setting_texts(settings);
  texts["training-data"] = "sha256:" + run.training->digest();

  TrainState start;
  if (run.resume) {
    start =
        load_checkpoint(run.checkpoint, static_cast<std::int64_t>(model.parameters.size()), texts);
    if (start.step > settings.steps()) {
      throw Error(ErrorKind::kUsage, run.checkpoint + ": is of step " + std::to_string(start.step) +
                                         ", past --steps " + std::to_string(settings.steps()));
    }
  } else {
    start.parameters = model.parameters;
  }
  std::int64_t saved_step = start.step;
  TrainLog log(run.log, start.step);
  Trainer trainer(settings, *run.training, device, std::move(start), run.keep_every);

  std::int64_t asked = 0;  // positions
  while (trainer.steps() < settings.steps()) {
    const std::int64_t step = trainer.steps() + 1;
    StepRow row;
    row.step = step;
    const Stage& stage = stage_of(settings.curriculum, step);
    row.segment_length = stage.segment_length;
    const auto started = std::chrono::steady_clock::now();
    try {
      const StepResult result = trainer.step();
      row.nt_per_second = static_cast<double>(result.tokens) / seconds_since(started);
      row.training = result.objective;
      asked += result.objective.total_count();
      row.gradient_norm = result.gradient_norm;
      row.learning_rate = result.learning_rate;
      row.tokens = trainer.tokens();
      const bool due =
          step == settings.steps() || (run.validate_every > 0 && step % run.validate_every == 0);
      if (run.validation != nullptr && due) {
        row.validation = trainer.validate(*run.validation, stage, run.validation_tokens);
        row.validated = true;
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kNumeric) throw;
      throw Error(ErrorKind::kNumeric, numeric_message(error, run, step, saved_step));
    }
    log.write(row);
    if (run.report) run.report(row);
    const bool last = step == settings.steps();
    if (last && asked == 0 && !run.resume) {
      throw Error(ErrorKind::kInput,
                  "in no step a base was chosen to be asked about, so nothing was learned: give "
                  "longer sequences, more --steps or a higher --mask-rate (lower --mask-every)");
    }
    const bool stop = run.stop && run.stop();
    // After the last step too: should the model not be written (disk full), no work is lost.
    if (stop || last || (run.checkpoint_every > 0 && step % run.checkpoint_every == 0)) {
      save_checkpoint(run.checkpoint, trainer.state(), texts);
      saved_step = step;
    }
    if (stop && !last) {
      log.close();
      return false;
    }
  }
  log.close();
  model.parameters = trainer.weights();
  fill_provenance(run, texts, trainer.state(), model);
  return true;
}

}  // namespace m5
