#include "io/name_set.hpp"

#include <algorithm>
#include <functional>

namespace m5 {

std::uint64_t& NameSet::place(std::uint64_t hash) {
  std::size_t at = hash % table_.size();
  while (table_[at] != 0 && table_[at] != hash) at = at + 1 == table_.size() ? 0 : at + 1;
  return table_[at];
}

bool NameSet::insert(const std::string& name) {
  if (2 * count_ >= table_.size()) {
    std::vector<std::uint64_t> old(table_.empty() ? 1024 : 2 * table_.size());
    old.swap(table_);
    for (const std::uint64_t hash : old) {
      if (hash != 0) place(hash) = hash;
    }
  }
  const std::uint64_t hash = std::max<std::uint64_t>(1, std::hash<std::string>{}(name));
  std::uint64_t& known = place(hash);
  if (known != 0) return false;
  known = hash;
  ++count_;
  return true;
}

void NameSet::clear() {
  std::vector<std::uint64_t>().swap(table_);
  count_ = 0;
}

}  // namespace m5
