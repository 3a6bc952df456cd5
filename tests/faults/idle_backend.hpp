// A backend whose operations compute nothing: what is left of a pass is its threads, sums and
// memory. One of its calls throws, when the others have gone as far ahead as they may.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/thread_pool.hpp"
#include "kernels/backend.hpp"

namespace m5 {

struct Injected : std::runtime_error {
  Injected() : std::runtime_error("injected") {}
};

class IdleBackend final : public kernels::Backend<float> {
 public:
  using Shape = kernels::AttentionShape;
  using Linear = kernels::Linear<float>;
  using I = std::int64_t;

  explicit IdleBackend(int threads) : pool_(threads) {}

  // The n-th call from now on throws Injected; 0: none.
  void fail_at(I n) {
    fail_at_ = n;
    calls_ = 0;
  }
  I calls() const { return calls_; }
  // Returns when no worker has begun a tile for a while: all that are left wait for this one.
  void let_others_go_ahead() const {
    if (pool_.size() == 1) return;
    for (int still = 0; still < 2;) {
      const I before = begun_;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      still = begun_ == before ? still + 1 : 0;
    }
  }

  std::string name() const override { return "idle"; }
  int workers() const override { return pool_.size(); }
  int preferred_block_rows(I) const override { return kernels::kRunRows; }
  void for_tiles(I tiles, const std::function<void(int, I)>& work) override {
    step();
    pool_.run(tiles, [&](int worker, I tile) {
      ++begun_;
      work(worker, tile);
    });
  }
  void* allocate(std::size_t bytes) override {
    step();
    return std::calloc(bytes + 1, 1);
  }
  void release(void* memory) noexcept override { std::free(memory); }

  std::unique_ptr<Linear> make_linear(int, int, LinearUse) override {
    step();
    return std::make_unique<Linear>();
  }
  void pack(Linear&, const float*, const float*) override { step(); }
  void linear(int, const Linear&, int, const float*, float*, Then) override { step(); }
  void linear_backward_input(int, const Linear&, int, const float*, float*, bool) override {
    step();
  }
  void linear_backward_weight(int, int, int, int, const float*, const float*, float*,
                              float*) override {
    step();
  }
  void embed(int, int, int, int, const std::uint8_t*, const float*, const float*, float*) override {
    step();
  }
  void embed_backward(int, int, int, int, const std::uint8_t*, const float*, float*,
                      float*) override {
    step();
  }
  void norm(int, int, int, double, const float*, const float*, float*) override { step(); }
  void norm_backward(int, int, int, double, const float*, const float*, const float*, float*,
                     float*) override {
    step();
  }
  void to_bf16(I, const float*, std::uint16_t*) override { step(); }
  void from_bf16(I, const std::uint16_t*, float*) override { step(); }
  void gelu(int, I, const float*, float*) override { step(); }
  void gelu_backward(int, I, const float*, const float*, float*) override { step(); }
  void local_conv(int, int, int, int, int, const float*, const float*, bool, float*) override {
    step();
  }
  void local_conv_backward_weight(int, int, int, int, int, const float*, const float*,
                                  float*) override {
    step();
  }
  void bound(int, const Shape&, int, I, const float*, float*) override { step(); }
  void bound_backward(int, const Shape&, int, I, const float*, const float*, float*) override {
    step();
  }
  void attention_accumulate(int, const Shape&, int, const float*, I, const float*, I, bool,
                            double*) override {
    step();
  }
  void attention_scale(const Shape&, const double*, float*) override { step(); }
  void attention_query(int, const Shape&, int, const float*, I, const float*, float*,
                       float*) override {
    step();
  }
  void attention_query_backward(int, const Shape&, int, const float*, I, const float*, const float*,
                                const float*, const float*, float*, float*, double*) override {
    step();
  }
  void attention_accumulate_backward(int, const Shape&, int, const float*, I, const float*, I,
                                     const float*, float*, float*) override {
    step();
  }
  void head(int, int, int, const float*, const float*, const float*, float*) override { step(); }
  void head_backward(int, int, int, const float*, const float*, const float*, float*, float*,
                     float*) override {
    step();
  }
  void adamw(I, const AdamW&, const double*, float*, float*, float*) override { step(); }

 private:
  void step() {
    if (++calls_ != fail_at_) return;
    let_others_go_ahead();
    throw Injected();
  }

  ThreadPool pool_;
  I fail_at_ = 0;
  std::atomic<I> calls_{0}, begun_{0};
};

}  // namespace m5
