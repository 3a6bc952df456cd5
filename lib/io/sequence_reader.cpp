#include "io/sequence_reader.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "io/fields.hpp"
#include "io/genbank.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::size_t kLongestHeader = std::size_t{1} << 24;
// Lines are sought in pieces of this size, so that files whose lines end in CR alone, where the
// search for LF never succeeds, stay linear.
constexpr std::size_t kPiece = 4096;
constexpr std::size_t kCheckedBytes = std::size_t{1} << 18;
constexpr std::size_t kMostNames = 100'000;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\v' || c == '\f'; }
bool is_line_end(char c) { return c == '\n' || c == '\r'; }

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == y;
         });
}

// True if every byte is a printable one; written so that compilers vectorise it.
bool all_printable(const char* p, std::size_t n) {
  unsigned char bad = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto c = static_cast<unsigned char>(p[i]);
    bad |= static_cast<unsigned char>(c <= 32) | static_cast<unsigned char>(c == 127);
  }
  return bad == 0;
}

}  // namespace

bool header_says_circular(std::string_view header) {
  constexpr std::string_view kSeparators = " \t[](){};,|\"'";
  while (true) {
    const std::size_t begin = header.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) return false;
    header.remove_prefix(begin);
    const std::size_t end = std::min(header.find_first_of(kSeparators), header.size());
    const std::string_view word = header.substr(0, end);
    if (equal_ignoring_case(word, "topology=circular")) return true;
    if (equal_ignoring_case(word, "circular=true")) return true;
    header.remove_prefix(end);
  }
}

SequenceReader::SequenceReader(std::vector<std::string> paths, const SequenceReaderOptions& options)
    : paths_(std::move(paths)), options_(options) {}

SequenceReader::~SequenceReader() = default;

void SequenceReader::fail(const std::string& message) {
  std::string where = source_->path() + ": ";
  if (!record_name_.empty()) where += "record '" + record_name_ + "': ";
  throw Error(ErrorKind::kInput, where + "line " + std::to_string(line_) + ": " + message);
}

bool SequenceReader::refill() {
  if (chunk_.empty()) chunk_ = source_->read();
  return !chunk_.empty();
}

int SequenceReader::peek_line_start() {
  while (refill()) {
    const char c = chunk_[0];
    if (!is_line_end(c) && !is_blank(c)) return static_cast<unsigned char>(c);
    if (c == '\r' || (c == '\n' && !after_cr_)) ++line_;
    after_cr_ = c == '\r';
    chunk_.remove_prefix(1);
  }
  return -1;
}

// Reads up to the line end, which stays for peek_line_start to count.
void SequenceReader::read_line(std::string& line) {
  line.clear();
  while (refill()) {
    const std::size_t end = std::min(chunk_.find_first_of("\r\n"), chunk_.size());
    line.append(chunk_.substr(0, end));
    chunk_.remove_prefix(end);
    if (line.size() > kLongestHeader) fail("header line longer than 16 MiB");
    if (!chunk_.empty()) break;
  }
  after_cr_ = false;
  while (!line.empty() && is_blank(line.back())) line.pop_back();
}

void SequenceReader::may_grow(const SequenceRecord& record, std::size_t room) {
  if (options_.may_grow) {
    options_.may_grow(record, static_cast<std::int64_t>(record.bases.size()), room);
  } else {
    require_more_memory(room, source_->path() + ": record '" + record_name_ + "'");
  }
}

void SequenceReader::append_bases(SequenceRecord& record, const char* begin, std::size_t n) {
  std::string& bases = record.bases;
  if (bases.capacity() - bases.size() < n && bases.size() + n >= kCheckedBytes) {
    // A small compressed file can hold a record larger than the memory: better said than killed.
    const std::size_t wanted = std::max(bases.capacity() + bases.capacity() / 2, kCheckedBytes);
    may_grow(record, wanted);
    bases.reserve(wanted);
  }
  if (all_printable(begin, n)) {
    bases.append(begin, n);
    return;
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (is_blank(begin[i])) continue;
    if (!all_printable(begin + i, 1)) {
      char text[80];
      std::snprintf(text, sizeof text, "byte 0x%02x after %zu nt; this is no text file",
                    static_cast<unsigned char>(begin[i]), bases.size());
      fail(text);
    }
    bases.push_back(begin[i]);
  }
}

void SequenceReader::append_line(SequenceRecord& record) {
  after_cr_ = false;
  while (refill()) {
    const std::size_t piece = std::min(chunk_.size(), kPiece);
    const char* const begin = chunk_.data();
    const auto* lf = static_cast<const char*>(std::memchr(begin, '\n', piece));
    std::size_t n = lf != nullptr ? static_cast<std::size_t>(lf - begin) : piece;
    const auto* cr = static_cast<const char*>(std::memchr(begin, '\r', n));
    if (cr != nullptr) n = static_cast<std::size_t>(cr - begin);
    append_bases(record, begin, n);
    chunk_.remove_prefix(n);
    if (n < piece) return;  // at a line end
  }
}

