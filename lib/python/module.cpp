// m5._m5: libm5 for the Python package m5, which documents it and knows the types of arguments.
// Only public headers; the GIL is free while the model works.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "m5/embedding.hpp"
#include "m5/error.hpp"
#include "m5/model.hpp"
#include "m5/scoring.hpp"
#include "m5/session.hpp"
#include "m5/tokens.hpp"
#include "m5/version.hpp"

namespace py = pybind11;

namespace m5 {
namespace {

using TokenArray = py::array_t<Token, py::array::c_style>;
using IntervalArray = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

[[noreturn]] void misuse(const std::string& what) { throw Error(ErrorKind::kUsage, what); }

template <class Value>
Value chosen(const char* what, const std::string& name,
             std::initializer_list<std::pair<const char*, Value>> values) {
  std::string known;
  for (const auto& [text, value] : values) {
    if (name == text) return value;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  misuse(std::string(what) + ": '" + name + "' is none of " + known);
}

Strand strand_of(const std::string& name) {
  return chosen<Strand>(
      "strand", name,
      {{"forward", Strand::kForward}, {"reverse", Strand::kReverse}, {"both", Strand::kBoth}});
}

// Copies: nobody changes tokens while the model reads them.
struct Sequences {
  Sequences(const std::vector<TokenArray>& arrays, const std::vector<bool>& circular,
            const std::vector<std::int64_t>& contexts) {
    if (circular.size() != arrays.size() || contexts.size() != arrays.size()) {
      misuse("sequences: lists of different lengths");
    }
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      if (arrays[i].ndim() != 1) misuse("sequences: an array is of one dimension");
      const auto size = static_cast<std::size_t>(arrays[i].size());
      tokens.emplace_back(arrays[i].data(), arrays[i].data() + size);
      lengths.push_back(static_cast<std::int64_t>(size));
      views.push_back({tokens.back().data(), lengths.back(), circular[i], contexts[i]});
    }
  }
  std::vector<std::vector<Token>> tokens;
  std::vector<std::int64_t> lengths;
  std::vector<TokenView> views;  // of tokens, whose memory stays where it is
};

// An array that owns the values of a vector.
py::array_t<float> array_of(std::vector<float> values, std::vector<py::ssize_t> shape) {
  auto owned = std::make_unique<std::vector<float>>(std::move(values));
  const float* const data = owned->data();
  const py::capsule owner(owned.get(),
                          [](void* vector) { delete static_cast<std::vector<float>*>(vector); });
  static_cast<void>(owned.release());
  return py::array_t<float>(std::move(shape), data, owner);
}

class PyModel {
 public:
  PyModel(const std::string& path, int threads, const std::string& precision,
          const std::string& residual, const std::string& device)
      : process_(getpid()) {
    SessionOptions options;
    options.threads = threads;
    options.device = device;
    options.precision = chosen<Precision>("precision", precision,
                                          {{"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}});
    options.bf16_residual = chosen<bool>("residual", residual, {{"fp32", false}, {"bf16", true}});
    const py::gil_scoped_release free;
    const Model model = load_model(path.empty() ? default_model_path() : path);
    path_ = model.path;
    sha256_ = model.sha256;
    session_ = std::make_unique<Session>(model, options);
    session_->on_layer([](int, int) {  // Ctrl-C ends a call after the layer
      const py::gil_scoped_acquire held;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    });
  }

 private:
  // Calls work without the GIL, after the calls of other threads.
  template <class Work>
  auto alone(const Work& work) {
    const py::gil_scoped_release free;
    // Recursive: a signal's handler that calls this model gets the session's own error. Another
    // process has a copy of a mutex that may be locked for ever; the session will refuse.
    std::unique_lock lock(mutex_, std::defer_lock);
    if (process_ == getpid()) lock.lock();
    return work();
  }

 public:
  py::list score(const Sequences& sequences, int passes, const std::string& strand, bool unmasked,
                 bool all_bases, bool memory) {
    const ScoringOptions options{.passes = passes,
                                 .strand = strand_of(strand),
                                 .unmasked = unmasked,
                                 .all_bases = all_bases,
                                 .memory = memory};
    std::vector<SequenceScores> scores =
        alone([&] { return score_sequences(*session_, sequences.views, options); });
    py::list result;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const py::ssize_t length = sequences.lengths[i];
      result.append(all_bases ? array_of(std::move(scores[i].log_probs), {length, kBases})
                              : array_of(std::move(scores[i].log_p), {length}));
    }
    return result;
  }

  py::array_t<float> embed_intervals(const Sequences& sequences, const IntervalArray& intervals,
                                     int layer, const std::string& pool,
                                     const std::string& strand) {
    if (intervals.ndim() != 2 || intervals.shape(1) != 3) misuse("intervals: no array [n, 3]");
    std::vector<PoolInterval> list;
    for (py::ssize_t i = 0; i < intervals.shape(0); ++i) {
      list.push_back({intervals.at(i, 0), intervals.at(i, 1), intervals.at(i, 2)});
    }
    const EmbeddingOptions options{
        .layer = layer,
        .pool = chosen<Pool>("pool", pool,
                             {{"mean", Pool::kMean}, {"max", Pool::kMax}, {"std", Pool::kStd}}),
        .strand = strand_of(strand)};
    Embeddings embeddings =
        alone([&] { return pooled_embeddings(*session_, sequences.views, list, options); });
    return array_of(std::move(embeddings.values), {intervals.shape(0), dim()});
  }

  py::list embed_bases(const Sequences& sequences, int layer, const std::string& strand) {
    const EmbeddingOptions options{.layer = layer, .strand = strand_of(strand)};
    const std::vector<float> rows =
        alone([&] { return base_embeddings(*session_, sequences.views, options); });
    py::list result;
    const float* next = rows.data();
    for (const std::int64_t length : sequences.lengths) {
      py::array_t<float> array({py::ssize_t{length}, py::ssize_t{dim()}});
      std::memcpy(array.mutable_data(), next, static_cast<std::size_t>(array.nbytes()));
      next += array.size();
      result.append(std::move(array));
    }
    return result;
  }

  std::string name() const { return session_->config().name; }
  py::object path() const { return file_name(path_); }
  std::string sha256() const { return sha256_; }
  int dim() const { return session_->config().dim; }
  int layers() const { return session_->config().layers; }
  bool has_memory() const { return !session_->config().memory.empty(); }
  std::string device() const { return session_->device_name(); }
  int threads() const { return session_->threads(); }

  static py::object file_name(const std::string& bytes) {
    return py::reinterpret_steal<py::object>(
        PyUnicode_DecodeFSDefaultAndSize(bytes.data(), static_cast<py::ssize_t>(bytes.size())));
  }

 private:
  const pid_t process_;
  std::recursive_mutex mutex_;
  std::unique_ptr<Session> session_;
  std::string path_, sha256_;
};

TokenArray tokenized(const py::bytes& letters) {
  const std::vector<Token> tokens = tokenize(static_cast<std::string_view>(letters));
  return TokenArray(static_cast<py::ssize_t>(tokens.size()), tokens.data());
}

}  // namespace
}  // namespace m5

PYBIND11_MODULE(_m5, module) {
  using m5::PyModel;
  // pybind11 asks for a function of a copy: NOLINTNEXTLINE(performance-unnecessary-value-param)
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const m5::Error& error) {
      const py::object type =
          py::module_::import("m5._errors").attr("BY_EXIT_CODE")[py::int_(error.exit_code())];
      PyErr_SetObject(type.ptr(), PyModel::file_name(error.what()).ptr());
    }
  });
  module.def("version", &m5::version);
  module.def("tokenize", &m5::tokenized);
  py::class_<m5::Sequences>(module, "Sequences")
      .def(py::init<const std::vector<m5::TokenArray>&, const std::vector<bool>&,
                    const std::vector<std::int64_t>&>())
      .def_readonly("lengths", &m5::Sequences::lengths);
  py::class_<PyModel>(module, "Model")
      .def(py::init<const std::string&, int, const std::string&, const std::string&,
                    const std::string&>(),
           py::arg("path"), py::arg("threads"), py::arg("precision"), py::arg("residual"),
           py::arg("device"))
      .def("score", &PyModel::score, py::arg("sequences"), py::arg("passes"), py::arg("strand"),
           py::arg("unmasked"), py::arg("all_bases"), py::arg("memory"))
      .def("embed_intervals", &PyModel::embed_intervals, py::arg("sequences"), py::arg("intervals"),
           py::arg("layer"), py::arg("pool"), py::arg("strand"))
      .def("embed_bases", &PyModel::embed_bases, py::arg("sequences"), py::arg("layer"),
           py::arg("strand"))
      .def_property_readonly("name", &PyModel::name)
      .def_property_readonly("path", &PyModel::path)
      .def_property_readonly("sha256", &PyModel::sha256)
      .def_property_readonly("dim", &PyModel::dim)
      .def_property_readonly("layers", &PyModel::layers)
      .def_property_readonly("has_memory", &PyModel::has_memory)
      .def_property_readonly("device", &PyModel::device)
      .def_property_readonly("threads", &PyModel::threads);
}
