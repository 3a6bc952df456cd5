#include "data/kmer_baseline.hpp"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/memory.hpp"
#include "base/output.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::int64_t kBlock = 65536;   // nt
constexpr std::int64_t kHeldEvery = 32;  // blocks
constexpr std::int64_t kHeldSamples = 1000000;
constexpr double kDefaultAlpha = 16;

std::size_t contexts(int side) { return std::size_t{1} << (4 * side); }

// The token `position`, wrapped on circular sequences; PAD outside linear ones.
Token token_at(const TokenView& s, std::int64_t position) {
  if (position < 0 || position >= s.length) {
    if (!s.circular) return kTokenPad;
    position = ((position % s.length) + s.length) % s.length;
  }
  return s.tokens[position];
}

// The context as the other strand reads it: by digit pair, (l, r) becomes (3 - r, 3 - l).
std::size_t other_strand(std::size_t index, int side) {
  const std::size_t c = ~index;
  return (((c & 0x3333333333333333u) << 2) | ((c >> 2) & 0x3333333333333333u)) &
         (contexts(side) - 1);
}

constexpr std::size_t kMaxFitting = 256;  // contexts that one prediction sums

// Bases a neighbour may be.
std::size_t allowed(Token t) { return is_base(t) ? 1 : t == kTokenMask ? kBases : 0; }

// Replaces every context of n - 1 neighbours a side by those of n that (left, right) allow.
std::size_t extend(std::size_t* contexts, std::size_t count, Token left, Token right, int n) {
  std::size_t out = count;  // the first option of a context takes its place
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t inner = contexts[i];
    bool first = true;
    for (Token l = 0; l < kBases; ++l) {
      if (is_base(left) && l != left) continue;
      for (Token r = 0; r < kBases; ++r) {
        if (is_base(right) && r != right) continue;
        contexts[first ? i : out++] = inner | static_cast<std::size_t>(l * 4 + r) << (4 * (n - 1));
        first = false;
      }
    }
  }
  return out;
}

// Moves 2-bit digits of a 12-bit number to every other 2-bit place.
std::vector<std::uint32_t> spread_table() {
  std::vector<std::uint32_t> table(1 << (2 * KmerBaseline::kMaxSide));
  for (std::size_t x = 0; x < table.size(); ++x) {
    for (int i = 0; i < KmerBaseline::kMaxSide; ++i) {
      table[x] |= static_cast<std::uint32_t>((x >> (2 * i)) & 3) << (4 * i);
    }
  }
  return table;
}

// The cache file: magic, header, fingerprint, tables of n = 0..max_side, CRC-32 of all before it.
constexpr char kMagic[8] = {'m', '5', 'k', 'm', 'e', 'r', '0', '1'};
struct CacheHeader {
  std::int64_t max_side, bases, fingerprint_size;
  double alpha[KmerBaseline::kMaxSide + 1], held_bits[KmerBaseline::kMaxSide + 1];
};

std::uint32_t checksum(std::uint32_t crc, const void* data, std::size_t size) {
  return static_cast<std::uint32_t>(crc32_z(crc, static_cast<const Bytef*>(data), size));
}

}  // namespace

KmerBaseline::KmerBaseline(int max_side) : max_side_(max_side) {
  if (max_side < 1 || max_side > kMaxSide) {
    throw Error(ErrorKind::kUsage, "k-mer baseline: neighbours a side must be 1 to 6, not " +
                                       std::to_string(max_side));
  }
  for (int n = 0; n <= max_side; ++n) counts_.emplace_back(contexts(n) * kBases, 0);
  alpha_.fill(kDefaultAlpha);
}

std::uint64_t KmerBaseline::memory_needed(int max_side) {
  std::uint64_t bytes = 0;
  for (int n = 0; n <= max_side; ++n) bytes += contexts(n) * kBases * sizeof(std::uint32_t);
  return bytes;
}

std::size_t KmerBaseline::checked(int n) const {
  if (n < 0 || n > max_side_) throw Error(ErrorKind::kInternal, "k-mer baseline: no such context");
  return static_cast<std::size_t>(n);
}

KmerBaseline::Context KmerBaseline::context(const TokenView& sequence,
                                            std::int64_t position) const {
  Context c;
  for (int i = 1; i <= max_side_; ++i) {
    const Token left = token_at(sequence, position - i), right = token_at(sequence, position + i);
    if (!is_base(left) || !is_base(right)) break;
    c.index |= static_cast<std::size_t>(left * 4 + right) << (4 * (i - 1));
    c.side = i;
  }
  return c;
}

