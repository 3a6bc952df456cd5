#include "train/host_update.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "train/muon.hpp"

namespace m5 {

using kernels::ParameterState;
using kernels::UpdatePart;
using kernels::UpdateStep;

namespace {

std::vector<MatrixShape> shapes_of(std::span<const UpdatePart> parts) {
  std::vector<MatrixShape> shapes;
  for (const UpdatePart& part : parts) {
    if (part.muon()) shapes.push_back({part.rows, part.columns});
  }
  return shapes;
}

class HostUpdate final : public kernels::Update {
 public:
  HostUpdate(kernels::Sweeps<float>& sweeps, kernels::Backend<float>& host,
             std::span<const UpdatePart> parts, ParameterState& state)
      : sweeps_(sweeps),
        host_(host),
        parts_(parts.begin(), parts.end()),
        state_(state),
        gradient_(state.parameters.size()),
        muon_(host, shapes_of(parts_)) {
    state_.first_moment.resize(gradient_.size());
    state_.second_moment.resize(gradient_.size());
  }

  void clear_gradient() override { std::fill(gradient_.begin(), gradient_.end(), 0.0); }
  double* gradient() override { return gradient_.data(); }

  double squared_norm() override {
    double squares = 0;
    for (const double g : gradient_) squares += g * g;
    return squares;
  }

  bool apply(const UpdateStep& step) override {
    host_.for_tiles(static_cast<std::int64_t>(parts_.size()), [&](int worker, std::int64_t i) {
      update(worker, parts_[static_cast<std::size_t>(i)], step);
    });
    for (const auto* slab : {&state_.parameters, &state_.first_moment, &state_.second_moment}) {
      for (const float value : *slab) {
        if (!std::isfinite(value)) return false;
      }
    }
    return true;
  }

  void average(double gain) override {
    for (std::size_t i = 0; i < state_.average.size(); ++i) {
      const double mean = state_.average[i];
      state_.average[i] = static_cast<float>(mean + gain * (state_.parameters[i] - mean));
    }
  }

  const float* use(Slab slab) override {
    const auto& values = slab == Slab::kAverage ? state_.average : state_.parameters;
    sweeps_.load(values.data());
    return values.data() + sweeps_.table().encoder;
  }

  void fetch() override {}  // it is there

 private:
  void update(int worker, const UpdatePart& part, UpdateStep step) {
    step.learning_rate *= part.factor;
    if (!part.decay) step.weight_decay = 0;
    const double* gradient = gradient_.data() + part.offset;
    float* const first = state_.first_moment.data() + part.offset;
    float* const parameters = state_.parameters.data() + part.offset;
    if (part.muon()) {
      muon_.update(worker, {part.rows, part.columns},
                   {step.learning_rate, step.weight_decay, step.gradient_scale}, gradient, first,
                   parameters);
      return;
    }
    host_.adamw(part.size, step, gradient, first, state_.second_moment.data() + part.offset,
                parameters);
  }

  kernels::Sweeps<float>& sweeps_;
  kernels::Backend<float>& host_;
  const std::vector<UpdatePart> parts_;
  ParameterState& state_;
  std::vector<double> gradient_;
  Muon muon_;
};

}  // namespace

std::unique_ptr<kernels::Update> make_host_update(kernels::Sweeps<float>& sweeps,
                                                  kernels::Backend<float>& host,
                                                  std::span<const UpdatePart> parts,
                                                  ParameterState& state) {
  return std::make_unique<HostUpdate>(sweeps, host, parts, state);
}

std::unique_ptr<kernels::Update> make_update(kernels::Sweeps<float>& sweeps,
                                             kernels::Backend<float>& host,
                                             std::span<const UpdatePart> parts,
                                             ParameterState& state) {
  if (auto update = sweeps.make_update(parts, state)) return update;
  return make_host_update(sweeps, host, parts, state);
}

kernels::Bytes update_memory(const kernels::Sweeps<float>& sweeps,
                             const kernels::Backend<float>& host, std::span<const UpdatePart> parts,
                             bool averaged) {
  const kernels::Bytes bytes = sweeps.update_memory(parts, averaged);
  if (bytes.device > 0) return bytes;
  const std::int64_t muon = Muon::memory_needed(shapes_of(parts)) * host.workers();
  return {.host = static_cast<std::uint64_t>(sweeps.table().total) * sizeof(double) +
                  static_cast<std::uint64_t>(muon)};
}

}  // namespace m5
