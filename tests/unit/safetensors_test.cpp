#include "io/safetensors.hpp"

#include <cmath>
#include <cstring>

#include "base/random.hpp"
#include "base/sha256.hpp"
#include "io/safetensors_header.hpp"
#include "tests/unit/temp_dir.hpp"
#include "tests/unit/whole_file.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::get;
using test::put;
using test::TempDir;
using test::WholeFile;

std::string with_length(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

class Safetensors : public testing::Test {
 protected:
  std::string write_sample() {
    const std::string path = dir_ / "sample.safetensors";
    const Tensor tensors[] = {
        make_tensor("w", {2, 3}, floats_),
        {"moments", DType::kF64, {2}, reinterpret_cast<const std::byte*>(doubles_)},
        {"step", DType::kI64, {}, reinterpret_cast<const std::byte*>(integers_)},
        make_tensor("nothing", {0, 5}, floats_),
        {"state", DType::kU8, {3}, reinterpret_cast<const std::byte*>(bytes_)}};
    write_safetensors(path, tensors,
                      {{"m5_kind", "test"}, {"text", "a \"quoted\" \n line \xc3\xa9"}});
    return path;
  }
  // What is wrong with a file of this header and so many bytes of data.
  std::string refusal(const std::string& header, std::size_t data = 0) {
    put(dir_ / "bad", with_length(header, std::string(data, 'x')));
    const std::string message = error_of(ErrorKind::kModel, [&] { WholeFile f(dir_ / "bad"); });
    EXPECT_EQ(message.find(dir_ / "bad"), 0U);
    return message;
  }

  TempDir dir_;
  const float floats_[6] = {1, -2, 3.5F, 0, 1e-38F, 3e38F};
  const double doubles_[2] = {M_PI, -0.0};
  const std::int64_t integers_[1] = {std::numeric_limits<std::int64_t>::min()};
  const std::uint8_t bytes_[3] = {0, 255, 7};
};

TEST_F(Safetensors, RoundTrip) {
  const std::string path = write_sample();
  const WholeFile file(path);
  ASSERT_EQ(file.tensors().size(), 5U);
  EXPECT_EQ(file.tensors()[0].name, "w");
  EXPECT_EQ(file.tensor("w").shape, (std::vector<std::int64_t>{2, 3}));
  const auto same = [&](const std::string& name, const auto& values) {
    EXPECT_EQ(file.tensor(name).bytes(), sizeof values) << name;
    EXPECT_EQ(std::memcmp(file.tensor(name).data, &values, sizeof values), 0) << name;
  };
  same("w", floats_);
  same("moments", doubles_);
  same("step", integers_);
  same("state", bytes_);
  EXPECT_EQ(file.tensor("nothing").bytes(), 0U);
  EXPECT_EQ(file.metadata_value("text"), "a \"quoted\" \n line \xc3\xa9");
  EXPECT_TRUE(file.has_digests());
  Sha256 digest;
  digest.update(get(path));
  EXPECT_EQ(file.sha256(), digest.hex());
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kModel, [&] { file.tensor("other"); }), "'other' is missing"));
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kModel, [&] { file.metadata_value("k"); }), "'k' is missing"));
  const std::string before = get(path);
  write_sample();
  EXPECT_EQ(get(path), before);
  EXPECT_EQ(dir_.entries(), 1U);
}

// The layout on disk, byte for byte, so that other readers of the format agree.
TEST_F(Safetensors, Layout) {
  const std::string bytes = get(write_sample());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0U);
  const std::string header = bytes.substr(8, length);
  EXPECT_EQ(header.find("{\"__metadata__\":{\"m5_kind\":\"test\","), 0U);
  EXPECT_TRUE(
      contains(header, "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"));
  EXPECT_TRUE(
      contains(header, "\"moments\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[24,40]}"));
  EXPECT_TRUE(
      contains(header, "\"step\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[40,48]}"));
  EXPECT_TRUE(
      contains(header, "\"state\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[48,51]}"));
  EXPECT_EQ(bytes.size(), 8 + length + 51);
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + length, floats_, 24), 0);
}

