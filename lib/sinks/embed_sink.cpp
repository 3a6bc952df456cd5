#include "sinks/embed_sink.hpp"

#include "m5/error.hpp"
#include "sinks/formats.hpp"

namespace m5 {

namespace {

struct Format {
  const char* name;
  std::unique_ptr<EmbedSink> (*make)(const EmbedSinkOptions& options);
};

constexpr Format kFormats[] = {
    {"npy", make_npy_sink},
    {"npz", make_npz_sink},
    {"tsv", make_embed_tsv_sink},
};

}  // namespace

std::unique_ptr<EmbedSink> make_embed_sink(const std::string& format,
                                           const EmbedSinkOptions& options) {
  for (const Format& known : kFormats) {
    if (format == known.name) return known.make(options);
  }
  throw Error(ErrorKind::kUsage, "--output-fmt: no format '" + format + "' (npy, npz, tsv)");
}

std::string embed_format_of(const std::string& path) {
  if (path == "-") return "tsv";
  for (const Format& known : kFormats) {
    if (path.ends_with(std::string(".") + known.name)) return known.name;
  }
  if (path.ends_with(".tsv.gz") || path.ends_with(".tsv.bgz")) return "tsv";
  throw Error(ErrorKind::kUsage,
              "--output " + path + ": the name must end in .npy, .npz or .tsv, or give -O");
}

}  // namespace m5
