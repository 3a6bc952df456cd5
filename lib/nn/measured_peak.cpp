#include "nn/measured_peak.hpp"

#include <time.h>

#include <barrier>
#include <cstring>
#include <dnnl.hpp>
#include <string>
#include <unordered_map>

#include "base/hold_signals.hpp"
#include "base/thread_pool.hpp"
#include "kernels/cpu/onednn.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

// One matrix product of one worker: its own operands, so that threads share nothing.
class Product {
 public:
  Product(const MeasuredPeak::Shape& shape, bool bf16)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Tag = dnnl::memory::format_tag;
    using Type = dnnl::memory::data_type;
    const Type type = bf16 ? Type::bf16 : Type::f32;
    const dnnl::memory::desc x({shape.rows, shape.in}, type, Tag::ab);
    const dnnl::memory::desc weight({shape.in, shape.out}, type, Tag::any);
    const dnnl::memory::desc y({shape.rows, shape.out}, Type::f32, Tag::ab);
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine_, x, weight, y);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, weight, y), engine_);
#endif
    matmul_ = dnnl::matmul(description);
    const auto add = [&](int argument, const dnnl::memory::desc& desc) {
      dnnl::memory memory(desc, engine_);
      // Zeros would do for the time they take; small values keep the sums finite. 0x3c bytes are
      // 0.0115 in either type.
      std::memset(memory.get_data_handle(), 0x3c, desc.get_size());
      arguments_.emplace(argument, memory);
    };
    add(DNNL_ARG_SRC, description.src_desc());
    add(DNNL_ARG_WEIGHTS, description.weights_desc());
    add(DNNL_ARG_DST, description.dst_desc());
  }

  void run() {
    const HoldSignals hold;  // SafeMatmul (kernels/cpu/onednn_matmul.hpp) says why
    matmul_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

}  // namespace

struct MeasuredPeak::Impl {
  Impl(int threads, std::vector<Shape> shapes_, bool bf16)
      : shapes(std::move(shapes_)), pool(threads), products(shapes.size()) {
    for (auto& of_shape : products) of_shape.resize(static_cast<std::size_t>(threads));
    on_every_thread([&](std::size_t worker) {
      for (std::size_t s = 0; s < shapes.size(); ++s) {
        products[s][worker] = std::make_unique<Product>(shapes[s], bf16);
        products[s][worker]->run();
      }
    });
  }

  // A worker takes one tile and waits in it, so that every worker gets one. Work that may throw
  // waits for nobody.
  void on_every_thread(const std::function<void(std::size_t worker)>& work) {
    std::barrier<> together(pool.size());
    pool.run(pool.size(), [&](int worker, std::int64_t) {
      together.arrive_and_wait();
      const kernels::OneThread alone;
      work(static_cast<std::size_t>(worker));
    });
  }

  std::vector<Shape> shapes;
  ThreadPool pool;
  std::vector<std::vector<std::unique_ptr<Product>>> products;  // [shape][worker]
};

MeasuredPeak::MeasuredPeak(int threads, bool bf16, const std::vector<Shape>& shapes) {
  try {
    impl_ = std::make_unique<Impl>(threads, shapes, bf16);
  } catch (const dnnl::error& error) {
    throw Error(ErrorKind::kResource, std::string("oneDNN has no ") + (bf16 ? "bf16" : "fp32") +
                                          " matrix product on this CPU: " + error.what());
  }
}

MeasuredPeak::~MeasuredPeak() = default;

double MeasuredPeak::now(Time time) {
  timespec t{};
  clock_gettime(time == Time::kWall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double MeasuredPeak::measure(double seconds, Time time) {
  double best_now = 0;
  for (std::size_t s = 0; s < impl_->shapes.size(); ++s) {
    const Shape shape = impl_->shapes[s];
    const double flops = 2.0 * shape.rows * shape.in * shape.out;
    std::vector<double> rate(static_cast<std::size_t>(impl_->pool.size()));
    const auto product_of = [&](std::size_t worker) { return impl_->products[s][worker].get(); };
    // Operands into the cache; then all begin at the same time.
    impl_->on_every_thread([&](std::size_t worker) { product_of(worker)->run(); });
    impl_->on_every_thread([&](std::size_t worker) {
      Product& product = *product_of(worker);
      const double start = now(time);
      double elapsed = 0;
      std::int64_t calls = 0;
      while (elapsed < seconds) {
        product.run();
        ++calls;
        elapsed = now(time) - start;
      }
      rate[worker] = flops * static_cast<double>(calls) / elapsed;
    });
    double total = 0;
    for (const double r : rate) total += r * 1e-9;
    best_now = std::max(best_now, total);
    if (total > best_) {
      best_ = total;
      best_shape_ = shape;
    }
  }
  return best_now;
}

std::vector<MeasuredPeak::Shape> MeasuredPeak::shapes_of(const ModelConfig& c, int rows) {
  const int key_value = (kKeyDim + c.value_dim()) * c.heads;
  return {{rows, c.dim, key_value + kKeyDim * c.heads},
          {rows, c.dim, c.dim},
          {rows, c.dim, c.ff_dim},
          {rows, c.ff_dim, c.dim},
          {1024, 256, 1024}};
}

namespace {

struct LayerFlops {
  double key_products, query_products, second_product, attention, convolution;
};

LayerFlops layer_flops(const ModelConfig& c, int layer) {
  const double d = c.dim, heads = c.heads, dv = c.value_dim(), ff = c.ff_dim;
  LayerFlops f;
  f.key_products = 2 * d * (kKeyDim + dv) * heads;
  f.query_products = 2 * d * kKeyDim * heads + 2 * d * d + 4 * d * ff;
  f.second_product = 2 * d * ff;
  f.attention = 2 * c.features() * (dv + 1) * heads;
  f.convolution =
      c.has_conv(layer) ? 2 * d * c.local_conv[static_cast<std::size_t>(layer)].width : 0;
  return f;
}

}  // namespace

double forward_flops_per_nt(const ModelConfig& config, double asked) {
  double total = 0;
  for (int l = 0; l < config.layers; ++l) {
    const LayerFlops f = layer_flops(config, l);
    const double rows = l + 1 == config.layers ? asked : 1;
    total += f.key_products + f.attention + f.convolution;
    total += rows * (f.query_products + f.attention);
  }
  return total;
}

double training_flops_per_nt(const ModelConfig& config, double asked) {
  double total = 0;
  for (int l = 0; l < config.layers; ++l) {
    const LayerFlops f = layer_flops(config, l);
    total += 4 * f.key_products + 3 * f.attention + 3 * f.convolution;
    if (l + 1 == config.layers) {
      total += asked * 3 * (f.query_products + f.attention);
    } else {
      total += 4 * f.query_products - f.second_product + 4 * f.attention;
    }
  }
  return total;
}

}  // namespace m5
