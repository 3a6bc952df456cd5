// How surprising the windows of a genome are: what the bits of a gene are compared with.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "nn/scoring.hpp"

namespace m5 {

// A stretch of n nt is compared with windows of n nt, n cut to a multiple of kStep (kStep at
// least), at kMost places evenly spread over all that there are: those that begin at a multiple of
// kStep in a record and lie in it. Windows less than half of which has scores are left out.
class WindowBits {
 public:
  static constexpr std::int64_t kStep = 16;     // nt
  static constexpr std::int64_t kMost = 10000;  // windows of one length
  static constexpr std::size_t kFewest = 20;    // below it nothing is said

  // The next record of the genome.
  void add(const SequenceScores& scores);
  void clear();

  struct Place {
    double percentile;  // of the windows with fewer bits a base; those with as many count half
    double z_score;     // standard deviations above the mean of the windows
  };
  // Of a stretch of so many nt with so many bits a base. NaN where it cannot be said: of too few
  // windows, and a z-score of windows that are all alike.
  Place place(double bits, std::int64_t nt);

  // Bytes for a record of so many nt, until clear().
  static std::uint64_t memory(std::int64_t nt);

 private:
  struct Sum {
    double bits = 0;
    std::int64_t scored = 0;
  };
  struct Record {
    std::size_t first;   // of its sums, of which there is one more than it has steps
    std::int64_t steps;  // whole ones
  };
  struct Windows {
    std::vector<double> bits;  // a base, ascending
    double mean = 0, deviation = 0;
  };
  Windows windows_of(std::int64_t steps) const;

  std::deque<Sum> sums_;  // of a record, up to each of its steps
  std::vector<Record> records_;
  std::map<std::int64_t, Windows> windows_;  // by their length in steps
};

}  // namespace m5