TEST_F(Safetensors, NamesThatCannotBeWritten) {
  for (const char* name : {"", "__metadata__", "w", "\xff"}) {
    const Tensor tensors[] = {make_tensor("w", {1}, floats_), make_tensor(name, {1}, floats_)};
    error_of(ErrorKind::kInternal, [&] { write_safetensors(dir_ / "f", tensors, {}); });
  }
  EXPECT_EQ(dir_.entries(), 0U);
  const Tensor tensors[] = {make_tensor("w", {1}, floats_)};
  error_of(ErrorKind::kIo, [&] { write_safetensors("/dev/full", tensors, {}); });
}

TEST_F(Safetensors, FilesThatCannotBeRead) {
  error_of(ErrorKind::kIo, [&] { WholeFile f(dir_ / "none"); });
  error_of(ErrorKind::kIo, [&] { WholeFile f(dir_.path()); });
  error_of(ErrorKind::kModel, [] { WholeFile f("/dev/null"); });
}

TEST_F(Safetensors, CutAnywhere) {
  const std::string whole = get(write_sample());
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    put(dir_ / "cut", whole.substr(0, cut));
    error_of(ErrorKind::kModel, [&] { WholeFile f(dir_ / "cut"); });
  }
  put(dir_ / "cut", whole + "x");
  error_of(ErrorKind::kModel, [&] { WholeFile f(dir_ / "cut"); });
}

// Digests cover data and metadata; names and shapes are covered by what the caller expects. A bit
// of them may therefore change here, but never what a tensor or a key that is still there says.
TEST_F(Safetensors, FlippedBits) {
  const std::string whole = get(write_sample());
  const SafetensorsFile good(dir_ / "sample.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, whole.data(), 8);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = whole;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      put(dir_ / "bad", bad);
      try {
        const WholeFile file(dir_ / "bad");
        ASSERT_LT(at, 8 + length) << "a flipped bit in the data passed";
        if (!file.has_digests()) continue;  // load_model refuses such a file
        ASSERT_EQ(file.metadata(), good.metadata()) << at;
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::kModel);
      }
    }
  }
}

TEST_F(Safetensors, HeaderLengths) {
  const std::string data(100, 'x');
  for (std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{7}, std::uint64_t{101}, kLongestSafetensorsHeader + 1,
        std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    put(dir_ / "bad", bytes + data);
    error_of(ErrorKind::kModel, [&] { WholeFile f(dir_ / "bad"); });
  }
  // One that the file does hold is refused for its length alone, not read.
  put(dir_ / "bad", with_length(std::string(kLongestSafetensorsHeader + 1, ' '), ""));
  EXPECT_TRUE(contains(error_of(ErrorKind::kModel, [&] { WholeFile f(dir_ / "bad"); }),
                       "at most 10000000 are read"));
}

TEST_F(Safetensors, MoreMetadataThanCouldBeReadIsNotWritten) {
  const Metadata much{{"text", std::string(kLongestSafetensorsHeader, 'x')}};
  error_of(ErrorKind::kInternal, [&] { write_safetensors(dir_ / "f", {}, much); });
  EXPECT_EQ(dir_.entries(), 0U);
}

