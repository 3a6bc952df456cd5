#include "m5/session.hpp"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

#include "base/memory.hpp"
#include "base/system.hpp"
#include "m5/error.hpp"
#include "nn/arguments.hpp"
#include "nn/device.hpp"
#include "nn/encoder.hpp"
#include "nn/measured_peak.hpp"

namespace m5 {

namespace {

constexpr int kMostThreads = 4096, kMostBlockRows = 65536;
constexpr std::int64_t kMostRows = 1'000'000'000'000;

[[noreturn]] void misuse(const std::string& what) { throw Error(ErrorKind::kUsage, what); }

ModelConfig validated(ModelConfig config) {
  config.validate();
  return config;
}

const SessionOptions& checked(const SessionOptions& options) {
  const auto number = [](int value) { return std::to_string(value); };
  if (options.threads < 0 || options.threads > kMostThreads) {
    misuse("threads: " + number(options.threads) + " is not 0 to " + number(kMostThreads));
  }
  if (options.precision != Precision::kFp32 && options.precision != Precision::kBf16) {
    misuse("precision: " + number(static_cast<int>(options.precision)) + " is none");
  }
  if (options.block_rows < 0 || options.block_rows > kMostBlockRows ||
      options.block_rows % kernels::kRunRows != 0) {
    misuse("block rows: " + number(options.block_rows) + " is no multiple of " +
           number(kernels::kRunRows) + " up to " + number(kMostBlockRows));
  }
  return options;
}

}  // namespace

std::int64_t check_sequences(std::span<const TokenView> sequences) {
  if (sequences.empty()) misuse("no sequences given");
  std::int64_t rows = 0, context = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const TokenView& view = sequences[s];
    const auto fail = [s](const std::string& what) {
      misuse("sequence " + std::to_string(s) + ": " + what);
    };
    if (view.tokens == nullptr || view.length < 1) {
      fail("no tokens: a sequence has one at least");
    }
    if (view.context != context && (s == 0 || view.context != context + 1)) {
      fail("context " + std::to_string(view.context) + " follows " +
           (s == 0 ? "nothing" : std::to_string(context)) +
           ": contexts are 0, 1, 2 ... and their sequences consecutive");
    }
    context = view.context;
    // Before any token is looked at: a length that cannot be is not followed into foreign memory.
    if (view.length > kMostRows - rows) {
      fail("length " + std::to_string(view.length) + ": sequences have 10^12 nt at most, together");
    }
    const Token* const end = view.tokens + view.length;
    const Token* const bad = std::find_if(view.tokens, end, [](Token t) { return t >= kTokenPad; });
    if (bad != end) {
      fail("position " + std::to_string(bad - view.tokens) + ": token " + std::to_string(*bad) +
           "; a sequence has 0 to " + std::to_string(kTokenMask));
    }
    rows += view.length;
  }
  return rows;
}

void check_strand(Strand strand) {
  if (strand == Strand::kForward || strand == Strand::kReverse || strand == Strand::kBoth) return;
  misuse("strand: " + std::to_string(static_cast<int>(strand)) + " is none");
}

struct Session::Impl {
  Impl(const Model& model, const SessionOptions& options)
      : config(validated(model.config)),
        device(make_device(options)),
        encoder(device->host(),
                device->make_sweeps(config, {.bf16_residual = options.bf16_residual})) {
    require_more_memory(encoder.ready_memory().host, "model '" + config.name + "'");
    encoder.table().check_count(model.parameters.size());
    encoder.set_parameters(model.parameters.data());
  }
  ModelConfig config;
  std::unique_ptr<kernels::Device> device;
  Encoder<float> encoder;
  const pid_t process = getpid();
  std::atomic<bool> busy = false;
};

