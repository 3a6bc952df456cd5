#include "sinks/embed_sink.hpp"

#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/half.hpp"
#include "sinks/number.hpp"

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

std::uint16_t to_float16(const EmbedRow& row, float value) {
  const std::uint16_t half = half_from_float(value);
  if ((half & 0x7c00u) != 0x7c00u) return half;
  throw Error(ErrorKind::kNumeric, "record '" + row.sequence + "': position " +
                                       std::to_string(row.begin + 1) +
                                       ": a value is too great for float16; use float32");
}

void append_row_columns(std::string& line, const EmbedRow& row, const EmbedSinkOptions& options) {
  line += row.name + "\t" + row.sequence + "\t";
  append_integer(line, row.begin);
  line += '\t';
  append_integer(line, row.end);
  line += '\t';
  line += row.strand;
  line += '\t';
  append_integer(line, row.bases);
  line += '\t';
  line += cell_text(options.files[static_cast<std::size_t>(row.file)]);
}

std::unique_ptr<EmbedSink> make_embed_sink(const std::string& format,
                                           const EmbedSinkOptions& options) {
  if (format != "tsv" && has_bgzf_suffix(options.path)) {
    throw Error(ErrorKind::kUsage,
                "--output " + options.path + ": " + format + " is not written with BGZF");
  }
  for (const Format& known : kFormats) {
    if (format == known.name) return known.make(options);
  }
  throw Error(ErrorKind::kUsage, "--output-fmt: no format '" + format + "' (npy, npz, tsv)");
}

std::uint64_t embed_row_memory(const std::string& format, const EmbedSinkOptions& options) {
  if (format == "tsv") return 0;
  const bool stream = is_stream(options.path);
  constexpr std::uint64_t kTable = 3 * sizeof(std::int64_t) + 3 * sizeof(std::uint32_t) + 1;
  const std::uint64_t values =
      static_cast<std::uint64_t>(options.width()) * (options.float16 ? 2 : 4);
  // Blocks of held values have room to spare (npy.hpp).
  return (format == "npz" ? kTable + 1 : 0) + (stream ? values + values / 8 : 0);
}

std::string embed_format_of(const std::string& path) {
  for (const Format& known : kFormats) {
    if (path.ends_with(std::string(".") + known.name)) return known.name;
  }
  const std::string stem = has_bgzf_suffix(path) ? path.substr(0, path.rfind('.')) : path;
  if (stem.ends_with(".tsv") || is_stream(path)) return "tsv";
  throw Error(ErrorKind::kUsage, "--output " + path +
                                     ": the name must end in .npy, .npz or .tsv (also .tsv.gz, "
                                     ".tsv.bgz or .tsv.bgzf), or give -O");
}

}  // namespace m5
