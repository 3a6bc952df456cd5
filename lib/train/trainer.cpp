#include "train/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>

#include "m5/error.hpp"
#include "nn/memory_mix.hpp"
#include "train/host_update.hpp"
#include "train/optimizer.hpp"

namespace m5 {
namespace {

constexpr std::uint64_t kValidationSeed = 0x76616c6964617465;  // no run's business

[[noreturn]] void not_finite(const char* what) {
  throw Error(ErrorKind::kNumeric, std::string(what) + " is not finite");
}

// Sizes of the largest micro-batch that a run can meet.
struct LargestBatch {
  std::int64_t rows = 0, contexts = 0;
};

ParallelFor tiles_of(kernels::Backend<float>& host) {
  return [&host](std::int64_t tasks, const std::function<void(int, std::int64_t)>& work) {
    host.for_tiles(tasks, work);
  };
}

std::unique_ptr<kernels::Sweeps<float>> sweeps_of(const TrainSettings& settings,
                                                  kernels::Device& device) {
  return device.make_sweeps(settings.config, {.training = !settings.memory_only});
}

LargestBatch largest_batch(const TrainSettings& settings,
                           std::initializer_list<const GenomeStore*> stores) {
  std::int64_t longest = 0;
  for (const GenomeStore* store : stores) {
    for (const GenomeRecord& record : store->records) longest = std::max(longest, record.length);
  }
  LargestBatch largest;
  for (const Stage& stage : settings.curriculum) {
    const std::int64_t windows = stage.windows();
    largest.rows = std::max(largest.rows, windows * std::min(stage.segment_length, longest));
    largest.contexts = std::max(largest.contexts, windows);
  }
  return largest;
}

}  // namespace

Window Trainer::draw(const WindowId& id, std::int64_t segment_length) {
  return memory_ ? memory_->draw(sampler_, id, segment_length) : sampler_.draw(id, segment_length);
}

Trainer::Trainer(const TrainSettings& settings, const GenomeStore& store, kernels::Device& device,
                 TrainState state, int keep_every)
    : settings_(settings),
      parallel_(tiles_of(device.host())),
      sampler_(store, settings.reverse_complement),
      encoder_(device.host(), sweeps_of(settings, device)),
      batch_(store),
      state_(std::move(state)),
      averaged_(settings.average > 0 || !state_.average.empty()) {
  if (state_.parameters.size() != static_cast<std::size_t>(encoder_.table().total)) {
    throw Error(ErrorKind::kInternal, "parameters do not fit the configuration");
  }
  if (averaged_ && state_.average.empty()) state_.average = state_.parameters;
  if (!settings.config.memory.empty()) {
    memory_ = std::make_unique<TrainingMemory>(store, settings, parallel_);
  }
  encoder_.keep_every(keep_every);
  encoder_.set_parameters(state_.parameters.data());
  update_ = make_update(encoder_.sweeps(), device.host(), update_parts(settings, encoder_.table()),
                        state_);
}

const TrainState& Trainer::state() {
  update_->fetch();
  return state_;
}

const std::vector<float>& Trainer::weights() {
  update_->fetch();
  return averaged_ ? state_.average : state_.parameters;
}

void Trainer::use(kernels::Update::Slab slab) {
  encoder_.set_memory_parameters(update_->use(slab));
}

StepResult Trainer::step() {
  const std::int64_t step = state_.step + 1;
  const Stage& stage = stage_of(settings_.curriculum, step);
  const std::int64_t windows = stage.windows();
  StepResult result;
  result.learning_rate = settings_.schedule().at(step);
  update_->clear_gradient();
  for (std::int64_t first = 0; first < settings_.accumulate * windows; first += windows) {
    batch_.clear();
    for (std::int64_t index = first; index < first + windows; ++index) {
      const WindowId id{settings_.seed, step, index};
      batch_.add(draw(id, stage.segment_length), id, settings_.mask);
    }
    result.tokens += batch_.rows();
    if (batch_.objective().rows.empty()) continue;
    const RowCounts counts = memory_ ? memory_->counts(batch_) : RowCounts{};
    result.objective += settings_.memory_only
                            ? encoder_.memory_gradient(batch_.views(), batch_.objective(), 1.0,
                                                       update_->gradient(), counts)
                            : encoder_.loss_and_gradient(batch_.views(), batch_.objective(), 1.0,
                                                         update_->gradient(), counts);
  }
  if (!std::isfinite(result.objective.total_nll())) not_finite("the loss");
  // A step without a chosen position has no gradient: weight decay and momentum go on alone.
  const double mean =
      1.0 / static_cast<double>(std::max<std::int64_t>(result.objective.total_count(), 1));
  result.gradient_norm = std::sqrt(update_->squared_norm()) * mean;
  if (!std::isfinite(result.gradient_norm)) not_finite("the gradient");
  const bool clipped = settings_.clip > 0 && result.gradient_norm > settings_.clip;
  const double scale = clipped ? mean * settings_.clip / result.gradient_norm : mean;
  // Never into a checkpoint or a model.
  if (!update_->apply(update_step(settings_, step, scale))) not_finite("an updated parameter");
  use(kernels::Update::Slab::kParameters);
  state_.step = step;
  average();
  state_.tokens += result.tokens;
  return result;
}

void Trainer::average() {
  // Of few steps it is the mean rather than the start: (1 + t) / (10 + t) grows to the decay.
  const auto t = static_cast<double>(state_.step);
  if (averaged_) update_->average(1 - std::min(settings_.average, (1 + t) / (10 + t)));
}

ObjectiveResult Trainer::validate(const GenomeStore& store, const Stage& stage,
                                  std::int64_t max_tokens) {
  const std::vector<Window> windows = validation_windows(store, stage.segment_length, max_tokens);
  using Slab = kernels::Update::Slab;
  use(averaged_ ? Slab::kAverage : Slab::kParameters);
  ObjectiveResult result;
  Batch batch(store);
  // Of each window its own: no whole record, no round.
  std::unique_ptr<TrainingMemory> memory;
  if (memory_) memory = std::make_unique<TrainingMemory>(store, settings_, parallel_);
  const auto evaluate = [&] {
    if (!batch.objective().rows.empty()) {
      result += encoder_.evaluate(batch.views(), batch.objective(),
                                  memory ? memory->counts(batch) : RowCounts{});
    }
    batch.clear();
  };
  const auto at_a_time = static_cast<std::size_t>(stage.windows());
  for (std::size_t i = 0; i < windows.size(); ++i) {
    if (i > 0 && i % at_a_time == 0) evaluate();
    batch.add(windows[i], {kValidationSeed, 0, static_cast<std::int64_t>(i)}, MaskOptions{});
  }
  evaluate();
  use(Slab::kParameters);
  return result;
}

std::int64_t Trainer::largest_rows(const TrainSettings& settings, const GenomeStore& store) {
  return largest_batch(settings, {&store}).rows;
}

void MemoryPlan::require_device() const {
  if (fits_device()) return;
  throw Error(ErrorKind::kResource,
              "training with these --batch-tokens and --segment-length needs " +
                  std::to_string(device_bytes) + " bytes of the memory of the device; " +
                  std::to_string(device_free) + " are free");
}

MemoryPlan Trainer::plan_memory(const TrainSettings& settings, const GenomeStore& training,
                                const GenomeStore& validation, kernels::Device& device,
                                std::int64_t limit) {
  kernels::Backend<float>& host = device.host();
  Encoder<float> encoder(host, sweeps_of(settings, device));
  const LargestBatch largest = largest_batch(settings, {&training, &validation});
  // Parameters, two moments and the model that training starts from, the average (a device that
  // updates brings them here for checkpoints); of a row its token, and of each that is chosen 10
  // bytes, in lists that grow by doubling, and four log-probabilities.
  const ParameterTable& table = encoder.table();
  const bool averaged = settings.average > 0;
  const std::int64_t slabs = 4 * 4 + (averaged ? 4 : 0);
  const kernels::Bytes update =
      update_memory(encoder.sweeps(), host, update_parts(settings, table), averaged);
  const double rate = settings.mask.every > 0 ? 1.0 / static_cast<double>(settings.mask.every)
                                              : std::min(1.0, 1.1 * settings.mask.rate);
  const std::int64_t rest =
      table.total * slabs + 2 * largest.rows +
      static_cast<std::int64_t>(rate * static_cast<double>(largest.rows) * (2 * 10 + 4 * 4)) +
      static_cast<std::int64_t>(TrainingMemory::memory_needed(settings, training, host.workers())) +
      static_cast<std::int64_t>(MemoryMix<float>::work_bytes(
          settings.config.memory, host.workers(), encoder.block_rows(), !settings.memory_only)) +
      static_cast<std::int64_t>(update.host);
  const std::uint64_t device_free = encoder.sweeps().free_memory();
  MemoryPlan least;
  for (int k = 1; k <= settings.config.layers; ++k) {
    encoder.keep_every(k);
    const kernels::Bytes ready = encoder.ready_memory(),
                         pass =
                             encoder.pass_memory(largest.rows, largest.contexts, largest.contexts);
    const std::int64_t bytes = static_cast<std::int64_t>(ready.host + pass.host) + rest;
    const std::uint64_t of_device = ready.device + pass.device + update.device;
    if (k == 1 || bytes < least.bytes || of_device < least.device_bytes) {
      least = {k, bytes, of_device, device_free};
    }
    if (bytes <= limit && of_device <= device_free) break;
  }
  return least;
}

}  // namespace m5
