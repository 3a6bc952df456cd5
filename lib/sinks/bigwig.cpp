// bigWig (Kent et al., Bioinformatics 26:2204, 2010), written by libBigWig: the runs of bedGraph
// with their values as float32, names in byte order, without zoom levels: libBigWig (0.4.7) leaves
// out the sum of the last bin of every block of such a level, which browsers would draw as 0;
// without them they take the values themselves, which for the records of bacteria is quick.
//
// The format wants to know all records, sorted, before the first value, so the runs wait in a
// temporary file. libBigWig does not tell whether the end of a file could be written; therefore
// what was written is read again and compared before the file gets its name.
#include <bigWig.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <set>

#include "base/numbers.hpp"
#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/track_sink.hpp"

namespace m5 {

namespace {

struct Run {
  std::uint32_t begin, end;
  float value;
};

struct Record {
  std::string name;
  std::uint32_t length;
  std::uint64_t first, count;  // of its runs in the temporary file
};

constexpr std::uint64_t kChunk = 65536;    // runs in memory
constexpr std::uint32_t kReadBlocks = 64;  // of about 2,700 runs

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
struct CloseBigwig {
  void operator()(bigWigFile_t* file) const { bwClose(file); }
};
struct CloseIterator {
  void operator()(bwOverlapIterator_t* iterator) const { bwIteratorDestroy(iterator); }
};
using Bigwig = std::unique_ptr<bigWigFile_t, CloseBigwig>;

class BigwigSink : public TrackSink {
 public:
  explicit BigwigSink(const ScoreSinkOptions& options)
      : TrackSink(options), file_(options.path), runs_(options.path) {}

  void write(const ScoredInterval& interval) override {
    if (records_.empty() || records_.back().name != interval.name) {
      if (!names_.insert(interval.name).second) repeated(interval.name);
      if (interval.length > std::numeric_limits<std::uint32_t>::max()) {
        throw Error(ErrorKind::kInput, "record '" + interval.name + "': has " +
                                           std::to_string(interval.length) +
                                           " nt, and bigWig holds 4,294,967,295 at most");
      }
      records_.push_back({interval.name, static_cast<std::uint32_t>(interval.length), count_, 0});
      end_ = 0;
    } else if (interval.begin < end_) {
      repeated(interval.name);  // intervals of one record ascend
    }
    end_ = interval.end;
    TrackSink::write(interval);
  }

  void flush() override {}  // nobody reads it before it is whole

  std::vector<OutputFile*> finish() override {
    if (count_ == 0) {
      throw Error(ErrorKind::kInput, file_.path() +
                                         ": no base has a score, and a bigWig file cannot be "
                                         "empty; write bedGraph");
    }
    runs_.flush();
    spool_.reset(std::fopen(runs_.hidden_path().c_str(), "rbe"));
    if (!spool_) fail();
    std::sort(records_.begin(), records_.end(),
              [](const Record& a, const Record& b) { return a.name < b.name; });
    write_bigwig();
    compare();
    spool_.reset();
    return {&file_};
  }

 private:
  [[noreturn]] static void repeated(const std::string& name) {
    throw Error(ErrorKind::kInput, "record '" + name +
                                       "': was there before, and a bigWig file holds a name once; "
                                       "rename it, or write one file each");
  }

  [[noreturn]] void fail() const {
    throw Error(ErrorKind::kIo,
                file_.path() + ": the bigWig file could not be written whole: is the disk full?");
  }

  void put(std::int64_t begin, std::int64_t end, std::string_view text) override {
    Run run{static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end), 0};
    const auto [last, error] = parse_number(text.data(), text.data() + text.size(), run.value);
    if (error != std::errc{}) {
      throw Error(ErrorKind::kNumeric, "record '" + records_.back().name + "': position " +
                                           std::to_string(begin + 1) + ": " + std::string(text) +
                                           " is beyond float32; try --metric nll");
    }
    runs_.write(&run, sizeof run);
    greatest_ = count_ == 0 ? run.value : std::max(greatest_, run.value);
    ++records_.back().count;
    ++count_;
  }