void KmerBaseline::add(const TokenView& sequence) {
  if (finished_) throw Error(ErrorKind::kInternal, "k-mer baseline: add after finish");
  for (std::int64_t from = 0; from < sequence.length; from += kBlock, ++blocks_) {
    const std::int64_t to = std::min(sequence.length, from + kBlock);
    const std::int64_t bases = std::count_if(sequence.tokens + from, sequence.tokens + to,
                                             [](Token t) { return is_base(t); });
    bases_ += bases;
    if (bases_ > std::numeric_limits<std::int32_t>::max()) {
      throw Error(ErrorKind::kInput,
                  "k-mer baseline: more than 2147483647 bases to count; give fewer files");
    }
    if (blocks_ % kHeldEvery != kHeldEvery - 1) {
      count(sequence, from, to);
      continue;
    }
    Held held;
    held.tokens.reserve(static_cast<std::size_t>(to - from + 2 * max_side_));
    for (std::int64_t i = from - max_side_; i < to + max_side_; ++i) {
      held.tokens.push_back(token_at(sequence, i));
    }
    held_.push_back(std::move(held));
  }
}

// One strand, into the table of the longest context only; finish does the rest.
void KmerBaseline::count(const TokenView& sequence, std::int64_t from, std::int64_t to) {
  static const std::vector<std::uint32_t> spread = spread_table();
  const int side = max_side_;
  const std::uint32_t mask = (1u << (2 * side)) - 1;
  const Token* t = sequence.tokens;
  std::uint32_t* const longest = counts_[static_cast<std::size_t>(side)].data();

  // Rolling words of the neighbours, the nearest lowest; run: bases in a row that end at i + side.
  std::uint32_t left = 0, right = 0;
  std::int64_t run = 0;
  auto enter = [&](std::int64_t i) {  // the window moves to be centred on i
    const std::int64_t last = i + side, before = i - 1;
    const bool base = last < sequence.length && is_base(t[last]);
    run = base ? run + 1 : 0;
    right = (right >> 2) | (base ? static_cast<std::uint32_t>(t[last]) << (2 * (side - 1)) : 0u);
    left = ((left << 2) | (before >= 0 ? t[before] & 3u : 0u)) & mask;
  };
  for (std::int64_t i = std::max<std::int64_t>(0, from - 2 * side); i < from; ++i) enter(i);
  for (std::int64_t i = from; i < to; ++i) {
    enter(i);
    if (run > 2 * side) {
      ++longest[((spread[left] << 2) | spread[right]) * std::size_t{kBases} + t[i]];
    } else if (is_base(t[i])) {
      const Context c = context(sequence, i);
      ++counts_[static_cast<std::size_t>(c.side)][c.index * kBases + t[i]];
    }
  }
}

void KmerBaseline::count_both_strands(const TokenView& sequence, std::int64_t from,
                                      std::int64_t to) {
  for (std::int64_t i = from; i < to; ++i) {
    const Token base = sequence.tokens[i];
    if (!is_base(base)) continue;
    const Context c = context(sequence, i);
    for (int n = 0; n <= c.side; ++n) {
      const std::size_t index = c.index & (contexts(n) - 1);
      auto& table = counts_[static_cast<std::size_t>(n)];
      ++table[index * kBases + base];
      ++table[other_strand(index, n) * kBases + complement(base)];
    }
  }
}

void KmerBaseline::finish() {
  if (finished_) throw Error(ErrorKind::kInternal, "k-mer baseline: finished twice");
  finished_ = true;
  for (int n = max_side_; n >= 0; --n) {
    auto& table = counts_[static_cast<std::size_t>(n)];
    if (n < max_side_) {
      const auto& longer = counts_[static_cast<std::size_t>(n) + 1];
      for (std::size_t i = 0; i < longer.size(); ++i) table[i & (table.size() - 1)] += longer[i];
    }
  }
  for (int n = 0; n <= max_side_; ++n) {
    auto& table = counts_[static_cast<std::size_t>(n)];
    for (std::size_t c = 0; c < contexts(n); ++c) {
      const std::size_t other = other_strand(c, n);
      if (other < c) continue;
      std::array<std::uint32_t, kBases> sum;
      for (std::size_t b = 0; b < kBases; ++b) {
        sum[b] = table[c * kBases + b] + table[other * kBases + 3 - b];
      }
      for (std::size_t b = 0; b < kBases; ++b) {
        table[c * kBases + b] = sum[b];
        table[other * kBases + 3 - b] = sum[b];
      }
    }
  }
  fit();
  for (const Held& h : held_) {
    const auto length = static_cast<std::int64_t>(h.tokens.size());
    count_both_strands({h.tokens.data(), length, false, 0}, max_side_, length - max_side_);
  }
  held_.clear();
}

