// A signal handler may run at any moment of a matrix product. oneDNN's generated gemm kernels keep
// no valid stack pointer (kernels/cpu/onednn_matmul.hpp), so the frame of a handler would land on
// the heap.
#include <gtest/gtest.h>
#include <sys/time.h>

#include <csignal>
#include <vector>

#include "kernels/backend.hpp"
#include "nn/measured_peak.hpp"

namespace m5::kernels {
namespace {

volatile std::sig_atomic_t handled = 0;
void on_alarm(int) { handled = handled + 1; }

// SIGALRM every 100 microseconds of the process's life.
class Alarms {
 public:
  Alarms() {
    struct sigaction action {};
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, &before_);
    const itimerval every{{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &every, nullptr);
  }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;
  ~Alarms() {
    const itimerval never{};
    setitimer(ITIMER_REAL, &never, nullptr);
    sigaction(SIGALRM, &before_, nullptr);
  }

 private:
  struct sigaction before_ {};
};

std::vector<float> products(Backend<float>& backend, int repeats) {
  constexpr int kIn = 16, kOut = 32, kRows = 256;
  std::vector<float> x(kRows * kIn), dy(kRows * kOut), weight(kOut * kIn);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3;
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>(i % 5) - 2;
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i % 3) - 1;
  std::vector<float> y(kRows * kOut), dx(kRows * kIn), results;
  const auto linear = backend.make_linear(kIn, kOut, Backend<float>::kForwardAndBackward);
  backend.pack(*linear, weight.data(), nullptr);
  for (int i = 0; i < repeats; ++i) {
    // Small neighbours on the heap, whose corruption free() and the comparison notice.
    std::vector<std::vector<float>> neighbours(8, std::vector<float>(40, 1.0f));
    std::vector<float> d_weight(kOut * kIn), d_bias(kOut);
    backend.for_tiles(1, [&](int worker, std::int64_t) {
      using Then = Backend<float>::Then;
      backend.linear(worker, *linear, kRows, x.data(), y.data(), Then::kStore);
      backend.linear_backward_input(worker, *linear, kRows, dy.data(), dx.data(), false);
      backend.linear_backward_weight(worker, kIn, kOut, kRows, x.data(), dy.data(), d_weight.data(),
                                     d_bias.data());
    });
    results = d_weight;
    results.insert(results.end(), dx.begin(), dx.end());
    results.insert(results.end(), y.begin(), y.end());
    for (const auto& neighbour : neighbours) {
      results.insert(results.end(), neighbour.begin(), neighbour.end());
    }
  }
  return results;
}

TEST(Signals, MayArriveDuringMatrixProducts) {
  const auto backend = make_cpu_backend({.threads = 1});
  const std::vector<float> expected = products(*backend, 1);
  Alarms alarms;
  while (handled < 300) ASSERT_EQ(products(*backend, 200), expected);
}

TEST(Signals, MayArriveWhileThePeakIsMeasured) {
  MeasuredPeak peak(1, false, {{64, 16, 32}});
  Alarms alarms;
  handled = 0;
  while (handled < 300) ASSERT_GT(peak.measure(0.005, MeasuredPeak::Time::kWall), 0);
}

}  // namespace
}  // namespace m5::kernels
