#include "io/safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/output.hpp"
#include "base/sha256.hpp"
#include "io/safetensors_header.hpp"
#include "m5/error.hpp"

namespace m5 {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace {

struct DTypeRow {
  DType dtype;
  const char* name;
  std::size_t size;
};
constexpr DTypeRow kDTypes[] = {{DType::kF32, "F32", 4},   {DType::kF64, "F64", 8},
                                {DType::kI64, "I64", 8},   {DType::kU8, "U8", 1},
                                {DType::kBF16, "BF16", 2}, {DType::kF16, "F16", 2}};

const DTypeRow& row(DType dtype) {
  for (const DTypeRow& r : kDTypes) {
    if (r.dtype == dtype) return r;
  }
  throw Error(ErrorKind::kInternal, "unknown tensor type");
}

template <class T>
Tensor tensor_of(std::string name, DType dtype, std::vector<std::int64_t> shape, const T* data) {
  return {std::move(name), dtype, std::move(shape), reinterpret_cast<const std::byte*>(data)};
}

// Keys and values with lengths, so that no two different maps give the same digest.
std::string metadata_digest(const Metadata& metadata) {
  Sha256 digest;
  for (const auto& [key, value] : metadata) {
    if (key == kMetadataDigestKey) continue;
    digest.update(std::to_string(key.size()) + ":" + key + std::to_string(value.size()) + ":" +
                  value);
  }
  return digest.hex();
}

// Reads exactly `size` bytes. The file was measured before: a shorter one has changed.
void read_exactly(int fd, void* data, std::size_t size, const std::string& path) {
  auto* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t n = ::read(fd, to, std::min<std::size_t>(size, std::size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(ErrorKind::kIo, path + ": read failed: " + std::strerror(errno));
    if (n == 0) throw Error(ErrorKind::kModel, path + ": the file shrank while it was read");
    to += n;
    size -= static_cast<std::size_t>(n);
  }
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

const char* dtype_name(DType dtype) { return row(dtype).name; }
std::size_t dtype_size(DType dtype) { return row(dtype).size; }

std::int64_t Tensor::size() const {
  std::int64_t n = 1;
  for (std::int64_t extent : shape) n *= extent;
  return n;
}

Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const float* data) {
  return tensor_of(std::move(name), DType::kF32, std::move(shape), data);
}
Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const double* data) {
  return tensor_of(std::move(name), DType::kF64, std::move(shape), data);
}
Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const std::int64_t* data) {
  return tensor_of(std::move(name), DType::kI64, std::move(shape), data);
}
Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const std::uint8_t* data) {
  return tensor_of(std::move(name), DType::kU8, std::move(shape), data);
}

