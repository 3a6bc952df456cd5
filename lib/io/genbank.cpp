#include "io/genbank.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "io/fields.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::size_t kQualifierColumn =
    20;  // features begin before it, what belongs to them after
constexpr std::size_t kLongestLocation = std::size_t{1} << 20;
constexpr std::size_t kLongestValue = std::size_t{1} << 16;
constexpr std::int64_t kLongest = std::int64_t{1} << 50;  // nt; sums of two stay in range
constexpr int kDeepest = 16;                              // of join( and complement(

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

class LocationParser {
 public:
  LocationParser(std::string_view text, const std::string& record, std::int64_t length,
                 bool circular)
      : text_(text), record_(record), length_(length), circular_(circular) {}

  // What is wrong, or nothing.
  std::string parse(Feature& feature, bool& remote) {
    range(false, 0);
    if (problem_.empty() && at_ < text_.size()) problem_ = "is not understood";
    remote = remote_;
    if (!problem_.empty()) return problem_;
    feature.parts.clear();
    feature.begin = feature.end = 0;
    feature.strand = plus_ && minus_ ? '.' : minus_ ? '-' : '+';
    if (parts_.empty()) return {};
    feature.begin = parts_.front().begin;
    feature.end = parts_.front().end;
    if (parts_.size() > 1) feature.parts = std::move(parts_);
    return {};
  }

 private:
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void refuse(const std::string& problem) {
    if (problem_.empty()) problem_ = problem;
  }

  void range(bool complement, int depth) {
    if (depth > kDeepest) return refuse("is nested too deep");
    if (take("complement(")) {
      range(!complement, depth + 1);
      if (problem_.empty() && !take(")")) refuse("is not understood");
    } else if (take("join(") || take("order(")) {
      do {
        range(complement, depth + 1);
      } while (problem_.empty() && take(","));
      if (problem_.empty() && !take(")")) refuse("is not understood");
    } else {
      stretch(complement);
    }
  }

  // A position; '<' and '>' say that the feature goes on beyond it.
  std::int64_t position() {
    while (at_ < text_.size() && (text_[at_] == '<' || text_[at_] == '>')) ++at_;
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    const auto value = whole_number(text_.substr(begin, at_ - begin));
    while (at_ < text_.size() && text_[at_] == '>') ++at_;
    if (!value || *value < 1) refuse("is not understood");
    return value.value_or(0);
  }

  void stretch(bool complement) {
    const std::size_t end = std::min(text_.find_first_of(",()", at_), text_.size());
    const std::size_t colon = text_.substr(0, end).find(':', at_);
    bool elsewhere = false;
    if (colon != std::string_view::npos) {
      const std::string_view other = text_.substr(at_, colon - at_);
      elsewhere = other != record_ && other != record_.substr(0, record_.rfind('.'));
      at_ = colon + 1;
    }
    const std::int64_t first = position();
    std::int64_t last = first;
    const bool between = problem_.empty() && take("^");
    if (between || (problem_.empty() && take(".."))) last = position();
    if (!problem_.empty()) return;
    if (elsewhere) {
      remote_ = true;
      return;
    }
    (complement ? minus_ : plus_) = true;
    if (length_ >= 0 && std::max(first, last) > length_) {
      return refuse("ends at " + std::to_string(std::max(first, last)) + ", record '" + record_ +
                    "' at " + std::to_string(length_));
    }
    if (between) return;
    if (first > last) {
      if (!circular_ || length_ < 0) return refuse("begins after its end");
      last += length_;
    }
    parts_.push_back({first - 1, last});
  }

  const std::string_view text_;
  const std::string& record_;
  const std::int64_t length_;
  const bool circular_;
  std::size_t at_ = 0;
  std::vector<Interval> parts_;
  bool plus_ = false, minus_ = false, remote_ = false;
  std::string problem_;
};

// One record after the other, line by line.
class FeatureLines {
 public:
  FeatureLines(LineReader& reader, const std::string& chosen,
               const std::function<void(Feature&&, bool)>& add, std::set<std::string>& circular)
      : reader_(reader), chosen_(chosen), add_(add), circular_(circular) {}

  void line(std::string_view text) {
    if (trimmed(text).empty()) return;
    if (starts_with_word(text, "//")) {
      if (state_ == State::kBetween) fail("// without a record");
      end_feature();
      state_ = State::kBetween;
    } else if (starts_with_word(text, "LOCUS")) {
      if (state_ != State::kBetween) fail("a record begins before the // of '" + name_ + "'");
      locus_ = parse_locus(text);
      name_ = locus_.name;
      state_ = State::kHeader;
    } else if (state_ == State::kBetween) {
      fail("a record of GenBank begins with LOCUS");
    } else if (state_ == State::kHeader) {
      if (starts_with_word(text, "VERSION") && !first_value(text).empty())
        name_ = first_value(text);
      if (starts_with_word(text, "FEATURES")) begin_features();
    } else if (state_ == State::kFeatures) {
      if (text[0] != ' ' && text[0] != '\t') {
        end_feature();
        state_ = State::kRest;
      } else if (text.find_first_not_of(" \t") < kQualifierColumn) {
        end_feature();
        begin_feature(trimmed(text));
      } else {
        more(trimmed(text));
      }
    }
  }

