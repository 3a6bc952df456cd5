// One maker per format, for the tables of score_sink.cpp and embed_sink.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "sinks/embed_sink.hpp"
#include "sinks/score_sink.hpp"

namespace m5 {

std::unique_ptr<ScoreSink> make_bedgraph_sink(const ScoreSinkOptions& options);
// Throws Error(kUsage) for a stream.
std::unique_ptr<ScoreSink> make_bigwig_sink(const ScoreSinkOptions& options);
// Throws Error(kUsage) for a stream.
std::unique_ptr<ScoreSink> make_score_npz_sink(const ScoreSinkOptions& options);
std::unique_ptr<ScoreSink> make_score_tsv_sink(const ScoreSinkOptions& options);

// Throws Error(kInput) for a name that begins a line of text which its readers would skip: one with
// '#', and in bedGraph the words track and browser.
void check_line_name(const std::string& name, bool bedgraph = false);

// The value rounded to float16. Throws Error(kNumeric) naming the row if float16 cannot hold it.
std::uint16_t to_float16(const EmbedRow& row, float value);

// Text in one cell of a table: names of files may hold anything.
std::string cell_text(const std::string& text);

// name, sequence, start, end, strand, n_bases, file, with tabs between them.
inline constexpr const char* kRowColumns = "name\tsequence\tstart\tend\tstrand\tn_bases\tfile";
void append_row_columns(std::string& line, const EmbedRow& row, const EmbedSinkOptions& options);

std::unique_ptr<EmbedSink> make_npy_sink(const EmbedSinkOptions& options);
std::unique_ptr<EmbedSink> make_npz_sink(const EmbedSinkOptions& options);
std::unique_ptr<EmbedSink> make_embed_tsv_sink(const EmbedSinkOptions& options);

}  // namespace m5
