// The public embeddings: hidden rows of either strand, pooled.
#include "m5/embedding.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "m5/error.hpp"
#include "m5/model.hpp"
#include "model_util.hpp"

namespace m5 {
namespace {

// What the rows of bases say, pooled in plain loops, on either strand of linear and of circular
// sequences; and the same rows for the reverse complement.
TEST(Embedding, PoolsTheHiddenRowsOfEachStrand) {
  const Model model = initial_model(tiny_config(16, 2, 2), 1);
  Session session(model, {.threads = 2});
  std::vector<Token> tokens = random_tokens(40, 1);
  tokens[5] = tokens[20] = kTokenN;
  const std::vector<Token> second = random_tokens(300, 2);
  const int dim = session.config().dim;
  for (const bool circular : {false, true}) {
    const std::vector<TokenView> views = {view(tokens, circular), view(second, circular, 1)};
    std::vector<float> forward(static_cast<std::size_t>(340 * dim));
    session.hidden(views, 1, [&](std::int64_t first, int n, const float* values) {
      std::copy_n(values, n * dim, forward.begin() + first * dim);
    });
    EXPECT_EQ(base_embeddings(session, views, {.layer = 1, .strand = Strand::kForward}), forward);
    std::vector<Token> turned = tokens, turned_second = second;
    reverse_complement(turned);
    reverse_complement(turned_second);
    const std::vector<TokenView> other = {view(turned, circular), view(turned_second, circular, 1)};
    const auto at = [&](const std::vector<float>& rows, int s, std::int64_t position) {
      return rows.data() + (s * 40 + position) * dim;
    };
    for (const Strand strand : {Strand::kForward, Strand::kReverse, Strand::kBoth}) {
      const Strand mirror = strand == Strand::kForward   ? Strand::kReverse
                            : strand == Strand::kReverse ? Strand::kForward
                                                         : Strand::kBoth;
      const std::vector<float> rows =
          base_embeddings(session, views, {.layer = 1, .strand = strand});
      const std::vector<float> mirrored =
          base_embeddings(session, other, {.layer = 1, .strand = mirror});
      for (int s = 0; s < 2; ++s) {
        const std::int64_t length = views[static_cast<std::size_t>(s)].length;
        for (std::int64_t i = 0; i < length; ++i) {
          ASSERT_TRUE(
              std::equal(at(rows, s, i), at(rows, s, i) + dim, at(mirrored, s, length - 1 - i)));
        }
      }
      const std::vector<PoolInterval> intervals = {
          {0, 0, 40}, {1, 100, 231}, {1, 299, circular ? 350 : 300}, {0, 5, 6}};
      for (const Pool pool : {Pool::kMean, Pool::kMax, Pool::kStd}) {
        const Embeddings pooled = pooled_embeddings(session, views, intervals,
                                                    {.layer = 1, .pool = pool, .strand = strand});
        ASSERT_EQ(pooled.values.size(), intervals.size() * static_cast<std::size_t>(dim));
        for (std::size_t i = 0; i < intervals.size(); ++i) {
          const TokenView& of = views[static_cast<std::size_t>(intervals[i].sequence)];
          std::vector<const float*> pooled_rows;
          for (std::int64_t p = intervals[i].begin; p < intervals[i].end; ++p) {
            const std::int64_t position = p % of.length;
            if (!is_base(of.tokens[position])) continue;
            pooled_rows.push_back(at(rows, static_cast<int>(intervals[i].sequence), position));
          }
          const auto bases = static_cast<std::int64_t>(pooled_rows.size());
          EXPECT_EQ(pooled.bases[i], bases);
          // The maximum of means is not the mean of maxima, and so with deviations.
          if (pool != Pool::kMean && strand == Strand::kBoth && bases > 1) continue;
          for (int c = 0; c < dim; ++c) {
            double sum = 0, most = -1e9, squares = 0;
            for (const float* row : pooled_rows) {
              sum += static_cast<double>(row[c]);
              most = std::max(most, static_cast<double>(row[c]));
            }
            const double n = static_cast<double>(std::max<std::int64_t>(1, bases));
            for (const float* row : pooled_rows) {
              squares += std::pow(static_cast<double>(row[c]) - sum / n, 2);
            }
            const double want = bases == 0            ? 0
                                : pool == Pool::kMean ? sum / n
                                : pool == Pool::kMax  ? most
                                                      : std::sqrt(squares / n);
            // Sums of at most 131 floats below 8, in double, and one rounding of each strand.
            ASSERT_NEAR(
                pooled.values[i * static_cast<std::size_t>(dim) + static_cast<std::size_t>(c)],
                want, 2e-6)
                << "interval " << i;
          }
        }
      }
    }
  }
}

// As it was given, on either strand.
TEST(Embedding, PlaceOfAValueThatIsNotFinite) {
  // Only the embedding of an N, and only at its own position.
  Model wild = initial_model(tiny_config(16, 2, 2), 1);
  const std::vector<Token> quiet(50, kTokenC);
  std::vector<Token> loud(60, kTokenC);
  loud[41] = kTokenN;
  const ModelConfig config = wild.config;
  for (int tap = 0; tap < 2 * config.window + 1; ++tap) {
    float* const row = wild.parameters.data() + (tap * kTokenKinds + kTokenN) * config.dim;
    std::fill_n(row, config.dim,
                tap == config.window ? std::numeric_limits<float>::infinity() : 0.0f);
  }
  Session session(wild, {.threads = 1});
  const std::vector<TokenView> views = {view(quiet, false), view(loud, false, 1)};
  for (const Strand strand : {Strand::kForward, Strand::kReverse, Strand::kBoth}) {
    try {
      base_embeddings(session, views, {.layer = 0, .strand = strand});
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kNumeric);
      EXPECT_EQ(std::string(error.what()),
                "sequence 1: position 42: the model gives a value that is not finite");
    }
  }
}

}  // namespace
}  // namespace m5
