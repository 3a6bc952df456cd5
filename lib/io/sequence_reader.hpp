// Reads FASTA, FASTQ and GenBank, one record at a time, from plain, gzip, BGZF files and stdin.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "io/byte_source.hpp"
#include "io/name_set.hpp"

namespace m5 {

struct SequenceRecord {
  std::string file;         // path as given
  std::string name;         // first word of the header (GenBank: below)
  std::string description;  // rest of the header
  std::string bases;        // raw letters as in the file, without white space; not yet validated
  bool circular = false;    // header says topology=circular or circular=true (brackets, any case),
                            // or LOCUS circular
  std::int64_t file_index = 0;  // of `file` in the list given to the reader
};

struct SequenceReaderOptions {
  bool skip_empty = false;      // records without sequence: skipped with one warning, not an error
  bool allow_no_eof = false;    // BGZF without end-of-file block: warning, not an error
  bool warn_duplicates = true;  // one warning if a name occurs twice among the first 100,000
                                // of a file
  std::stop_token stop{};       // once it is asked for, next() throws
  // Asked when a record of more than 256 kB is about to take `room` bytes, nt being read by now;
  // throws if it may not. Empty: the process must have so much left.
  std::function<void(const SequenceRecord&, std::int64_t nt, std::uint64_t room)> may_grow{};
};

// Files in the order given. Throws Error(kIo) if a file cannot be opened or read, Error(kInput)
// naming file, record and line if it breaks its format, is cut short or holds no record. All white
// space and blank lines inside a record are ignored; LF, CR LF and CR end lines; multi-line FASTQ
// and a change of format between records are read. Of GenBank, the name is that of VERSION, else of
// LOCUS, which also says circular. The letters themselves are checked by
// tokenize(). Memory: one record and fixed buffers.
class SequenceReader {
 public:
  explicit SequenceReader(std::vector<std::string> paths,
                          const SequenceReaderOptions& options = {});
  ~SequenceReader();

  // The next record; false after the last record of the last file. A record that next() returned
  // has been read whole, but the end of its file is only known sound once next() moved past it.
  bool next(SequenceRecord& record);

  std::int64_t records() const { return records_; }      // returned so far
  std::int64_t empty_records() const { return empty_; }  // skipped so far
  // Bytes of what is known of names so far: 2 MB at most.
  std::uint64_t names_memory() const { return names_.memory(); }

 private:
  bool next_in_file(SequenceRecord& record);
  bool refill();
  int peek_line_start();  // next byte that begins a non-blank line, or -1 at the end
  void read_line(std::string& line);
  void read_header(SequenceRecord& record);
  bool next_line(std::string& line);  // false at the end
  void read_genbank(SequenceRecord& record);
  void append_bases(SequenceRecord& record, const char* begin, std::size_t n);
  void append_line(SequenceRecord& record);
  void may_grow(const SequenceRecord& record, std::size_t room);
  void read_quality(const SequenceRecord& record);
  void note_name(const SequenceRecord& record);
  [[noreturn]] void fail(const std::string& message);
  // start: what has been read of the line.
  [[noreturn]] void refuse_start(int byte, std::string start);

  std::vector<std::string> paths_;
  SequenceReaderOptions options_;
  std::size_t file_ = 0;
  std::unique_ptr<ByteSource> source_;
  std::string_view chunk_;  // unread bytes
  bool after_cr_ = false;   // the last byte read was CR: a following LF is part of the line end
  std::int64_t line_ = 1;
  std::int64_t records_in_file_ = 0, records_ = 0, empty_ = 0;
  std::string record_name_;  // of the record being read, for messages
  std::string line_buffer_;
  NameSet names_;  // of this file
  bool warned_duplicate_ = false, warned_empty_ = false;
  bool in_contig_ = false;  // the GenBank record names others in place of its sequence
};

// True if header text says topology=circular or circular=true, as a word of its own or in brackets.
bool header_says_circular(std::string_view header);

}  // namespace m5
