#include "kernels/cuda/update.hpp"

#include <algorithm>
#include <utility>

#include "kernels/cuda/sweeps.hpp"
#include "m5/error.hpp"

namespace m5::kernels::cuda {

template <class Take>
void UpdateMemory::each(const ParameterTable& table, std::span<const UpdatePart> parts,
                        bool averaged, UpdateMemory& m, Take take) {
  take(m.first, table.total);
  take(m.second, table.total);
  if (averaged) take(m.average, table.total);
  take(m.stretches, static_cast<std::int64_t>(stretches_of(parts).size()));
  take(m.partial, square_parts(table.total));
  take(m.norm, 1);
  take(m.not_finite, 1);
  const MuonSize size(parts);
  if (size.rows == 0) return;
  take(m.muon.x, size.matrix);
  take(m.muon.product, size.matrix);
  take(m.muon.gram, size.rows * size.rows);
  take(m.muon.square, size.rows * size.rows);
  take(m.muon.norm, 1);
}

UpdateMemory::UpdateMemory(Device& device, const ParameterTable& table,
                           std::span<const UpdatePart> parts, bool averaged)
    : host_gradient(static_cast<std::size_t>(table.total - table.head_bias)) {
  each(table, parts, averaged, *this, [&](auto& array, std::int64_t count) {
    array = std::decay_t<decltype(array)>(device, count, "the update of the parameters");
  });
  const MuonSize size(parts);
  if (size.rows > 0) muon.products = std::make_unique<Products>(device, size.rows);
}

std::uint64_t UpdateMemory::bytes(const ParameterTable& table, std::span<const UpdatePart> parts,
                                  bool averaged) {
  std::uint64_t sum = MuonSize(parts).rows > 0 ? Products::workspace_bytes() : 0;
  UpdateMemory none;
  each(table, parts, averaged, none, [&](auto& array, std::int64_t count) {
    sum += static_cast<std::uint64_t>(count) * sizeof(*array.data());
  });
  return sum;
}

// The parameters are those of the sweeps themselves; where the average is used, the two arrays have
// changed places.
template <class E>
class CudaUpdate final : public Update {
 public:
  CudaUpdate(CudaSweeps<E>& sweeps, std::span<const UpdatePart> parts, ParameterState& state)
      : s_(sweeps),
        device_(sweeps.device_),
        m_(sweeps.update_),
        parts_(parts.begin(), parts.end()),
        state_(state),
        rest_(static_cast<std::size_t>(sweeps.table().total - sweeps.table().encoder)) {
    const std::vector<Stretch> stretches = stretches_of(parts_);
    device_.upload(m_.stretches.data(), stretches.data(), m_.stretches.bytes());
    take(m_.first, state.first_moment);
    take(m_.second, state.second_moment);
    if (averaged()) take(m_.average, state.average);
    clear_gradient();
    device_.finish();
    state_ = {};
  }

  void clear_gradient() override {
    device_.clear(s_.gradient_.data(), s_.gradient_.bytes());
    std::fill(m_.host_gradient.begin(), m_.host_gradient.end(), 0.0);
  }
  double* gradient() override { return nullptr; }

  double squared_norm() override {
    double sum = 0;
    device_.upload(s_.gradient_.data() + s_.table().head_bias, m_.host_gradient.data(),
                   m_.host_gradient.size() * sizeof(double));
    cuda::squared_norm(device_, total(), s_.gradient_.data(), m_.partial.data(), m_.norm.data());
    device_.download(&sum, m_.norm.data(), sizeof sum);
    return sum;
  }

  bool apply(const UpdateStep& step) override {
    state_ = {};
    device_.clear(m_.not_finite.data(), m_.not_finite.bytes());
    float* p = parameters().data();
    adamw(device_, static_cast<std::int64_t>(m_.stretches.size()), m_.stretches.data(), step,
          s_.gradient_.data(), m_.first.data(), m_.second.data(), p, m_.not_finite.data());
    for (const UpdatePart& part : parts_) {
      if (!part.muon()) continue;
      muon_update(device_, m_.muon, part, step, s_.gradient_.data() + part.offset,
                  m_.first.data() + part.offset, p + part.offset, m_.partial.data(),
                  m_.not_finite.data());
    }
    int not_finite = 0;
    device_.download(&not_finite, m_.not_finite.data(), sizeof not_finite);
    return not_finite == 0;
  }

  void average(double gain) override {
    if (!averaged()) return;
    move_average(device_, total(), gain, parameters().data(), mean().data());
  }

  const float* use(Slab slab) override {
    const bool average = slab == Slab::kAverage && averaged();
    if (average != average_used_) std::swap(s_.parameters_, m_.average);
    average_used_ = average;
    s_.make_operands();
    if (!rest_.empty()) {
      device_.download(rest_.data(), s_.parameter(s_.table().encoder),
                       rest_.size() * sizeof(float));
    }
    return rest_.data();
  }

  void fetch() override {
    if (!state_.parameters.empty()) return;
    give(parameters(), state_.parameters);
    give(m_.first, state_.first_moment);
    give(m_.second, state_.second_moment);
    if (averaged()) give(mean(), state_.average);
  }

 private:
  std::int64_t total() const { return s_.table().total; }
  bool averaged() const { return m_.average.size() > 0; }
  Array<float>& parameters() { return average_used_ ? m_.average : s_.parameters_; }
  Array<float>& mean() { return average_used_ ? s_.parameters_ : m_.average; }

  void take(Array<float>& array, const std::vector<float>& values) {
    if (values.empty()) return device_.clear(array.data(), array.bytes());
    device_.upload(array.data(), values.data(), array.bytes());
  }
  void give(const Array<float>& array, std::vector<float>& values) {
    values.resize(array.size());
    device_.download(values.data(), array.data(), array.bytes());
  }

  CudaSweeps<E>& s_;
  Device& device_;
  UpdateMemory& m_;
  const std::vector<UpdatePart> parts_;
  ParameterState& state_;
  std::vector<float> rest_;  // of the parameters that are none of the encoder's
  bool average_used_ = false;
};

template <class E>
std::unique_ptr<Update> CudaSweeps<E>::make_update(std::span<const UpdatePart> parts,
                                                   ParameterState& state) {
  if (!options().training) return nullptr;
  const bool averaged = !state.average.empty();
  require_free(update_memory(parts, averaged).device, "the update of the parameters needs");
  update_ = UpdateMemory(device_, table(), parts, averaged);
  return std::make_unique<CudaUpdate<E>>(*this, parts, state);
}

template <class E>
Bytes CudaSweeps<E>::update_memory(std::span<const UpdatePart> parts, bool averaged) const {
  if (!options().training) return {};
  return {.device = UpdateMemory::bytes(table(), parts, averaged)};
}

#define M5_INSTANTIATE(E)                                                                  \
  template std::unique_ptr<Update> CudaSweeps<E>::make_update(std::span<const UpdatePart>, \
                                                              ParameterState&);            \
  template Bytes CudaSweeps<E>::update_memory(std::span<const UpdatePart>, bool) const;
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