void write_safetensors(const std::string& path, std::span<const Tensor> tensors,
                       const Metadata& metadata) {
  Sha256 digest;
  std::set<std::string> names;
  for (const Tensor& t : tensors) {
    if (t.name.empty() || t.name == "__metadata__" || !names.insert(t.name).second) {
      throw Error(ErrorKind::kInternal, path + ": tensor name '" + t.name + "' cannot be written");
    }
    digest.update(t.data, t.bytes());
  }
  Metadata full = metadata;
  full[kTensorDigestKey] = digest.hex();
  full[kMetadataDigestKey] = metadata_digest(full);

  nlohmann::ordered_json header;
  header["__metadata__"] = full;
  std::uint64_t offset = 0;
  for (const Tensor& t : tensors) {
    nlohmann::ordered_json entry;
    entry["dtype"] = dtype_name(t.dtype);
    entry["shape"] = t.shape;
    entry["data_offsets"] = {offset, offset + t.bytes()};
    header[t.name] = std::move(entry);
    offset += t.bytes();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::kInternal, path + ": metadata or a tensor name is not valid UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data begins at a multiple of 8

  OutputFile file(path);
  const std::uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text);
  for (const Tensor& t : tensors) file.write(t.data, t.bytes());
  file.commit();
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) throw Error(ErrorKind::kIo, path + ": cannot open: " + std::strerror(errno));
  struct stat status {};
  if (fstat(file.fd, &status) != 0) {
    throw Error(ErrorKind::kIo, path + ": cannot read: " + std::strerror(errno));
  }
  if (S_ISDIR(status.st_mode)) {
    throw Error(ErrorKind::kIo, path + ": cannot read: " + std::strerror(EISDIR));
  }
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorKind::kModel, path + ": " + what);
  };
  if (!S_ISREG(status.st_mode)) fail("not a regular file; a model is read from a file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  std::uint64_t header_length = 0;
  if (size < 8) fail("not a safetensors file: only " + std::to_string(size) + " bytes");
  read_exactly(file.fd, &header_length, 8, path);
  if (header_length > kLongestSafetensorsHeader || header_length > size - 8) {
    fail("not a safetensors file, or truncated: header of " + std::to_string(header_length) +
         " bytes in a file of " + std::to_string(size));
  }
  std::string header(header_length, '\0');
  read_exactly(file.fd, header.data(), header.size(), path);
  SafetensorsHeader parsed = parse_safetensors_header(header, size - 8 - header_length, path);
  tensors_ = std::move(parsed.tensors);
  metadata_ = std::move(parsed.metadata);
  data_.resize(size - 8 - header_length);
  read_exactly(file.fd, data_.data(), data_.size(), path);

  std::size_t offset = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    tensors_[i].data = data_.data() + offset;
    offset += tensors_[i].bytes();
    index_.emplace(tensors_[i].name, i);
  }
  if (metadata_.count(kMetadataDigestKey) &&
      metadata_.at(kMetadataDigestKey) != metadata_digest(metadata_)) {
    fail("the file is damaged: its metadata does not match its digest");
  }
  if (metadata_.count(kTensorDigestKey) &&
      metadata_.at(kTensorDigestKey) != sha256_hex(data_.data(), data_.size())) {
    fail("the file is damaged: its tensors do not match their digest");
  }
  Sha256 whole;
  whole.update(&header_length, sizeof header_length);
  whole.update(header);
  whole.update(data_.data(), data_.size());
  sha256_ = whole.hex();
}

bool SafetensorsFile::has_digests() const {
  return metadata_.count(kTensorDigestKey) != 0 && metadata_.count(kMetadataDigestKey) != 0;
}

const Tensor& SafetensorsFile::tensor(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) {
    throw Error(ErrorKind::kModel, path_ + ": tensor '" + name + "' is missing");
  }
  return tensors_[found->second];
}

const std::string& SafetensorsFile::metadata_value(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) {
    throw Error(ErrorKind::kModel, path_ + ": metadata '" + key + "' is missing");
  }
  return found->second;
}

void SafetensorsFile::copy_bytes(const std::string& name, DType dtype, void* out,
                                 std::int64_t size) const {
  const Tensor& t = tensor(name);
  if (t.dtype != dtype || t.size() != size) {
    throw Error(ErrorKind::kModel, path_ + ": tensor '" + name + "': " + std::to_string(t.size()) +
                                       " elements of type " + dtype_name(t.dtype) + ", expected " +
                                       std::to_string(size) + " of " + dtype_name(dtype));
  }
  if (t.bytes() > 0) std::memcpy(out, t.data, t.bytes());
}

void SafetensorsFile::copy(const std::string& name, float* out, std::int64_t size) const {
  copy_bytes(name, DType::kF32, out, size);
}
void SafetensorsFile::copy(const std::string& name, double* out, std::int64_t size) const {
  copy_bytes(name, DType::kF64, out, size);
}
void SafetensorsFile::copy(const std::string& name, std::int64_t* out, std::int64_t size) const {
  copy_bytes(name, DType::kI64, out, size);
}
void SafetensorsFile::copy(const std::string& name, std::uint8_t* out, std::int64_t size) const {
  copy_bytes(name, DType::kU8, out, size);
}

}  // namespace m5
