// The baseline every masked model must beat: counts of the centre base given its n neighbours on
// each side, both strands, n = 0..6, interpolated from short contexts to long ones:
//
//   p_n(b | context) = (count_n(context, b) + alpha_n p_{n-1}(b | inner context))
//                      / (total_n(context) + alpha_n),      p_{-1} = 1/4.
//
// The alphas, and the n that does best, are chosen on blocks held out of the counts (every 32nd
// block of 65,536 nt of the training sequences, never a validation file); the held blocks are
// counted afterwards, so that the table knows all of its training data.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "m5/tokens.hpp"

namespace m5 {

class KmerBaseline {
 public:
  static constexpr int kMaxSide = 6;
  using Probabilities = std::array<double, kBases>;  // of A C G T
  // [n]: prediction from n neighbours a side; where fewer are there, from as many as there are.
  using Prediction = std::array<Probabilities, kMaxSide + 1>;

  // max_side: longest context, neighbours on each side, 1..6. Takes memory_needed(max_side).
  explicit KmerBaseline(int max_side = kMaxSide);
  static std::uint64_t memory_needed(int max_side = kMaxSide);  // bytes

  // Counts every A/C/G/T of the sequence, from the longest context of bases around it (N, MASK and
  // the ends of a linear sequence end a context). Throws Error(kInput) past 2^31 - 1 bases in all.
  void add(const TokenView& sequence);
  // Adds the other strand, sums contexts to their inner ones, fits the alphas. Once, after all add.
  // Throws Error(kResource) where there is no memory to fit.
  void finish();

  int max_side() const { return max_side_; }
  std::int64_t bases() const { return bases_; }  // counted, one strand
  double alpha(int n) const { return alpha_[checked(n)]; }
  // Bits per base on the held blocks, before they were counted; 0 when there were none.
  double held_bits(int n) const { return held_bits_[checked(n)]; }
  // The n of the least held_bits (max_side when nothing was held).
  int best_side() const;
  // Counts of both strands in a context of n neighbours a side (n <= max_side), for tests and
  // reports.
  std::array<std::uint32_t, kBases> counts(const std::vector<Token>& left,
                                           const std::vector<Token>& right) const;

  // What the tables say about sequence[position], from its neighbours in `sequence`; the token at
  // the position itself is not looked at. A MASK among the neighbours may be any base: the counts
  // of all that fit are summed. N and the ends of a linear sequence end the context, and so do more
  // than four MASKs. Entries above max_side repeat max_side.
  Prediction predict(const TokenView& sequence, std::int64_t position) const;

  // fingerprint: any text that names the training data. Written whole or not at all; Error(kIo).
  void save(const std::string& path, const std::string& fingerprint) const;
  // None, with the reason, when the file is no complete table of this max_side and fingerprint (an
  // empty fingerprint accepts any).
  static std::optional<KmerBaseline> load(const std::string& path, int max_side,
                                          const std::string& fingerprint, std::string* reason);

  // Whether save() may write there: there is no such file, or an empty one, or a table of any
  // version, be it damaged.
  static bool may_save(const std::string& path);

 private:
  struct Context {
    std::size_t index = 0;  // digit pairs (left, right), the nearest neighbours lowest
    int side = 0;
  };
  struct Held {
    std::vector<Token> tokens;  // with max_side flanking tokens on each side
  };

  std::size_t checked(int n) const;
  Context context(const TokenView& sequence, std::int64_t position) const;
  void count(const TokenView& sequence, std::int64_t from, std::int64_t to);
  void count_both_strands(const TokenView& sequence, std::int64_t from, std::int64_t to);
  void fit();

  int max_side_;
  bool finished_ = false;
  std::int64_t bases_ = 0, blocks_ = 0;
  std::array<double, kMaxSide + 1> alpha_{}, held_bits_{};
  std::vector<std::vector<std::uint32_t>> counts_;  // [n][16^n * 4]
  std::vector<Held> held_;
};

}  // namespace m5
