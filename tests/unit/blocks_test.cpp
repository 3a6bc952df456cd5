// Memory of the cpu backend: aligned, zeroed where small, kept where large.
#include "kernels/cpu/blocks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace m5::kernels {
namespace {

constexpr std::size_t kLarge = std::size_t{5} << 20;

TEST(Blocks, SmallOnesAreZero) {
  Blocks blocks;
  for (const std::size_t bytes : {0, 1, 64, 1000, 100000}) {
    auto* const memory = static_cast<unsigned char*>(blocks.take(bytes));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 64, 0U);
    EXPECT_EQ(std::count(memory, memory + bytes, 0), static_cast<std::ptrdiff_t>(bytes));
    std::fill(memory, memory + bytes, 1);
    blocks.give_back(memory);
  }
}

TEST(Blocks, LargeOnesAreTakenAgain) {
  Blocks blocks;
  void* const a = blocks.take(kLarge);
  void* const b = blocks.take(kLarge);
  EXPECT_NE(a, b);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % 4096, 0U);
  blocks.give_back(a);
  EXPECT_EQ(blocks.take(kLarge), a);
  blocks.give_back(b);
  // Of another size: what was kept is freed first, what is in use stays.
  std::fill_n(static_cast<unsigned char*>(a), kLarge, 7);
  void* const c = blocks.take(3 * kLarge);
  std::fill_n(static_cast<unsigned char*>(c), 3 * kLarge, 8);
  EXPECT_EQ(std::count(static_cast<unsigned char*>(a), static_cast<unsigned char*>(a) + kLarge, 7),
            static_cast<std::ptrdiff_t>(kLarge));
  blocks.give_back(a);
  blocks.give_back(c);
}

}  // namespace
}  // namespace m5::kernels