TEST_F(Safetensors, HostileHeaders) {
  const auto tensor = [](const std::string& body) { return "{\"a\":{" + body + "}}"; };
  const std::string type = "\"dtype\":\"F32\"", shape = "\"shape\":[2]",
                    range = "\"data_offsets\":[0,8]";
  EXPECT_TRUE(contains(refusal("[]"), "no JSON object"));
  EXPECT_TRUE(contains(refusal(" {}"), "no JSON object"));
  EXPECT_TRUE(contains(refusal("{"), "not valid JSON"));
  EXPECT_TRUE(contains(refusal("{}}"), "not valid JSON"));
  EXPECT_TRUE(contains(refusal(std::string("{}\0 ", 4)), "NUL byte"));
  EXPECT_TRUE(contains(refusal("{}", 4), "4 bytes after the last tensor"));
  EXPECT_TRUE(contains(refusal("{\"\xff\":{}}"), "not valid JSON in UTF-8"));
  EXPECT_TRUE(
      contains(refusal("{\"__metadata__\":{\"a\":\"\xc3\x28\"}}"), "not valid JSON in UTF-8"));
  EXPECT_TRUE(contains(refusal("{\"a\":1}"), "a number where none may be"));
  EXPECT_TRUE(contains(refusal("{\"a\":null}"), "null"));
  EXPECT_TRUE(contains(refusal("{\"a\":[]}"), "an array"));
  EXPECT_TRUE(
      contains(refusal("{\"a\":{}}"), "tensor 'a': dtype, shape or data_offsets is missing"));
  EXPECT_TRUE(contains(refusal(tensor(type + "," + shape), 8), "missing"));
  EXPECT_TRUE(contains(refusal(tensor(type + "," + type + "," + shape + "," + range), 8),
                       "'dtype' occurs twice"));
  EXPECT_TRUE(contains(refusal(tensor(type + "," + shape + "," + shape + "," + range), 8),
                       "'shape' occurs twice"));
  EXPECT_TRUE(contains(refusal(tensor(range + "," + type + "," + shape + "," + range), 8),
                       "'data_offsets' occurs"));
  EXPECT_TRUE(contains(refusal("{\"__metadata__\":{},\"__metadata__\":{}}"),
                       "'__metadata__' occurs twice"));
  EXPECT_TRUE(
      contains(refusal("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}"), "'k' occurs twice"));
  EXPECT_TRUE(contains(refusal("{\"__metadata__\":{\"k\":1}}"), "a number"));
  EXPECT_TRUE(contains(refusal("{\"__metadata__\":{\"k\":{}}}"), "an object"));
  EXPECT_TRUE(contains(refusal("{\"__metadata__\":\"x\"}"), "a string"));
  const std::string good = type + "," + shape + "," + range;
  EXPECT_TRUE(
      contains(refusal("{\"a\":{" + good + "},\"a\":{" + good + "}}", 8), "'a' occurs twice"));
  EXPECT_TRUE(contains(refusal(tensor(good + ",\"x\":1"), 8), "a number where none may be"));
  EXPECT_TRUE(contains(refusal(tensor("\"dtype\":\"F31\"," + shape + "," + range), 8),
                       "type 'F31' is not known"));
  EXPECT_TRUE(contains(refusal(tensor("\"dtype\":7," + shape + "," + range), 8), "a number"));
  EXPECT_TRUE(contains(refusal(tensor(type + ",\"shape\":[-2]," + range), 8), "negative"));
  EXPECT_TRUE(contains(refusal(tensor(type + ",\"shape\":[2.0]," + range), 8), "a fraction"));
  EXPECT_TRUE(contains(refusal(tensor(type + ",\"shape\":[[2]]," + range), 8), "an array"));
  EXPECT_TRUE(contains(refusal(tensor(type + ",\"shape\":[18446744073709551615]," + range), 8),
                       "too large"));
  EXPECT_TRUE(contains(refusal(tensor(type + ",\"shape\":[4294967296,4294967296]," + range), 8),
                       "overflows"));
  EXPECT_TRUE(contains(refusal(tensor(type + ",\"shape\":[4611686018427387904]," + range), 8),
                       "overflows"));
  EXPECT_TRUE(contains(refusal(tensor(type + ",\"shape\":[3]," + range), 8), "need 12 bytes"));
  EXPECT_TRUE(
      contains(refusal(tensor(type + ",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]," + range), 8),
               "a number"));
  EXPECT_TRUE(
      contains(refusal(tensor(type + "," + shape + ",\"data_offsets\":[0,8,8]"), 8), "a number"));
  EXPECT_TRUE(
      contains(refusal(tensor(type + "," + shape + ",\"data_offsets\":[8]"), 8), "must be two"));
  EXPECT_TRUE(
      contains(refusal(tensor(type + "," + shape + ",\"data_offsets\":[8,0]"), 8), "do not lie"));
  EXPECT_TRUE(
      contains(refusal(tensor(type + "," + shape + ",\"data_offsets\":[0,8]"), 7), "truncated?"));
  EXPECT_TRUE(
      contains(refusal(tensor(type + "," + shape + ",\"data_offsets\":[4,12]"), 12), "hole"));
  EXPECT_TRUE(contains(refusal(tensor(good), 12), "4 bytes after"));
  const auto two = [&](int begin, int end) {
    return "{\"a\":{" + good + "},\"b\":{" + type + "," + shape + ",\"data_offsets\":[" +
           std::to_string(begin) + "," + std::to_string(end) + "]}}";
  };
  EXPECT_TRUE(contains(refusal(two(0, 8), 8), "overlaps"));
  EXPECT_TRUE(contains(refusal(two(4, 12), 12), "overlaps"));
  EXPECT_TRUE(contains(refusal(two(9, 17), 17), "hole"));
  put(dir_ / "good", with_length(two(8, 16), std::string(16, 'x')));
  EXPECT_EQ(SafetensorsFile(dir_ / "good").tensors().size(), 2U);
}

