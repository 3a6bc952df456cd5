// SHA-256 (FIPS 180-4), the digest of model files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace m5 {

class Sha256 {
 public:
  Sha256();
  void update(const void* data, std::size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  std::string hex();  // 64 lower-case hex digits; ends the stream

 private:
  std::array<std::uint32_t, 8> state_;
  std::array<std::uint8_t, 64> pending_{};
  std::uint64_t length_ = 0;  // bytes so far
};

std::string sha256_hex(const void* data, std::size_t size);
// Of a whole file. Throws Error(kIo).
std::string sha256_file(const std::string& path);

}  // namespace m5
