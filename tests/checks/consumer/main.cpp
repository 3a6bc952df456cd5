// The smallest user of libm5: p(A C G T) at the hidden base of ACGT-ACG, summing to one, by the
// bundled model.
#include <cmath>
#include <cstdio>

#include "m5/error.hpp"
#include "m5/session.hpp"
#include "m5/version.hpp"

int main() try {
  m5::Session session(m5::load_model(m5::default_model_path()), {.threads = 1});
  const m5::Token tokens[] = {0, 1, 2, 3, m5::kTokenMask, 0, 1, 2};
  const m5::TokenView sequence{tokens, 8};
  const std::int64_t rows[] = {4};
  float log_p[4], sum = 0;
  session.log_probs({&sequence, 1}, rows, log_p);
  for (float value : log_p) sum += std::exp(value);
  std::printf("m5 %s: p(A C G T) sums to %.4f\n", m5::version(), sum);
  return std::fabs(sum - 1) < 1e-5 ? 0 : 1;
} catch (const m5::Error& error) {
  std::fprintf(stderr, "consumer: %s\n", error.what());
  return error.exit_code();
}
