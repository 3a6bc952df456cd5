// Windows of genomes: which stretch of which record a training or validation step looks at.
#pragma once

#include <cstdint>
#include <vector>

#include "data/genome_store.hpp"

namespace m5 {

struct Window {
  std::int64_t record = 0;  // index into GenomeStore::records
  std::int64_t start = 0;   // 0-based; a window of a circular record may run over the origin
  std::int64_t length = 0;
  bool circular = false;  // the window is a whole circular record
  bool reverse_complement = false;
  bool whole_memory = false;  // asked with the genome memory of its record, not with its own
  bool operator==(const Window&) const = default;
};

// Names one window of a whole training run. Everything random about the window comes from it, so
// that neither threads nor the split of a step into micro-batches change what is trained on.
struct WindowId {
  std::uint64_t seed = 0;
  std::int64_t step = 0;   // from 1
  std::int64_t index = 0;  // within the step, over all its micro-batches
};

// The key of everything random about a window: random_bits(window_key(id), counter).
std::uint64_t window_key(const WindowId& id);

class WindowSampler {
 public:
  // The store must outlive the sampler. Throws Error(kInput) on a store without A, C, G or T.
  WindowSampler(const GenomeStore& store, double reverse_complement_probability);

  // Records are drawn in proportion to their length. One no longer than segment_length is used
  // whole; in a longer one the start is uniform: over all of a circular record, over the starts
  // that fit into a linear one.
  Window draw(const WindowId& id, std::int64_t segment_length) const;
  // The same of a record that is given.
  Window draw_from(std::int64_t record, const WindowId& id, std::int64_t segment_length) const;

 private:
  const GenomeStore& store_;
  double reverse_complement_;
};

// Windows for validation: spread evenly over the store, of segment_length (a shorter record whole),
// up to max_tokens nt in all but at least one window. No two are the same; none is reversed.
std::vector<Window> validation_windows(const GenomeStore& store, std::int64_t segment_length,
                                       std::int64_t max_tokens);

// Appends the tokens of the window, reversed and complemented if it says so.
void append_window(const GenomeStore& store, const Window& window, std::vector<Token>& tokens);

}  // namespace m5
