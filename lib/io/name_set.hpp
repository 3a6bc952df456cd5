// Which names have been seen, in little memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace m5 {

// Holds hashes of 64 bits, not names: among 10^7 names a false "seen" is one in 10^5.
class NameSet {
 public:
  // False if it was there before.
  bool insert(const std::string& name);
  void clear();
  std::size_t size() const { return count_; }
  std::uint64_t memory() const { return table_.capacity() * sizeof(table_[0]); }  // bytes

 private:
  std::uint64_t& place(std::uint64_t hash);

  std::vector<std::uint64_t> table_;  // open addressing; 0: free
  std::size_t count_ = 0;
};

}  // namespace m5
