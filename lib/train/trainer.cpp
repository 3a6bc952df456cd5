#include "train/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>

#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr double kAdamEpsilon = 1e-8;
constexpr std::uint64_t kValidationSeed = 0x76616c6964617465;  // no run's business

[[noreturn]] void not_finite(const char* what) {
  throw Error(ErrorKind::kNumeric, std::string(what) + " is not finite");
}

// Sizes of the largest micro-batch that a run can meet.
struct LargestBatch {
  std::int64_t rows = 0, contexts = 0;
};

LargestBatch largest_batch(const TrainSettings& settings,
                           std::initializer_list<const GenomeStore*> stores) {
  std::int64_t longest = 0;
  for (const GenomeStore* store : stores) {
    for (const GenomeRecord& record : store->records) longest = std::max(longest, record.length);
  }
  LargestBatch largest;
  for (const Stage& stage : settings.curriculum) {
    const std::int64_t windows = settings.windows_per_batch(stage.segment_length);
    largest.rows = std::max(largest.rows, windows * std::min(stage.segment_length, longest));
    largest.contexts = std::max(largest.contexts, windows);
  }
  return largest;
}

}  // namespace

Trainer::Trainer(const TrainSettings& settings, const GenomeStore& store,
                 kernels::Backend<float>& backend, TrainState state, int keep_every)
    : settings_(settings),
      backend_(backend),
      sampler_(store, settings.reverse_complement),
      encoder_(settings.config, backend, /*training=*/true),
      batch_(store),
      state_(std::move(state)) {
  const auto size = static_cast<std::size_t>(encoder_.table().total);
  if (state_.parameters.size() != size) {
    throw Error(ErrorKind::kInternal, "parameters do not fit the configuration");
  }
  state_.first_moment.resize(size);
  state_.second_moment.resize(size);
  gradient_.resize(size);
  encoder_.keep_every(keep_every);
  encoder_.set_parameters(state_.parameters.data());
}

StepResult Trainer::step() {
  const std::int64_t step = state_.step + 1;
  const std::int64_t segment_length = stage_of(settings_.curriculum, step).segment_length;
  const std::int64_t windows = settings_.windows_per_batch(segment_length);
  StepResult result;
  result.learning_rate = settings_.schedule().at(step);
  std::fill(gradient_.begin(), gradient_.end(), 0.0);
  for (std::int64_t first = 0; first < settings_.accumulate * windows; first += windows) {
    batch_.clear();
    for (std::int64_t index = first; index < first + windows; ++index) {
      const WindowId id{settings_.seed, step, index};
      batch_.add(sampler_.draw(id, segment_length), id, settings_.mask);
    }
    result.tokens += batch_.rows();
    if (batch_.objective().rows.empty()) continue;
    result.objective +=
        encoder_.loss_and_gradient(batch_.views(), batch_.objective(), 1.0, gradient_.data());
  }
  if (!std::isfinite(result.objective.total_nll())) not_finite("the loss");
  // A step without a chosen position has no gradient: weight decay and momentum go on alone.
  const double mean =
      1.0 / static_cast<double>(std::max<std::int64_t>(result.objective.total_count(), 1));
  double squares = 0;
  for (const double g : gradient_) squares += g * g;
  result.gradient_norm = std::sqrt(squares) * mean;
  if (!std::isfinite(result.gradient_norm)) not_finite("the gradient");
  const bool clipped = settings_.clip > 0 && result.gradient_norm > settings_.clip;
  update(result.learning_rate, clipped ? mean * settings_.clip / result.gradient_norm : mean);
  state_.step = step;
  state_.tokens += result.tokens;
  return result;
}

void Trainer::update(double learning_rate, double gradient_scale) {
  const auto t = static_cast<double>(state_.step + 1);
  for (const ParameterSpec& spec : encoder_.table().specs) {
    const kernels::Backend<float>::AdamW adamw{
        .learning_rate = learning_rate,
        .beta1 = settings_.beta1,
        .beta2 = settings_.beta2,
        .epsilon = kAdamEpsilon,
        .weight_decay = spec.decay ? settings_.weight_decay : 0,
        .correction1 = 1 - std::pow(settings_.beta1, t),
        .correction2 = 1 - std::pow(settings_.beta2, t),
        .gradient_scale = gradient_scale};
    backend_.adamw(
        spec.size, adamw, gradient_.data() + spec.offset, state_.first_moment.data() + spec.offset,
        state_.second_moment.data() + spec.offset, state_.parameters.data() + spec.offset);
  }
  // Never into a checkpoint or a model.
  for (const std::vector<float>* slab :
       {&state_.parameters, &state_.first_moment, &state_.second_moment}) {
    for (const float value : *slab) {
      if (!std::isfinite(value)) not_finite("an updated parameter");
    }
  }
  encoder_.set_parameters(state_.parameters.data());
}

ObjectiveResult Trainer::validate(const GenomeStore& store, std::int64_t segment_length,
                                  std::int64_t max_tokens) {
  const std::vector<Window> windows = validation_windows(store, segment_length, max_tokens);
  ObjectiveResult result;
  Batch batch(store);
  const auto evaluate = [&] {
    if (!batch.objective().rows.empty()) {
      result += encoder_.evaluate(batch.views(), batch.objective());
    }
    batch.clear();
  };
  const auto at_a_time = static_cast<std::size_t>(settings_.windows_per_batch(segment_length));
  for (std::size_t i = 0; i < windows.size(); ++i) {
    if (i > 0 && i % at_a_time == 0) evaluate();
    batch.add(windows[i], {kValidationSeed, 0, static_cast<std::int64_t>(i)}, MaskOptions{});
  }
  evaluate();
  return result;
}

std::int64_t Trainer::largest_rows(const TrainSettings& settings, const GenomeStore& store) {
  return largest_batch(settings, {&store}).rows;
}

MemoryPlan Trainer::plan_memory(const TrainSettings& settings, const GenomeStore& training,
                                const GenomeStore& validation, kernels::Backend<float>& backend,
                                std::int64_t limit) {
  Encoder<float> encoder(settings.config, backend, /*training=*/true);
  const LargestBatch largest = largest_batch(settings, {&training, &validation});
  // Parameters, two moments and the model that training starts from, the gradient in double; a
  // token a row, and 10 bytes and four log-probabilities for each row that may be chosen.
  const std::int64_t rest = encoder.table().total * (4 * 4 + 8) + largest.rows * (1 + 10 + 4 * 4);
  MemoryPlan least;
  for (int k = 1; k <= settings.config.layers; ++k) {
    encoder.keep_every(k);
    const std::int64_t bytes =
        static_cast<std::int64_t>(encoder.memory_needed(largest.rows, largest.contexts)) + rest;
    if (k == 1 || bytes < least.bytes) least = {k, bytes};
    if (bytes <= limit) break;
  }
  return least;
}

}  // namespace m5
