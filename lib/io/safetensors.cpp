#include "io/safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/output.hpp"
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

}  // namespace

const char* dtype_name(DType dtype) { return row(dtype).name; }
std::size_t dtype_size(DType dtype) { return row(dtype).size; }

std::int64_t Tensor::size() const {
  std::int64_t n = 1;
  for (std::int64_t extent : shape) n *= extent;
  return n;
}

Tensor make_tensor(std::string name, std::vector<std::int64_t> shape, const float* data) {
  return {std::move(name), DType::kF32, std::move(shape), reinterpret_cast<const std::byte*>(data)};
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
  if (text.size() > kLongestSafetensorsHeader) {
    throw Error(ErrorKind::kInternal, path + ": more metadata than could be read back");
  }

  OutputFile file(path);
  const std::uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text);
  for (const Tensor& t : tensors) file.write(t.data, t.bytes());
  file.commit();
}

SafetensorsFile::Descriptor::~Descriptor() {
  if (fd >= 0) close(fd);
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  // Not blocking: a pipe is refused below, not waited for.
  file_.fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file_.fd < 0) throw Error(ErrorKind::kIo, path + ": cannot open: " + std::strerror(errno));
  struct stat status {};
  if (fstat(file_.fd, &status) != 0) {
    throw Error(ErrorKind::kIo, path + ": cannot read: " + std::strerror(errno));
  }
  if (S_ISDIR(status.st_mode)) {
    throw Error(ErrorKind::kIo, path + ": cannot read: " + std::strerror(EISDIR));
  }
  if (!S_ISREG(status.st_mode)) fail("not a regular file; a model is read from a file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  std::uint64_t header_length = 0;
  if (size < 8) fail("not a safetensors file: only " + std::to_string(size) + " bytes");
  read_exactly(&header_length, 8);
  if (header_length > size - 8) {
    fail("not a safetensors file, or truncated: header of " + std::to_string(header_length) +
         " bytes in a file of " + std::to_string(size));
  }
  if (header_length > kLongestSafetensorsHeader) {
    fail("a header of " + std::to_string(header_length) + " bytes; at most " +
         std::to_string(kLongestSafetensorsHeader) + " are read");
  }
  std::string header(header_length, '\0');
  read_exactly(header.data(), header.size());
  SafetensorsHeader parsed = parse_safetensors_header(header, size - 8 - header_length, path);
  tensors_ = std::move(parsed.tensors);
  metadata_ = std::move(parsed.metadata);
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
  if (metadata_.count(kMetadataDigestKey) &&
      metadata_.at(kMetadataDigestKey) != metadata_digest(metadata_)) {
    fail("the file is damaged: its metadata does not match its digest");
  }
}

void SafetensorsFile::fail(const std::string& what) const {
  throw Error(ErrorKind::kModel, path_ + ": " + what);
}

void SafetensorsFile::read_exactly(void* data, std::size_t size) {
  auto* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t n = ::read(file_.fd, to, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(ErrorKind::kIo, path_ + ": read failed: " + std::strerror(errno));
    if (n == 0) fail("the file shrank while it was read");
    whole_.update(to, static_cast<std::size_t>(n));
    to += n;
    size -= static_cast<std::size_t>(n);
  }
}

void SafetensorsFile::read(const std::function<void*(const Tensor&)>& place) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;  // digested while the cache has it
  Sha256 digest;
  for (Tensor& tensor : tensors_) {
    auto* const to = static_cast<std::byte*>(place(tensor));
    const std::size_t bytes = tensor.bytes();
    for (std::size_t at = 0; at < bytes; at += kPiece) {
      const std::size_t piece = std::min(kPiece, bytes - at);
      read_exactly(to + at, piece);
      digest.update(to + at, piece);
    }
    tensor.data = to;
  }
  if (metadata_.count(kTensorDigestKey) && metadata_.at(kTensorDigestKey) != digest.hex()) {
    fail("the file is damaged: its tensors do not match their digest");
  }
  sha256_ = whole_.hex();
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

}  // namespace m5
