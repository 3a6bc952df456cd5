// SHA-256, the digest of model files; by OpenSSL, which uses the instructions of the CPU for it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace m5 {

class Sha256 {
 public:
  Sha256();  // throws Error(kResource) when there is no memory
  void update(const void* data, std::size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  std::string hex();  // 64 lower-case hex digits; ends the stream

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace m5
