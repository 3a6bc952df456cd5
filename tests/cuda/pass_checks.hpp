// Whole passes of small models by the sweeps of the CUDA device against the encoder in double on
// `ref`: log-probabilities, hidden states, the full gradient. By the encoder's own schedule.
#pragma once

#include <functional>
#include <initializer_list>
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
  bool poly_a = false;  // else random
  // Sequences are of A alone and of C alone in turns, all rows are asked, all targets are A.
  bool alike = false;
};

std::vector<PassCase> pass_cases();
// Those with a kernel that CudaSetup::fused turns on.
std::vector<PassCase> fused_cases();
// Sums over many rows, in several chunks: of numbers that are all alike, whose roundings all go the
// same way, and of random ones.
std::vector<PassCase> long_cases(std::int64_t rows);
// Products over the rows of a chunk that are several in fp32.
std::vector<PassCase> parts_cases();
// In each of the precisions.
std::vector<Check> pass_checks(const PassCase& c, std::initializer_list<bool> bf16,
                               const MakeSweeps& make);
// Forward alone, in two chunks: each row of a circular poly-A is as those of a short one.
std::vector<Check> poly_a_checks(std::int64_t rows, bool bf16, const MakeSweeps& make);
// Of a gradient that is a sum over many chunks, whose terms are all alike.
std::vector<Check> many_chunks_checks(const MakeSweeps& make);
// The greatest difference between `runs` gradients and log-probabilities of the same batch: 0.
double run_to_run(const PassCase& c, bool bf16, const MakeSweeps& make, int runs);
// Between log-probabilities with other chunks, and of each context alone: 0.
double company(const PassCase& c, bool bf16, const MakeSweeps& make);

// A config with the polynomial filled in, as validate() does.
ModelConfig config_of(int dim, int heads, int ff, int layers, int order, int window,
                      std::vector<LocalConv> conv = {});

}  // namespace m5::kernels::cuda
