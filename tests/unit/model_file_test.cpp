#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "base/random.hpp"
#include "base/sha256.hpp"
#include "kernels/parameters.hpp"
#include "m5/model.hpp"
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

Model tiny_model() {
  ModelConfig config;
  config.name = "tiny";
  config.dim = 16;
  config.layers = 2;
  config.heads = 8;
  config.ff_dim = 32;
  config.order = 2;
  config.window = 1;
  Model model = initial_model(config, 7);
  model.provenance = {{"steps", "100"}, {"data", "E. coli \xc3\xa9 \"x\""}};
  return model;
}

class ModelFile : public testing::Test {
 protected:
  // The tensors and metadata of a good model file, changed by `change` and written with right
  // digests.
  struct Parts {
    std::vector<Tensor> tensors;
    Metadata metadata;
  };
  std::string refusal(const std::function<void(Parts&)>& change) {
    const Model model = tiny_model();
    save_model(model, dir_ / "good");
    const WholeFile good(dir_ / "good");
    Parts parts{good.tensors(), good.metadata()};
    change(parts);
    write_safetensors(dir_ / "bad", parts.tensors, parts.metadata);
    const std::string message = error_of(ErrorKind::kModel, [&] { load_model(dir_ / "bad"); });
    EXPECT_EQ(message.find(dir_ / "bad"), 0U) << message;
    return message;
  }
  TempDir dir_;
};

TEST_F(ModelFile, RoundTrip) {
  const Model model = tiny_model();
  const std::string path = dir_ / "m.safetensors";
  save_model(model, path);
  const Model read = load_model(path);
  EXPECT_EQ(read.config, model.config);
  ASSERT_EQ(read.parameters.size(), model.parameters.size());
  EXPECT_EQ(std::memcmp(read.parameters.data(), model.parameters.data(),
                        model.parameters.size() * sizeof(float)),
            0);
  EXPECT_EQ(read.provenance, model.provenance);
  EXPECT_EQ(read.path, path);
  Sha256 digest;
  digest.update(get(path));
  EXPECT_EQ(read.sha256, digest.hex());
  save_model(read, dir_ / "again");
  EXPECT_EQ(get(dir_ / "again"), get(path));
}

TEST_F(ModelFile, ProvenanceOfAnyBytesIsSaved) {
  Model model = tiny_model();
  model.provenance["file"] = "caf\xe9.fa";  // Latin-1
  save_model(model, dir_ / "m");
  EXPECT_EQ(load_model(dir_ / "m").provenance.at("file"), "caf\xef\xbf\xbd.fa");
}

TEST_F(ModelFile, SaveFailures) {
  Model model = tiny_model();
  error_of(ErrorKind::kIo, [&] { save_model(model, "/dev/full"); });
  error_of(ErrorKind::kIo, [&] { save_model(model, dir_ / "no/m"); });
  model.parameters.pop_back();
  error_of(ErrorKind::kUsage, [&] { save_model(model, dir_ / "m"); });
  EXPECT_EQ(dir_.entries(), 0U);
}

TEST_F(ModelFile, NotAModel) {
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kIo, [&] { load_model(dir_ / "none"); }), "none: cannot open"));
  for (const char* text : {"", "x", ">chr\nACGT\n", "PK\3\4aaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    put(dir_ / "f", text);
    error_of(ErrorKind::kModel, [&] { load_model(dir_ / "f"); });
  }
  EXPECT_TRUE(contains(refusal([](Parts& p) { p.metadata.erase("m5_config"); }), "no m5 model"));
}

TEST_F(ModelFile, Versions) {
  EXPECT_TRUE(contains(refusal([](Parts& p) { p.metadata["m5_format_version"] = "3"; }),
                       "version 3 is newer than 2"));
  // A newer version is named first, whatever else it changed.
  EXPECT_TRUE(contains(refusal([](Parts& p) {
                         p.metadata["m5_format_version"] = "4";
                         p.metadata["m5_config"] = "?";
                         p.metadata.erase("m5_provenance");
                       }),
                       "version 4 is newer than 2"));
  for (const char* bad : {"", "0", "-1", "1.0", "x", "99999999999"}) {
    EXPECT_TRUE(contains(refusal([&](Parts& p) { p.metadata["m5_format_version"] = bad; }),
                         "m5_format_version"));
  }
  EXPECT_TRUE(contains(refusal([](Parts& p) { p.metadata.erase("m5_format_version"); }),
                       "m5_format_version"));
}

TEST_F(ModelFile, Configs) {
  for (const char* bad : {"", "null", "[]", "{}", "{\"dim\":16"}) {
    refusal([&](Parts& p) { p.metadata["m5_config"] = bad; });
  }
  const auto replaced = [&](const std::string& key, const std::string& value) {
    return refusal([&](Parts& p) {
      std::string& config = p.metadata["m5_config"];
      const std::size_t at = config.find("\"" + key + "\":");
      ASSERT_NE(at, std::string::npos) << key;
      const std::size_t colon = config.find(':', at) + 1;
      const std::size_t end = config.find_first_of(",}", colon);
      config = config.substr(0, colon) + value + config.substr(end);
    });
  };
  for (const char* value :
       {"0", "1000000000", "-1", "1e9", "\"2\"", "null", "99999999999999999999"}) {
    replaced("layers", value);
    replaced("dim", value);
    replaced("heads", value);
    replaced("order", value);
    replaced("window", value);
    replaced("ff_dim", value);
  }
  replaced("order", "9");
  EXPECT_TRUE(contains(replaced("layers", "3"), "is missing"));
  EXPECT_TRUE(contains(replaced("window", "2"), "shape"));
}

