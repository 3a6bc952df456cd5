#include "io/json.hpp"

#include <set>
#include <vector>

#include "m5/error.hpp"

namespace m5 {
namespace {

using Json = nlohmann::ordered_json;

// Events of the parser, which keeps nothing: only depth, count and the keys of the open objects.
class Bounds : public nlohmann::json_sax<Json> {
 public:
  explicit Bounds(const std::string& what) : what_(what) {}

  bool null() override { return count(); }
  bool boolean(bool) override { return count(); }
  bool number_integer(number_integer_t) override { return count(); }
  bool number_unsigned(number_unsigned_t) override { return count(); }
  bool number_float(number_float_t, const string_t&) override { return count(); }
  bool string(string_t&) override { return count(); }
  bool binary(binary_t&) override { return count(); }
  bool start_object(std::size_t) override { return open(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& key) override {
    if (!keys_.back().insert(key).second) {
      refuse("the key '" + key.substr(0, 80) + "' appears twice");
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    refuse("is not valid JSON in UTF-8 (near byte " + std::to_string(position) + ")");
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    throw Error(ErrorKind::kModel, what_ + ": " + message);
  }
  bool count() {
    if (++values_ > kMostJsonValues) {
      refuse("more than " + std::to_string(kMostJsonValues) + " values");
    }
    return true;
  }
  bool open() {
    if (keys_.size() == kDeepestJson) {
      refuse("objects and arrays more than " + std::to_string(kDeepestJson) + " deep");
    }
    keys_.emplace_back();
    return count();
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  const std::string& what_;
  std::vector<std::set<std::string>> keys_;  // of the open objects; an array has none
  std::size_t values_ = 0;
};

}  // namespace

nlohmann::ordered_json parse_json(std::string_view text, const std::string& what) {
  if (text.size() > kLongestJson) {
    throw Error(ErrorKind::kModel, what + ": " + std::to_string(text.size()) +
                                       " bytes of JSON; at most " + std::to_string(kLongestJson) +
                                       " are read");
  }
  // The parser takes a NUL byte for the end of the text, and would not look at what follows.
  if (text.find('\0') != std::string_view::npos) {
    throw Error(ErrorKind::kModel, what + ": is not valid JSON: it holds a NUL byte");
  }
  Bounds bounds(what);
  Json::sax_parse(text, &bounds);
  return Json::parse(text);
}

}  // namespace m5
