// Scores and embeds a sequence with libm5, by the bundled model or $M5_MODEL:
//   api SEQUENCE [circular]
// A line a base, its position, the base and -log2 p(base | all other bases), as `m5 score --metric
// bits`; then the first four values of the sequence's vector, as `m5 embed`.
#include <m5/embedding.hpp>
#include <m5/error.hpp>
#include <m5/model.hpp>
#include <m5/scoring.hpp>
#include <m5/session.hpp>
#include <m5/tokens.hpp>
#include <m5/version.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
  if (argc < 2) throw m5::Error(m5::ErrorKind::kUsage, "usage: api SEQUENCE [circular]");
  const std::vector<m5::Token> tokens = m5::tokenize(argv[1]);
  const m5::TokenView sequence{tokens.data(), static_cast<std::int64_t>(tokens.size()),
                               argc > 2 && std::string(argv[2]) == "circular"};
  m5::Session session(m5::load_model(m5::default_model_path()), {.threads = 1});
  std::printf("# m5 %s, model %s, %s\n", m5::version(), session.config().name.c_str(),
              session.device_name().c_str());

  const std::vector<m5::SequenceScores> scores = m5::score_sequences(session, {&sequence, 1});
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (!m5::is_base(tokens[i])) continue;  // N has no score
    std::printf("%zu\t%c\t%.4f\n", i, "ACGT"[tokens[i]],
                -static_cast<double>(scores[0].log_p[i]) / std::log(2.0));
  }

  const m5::PoolInterval whole{0, 0, sequence.length};
  const m5::Embeddings vectors = m5::pooled_embeddings(session, {&sequence, 1}, {&whole, 1});
  std::printf("vector of %lld bases:", static_cast<long long>(vectors.bases[0]));
  for (std::size_t c = 0; c < 4; ++c) std::printf(" %.6g", static_cast<double>(vectors.values[c]));
  std::printf("\n");
  return 0;
} catch (const m5::Error& error) {
  std::fprintf(stderr, "api: %s\n", error.what());
  return error.exit_code();
}