  void finish() {
    if (state_ == State::kBetween) return;
    throw Error(ErrorKind::kInput,
                reader_.path() + ": record '" + name_ + "': truncated: it has no // line");
  }

 private:
  enum class State { kBetween, kHeader, kFeatures, kRest };

  [[noreturn]] void fail(const std::string& message, std::int64_t line = 0) {
    throw Error(ErrorKind::kInput, reader_.path() + ": line " +
                                       std::to_string(line > 0 ? line : reader_.line_number()) +
                                       ": " + message);
  }

  void begin_features() {
    if (name_.empty()) fail("the record has no name");
    if (locus_.circular) circular_.insert(name_);
    state_ = State::kFeatures;
  }

  void begin_feature(std::string_view text) {
    const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
    feature_ = Feature{};
    feature_.seqid = name_;
    feature_.type = text.substr(0, end);
    feature_.line = reader_.line_number();
    location_ = trimmed(text.substr(end));
    values_ = {};
    value_ = nullptr;
    in_location_ = open_ = true;
    quoted_ = false;
  }

  void more(std::string_view text) {
    if (!open_) fail("this line belongs to no feature");
    if (!quoted_ && text[0] == '/') {
      in_location_ = false;
      const std::size_t equals = std::min(text.find('='), text.size());
      const std::string_view key = text.substr(1, equals - 1);
      value_ = key == chosen_ && !chosen_.empty() ? &values_.chosen
               : key == "locus_tag"               ? &values_.locus
               : key == "gene"                    ? &values_.gene
                                                  : nullptr;
      if (value_ != nullptr) value_->clear();
      text.remove_prefix(std::min(equals + 1, text.size()));
      if (!text.empty() && text[0] == '"') {
        quoted_ = true;
        text.remove_prefix(1);
      }
      add_value(text);
    } else if (in_location_) {
      location_ += text;
      if (location_.size() > kLongestLocation) fail("a location longer than 1 MiB");
    } else {
      if (value_ != nullptr && !value_->empty()) *value_ += ' ';
      add_value(text);
    }
  }

  // Up to the quote that ends it; two of them stand for one.
  void add_value(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (quoted_ && text[i] == '"') {
        if (i + 1 == text.size() || text[i + 1] != '"') {
          quoted_ = false;
          value_ = nullptr;
          return;
        }
        ++i;
      }
      if (value_ == nullptr || value_->size() >= kLongestValue) continue;
      *value_ += static_cast<unsigned char>(text[i]) < 32 || text[i] == 127 ? ' ' : text[i];
    }
  }

  void end_feature() {
    if (!std::exchange(open_, false)) return;
    std::erase_if(location_, [](char c) { return c == ' ' || c == '\t'; });
    bool remote = false;
    const std::string problem =
        parse_location(location_, name_, locus_.length, locus_.circular, feature_, remote);
    if (!problem.empty()) {
      fail("the location '" + location_.substr(0, 80) + "' " + problem, feature_.line);
    }
    if (remote) {
      if (!std::exchange(warned_, true)) {
        log_warning(reader_.path() + ": line " + std::to_string(feature_.line) +
                    ": a feature that reaches into another record is skipped, as are others "
                    "like it");
      }
      return;
    }
    for (const std::string* name : {&values_.chosen, &values_.locus, &values_.gene}) {
      if (feature_.name.empty()) feature_.name = *name;
    }
    add_(std::move(feature_), !values_.chosen.empty());
  }

  struct Values {
    std::string chosen, locus, gene;
  };

  LineReader& reader_;
  const std::string& chosen_;
  const std::function<void(Feature&&, bool)>& add_;
  std::set<std::string>& circular_;
  State state_ = State::kBetween;
  GenbankLocus locus_;
  std::string name_;  // of the record
  // The feature that is being read.
  Feature feature_;
  std::string location_;
  Values values_;
  std::string* value_ = nullptr;  // of the qualifier that is being read; null: nobody wants it
  bool open_ = false, in_location_ = false, quoted_ = false, warned_ = false;
};

}  // namespace

GenbankLocus parse_locus(std::string_view line) {
  GenbankLocus locus;
  const std::vector<std::string_view> words = split_blanks(line);
  if (words.size() > 1) locus.name = words[1];
  for (std::size_t i = 2; i < words.size(); ++i) {
    if (words[i] == "bp" || words[i] == "aa") {
      locus.length = i > 2 ? std::min(whole_number(words[i - 1]).value_or(-1), kLongest) : -1;
      locus.protein = words[i] == "aa";
    }
    if (words[i] == "circular") locus.circular = true;
  }
  return locus;
}

std::string_view first_value(std::string_view line) {
  const std::vector<std::string_view> words = split_blanks(line);
  return words.size() > 1 ? words[1] : std::string_view();
}

std::string parse_location(std::string_view text, const std::string& record, std::int64_t length,
                           bool circular, Feature& feature, bool& remote) {
  return LocationParser(text, record, length, circular).parse(feature, remote);
}

void read_genbank_features(LineReader& reader, std::string line, const std::string& name_attribute,
                           const std::function<void(Feature&& feature, bool chosen)>& add,
                           std::set<std::string>& circular) {
  FeatureLines lines(reader, name_attribute, add, circular);
  do {
    lines.line(line);
  } while (reader.next(line));
  lines.finish();
}

}  // namespace m5