void SequenceReader::read_header(SequenceRecord& record) {
  record_name_.clear();
  chunk_.remove_prefix(1);  // '>' or '@'
  read_line(line_buffer_);
  if (line_buffer_.find('\0') != std::string::npos) fail("NUL byte in the header");
  const std::string_view header = line_buffer_;
  const std::size_t begin = std::min(header.find_first_not_of(" \t\v\f"), header.size());
  const std::size_t end = std::min(header.find_first_of(" \t\v\f", begin), header.size());
  const std::size_t rest = std::min(header.find_first_not_of(" \t\v\f", end), header.size());
  if (begin == end) fail("header without a name");
  record.name = header.substr(begin, end - begin);
  record.description = header.substr(rest);
  record.circular = header_says_circular(header);
  // Names go into messages; a header of a megabyte does not help there.
  record_name_ = record.name.substr(0, 200);
}

// FASTQ: the '+' line and as many quality characters as there are bases.
void SequenceReader::read_quality(const SequenceRecord& record) {
  read_line(line_buffer_);
  if (line_buffer_.size() > 1) {
    std::string_view caption = std::string_view(line_buffer_).substr(1);
    caption = caption.substr(0, caption.find_first_of(" \t"));
    if (caption != record.name) fail("the '+' line names another record");
  }
  std::size_t seen = 0;
  while (seen < record.bases.size()) {
    if (peek_line_start() < 0) {
      fail("truncated: " + std::to_string(record.bases.size()) + " bases but " +
           std::to_string(seen) + " quality values");
    }
    after_cr_ = false;
    while (refill() && !is_line_end(chunk_[0])) {
      const std::size_t end = std::min(chunk_.find_first_of("\r\n"), chunk_.size());
      for (char c : chunk_.substr(0, end)) {
        if (is_blank(c)) continue;
        if (c < 33 || c > 126) fail("a quality value that is no printable ASCII character");
        ++seen;
      }
      chunk_.remove_prefix(end);
    }
  }
  if (seen > record.bases.size()) {
    fail("more quality values (" + std::to_string(seen) + ") than bases (" +
         std::to_string(record.bases.size()) + ")");
  }
}

// The line that begins here; the one that was being read is over.
bool SequenceReader::next_line(std::string& line) {
  if (refill() && chunk_[0] == '\r') {
    chunk_.remove_prefix(1);
    if (refill() && chunk_[0] == '\n') chunk_.remove_prefix(1);
    ++line_;
  } else if (refill() && chunk_[0] == '\n') {
    chunk_.remove_prefix(1);
    ++line_;
  }
  if (!refill()) return false;
  read_line(line);
  return true;
}

// From the LOCUS line, which is in line_buffer_, to the // line.
void SequenceReader::read_genbank(SequenceRecord& record) {
  const GenbankLocus locus = parse_locus(line_buffer_);
  record.name = record_name_ = locus.name;
  record.description.clear();
  record.circular = locus.circular;
  record.bases.clear();
  in_contig_ = false;
  bool in_origin = false;
  while (true) {
    if (!next_line(line_buffer_)) fail("truncated: the record has no // line");
    const std::string_view line = line_buffer_;
    if (line.find('\0') != std::string_view::npos) fail("NUL byte in the file");
    if (starts_with_word(line, "//")) break;
    if (starts_with_word(line, "LOCUS")) fail("a record begins before the // of the one before");
    if (!in_origin) {
      if (starts_with_word(line, "VERSION") && !first_value(line).empty()) {
        record.name = first_value(line);
        record_name_ = record.name.substr(0, 200);
      }
      in_contig_ = in_contig_ || starts_with_word(line, "CONTIG");
      in_origin = starts_with_word(line, "ORIGIN");
      continue;
    }
    const std::size_t number = line.find_first_not_of(" \t");
    if (number == std::string_view::npos) continue;
    const std::size_t end = std::min(line.find_first_not_of("0123456789", number), line.size());
    if (line.substr(number, end - number) != std::to_string(record.bases.size() + 1)) {
      fail("a line of ORIGIN begins with the position of its first base, this one, of base " +
           std::to_string(record.bases.size() + 1) + ", with '" +
           std::string(line.substr(number, std::max<std::size_t>(end - number, 10))) + "'");
    }
    append_bases(record, line.data() + end, line.size() - end);
  }
  if (record.name.empty()) fail("the record has no name");
  if (locus.protein) fail("a protein: its length is in aa");
  const auto length = static_cast<std::int64_t>(record.bases.size());
  if (length > 0 && locus.length >= 0 && length != locus.length) {
    fail("LOCUS says " + std::to_string(locus.length) + " bp, ORIGIN has " +
         std::to_string(length));
  }
}

