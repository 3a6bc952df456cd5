#include "nn/encoder.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "m5/error.hpp"
#include "nn/memory_mix.hpp"

namespace m5 {

using kernels::Pass;

namespace {

// Which stage of a pass holds what. In inference there is one. In training, with k = 1, every
// residual stream that a sweep reads has its own. With k > 1 layers come in groups of k; what
// enters a group is kept, the stages inside are shared by all groups, and filled again before the
// backward pass of a group.
struct StagePlan {
  StagePlan(const ModelConfig& config, bool training, int k);
  std::vector<int> enters;   // of each layer, what enters it; last, what leaves the last one
  std::vector<int> attends;  // what enters its attention: after its convolution, or the same
  int stages = 1;
};

StagePlan::StagePlan(const ModelConfig& config, bool training, int k)
    : enters(static_cast<std::size_t>(config.layers) + 1, 0),
      attends(static_cast<std::size_t>(config.layers), 0) {
  if (!training) return;
  stages = 0;
  std::vector<int> shared(2 * static_cast<std::size_t>(k), -1);
  const auto stage = [&](int l, bool convolved) {
    const bool kept = k == 1 || (l % k == 0 && convolved != config.has_conv(l));
    int own = -1;
    int& at = kept ? own : shared[static_cast<std::size_t>(2 * (l % k) + convolved)];
    if (at < 0) at = stages++;
    return at;
  };
  for (int l = 0; l < config.layers; ++l) {
    const auto i = static_cast<std::size_t>(l);
    if (config.has_conv(l)) enters[i] = stage(l, false);
    attends[i] = stage(l, true);
    if (!config.has_conv(l)) enters[i] = attends[i];
  }
  enters.back() = attends.back();
}

}  // namespace

// --- the schedule

template <class T>
struct Encoder<T>::Impl {
  Impl(kernels::Backend<T>& h, std::unique_ptr<kernels::Sweeps<T>> s)
      : host(h),
        sweeps(std::move(s)),
        config(sweeps->config()),
        table(sweeps->table()),
        training(sweeps->options().training),
        stages(config, training, 1),
        mix(config.memory, table.memory),
        mix_work(static_cast<std::size_t>(host.workers())) {}

  std::unique_ptr<Pass<T>> begin(Batch batch) { return sweeps->begin(batch, stages.stages); }
  int enters(int l) const { return stages.enters[static_cast<std::size_t>(l)]; }
  int attends(int l) const { return stages.attends[static_cast<std::size_t>(l)]; }

  // Runs `whole` layers, and with next_keys the key half (and its convolution) of the one after
  // them. after, when set, is called when x is that after so many layers, 0 to `whole`.
  void forward(Pass<T>& pass, int whole, bool next_keys,
               const std::function<void(int layers)>& after = {}) {
    const int key_layers = whole + next_keys;
    pass.embed(enters(0), 0 < key_layers);
    if (after) after(0);
    for (int l = 0; l < key_layers; ++l) {
      if (config.has_conv(l)) pass.convolve(l, enters(l), attends(l), true);
      if (l < whole) pass.layer(l, attends(l), enters(l + 1), l + 1 < key_layers);
      if (l < whole && after) after(l + 1);
      if (on_layer) on_layer(l + 1, key_layers);
    }
  }

  // After forward of all layers but the last, whose query half is head's. Two sweeps a layer: the
  // query half gives dS_l, a sum over all rows, which the key half needs.
  void backward(Pass<T>& pass, std::span<const std::int64_t> rows, T* log_probs,
                const kernels::LossRows<T>& loss, double* gradient) {
    const int last = config.layers - 1;
    pass.head_backward(attends(last), rows, log_probs, loss, gradient);
    for (int l = last; l >= 0; --l) {
      if (l < last) {
        if (l % group_layers == group_layers - 1) recompute(pass, l);
        pass.query_backward(l, attends(l));
      }
      pass.key_backward(l, attends(l));
      if (config.has_conv(l)) pass.convolve_backward(l, enters(l));
    }
    pass.embed_backward();
  }

  // The stages of the group of layers that ends with `last`, by the sweeps of forward, bit for bit.
  // Only the states, kept from there, are left out. Forward has left the stages of the last group.
  void recompute(Pass<T>& pass, int last) {
    if (group_layers == 1) return;  // none is missing
    for (int l = last - group_layers + 1; l <= last; ++l) {
      if (config.has_conv(l)) pass.convolve(l, enters(l), attends(l), false);
      if (l < last) pass.layer(l, attends(l), enters(l + 1), false);
    }
  }