TEST_F(ModelFile, Provenance) {
  for (const char* bad : {"", "[]", "{", "1"}) {
    EXPECT_TRUE(
        contains(refusal([&](Parts& p) { p.metadata["m5_provenance"] = bad; }), "m5_provenance"));
  }
  EXPECT_TRUE(
      contains(refusal([](Parts& p) { p.metadata.erase("m5_provenance"); }), "m5_provenance"));
}

TEST_F(ModelFile, WrongTensors) {
  static const std::vector<float> zeros(100000, 0);
  static const std::vector<double> doubles(100000, 0);
  const ParameterTable table(tiny_model().config);
  for (const std::size_t i : {std::size_t{0}, table.specs.size() / 2, table.specs.size() - 1}) {
    const std::string name = table.specs[i].name;
    EXPECT_TRUE(contains(
        refusal([&](Parts& p) { p.tensors.erase(p.tensors.begin() + static_cast<long>(i)); }),
        "tensor '" + name + "' is missing"));
    EXPECT_TRUE(contains(refusal([&](Parts& p) { p.tensors[i].name += "x"; }),
                         "tensor '" + name + "' is missing"));
    EXPECT_TRUE(contains(refusal([&](Parts& p) { p.tensors[i].shape.push_back(1); }),
                         "tensor '" + name + "': shape"));
    EXPECT_TRUE(contains(refusal([&](Parts& p) {
                           p.tensors[i] = {name, DType::kF64, p.tensors[i].shape,
                                           reinterpret_cast<const std::byte*>(doubles.data())};
                         }),
                         "tensor '" + name + "': type F64, expected F32"));
  }
  EXPECT_TRUE(contains(
      refusal([&](Parts& p) { p.tensors.push_back(make_tensor("extra", {3}, zeros.data())); }),
      "tensor 'extra' belongs to no m5 model"));
  // Another order of the tensors is the same model.
  save_model(tiny_model(), dir_ / "good");
  const WholeFile good(dir_ / "good");
  std::vector<Tensor> reversed(good.tensors().rbegin(), good.tensors().rend());
  write_safetensors(dir_ / "reversed", reversed, good.metadata());
  EXPECT_EQ(load_model(dir_ / "reversed").parameters, tiny_model().parameters);
}

TEST_F(ModelFile, NonFiniteWeights) {
  Model model = tiny_model();
  const ParameterTable table(model.config);
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    for (const ParameterSpec& spec : table.specs) {
      Model broken = model;
      broken.parameters[static_cast<std::size_t>(spec.offset + spec.size - 1)] = bad;
      EXPECT_TRUE(contains(error_of(ErrorKind::kNumeric, [&] { save_model(broken, dir_ / "m"); }),
                           "tensor '" + spec.name + "'"));
      const std::string message = refusal([&](Parts& parts) {
        for (Tensor& t : parts.tensors) {
          if (t.name == spec.name) {
            t = make_tensor(spec.name, spec.shape, broken.parameters.data() + spec.offset);
          }
        }
      });
      EXPECT_TRUE(
          contains(message, "tensor '" + spec.name + "': value " + std::to_string(spec.size - 1)))
          << message;
    }
  }
}

// Every single-bit fault of a model file is found, in the header as in the weights.
TEST_F(ModelFile, FlippedBits) {
  save_model(tiny_model(), dir_ / "good");
  const std::string good = get(dir_ / "good");
  std::uint64_t length = 0;
  std::memcpy(&length, good.data(), 8);
  for (std::size_t at = 0; at < good.size(); at += at < 8 + length ? 1 : 97) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (random_bits(3, at) % 8)));
    put(dir_ / "bad", bad);
    SCOPED_TRACE("byte " + std::to_string(at) + " becomes " + std::to_string(bad[at]));
    error_of(ErrorKind::kModel, [&] { load_model(dir_ / "bad"); });
  }
}

TEST_F(ModelFile, CutAnywhere) {
  save_model(tiny_model(), dir_ / "good");
  const std::string good = get(dir_ / "good");
  for (std::size_t cut = 0; cut < good.size(); cut += cut < 16 ? 1 : 61) {
    put(dir_ / "bad", good.substr(0, cut));
    error_of(ErrorKind::kModel, [&] { load_model(dir_ / "bad"); });
  }
}

TEST_F(ModelFile, DefaultPath) {
  setenv("M5_MODEL", "/some/where", 1);
  EXPECT_EQ(default_model_path(), "/some/where");
  unsetenv("M5_MODEL");
  try {
    EXPECT_EQ(access(default_model_path().c_str(), R_OK), 0);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kModel);
    EXPECT_TRUE(contains(error.what(), "share/m5/models/m5-nano.safetensors"));
    EXPECT_TRUE(contains(error.what(), "M5_MODEL"));
  }
}

}  // namespace
}  // namespace m5