  // Runs [from, from + size) of a record.
  void read(const Record& record, std::uint64_t from, std::uint64_t size, std::vector<Run>& runs) {
    runs.resize(size);
    const auto offset = static_cast<off_t>((record.first + from) * sizeof(Run));
    if (fseeko(spool_.get(), offset, SEEK_SET) != 0 ||
        std::fread(runs.data(), sizeof(Run), size, spool_.get()) != size) {
      fail();
    }
  }

  void write_bigwig() {
    if (bwInit(1 << 17) != 0) throw std::bad_alloc();
    std::vector<const char*> names;
    std::vector<std::uint32_t> lengths;
    for (const Record& record : records_) {
      names.push_back(record.name.c_str());
      lengths.push_back(record.length);
    }
    const Bigwig out(bwOpen(file_.hidden_path().c_str(), nullptr, "w"));
    if (!out || bwCreateHdr(out.get(), 0) != 0) fail();
    out->cl =
        bwCreateChromList(names.data(), lengths.data(), static_cast<std::int64_t>(records_.size()));
    if (out->cl == nullptr) throw std::bad_alloc();
    if (bwWriteHdr(out.get()) != 0) fail();
    std::vector<Run> runs;
    std::vector<std::uint32_t> begins, ends;
    std::vector<float> values;
    for (const Record& record : records_) {
      for (std::uint64_t at = 0; at < record.count; at += runs.size()) {
        read(record, at, std::min(kChunk, record.count - at), runs);
        begins.clear(), ends.clear(), values.clear();
        for (const Run& run : runs) {
          begins.push_back(run.begin);
          ends.push_back(run.end);
          values.push_back(run.value);
        }
        const char* const name[] = {record.name.c_str()};
        const std::uint32_t added = at == 0 ? 1 : 0;  // the first of a record names it
        if ((added == 1 &&
             bwAddIntervals(out.get(), name, begins.data(), ends.data(), values.data(), 1) != 0) ||
            bwAppendIntervals(out.get(), begins.data() + added, ends.data() + added,
                              values.data() + added,
                              static_cast<std::uint32_t>(runs.size()) - added) != 0) {
          fail();
        }
      }
    }
    out->hdr->maxVal = greatest_;  // libBigWig misses the first of values that only fall
  }

  void compare() {
    std::uint32_t magic = 0;
    {
      const std::unique_ptr<std::FILE, CloseFile> end(
          std::fopen(file_.hidden_path().c_str(), "rbe"));
      if (!end || std::fseek(end.get(), -static_cast<long>(sizeof magic), SEEK_END) != 0 ||
          std::fread(&magic, sizeof magic, 1, end.get()) != 1 || magic != BIGWIG_MAGIC) {
        fail();
      }
    }
    const Bigwig in(bwOpen(file_.hidden_path().c_str(), nullptr, "r"));
    if (!in) fail();
    std::vector<Run> runs;
    for (const Record& record : records_) {
      if (record.count == 0) continue;
      std::uint64_t at = 0;
      std::unique_ptr<bwOverlapIterator_t, CloseIterator> iterator(bwOverlappingIntervalsIterator(
          in.get(), record.name.c_str(), 0, record.length, kReadBlocks));
      while (iterator && iterator->data != nullptr) {
        const bwOverlappingIntervals_t& found = *iterator->intervals;
        if (found.l > record.count - at) fail();
        read(record, at, found.l, runs);
        for (std::uint32_t i = 0; i < found.l; ++i) {
          if (found.start[i] != runs[i].begin || found.end[i] != runs[i].end ||
              found.value[i] != runs[i].value) {
            fail();
          }
        }
        at += found.l;
        iterator.reset(bwIteratorNext(iterator.release()));
      }
      if (at != record.count) fail();
    }
  }

  OutputFile file_, runs_;  // runs_: never gets a name
  std::unique_ptr<std::FILE, CloseFile> spool_;
  std::vector<Record> records_;
  std::set<std::string> names_;
  std::uint64_t count_ = 0;
  std::int64_t end_ = 0;  // of the last interval
  float greatest_ = 0;
};

}  // namespace

std::unique_ptr<ScoreSink> make_bigwig_sink(const ScoreSinkOptions& options) {
  if (is_stream(options.path)) {
    throw Error(ErrorKind::kUsage,
                "-O bigwig: is not written to a pipe or device; give -o FILE.bw");
  }
  return std::make_unique<BigwigSink>(options);
}

}  // namespace m5
