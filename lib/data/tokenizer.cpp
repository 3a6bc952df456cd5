#include "data/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr Token kBad = 255;

constexpr std::array<Token, 256> make_token_table() {
  std::array<Token, 256> table{};
  for (Token& t : table) t = kBad;
  const auto set = [&](char letter, Token token) {
    table[static_cast<unsigned char>(letter)] = token;
    table[static_cast<unsigned char>(letter) + 32] = token;  // lower case
  };
  for (char letter : std::string_view("NRYSWKMBDHV")) set(letter, kTokenN);
  set('A', kTokenA);
  set('C', kTokenC);
  set('G', kTokenG);
  set('T', kTokenT);
  set('U', kTokenT);
  return table;
}
constexpr std::array<Token, 256> kTokenOf = make_token_table();

std::string describe(unsigned char byte) {
  char text[16];
  if (byte > 32 && byte < 127) {
    std::snprintf(text, sizeof text, "'%c'", byte);
  } else {
    std::snprintf(text, sizeof text, "byte 0x%02x", byte);
  }
  return text;
}

const char* hint(unsigned char byte) {
  const char upper = static_cast<char>(byte >= 'a' && byte <= 'z' ? byte - 32 : byte);
  if (upper == 'X') return "; write N for an unknown base (or is this a protein?)";
  if (std::string_view("EFIJLOPQZ").find(upper) != std::string_view::npos) {
    return "; is this a protein? m5 reads nucleotide sequences";
  }
  if (byte == '-' || byte == '*' || byte == '.')
    return "; remove gaps, m5 reads unaligned sequences";
  if (byte == '>') return "; a header must begin its line";
  return "";
}

}  // namespace

namespace {

// where: begins the message of an error.
template <class Where>
std::vector<Token> tokens_of(std::string_view letters, BaseCounts* counts, const Where& where) {
  std::vector<Token> tokens(letters.size());
  // Four histograms, so that runs of one letter do not wait on one counter.
  std::array<std::array<std::int64_t, 256>, 4> seen{};
  Token worst = 0;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const auto byte = static_cast<unsigned char>(letters[i]);
    ++seen[i % 4][byte];
    tokens[i] = kTokenOf[byte];
    worst |= tokens[i];
  }
  if (worst == kBad) {
    const auto at = std::find(tokens.begin(), tokens.end(), kBad) - tokens.begin();
    const auto byte = static_cast<unsigned char>(letters[static_cast<std::size_t>(at)]);
    throw Error(ErrorKind::kInput, where() + "position " + std::to_string(at + 1) + ": " +
                                       describe(byte) + " is no nucleotide code" + hint(byte));
  }
  if (counts != nullptr) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::int64_t n = seen[0][byte] + seen[1][byte] + seen[2][byte] + seen[3][byte];
      if (n == 0) continue;
      const std::size_t upper = byte >= 'a' ? byte - 32 : byte;
      if (!is_base(kTokenOf[byte])) (upper == 'N' ? counts->n : counts->ambiguous) += n;
      if (upper == 'U') counts->u += n;
    }
  }
  return tokens;
}

}  // namespace

std::vector<Token> tokenize(std::string_view letters, const std::string& file,
                            const std::string& record, BaseCounts* counts) {
  return tokens_of(letters, counts, [&] { return file + ": record '" + record + "': "; });
}

std::vector<Token> tokenize(std::string_view letters) {
  return tokens_of(letters, nullptr, [] { return std::string("sequence: "); });
}

void reverse_complement(std::span<Token> tokens) {
  std::reverse(tokens.begin(), tokens.end());
  std::transform(tokens.begin(), tokens.end(), tokens.begin(), complement);
}

}  // namespace m5
