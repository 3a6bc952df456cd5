#include "io/safetensors_header.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "m5/error.hpp"

namespace m5 {
namespace {

using nlohmann::json;

struct Entry {
  Tensor tensor;
  std::uint64_t begin = 0, end = 0;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

std::optional<DType> known_dtype(const std::string& name) {
  for (DType d : {DType::kF32, DType::kF64, DType::kI64, DType::kU8, DType::kBF16, DType::kF16}) {
    if (name == dtype_name(d)) return d;
  }
  return std::nullopt;
}

// Events of the parser are taken against the only shape a header may have, so nothing else is ever
// stored: { "__metadata__": {string: string}, NAME: {dtype, shape, data_offsets} ... }.
class HeaderEvents : public nlohmann::json_sax<json> {
 public:
  explicit HeaderEvents(const std::string& origin) : origin_(origin) {}

  std::vector<Entry> entries;
  Metadata metadata;

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a truth value"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape && entry().tensor.shape.size() < 16) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        refuse("an extent of the shape is too large");
      }
      entry().tensor.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets && offsets_ < 2) {
      (offsets_++ == 0 ? entry().begin : entry().end) = value;
      return true;
    }
    return unexpected("a number");
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata && have_key_) {
      metadata[key_] = value;
      have_key_ = false;
      return true;
    }
    if (state_ == State::kTensor && have_key_ && key_ == "dtype") {
      const auto dtype = known_dtype(value);
      if (!dtype) refuse("type '" + value.substr(0, 20) + "' is not known");
      entry().tensor.dtype = *dtype;
      entry().has_dtype = true;
      have_key_ = false;
      return true;
    }
    return unexpected("a string");
  }

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) {
      state_ = State::kTop;
    } else if (state_ == State::kTop && key_ == "__metadata__") {
      state_ = State::kMetadata;
    } else if (state_ == State::kTop) {
      state_ = State::kTensor;
      entries.emplace_back();
      entry().tensor.name = key_;
    } else {
      return unexpected("an object");
    }
    have_key_ = false;
    return true;
  }

  bool key(string_t& value) override {
    const bool fresh = state_ == State::kTop ? names_.insert(value).second
                       : state_ == State::kMetadata
                           ? metadata.count(value) == 0
                           : !(value == "dtype"          ? entry().has_dtype
                               : value == "shape"        ? entry().has_shape
                               : value == "data_offsets" ? entry().has_offsets
                                                         : false);
    if (!fresh) refuse("the key '" + value.substr(0, 80) + "' occurs twice");
    if (names_.size() + metadata.size() > kMostSafetensorsEntries) {
      refuse("more than " + std::to_string(kMostSafetensorsEntries) + " tensors and metadata");
    }
    key_ = value;
    have_key_ = true;
    return true;
  }

  bool end_object() override {
    if (state_ == State::kTensor) {
      const Entry& e = entry();
      if (!e.has_dtype || !e.has_shape || !e.has_offsets) {
        refuse("dtype, shape or data_offsets is missing");
      }
    }
    state_ = state_ == State::kTop ? State::kDone : State::kTop;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kTensor && have_key_ && key_ == "shape") {
      state_ = State::kShape;
      entry().has_shape = true;
    } else if (state_ == State::kTensor && have_key_ && key_ == "data_offsets") {
      state_ = State::kOffsets;
      entry().has_offsets = true;
      offsets_ = 0;
    } else {
      return unexpected("an array");
    }
    have_key_ = false;
    return true;
  }

  bool end_array() override {
    if (state_ == State::kOffsets && offsets_ != 2) refuse("data_offsets must be two numbers");
    state_ = State::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    throw Error(ErrorKind::kModel, origin_ + ": the header is not valid JSON in UTF-8 (near byte " +
                                       std::to_string(position) + ")");
  }

 private:
  enum class State { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kDone };

  Entry& entry() { return entries.back(); }

  [[noreturn]] void refuse(const std::string& what) const {
    const bool in_tensor =
        state_ == State::kTensor || state_ == State::kShape || state_ == State::kOffsets;
    throw Error(ErrorKind::kModel,
                origin_ + ": " +
                    (in_tensor ? "tensor '" + entries.back().tensor.name.substr(0, 200) + "': "
                               : "header: ") +
                    what);
  }
  bool unexpected(const char* what) const {
    refuse(std::string(what) + " where none may be" +
           (have_key_ ? " (key '" + key_.substr(0, 80) + "')" : ""));
  }

  std::string origin_;
  State state_ = State::kStart;
  std::string key_;
  bool have_key_ = false;
  int offsets_ = 0;
  std::set<std::string> names_;
};

// Bytes of the tensor, or nullopt on overflow.
std::optional<std::uint64_t> bytes_of(const Tensor& tensor) {
  std::uint64_t bytes = dtype_size(tensor.dtype);
  // A zero extent makes the product zero, whatever the others are.
  if (std::count(tensor.shape.begin(), tensor.shape.end(), 0) > 0) bytes = 0;
  for (std::int64_t extent : tensor.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) {
      return std::nullopt;
    }
  }
  return bytes;
}

}  // namespace

SafetensorsHeader parse_safetensors_header(const std::string& text, std::uint64_t data_bytes,
                                           const std::string& origin) {
  if (text.empty() || text[0] != '{') {
    throw Error(ErrorKind::kModel,
                origin + ": not a safetensors file: its header is no JSON object");
  }
  // The parser takes a NUL byte for the end of the text, and would not look at what follows.
  if (text.find('\0') != std::string::npos) {
    throw Error(ErrorKind::kModel, origin + ": the header is not valid JSON: it holds a NUL byte");
  }
  HeaderEvents events(origin);
  json::sax_parse(text, &events);

  std::stable_sort(events.entries.begin(), events.entries.end(),
                   [](const Entry& a, const Entry& b) {
                     return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
                   });
  SafetensorsHeader header;
  std::uint64_t at = 0;
  for (Entry& e : events.entries) {
    const auto fail = [&](const std::string& what) {
      throw Error(ErrorKind::kModel,
                  origin + ": tensor '" + e.tensor.name.substr(0, 200) + "': " + what);
    };
    const auto bytes = bytes_of(e.tensor);
    if (!bytes) fail("the product of its shape overflows");
    if (e.end < e.begin || e.end > data_bytes) {
      fail("data_offsets " + std::to_string(e.begin) + ", " + std::to_string(e.end) +
           " do not lie in the file's " + std::to_string(data_bytes) +
           " bytes of data (truncated?)");
    }
    if (*bytes != e.end - e.begin) {
      fail("shape and type need " + std::to_string(*bytes) + " bytes, data_offsets give " +
           std::to_string(e.end - e.begin));
    }
    if (e.begin != at) fail("its data overlaps another tensor's or leaves a hole");
    at = e.end;
    header.tensors.push_back(std::move(e.tensor));
  }
  if (at != data_bytes) {
    throw Error(ErrorKind::kModel,
                origin + ": " + std::to_string(data_bytes - at) + " bytes after the last tensor");
  }
  header.metadata = std::move(events.metadata);
  return header;
}

}  // namespace m5
