#include "train/train_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "base/temporaries.hpp"
#include "io/byte_source.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

std::string number(double value) {
  if (std::isnan(value)) return ".";
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, 6).ptr;
  return {buffer, end};
}

// Bytes of the log up to and with the row of step `step`. A last line without its newline was cut
// short and does not count.
std::int64_t kept_bytes(const std::string& path, std::int64_t step) {
  ByteSource source(path);
  std::string text;
  for (std::string_view bytes = source.read(); !bytes.empty(); bytes = source.read()) text += bytes;
  const std::string header = TrainLog::header();
  if (text.compare(0, header.size(), header) != 0) {
    throw Error(ErrorKind::kInput, path + ": not a log of m5 train that --resume can continue");
  }
  std::size_t at = header.size();
  while (true) {
    const std::size_t end = text.find('\n', at);
    std::int64_t row = 0;
    if (end == std::string::npos ||
        std::from_chars(text.data() + at, text.data() + end, row).ec != std::errc() || row > step) {
      return static_cast<std::int64_t>(at);
    }
    at = end + 1;
  }
}

}  // namespace

double mean_nll(const ObjectiveResult& r, TargetKind kind) {
  const auto k = static_cast<std::size_t>(kind);
  return r.count[k] == 0 ? std::numeric_limits<double>::quiet_NaN()
                         : r.nll[k] / static_cast<double>(r.count[k]);
}

double accuracy(const ObjectiveResult& r, TargetKind kind) {
  const auto k = static_cast<std::size_t>(kind);
  return r.count[k] == 0 ? std::numeric_limits<double>::quiet_NaN()
                         : static_cast<double>(r.correct[k]) / static_cast<double>(r.count[k]);
}

double mean_nll(const ObjectiveResult& r) {
  return r.total_count() == 0 ? std::numeric_limits<double>::quiet_NaN()
                              : r.total_nll() / static_cast<double>(r.total_count());
}

std::string TrainLog::header() {
  return "step\ttokens\tsegment_length\tlr\tloss_nats\tbits\tmasked_nats\tmasked_acc\tsnp_acc\t"
         "kept_acc\tgrad_norm\tval_loss_nats\tval_bits\tval_masked_nats\tval_masked_acc\t"
         "val_snp_acc\tval_kept_acc\tnt_per_s\n";
}

std::string TrainLog::line(const StepRow& row) {
  std::string text = std::to_string(row.step) + '\t' + std::to_string(row.tokens) + '\t' +
                     std::to_string(row.segment_length) + '\t' + number(row.learning_rate);
  const auto add = [&](double value) { text += '\t' + number(value); };
  const auto add_result = [&](const ObjectiveResult& r, bool present) {
    if (!present) {
      for (int i = 0; i < 4; ++i) text += "\t.";
      return;
    }
    add(mean_nll(r, TargetKind::kMasked));
    add(accuracy(r, TargetKind::kMasked));
    add(accuracy(r, TargetKind::kSubstituted));
    add(accuracy(r, TargetKind::kKept));
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  add(mean_nll(row.training));
  add(mean_nll(row.training, TargetKind::kMasked) / std::numbers::ln2);
  add_result(row.training, true);
  add(row.gradient_norm);
  add(row.validated ? mean_nll(row.validation) : nan);
  add(row.validated ? mean_nll(row.validation, TargetKind::kMasked) / std::numbers::ln2 : nan);
  add_result(row.validation, row.validated);
  add(std::round(row.nt_per_second));
  return text + '\n';
}

TrainLog::TrainLog(const std::string& path, std::int64_t resume_step) : path_(path) {
  if (path_.empty()) return;
  if (path_ == "-") {
    file_ = stdout;
    if (resume_step == 0) put(header());
    return;
  }
  struct stat info {};
  const bool exists = stat(path_.c_str(), &info) == 0;
  const bool regular = !exists || S_ISREG(info.st_mode);
  const int fd = open(path_.c_str(), (regular ? O_RDWR | O_CREAT : O_WRONLY) | O_CLOEXEC, 0666);
  if (fd < 0) fail("cannot open");
  file_ = fdopen(fd, "wb");  // truncates nothing
  if (file_ == nullptr) {
    const int error = errno;
    ::close(fd);
    errno = error;
    fail("cannot open");
  }
  // A constructor that throws has no destructor.
  try {
    if (regular) start(resume_step > 0 && exists ? kept_bytes(path_, resume_step) : 0);
    if (!regular || ftello(file_) == 0) put(header());
  } catch (...) {
    std::fclose(file_);
    throw;
  }
}

// Locked before it is cut: another run may be writing it.
void TrainLog::start(std::int64_t kept) {
  if (!lock_file(fileno(file_))) {
    throw Error(ErrorKind::kIo, path_ + ": another run of m5 writes this log");
  }
  if (ftruncate(fileno(file_), kept) != 0) fail("cannot truncate");
  if (fseeko(file_, kept, SEEK_SET) != 0) fail("cannot seek");
}

TrainLog::~TrainLog() {
  if (file_ != nullptr && file_ != stdout) std::fclose(file_);
}

void TrainLog::write(const StepRow& row) {
  if (file_ != nullptr) put(line(row));
}

void TrainLog::close() {
  if (file_ == nullptr || file_ == stdout) return;
  std::FILE* file = file_;
  file_ = nullptr;
  // EINVAL and EROFS: a pipe or device. What was written went to the system line by line.
  if (fsync(fileno(file)) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS) {
    const int error = errno;
    std::fclose(file);
    errno = error;
    fail("cannot synchronise");
  }
  if (std::fclose(file) != 0) fail("cannot close");
}

void TrainLog::put(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
    fail("cannot write");
  }
}

void TrainLog::fail(const char* action) const {
  throw Error(ErrorKind::kIo, path_ + ": " + action + " the log: " + std::strerror(errno));
}

}  // namespace m5
