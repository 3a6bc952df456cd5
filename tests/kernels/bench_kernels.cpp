// Micro-benchmark of every operation at the shapes of the presets, one block of rows on one thread:
//   bench_kernels --benchmark_filter=attention
// The settings of the backend come first in a name: cpu, cpu-bf16 or ref.
#include <benchmark/benchmark.h>

#include <memory>

#include "kernels/cases.hpp"

namespace m5::kernels {
namespace {

void run(benchmark::State& state, const Case& c, Backend<float>& backend) {
  const Values values = initial_values(c, Rounding::kFloat);
  Memory<float> memory(c, backend, values);
  const Run run = c.prepare(backend, memory);
  // Through for_tiles, as the encoder calls it: that sets the worker's thread up.
  for (auto _ : state) backend.for_tiles(1, [&](int, std::int64_t) { run(); });
  state.counters["GFLOP/s"] = benchmark::Counter(
      c.flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

}  // namespace
}  // namespace m5::kernels

int main(int argc, char** argv) {
  using namespace m5::kernels;
  static const std::vector<Case> cases = operation_cases(CaseSet::kBenchmark);
  static const std::unique_ptr<Backend<float>> backends[] = {
      make_cpu_backend({.threads = 1}), make_cpu_backend({.threads = 1, .bf16 = true}),
      make_ref_backend<float>()};
  const char* const names[] = {"cpu", "cpu-bf16", "ref"};
  for (int b = 0; b < 3; ++b) {
    for (const Case& c : cases) {
      // bf16 changes the linear layers alone.
      if (b == 1 && c.operation.rfind("linear", 0) != 0) continue;
      benchmark::RegisterBenchmark(
          (std::string(names[b]) + "/" + c.name()).c_str(),
          [&c, b](benchmark::State& state) { run(state, c, *backends[b]); });
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