void SequenceReader::refuse_start(int byte, std::string start) {
  // A pipe may hand over a byte at a time.
  while (start.size() < 8 && refill()) {
    start += chunk_[0];
    chunk_.remove_prefix(1);
  }
  const auto begins = [&](std::string_view magic) { return start.starts_with(magic); };
  if (records_in_file_ > 0) fail("text after a FASTQ record: more quality values than bases?");
  record_name_.clear();
  if (begins("BZh")) fail("bzip2 is not read; decompress first: bzip2 -dc FILE | m5 ... -");
  if (begins("\xfd"
             "7zXZ"))
    fail("xz is not read; decompress first: xz -dc FILE | m5 ... -");
  if (begins("\x28\xb5\x2f\xfd"))
    fail("zstd is not read; decompress first: zstd -dc FILE | m5 ... -");
  if (begins("PK\x03\x04")) fail("zip archives are not read; unpack first");
  if (begins("BAM\1") || begins("CRAM")) {
    fail("this is BAM or CRAM; m5 reads FASTA, FASTQ and GenBank");
  }
  char text[96];
  if (byte > 32 && byte < 127) {
    std::snprintf(text, sizeof text,
                  "neither FASTA, FASTQ nor GenBank: '%c' where '>' or '@' must stand", byte);
  } else {
    std::snprintf(text, sizeof text,
                  "neither FASTA, FASTQ nor GenBank: byte 0x%02x where '>' or '@' must stand",
                  static_cast<unsigned>(byte));
  }
  fail(text);
}

bool SequenceReader::next_in_file(SequenceRecord& record) {
  while (true) {
    const int start = peek_line_start();
    if (start < 0) {
      if (records_in_file_ > 0) return false;
      throw Error(ErrorKind::kInput, source_->path() + ": no sequence records: the file is empty");
    }
    if (start == 'L') {
      read_line(line_buffer_);
      if (!starts_with_word(line_buffer_, "LOCUS")) refuse_start(start, line_buffer_.substr(0, 8));
    } else {
      if (start != '>' && start != '@') refuse_start(start, "");
      read_header(record);
    }
    record.bases.clear();
    int c = start == 'L' ? 0 : peek_line_start();
    if (start == 'L') {
      read_genbank(record);
    } else if (start == '>') {
      for (; c >= 0 && c != '>' && c != '@'; c = peek_line_start()) append_line(record);
    } else {
      for (; c >= 0 && c != '+' && c != '>' && c != '@'; c = peek_line_start()) {
        append_line(record);
      }
      if (c != '+') fail("truncated FASTQ record: no '+' line and quality values");
      read_quality(record);
    }
    ++records_in_file_;
    if (!record.bases.empty()) break;
    if (!options_.skip_empty) {
      throw Error(ErrorKind::kInput,
                  source_->path() + ": record '" + record_name_ + "': no sequence" +
                      (start == 'L' && in_contig_ ? ": it has CONTIG in place of ORIGIN, so fetch "
                                                    "the full record"
                                                  : "") +
                      " (--skip-empty leaves such records out)");
    }
    ++empty_;
    if (!warned_empty_) {
      log_warning(source_->path() + ": record '" + record_name_ +
                  "' has no sequence and is skipped; further ones are skipped silently");
      warned_empty_ = true;
    }
  }
  if (options_.warn_duplicates && !warned_duplicate_) note_name(record);
  ++records_;
  return true;
}

void SequenceReader::note_name(const SequenceRecord& record) {
  if (names_.size() == kMostNames || names_.insert(record.name))
    return;  // reads come in any number
  log_warning(source_->path() + ": the name '" + record_name_ +
              "' occurs more than once; further duplicates are not reported");
  warned_duplicate_ = true;
  names_.clear();
}

bool SequenceReader::next(SequenceRecord& record) {
  while (file_ < paths_.size()) {
    if (!source_) {
      source_ = std::make_unique<ByteSource>(paths_[file_], options_.allow_no_eof, options_.stop);
      chunk_ = {};
      after_cr_ = false;
      line_ = 1;
      records_in_file_ = 0;
      names_.clear();
      record_name_.clear();
      if (refill() && chunk_.substr(0, 3) == "\xef\xbb\xbf") chunk_.remove_prefix(3);  // UTF-8 mark
    }
    if (next_in_file(record)) {
      record.file = paths_[file_];
      record.file_index = static_cast<std::int64_t>(file_);
      return true;
    }
    source_.reset();
    ++file_;
  }
  return false;
}

}  // namespace m5