// Chooses alpha_n one after the other, each the best on the held blocks given the shorter contexts.
void KmerBaseline::fit() {
  struct Sample {
    std::array<std::uint32_t, kMaxSide + 1> count{}, total{};
    int side = 0;
  };
  std::int64_t held_bases = 0;
  for (const Held& h : held_) {
    held_bases += static_cast<std::int64_t>(h.tokens.size()) - 2 * max_side_;
  }
  if (held_bases == 0) return;
  const std::int64_t stride = 1 + held_bases / kHeldSamples;
  const std::size_t most = static_cast<std::size_t>(held_bases / stride) + held_.size();
  require_more_memory(most * (sizeof(Sample) + sizeof(double)) + kMemoryTolerance,
                      "k-mer baseline");
  std::vector<Sample> samples;
  samples.reserve(most);
  for (const Held& h : held_) {
    const auto length = static_cast<std::int64_t>(h.tokens.size());
    const TokenView view{h.tokens.data(), length, false, 0};
    for (std::int64_t i = max_side_; i < length - max_side_; i += stride) {
      const Token base = h.tokens[static_cast<std::size_t>(i)];
      if (!is_base(base)) continue;
      const Context c = context(view, i);
      Sample s;
      s.side = c.side;
      for (int n = 0; n <= c.side; ++n) {
        const auto& table = counts_[static_cast<std::size_t>(n)];
        const std::uint32_t* row = &table[(c.index & (contexts(n) - 1)) * kBases];
        const auto k = static_cast<std::size_t>(n);
        s.count[k] = row[base];
        s.total[k] = row[0] + row[1] + row[2] + row[3];
      }
      samples.push_back(s);
    }
  }
  if (samples.empty()) return;
  std::vector<double> p(samples.size(), 1.0 / kBases);
  auto at = [&](std::size_t i, std::size_t n, double alpha) {
    const Sample& s = samples[i];
    if (static_cast<int>(n) > s.side) return p[i];
    return (s.count[n] + alpha * p[i]) / (s.total[n] + alpha);
  };
  for (std::size_t n = 0; n <= static_cast<std::size_t>(max_side_); ++n) {
    double best = std::numeric_limits<double>::infinity();
    for (int k = -2; k <= 28; ++k) {  // alpha from 0.5 to 16384 by factors of sqrt 2
      const double alpha = std::exp2(0.5 * k);
      double bits = 0;
      for (std::size_t i = 0; i < samples.size(); ++i) bits -= std::log2(at(i, n, alpha));
      bits /= static_cast<double>(samples.size());
      if (bits < best) {
        best = bits;
        alpha_[n] = alpha;
      }
    }
    held_bits_[n] = best;
    for (std::size_t i = 0; i < samples.size(); ++i) p[i] = at(i, n, alpha_[n]);
  }
}

int KmerBaseline::best_side() const {
  if (held_bits_[0] == 0) return max_side_;
  return static_cast<int>(std::min_element(held_bits_.begin(), held_bits_.begin() + max_side_ + 1) -
                          held_bits_.begin());
}

KmerBaseline::Prediction KmerBaseline::predict(const TokenView& sequence,
                                               std::int64_t position) const {
  if (!finished_) throw Error(ErrorKind::kInternal, "k-mer baseline: predict before finish");
  Prediction p;
  Probabilities inner;
  inner.fill(1.0 / kBases);
  std::array<std::size_t, kMaxFitting> fitting{};  // contexts that the neighbours allow
  std::size_t count = 1;                           // of them
  for (int n = 0; n <= max_side_; ++n) {
    if (n > 0) {
      const Token left = token_at(sequence, position - n), right = token_at(sequence, position + n);
      const std::size_t options = allowed(left) * allowed(right);
      if (options == 0 || count * options > kMaxFitting) count = 0;
      count = extend(fitting.data(), count, left, right, n);
    }
    const auto k = static_cast<std::size_t>(n);
    if (count > 0) {
      Probabilities sum{};
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t* row = &counts_[k][fitting[i] * kBases];
        for (std::size_t b = 0; b < kBases; ++b) sum[b] += row[b];
      }
      const double total = sum[0] + sum[1] + sum[2] + sum[3];
      for (std::size_t b = 0; b < kBases; ++b) {
        inner[b] = (sum[b] + alpha_[k] * inner[b]) / (total + alpha_[k]);
      }
    }
    p[k] = inner;
  }
  for (int n = max_side_ + 1; n <= kMaxSide; ++n) p[static_cast<std::size_t>(n)] = inner;
  return p;
}

