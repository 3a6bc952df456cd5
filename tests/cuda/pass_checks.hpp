// Whole passes of small models by the sweeps of the CUDA device against the encoder in double on
// `ref`: log-probabilities, hidden states, the full gradient. By the encoder's own schedule.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "check.hpp"
#include "kernels/cuda/library.hpp"
#include "kernels/sweeps.hpp"
#include "random_model.hpp"

namespace m5::kernels::cuda {

using MakeSweeps = std::function<std::unique_ptr<Sweeps<float>>(const CudaSetup& setup)>;

struct PassCase {
  std::string name;
  ModelConfig config;
  std::vector<std::int64_t> lengths, contexts;
  std::vector<bool> circular;
  std::int64_t chunk_rows = 512;
};

std::vector<PassCase> pass_cases();
// Those with a kernel that CudaSetup::fused turns on.
std::vector<PassCase> fused_cases();
std::vector<Check> pass_checks(const PassCase& c, bool bf16, const MakeSweeps& make);
// The greatest difference between `runs` gradients and log-probabilities of the same batch: 0.
double run_to_run(const PassCase& c, bool bf16, const MakeSweeps& make, int runs);
// Between log-probabilities with other chunks, and of each context alone: 0.
double company(const PassCase& c, bool bf16, const MakeSweeps& make);

// A config with the polynomial filled in, as validate() does.
ModelConfig config_of(int dim, int heads, int ff, int layers, int order, int window,
                      std::vector<LocalConv> conv = {});

}  // namespace m5::kernels::cuda