  // --- what is of rows alone: the genome memory and the loss, in calls back

  void log_probs(Pass<T>& pass, std::span<const std::int64_t> rows, T* result,
                 const RowCounts& counts) {
    forward(pass, config.layers - 1, true);
    pass.head(attends(config.layers - 1), rows, result,
              [&](int worker, std::int64_t first, int n, T* p) {
                mix_memory(worker, part(rows, first, n), counts, p);
              });
  }

  static std::span<const std::int64_t> part(std::span<const std::int64_t> rows, std::int64_t first,
                                            int n) {
    return rows.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
  }

  bool mixes(const RowCounts& counts) const { return !config.memory.empty() && counts; }

  void mix_memory(int worker, std::span<const std::int64_t> rows, const RowCounts& counts, T* p) {
    if (!mixes(counts)) return;
    auto& work = mix_work[static_cast<std::size_t>(worker)];
    mix.forward(worker, host, memory_parameters.data(), rows, counts, work, p);
  }

  // Of scale * sum of -log p(target), for rows [first, first + n) of the objective: p, mixed;
  // d_logits, the gradient of the encoder's logits; d_memory +=, of the memory's parameters.
  kernels::LossRows<T> loss(const Objective& objective, double scale, const RowCounts& counts) {
    return [&, scale](int worker, std::int64_t first, int n, T* p, T* d_logits, T* d_memory) {
      mix_memory(worker, part(objective.rows, first, n), counts, p);
      logits_gradient(objective, first, n, scale, p, d_logits);
      if (!mixes(counts)) return;
      mix.backward(worker, host, memory_parameters.data(), n,
                   mix_work[static_cast<std::size_t>(worker)], d_logits, d_memory);
    };
  }

  // The loss alone, without a backward pass: its rows in parts that begin with every kTileRows-th
  // of a sequence, added in their order.
  void memory_backward(Batch batch, const Objective& objective, const kernels::LossRows<T>& loss,
                       T* log_probs, double* gradient) {
    std::vector<std::int64_t> begins;  // indices into the rows of the objective
    std::int64_t row = 0;
    const auto& rows = objective.rows;
    for (const TokenView& sequence : batch) {
      for (std::int64_t offset = 0; offset < sequence.length; offset += kernels::kTileRows) {
        begins.push_back(std::lower_bound(rows.begin(), rows.end(), row + offset) - rows.begin());
      }
      row += sequence.length;
    }
    begins.push_back(static_cast<std::int64_t>(rows.size()));
    const auto size = static_cast<std::size_t>(table.total - table.encoder);
    std::vector<std::vector<T>> parts(begins.size() - 1);
    host.for_tiles(static_cast<std::int64_t>(parts.size()), [&](int worker, std::int64_t i) {
      std::vector<T>& part = parts[static_cast<std::size_t>(i)];
      part.assign(size, T(0));
      const std::int64_t end = begins[static_cast<std::size_t>(i) + 1];
      std::vector<T> d_logits(static_cast<std::size_t>(kBases * sweeps->block_rows()));
      for (std::int64_t at = begins[static_cast<std::size_t>(i)]; at < end;) {
        const auto n = static_cast<int>(std::min<std::int64_t>(sweeps->block_rows(), end - at));
        loss(worker, at, n, log_probs + at * kBases, d_logits.data(), part.data());
        at += n;
      }
    });
    for (const std::vector<T>& part : parts) {
      for (std::size_t j = 0; j < size; ++j) {
        gradient[static_cast<std::size_t>(table.encoder) + j] += static_cast<double>(part[j]);
      }
    }
  }

