// The training log: one TSV row a step.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "nn/objective.hpp"

namespace m5 {

struct StepRow {
  std::int64_t step = 0;
  std::int64_t tokens = 0;  // nt read since the start of the run, this step included
  std::int64_t segment_length = 0;
  double learning_rate = 0;
  ObjectiveResult training;  // of the step, before its update
  double gradient_norm = 0;  // of the mean loss, before clipping
  bool validated = false;
  ObjectiveResult validation;  // after the update
  double nt_per_second = 0;
};

// Columns whose value does not exist (no position of the kind, no validation at this step) hold
// ".". The last column is the only one that depends on the clock.
class TrainLog {
 public:
  // path: a file, "-" for standard output, or empty: no log. A new run replaces the file; a resumed
  // one (resume_step > 0) drops the rows after that step and adds to it. The file is locked
  // meanwhile. Throws Error(kIo), also when another run has it, and Error(kInput) when the file to
  // continue is no such log.
  TrainLog(const std::string& path, std::int64_t resume_step);
  ~TrainLog();
  TrainLog(const TrainLog&) = delete;
  TrainLog& operator=(const TrainLog&) = delete;

  // Written through to the file at once. Throws Error(kIo).
  void write(const StepRow& row);
  // Checked close.
  void close();

  static std::string header();
  static std::string line(const StepRow& row);

 private:
  void start(std::int64_t kept);
  void put(const std::string& text);
  [[noreturn]] void fail(const char* action) const;

  std::string path_;
  std::FILE* file_ = nullptr;
};

// Mean of -log p over the positions of the kind in nats; share of them where the original base had
// the greatest probability. NaN without positions.
double mean_nll(const ObjectiveResult& result, TargetKind kind);
double accuracy(const ObjectiveResult& result, TargetKind kind);
double mean_nll(const ObjectiveResult& result);  // over all chosen positions

}  // namespace m5
