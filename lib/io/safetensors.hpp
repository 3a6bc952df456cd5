// The safetensors container: named tensors and a string map in one file. Used for models and
// checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace m5 {

enum class DType { kF32, kF64, kI64, kU8, kBF16, kF16 };
const char* dtype_name(DType dtype);  // as in the file: "F32"
std::size_t dtype_size(DType dtype);  // bytes

// A tensor as stored; data looks at memory of the caller (write) or of the SafetensorsFile (read),
// little-endian, row-major, size() * dtype_size() bytes, not necessarily aligned.
struct Tensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  // {} is a scalar; zero extents are allowed
  const std::byte* data = nullptr;

  std::int64_t size() const;  // elements
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * dtype_size(dtype); }
};

Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const float* data);
Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const double* data);
Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const std::int64_t* data);
Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const std::uint8_t* data);

using Metadata = std::map<std::string, std::string>;

// Keys the writer adds and the reader checks (man 5 m5-model).
inline constexpr const char* kTensorDigestKey = "m5_tensor_sha256";      // of the tensor data
inline constexpr const char* kMetadataDigestKey = "m5_metadata_sha256";  // of all other metadata

// Writes the tensors in the order given; the file appears whole or not at all (OutputFile). Digests
// of data and metadata are added under the keys above. Throws Error(kIo); Error(kInternal) for
// duplicate names.
void write_safetensors(const std::string& path, std::span<const Tensor> tensors,
                       const Metadata& metadata);

// Reads a whole file into memory. Nothing in the file is trusted: header length, UTF-8, JSON,
// dtypes, shapes and offsets are checked before tensor memory is taken, and digests, where present,
// are verified. Throws Error(kIo) if the file cannot be read, Error(kModel) naming file and tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }  // in the order of the data
  const Metadata& metadata() const { return metadata_; }
  const std::string& sha256() const { return sha256_; }  // of the whole file
  bool has_digests() const;                              // both digests present (and so verified)

  bool contains(const std::string& name) const { return index_.count(name) != 0; }
  // Throws Error(kModel) if there is no such tensor.
  const Tensor& tensor(const std::string& name) const;
  // Throws Error(kModel) if there is no such key.
  const std::string& metadata_value(const std::string& key) const;
  // Copies out. Throws Error(kModel) unless the tensor has this type and exactly `size` elements.
  void copy(const std::string& name, float* out, std::int64_t size) const;
  void copy(const std::string& name, double* out, std::int64_t size) const;
  void copy(const std::string& name, std::int64_t* out, std::int64_t size) const;
  void copy(const std::string& name, std::uint8_t* out, std::int64_t size) const;

 private:
  void copy_bytes(const std::string& name, DType dtype, void* out, std::int64_t size) const;

  std::string path_, sha256_;
  std::vector<std::byte> data_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t> index_;
  Metadata metadata_;
};

}  // namespace m5