  kernels::Backend<T>& host;
  const std::unique_ptr<kernels::Sweeps<T>> sweeps;
  const ModelConfig& config;
  const ParameterTable& table;
  const bool training;
  int group_layers = 1;
  StagePlan stages;
  std::function<void(int done, int of)> on_layer;  // may be empty
  const MemoryMix<T> mix;
  std::vector<typename MemoryMix<T>::Work> mix_work;  // of each worker
  std::vector<T> memory_parameters;                   // [table.total - table.encoder]
};

// --- public

template <class T>
Encoder<T>::Encoder(kernels::Backend<T>& host, std::unique_ptr<kernels::Sweeps<T>> sweeps)
    : impl_(std::make_unique<Impl>(host, std::move(sweeps))) {
  if (impl_->training && impl_->sweeps->options().bf16_residual) {
    throw Error(ErrorKind::kUsage, "training keeps the residual stream in fp32");
  }
}
template <class T>
Encoder<T>::~Encoder() = default;

template <class T>
const ParameterTable& Encoder<T>::table() const {
  return impl_->table;
}

template <class T>
int Encoder<T>::block_rows() const {
  return impl_->sweeps->block_rows();
}

template <class T>
void Encoder<T>::set_parameters(const T* parameters) {
  impl_->sweeps->load(parameters);
  set_memory_parameters(parameters + table().encoder);
}

template <class T>
void Encoder<T>::set_memory_parameters(const T* parameters) {
  impl_->memory_parameters.assign(parameters, parameters + (table().total - table().encoder));
}

template <class T>
kernels::Sweeps<T>& Encoder<T>::sweeps() {
  return *impl_->sweeps;
}

template <class T>
void Encoder<T>::keep_every(int layers) {
  impl_->group_layers = std::clamp(layers, 1, impl_->config.layers);
  impl_->stages = StagePlan(impl_->config, impl_->training, impl_->group_layers);
}

template <class T>
void Encoder<T>::on_layer(const std::function<void(int done, int of)>& call) {
  impl_->on_layer = call;
}

template <class T>
void Encoder<T>::log_probs(Batch batch, std::span<const std::int64_t> rows, T* log_probs,
                           const RowCounts& counts) {
  impl_->log_probs(*impl_->begin(batch), rows, log_probs, counts);
}

template <class T>
void Encoder<T>::hidden(Batch batch, int layer, const kernels::RowSink<T>& sink) {
  hidden(batch, {&layer, 1},
         [&](int, std::int64_t first, int n, const T* values) { sink(first, n, values); });
}

template <class T>
void Encoder<T>::hidden(Batch batch, std::span<const int> layers, const LayerSink& sink,
                        const std::function<void()>& on_failure) {
  const auto pass = impl_->begin(batch);
  impl_->forward(*pass, layers.back(), false, [&](int layer) {
    if (!std::binary_search(layers.begin(), layers.end(), layer)) return;
    const auto rows = [&, layer](std::int64_t first, int n, const T* values) {
      sink(layer, first, n, values);
    };
    pass->hidden(impl_->enters(layer), layer == impl_->config.layers, rows, on_failure);
  });
}

template <class T>
ObjectiveResult Encoder<T>::evaluate(Batch batch, const Objective& objective,
                                     const RowCounts& counts) {
  std::vector<T> p(kBases * objective.rows.size());
  log_probs(batch, objective.rows, p.data(), counts);
  return tally(objective, p.data());
}

template <class T>
ObjectiveResult Encoder<T>::loss_and_gradient(Batch batch, const Objective& objective,
                                              double loss_scale, double* gradient,
                                              const RowCounts& counts) {
  std::vector<T> p(kBases * objective.rows.size());
  const auto pass = impl_->begin(batch);
  impl_->forward(*pass, impl_->config.layers - 1, true);
  impl_->backward(*pass, objective.rows, p.data(), impl_->loss(objective, loss_scale, counts),
                  gradient);
  return tally(objective, p.data());
}

template <class T>
ObjectiveResult Encoder<T>::memory_gradient(Batch batch, const Objective& objective,
                                            double loss_scale, double* gradient,
                                            const RowCounts& counts) {
  std::vector<T> p(kBases * objective.rows.size());
  log_probs(batch, objective.rows, p.data());
  impl_->memory_backward(batch, objective, impl_->loss(objective, loss_scale, counts), p.data(),
                         gradient);
  return tally(objective, p.data());
}

template <class T>
kernels::Bytes Encoder<T>::ready_memory() const {
  return impl_->sweeps->ready_memory();
}

template <class T>
kernels::Bytes Encoder<T>::pass_memory(std::int64_t rows, std::int64_t contexts,
                                       std::int64_t sequences) const {
  return impl_->sweeps->pass_memory(
      {.rows = rows, .contexts = contexts, .sequences = sequences, .stages = impl_->stages.stages});
}

template class Encoder<float>;
template class Encoder<double>;

}  // namespace m5