TEST_F(Safetensors, DeepAndWideHeaders) {
  refusal("{\"a\":" + std::string(1 << 20, '['));
  refusal("{\"a\":" + std::string(1 << 20, '{'));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  refusal(deep);
  const auto wide = [](std::size_t tensors) {
    std::string header = "{";
    for (std::size_t i = 0; i < tensors; ++i) {
      header += (i ? ",\"t" : "\"t") + std::to_string(i) +
                "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" + std::to_string(i) + "," +
                std::to_string(i + 1) + "]}";
    }
    return header + "}";
  };
  const std::size_t most = kMostSafetensorsEntries;
  put(dir_ / "wide", with_length(wide(most), std::string(most, 'x')));
  EXPECT_EQ(WholeFile(dir_ / "wide").tensors().size(), most);
  EXPECT_TRUE(contains(refusal(wide(most + 1), most + 1), "more than 20000 tensors and metadata"));
  std::string keys = "{\"__metadata__\":{";
  for (std::size_t i = 0; i <= most; ++i) {
    keys += (i ? ",\"" : "\"") + std::to_string(i) + "\":\"\"";
  }
  EXPECT_TRUE(contains(refusal(keys + "}}"), "more than 20000 tensors and metadata"));
}

// A header that promises far more than the file holds is refused before any memory is taken for it.
TEST_F(Safetensors, PromisesAreNotBelieved) {
  const std::string message = refusal(
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[250000000000],\"data_offsets\":[0,1000000000000]}}",
      16);
  EXPECT_TRUE(contains(message, "do not lie in the file's 16 bytes"));
}

TEST_F(Safetensors, RandomHeaders) {
  const std::string seeds[] = {
      "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":["
      "0,8]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[8,9]}}",
      "{\"a\":{\"shape\":[0],\"data_offsets\":[0,0],\"dtype\":\"BF16\"}}"};
  const std::string tokens = "{}[]\",:0123456789aFdtype_-.\\u \n\xc3\xff";
  for (std::uint64_t trial = 0; trial < 30000; ++trial) {
    std::uint64_t draw = 0;
    const auto below = [&](std::uint64_t n) { return uniform_below(trial, draw++, n); };
    std::string text = seeds[below(2)];
    for (std::uint64_t edits = 1 + below(4); edits > 0; --edits) {
      const std::size_t at = below(text.size());
      const char c = tokens[below(tokens.size())];
      switch (below(4)) {
        case 0:
          text[at] = c;
          break;
        case 1:
          text.insert(at, 1, c);
          break;
        case 2:
          text.erase(at, 1 + below(4));
          break;
        default:
          text.insert(at, text.substr(below(text.size()), below(30)));
      }
      if (text.empty()) text = "{";
    }
    try {
      const SafetensorsHeader header = parse_safetensors_header(text, 9, "f");
      std::size_t total = 0;
      for (const Tensor& t : header.tensors) total += t.bytes();
      ASSERT_EQ(total, 9U) << text;
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kModel) << text;
    }
  }
}

}  // namespace
}  // namespace m5