std::array<std::uint32_t, kBases> KmerBaseline::counts(const std::vector<Token>& left,
                                                       const std::vector<Token>& right) const {
  const std::size_t n = checked(static_cast<int>(left.size()));
  if (left.size() != right.size())
    throw Error(ErrorKind::kInternal, "k-mer baseline: lopsided context");
  std::size_t index = 0;  // left as read: its last base is the nearest neighbour
  for (std::size_t i = 0; i < n; ++i) {
    index |= static_cast<std::size_t>(left[n - 1 - i] * 4 + right[i]) << (4 * i);
  }
  const std::uint32_t* row = &counts_[n][index * kBases];
  return {row[0], row[1], row[2], row[3]};
}

void KmerBaseline::save(const std::string& path, const std::string& fingerprint) const {
  if (!finished_) throw Error(ErrorKind::kInternal, "k-mer baseline: save before finish");
  CacheHeader header{max_side_, bases_, static_cast<std::int64_t>(fingerprint.size()), {}, {}};
  std::copy(alpha_.begin(), alpha_.end(), header.alpha);
  std::copy(held_bits_.begin(), held_bits_.end(), header.held_bits);
  OutputFile out(path);
  std::uint32_t crc = 0;
  auto put = [&](const void* data, std::size_t size) {
    crc = checksum(crc, data, size);
    out.write(data, size);
  };
  put(kMagic, sizeof kMagic);
  put(&header, sizeof header);
  put(fingerprint.data(), fingerprint.size());
  for (const auto& table : counts_) put(table.data(), table.size() * sizeof(table[0]));
  out.write(&crc, sizeof crc);
  out.commit();
}

bool KmerBaseline::may_save(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return true;
  if (!std::filesystem::is_regular_file(status)) return false;
  constexpr std::size_t kName = sizeof kMagic - 2;  // without the version
  char start[kName];
  std::ifstream in(path, std::ios::binary);
  in.read(start, sizeof start);
  return in ? std::memcmp(start, kMagic, kName) == 0 : in.gcount() == 0 && in.eof();
}

std::optional<KmerBaseline> KmerBaseline::load(const std::string& path, int max_side,
                                               const std::string& fingerprint,
                                               std::string* reason) {
  auto refuse = [&](const char* why) {
    *reason = why;
    return std::nullopt;
  };
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return refuse("cannot be read");
  const auto size = static_cast<std::uint64_t>(in.tellg());
  in.seekg(0);
  std::uint32_t crc = 0;
  auto get = [&](void* data, std::size_t bytes) {
    if (!in.read(static_cast<char*>(data), static_cast<std::streamsize>(bytes))) return false;
    crc = checksum(crc, data, bytes);
    return true;
  };
  char magic[sizeof kMagic];
  CacheHeader header;
  if (!get(magic, sizeof magic) || std::memcmp(magic, kMagic, sizeof magic) != 0 ||
      !get(&header, sizeof header)) {
    return refuse("is no k-mer table of this version");
  }
  if (header.max_side != max_side) return refuse("has contexts of another length");
  const std::uint64_t expected =
      sizeof magic + sizeof header + memory_needed(max_side) + sizeof crc;
  if (header.fingerprint_size < 0 ||
      size - expected != static_cast<std::uint64_t>(header.fingerprint_size)) {
    return refuse("is cut short or has bytes too many");
  }
  std::string text(static_cast<std::size_t>(header.fingerprint_size), '\0');
  bool complete = get(text.data(), text.size());
  if (complete && !fingerprint.empty() && text != fingerprint) {
    return refuse("was counted on other training files");
  }
  KmerBaseline baseline(max_side);
  for (auto& table : baseline.counts_) {
    complete = complete && get(table.data(), table.size() * sizeof(table[0]));
  }
  const std::uint32_t seen = crc;
  std::uint32_t stored = 0;
  if (!complete || !get(&stored, sizeof stored) || stored != seen) return refuse("is damaged");
  std::copy(std::begin(header.alpha), std::end(header.alpha), baseline.alpha_.begin());
  std::copy(std::begin(header.held_bits), std::end(header.held_bits), baseline.held_bits_.begin());
  for (const double a : baseline.alpha_) {
    if (!(a > 0 && a < 1e9)) return refuse("is damaged");
  }
  baseline.bases_ = header.bases;
  baseline.finished_ = true;
  return baseline;
}

}  // namespace m5
