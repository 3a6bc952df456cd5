// Sums over the pieces of a context: the order is that of the slabs, whoever has them.
#include "kernels/tiled/slab_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace m5::kernels {
namespace {

constexpr std::int64_t kSize = 3;

// Of magnitudes so different that the order of adding them shows.
std::vector<std::vector<double>> some_pieces(std::int64_t count) {
  std::mt19937_64 random(1);
  std::vector<std::vector<double>> pieces(static_cast<std::size_t>(count));
  for (auto& piece : pieces) {
    for (std::int64_t i = 0; i < kSize; ++i) {
      piece.push_back(
          std::ldexp(static_cast<double>(random() >> 11), -static_cast<int>(random() % 20)));
    }
  }
  return pieces;
}

std::vector<double> sum(const std::vector<std::vector<double>>& pieces, std::size_t from,
                        std::size_t to, SlabSum& slabs) {
  slabs.begin(kSize);
  for (std::size_t p = from; p < to; ++p) slabs.add(pieces[p].data());
  const double* total = slabs.end();
  return {total, total + kSize};
}

void add(std::vector<double>& to, const std::vector<double>& part) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += part[i];
}

TEST(SlabSum, OfSlabsApartIsTheSame) {
  constexpr auto kSlab = static_cast<std::size_t>(kSlabPieces);
  SlabSum slabs;  // used again and again
  for (const std::int64_t count : {0, 1, 63, 64, 65, 128, 500}) {
    const auto pieces = some_pieces(count);
    const std::vector<double> total = sum(pieces, 0, pieces.size(), slabs);
    std::vector<double> apart(kSize), flat(kSize);
    for (std::size_t from = 0; from < pieces.size(); from += kSlab) {
      std::vector<double> slab(kSize);
      for (std::size_t p = from; p < std::min(from + kSlab, pieces.size()); ++p) {
        add(slab, pieces[p]);
      }
      EXPECT_EQ(sum(pieces, from, std::min(from + kSlab, pieces.size()), slabs), slab);
      add(apart, slab);
    }
    for (const auto& piece : pieces) add(flat, piece);
    EXPECT_EQ(total, apart) << count;
    EXPECT_EQ(total == flat, count <= kSlabPieces + 1) << count;
  }
}

}  // namespace
}  // namespace m5::kernels
