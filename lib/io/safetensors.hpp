// The safetensors container: named tensors and a string map in one file. Used for models and
// checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/sha256.hpp"

namespace m5 {

enum class DType { kF32, kF64, kI64, kU8, kBF16, kF16 };
const char* dtype_name(DType dtype);  // as in the file: "F32"
std::size_t dtype_size(DType dtype);  // bytes

// A tensor as stored; data looks at memory of the caller, little-endian, row-major, size() *
// dtype_size() bytes, not necessarily aligned.
struct Tensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  // {} is a scalar; zero extents are allowed
  const std::byte* data = nullptr;

  std::int64_t size() const;  // elements
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * dtype_size(dtype); }
};

Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const float* data);

using Metadata = std::map<std::string, std::string>;

// Keys the writer adds and the reader checks (man 5 m5-model).
inline constexpr const char* kTensorDigestKey = "m5_tensor_sha256";      // of the tensor data
inline constexpr const char* kMetadataDigestKey = "m5_metadata_sha256";  // of all other metadata

// Writes the tensors in the order given; the file appears whole or not at all (OutputFile). Digests
// of data and metadata are added under the keys above. Throws Error(kIo); Error(kInternal) for
// duplicate names.
void write_safetensors(const std::string& path, std::span<const Tensor> tensors,
                       const Metadata& metadata);

// A file opened for reading. Nothing in it is trusted: header length, UTF-8, JSON, dtypes, shapes
// and offsets are checked when it is opened, before memory is taken for tensors, and digests, where
// present, when they are read. Throws Error(kIo) if the file cannot be read, Error(kModel) naming
// file and tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }  // in the order of the data
  const Metadata& metadata() const { return metadata_; }
  bool has_digests() const;  // both digests present

  // Throws Error(kModel) if there is no such tensor.
  const Tensor& tensor(const std::string& name) const;
  // Throws Error(kModel) if there is no such key.
  const std::string& metadata_value(const std::string& key) const;

  // Reads the data, once, and verifies their digest. `place` says where the bytes() of a tensor are
  // to lie, and is asked for each in the order of the data. No other copy of them is made.
  void read(const std::function<void*(const Tensor&)>& place);
  const std::string& sha256() const { return sha256_; }  // of the whole file, after read()

 private:
  struct Descriptor {
    int fd = -1;
    Descriptor() = default;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor();
  };

  [[noreturn]] void fail(const std::string& what) const;
  // Reads exactly `size` bytes. The file was measured before: a shorter one has changed.
  void read_exactly(void* data, std::size_t size);

  std::string path_, sha256_;
  Descriptor file_;
  Sha256 whole_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t> index_;
  Metadata metadata_;
};

}  // namespace m5
