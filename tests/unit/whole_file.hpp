// A safetensors file with all its data in memory.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.hpp"

namespace m5::test {

class WholeFile : public SafetensorsFile {
 public:
  explicit WholeFile(const std::string& path) : SafetensorsFile(path) {
    std::size_t size = 0;
    for (const Tensor& t : tensors()) size += t.bytes();
    data_.resize(size);
    std::size_t at = 0;
    read([&](const Tensor& t) { return data_.data() + std::exchange(at, at + t.bytes()); });
  }
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const Tensor& t = tensor(name);
    std::vector<T> out(t.bytes() / sizeof(T));
    if (!out.empty()) std::memcpy(out.data(), t.data, t.bytes());
    return out;
  }

 private:
  std::vector<std::byte> data_;
};

}  // namespace m5::test