namespace {

// A call of a session. The threads of one do not come along through fork().
class Call {
 public:
  Call(std::atomic<bool>& busy, pid_t process) : busy_(busy) {
    if (process != getpid()) misuse("a session made before fork(): make one in each process");
    if (busy_.exchange(true)) misuse("a session is called during a call: it takes one at a time");
  }
  ~Call() { busy_ = false; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  std::atomic<bool>& busy_;
};

}  // namespace

Session::Session(const Model& model, const SessionOptions& options)
    : impl_(std::make_unique<Impl>(model, checked(options))) {}
Session::~Session() {
  // The threads that would be joined are the other process's.
  if (impl_->process != getpid()) static_cast<void>(impl_.release());
}

const ModelConfig& Session::config() const { return impl_->config; }
int Session::threads() const { return impl_->device->host().workers(); }
std::string Session::device_name() const { return impl_->device->name(); }

void Session::log_probs(std::span<const TokenView> sequences, std::span<const std::int64_t> rows,
                        float* log_probs, const RowCounts& counts) {
  const std::int64_t total = check_sequences(sequences);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] < (i == 0 ? 0 : rows[i - 1] + 1) || rows[i] >= total) {
      misuse("row " + std::to_string(rows[i]) + ": rows are strictly ascending, 0 to " +
             std::to_string(total - 1) + " here");
    }
  }
  if (counts && impl_->config.memory.empty()) {
    misuse("log_probs: counts for a model without a genome memory");
  }
  if (rows.empty()) return;
  if (log_probs == nullptr) misuse("log_probs: nowhere to write to");
  const Call call(impl_->busy, impl_->process);
  impl_->encoder.log_probs(sequences, rows, log_probs, counts);
  for (std::size_t i = 0; i < rows.size() * kBases; ++i) {
    if (!std::isfinite(log_probs[i])) {
      throw Error(ErrorKind::kNumeric, "the model gives a value that is not finite at row " +
                                           std::to_string(rows[i / kBases]));
    }
  }
}

void Session::hidden(std::span<const TokenView> sequences, int layer, const RowSink& sink) {
  if (!sink) misuse("hidden: no sink");
  hidden(sequences, {&layer, 1},
         [&](int, std::int64_t first, int n, const float* values) { sink(first, n, values); });
}

void Session::hidden(std::span<const TokenView> sequences, std::span<const int> layers,
                     const LayerSink& sink, const std::function<void()>& on_failure) {
  if (layers.empty()) misuse("hidden: no layers given");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] < 0 || layers[i] > impl_->config.layers) {
      misuse("layer " + std::to_string(layers[i]) + " does not exist: the model has 0.." +
             std::to_string(impl_->config.layers));
    }
    if (i > 0 && layers[i] <= layers[i - 1]) misuse("hidden: layers are strictly ascending");
  }
  check_sequences(sequences);
  if (!sink) misuse("hidden: no sink");
  const Call call(impl_->busy, impl_->process);
  impl_->encoder.hidden(sequences, layers, sink, on_failure);
}

void Session::for_each(std::int64_t tasks,
                       const std::function<void(int worker, std::int64_t task)>& work) {
  if (tasks < 0 || !work) misuse("for_each: no work");
  const Call call(impl_->busy, impl_->process);
  impl_->device->host().for_tiles(tasks, work);
}

void Session::on_layer(const std::function<void(int done, int of)>& call) {
  impl_->encoder.on_layer(call);
}

namespace {

kernels::Bytes needed(const Encoder<float>& encoder, std::int64_t rows, std::int64_t contexts,
                      std::int64_t sequences) {
  constexpr std::int64_t kMostContexts = 1'000'000'000;
  if (rows < 0 || rows > kMostRows || contexts < 0 || contexts > kMostContexts || sequences < 0 ||
      sequences > kMostContexts) {
    misuse("memory_needed: " + std::to_string(rows) + " rows in " + std::to_string(contexts) +
           " contexts and " + std::to_string(sequences) +
           " sequences: these are 0 to 10^12, and 0 to 10^9");
  }
  kernels::Bytes sum = encoder.ready_memory();
  if (rows == 0 && contexts == 0) return sum;
  const kernels::Bytes pass = encoder.pass_memory(rows, contexts, std::max(sequences, contexts));
  sum.host += pass.host;
  sum.device += pass.device;
  return sum;
}

}  // namespace

std::uint64_t Session::memory_needed(std::int64_t rows, std::int64_t contexts,
                                     std::int64_t sequences) const {
  return needed(impl_->encoder, rows, contexts, sequences).host;
}
std::uint64_t Session::device_memory_needed(std::int64_t rows, std::int64_t contexts,
                                            std::int64_t sequences) const {
  return needed(impl_->encoder, rows, contexts, sequences).device;
}
std::uint64_t Session::device_memory_available() const {
  const std::uint64_t ready = impl_->encoder.ready_memory().device;
  return ready == 0 ? 0 : ready + impl_->encoder.sweeps().free_memory();
}

double Session::forward_flops_per_row() const { return forward_flops_per_nt(impl_->config); }

std::unique_ptr<kernels::Device> make_device(const SessionOptions& o) {
  return kernels::make_device({.name = o.device,
                               .threads = o.threads > 0 ? o.threads : available_cpus(),
                               .bf16 = o.precision == Precision::kBf16,
                               .block_rows = o.block_rows});
}

}  // namespace m5
