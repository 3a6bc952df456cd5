#include "base/sha256.hpp"

#include <openssl/evp.h>

#include "m5/error.hpp"

namespace m5 {
namespace {

void require(int done) {
  if (done != 1) throw Error(ErrorKind::kResource, "SHA-256 failed in libcrypto: out of memory?");
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const noexcept { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  require(context_ != nullptr);
  require(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Sha256::update(const void* data, std::size_t size) {
  require(EVP_DigestUpdate(context_.get(), data, size));
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  require(EVP_DigestFinal_ex(context_.get(), digest, &size));
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

}  // namespace m5
