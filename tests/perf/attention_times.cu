#include "attention_times.hpp"

#include <cstdio>
#include <string>
#include <vector>

#include "kernel_times.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/library.hpp"
#include "kernels/cuda/rows.hpp"
#include "kernels/cuda/sequences.hpp"
#include "kernels/cuda/sweeps.hpp"
#include "kernels/math/minimax.hpp"
#include "pass_checks.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr double kBar = 50;  // per cent of the floor

}  // namespace

void attention_times(Device& device, double rate, double copy, Table& rows) {
  std::printf(
      "\nfloor: the greater of two: the bytes of a row that the kernel reads and writes (partial\n"
      "states, too; not what all rows share) at the rate of the copy, and the operations of the\n"
      "model in it (accumulate, query: 2 x 9 F a head; no others) at the rate of cuBLAS\n");
  std::printf("%4s  %5s  %-20s %10s %10s %10s %9s\n", "d", "order", "ns a row", "time",
              "bytes' own", "products'", "of floor");
  constexpr std::int64_t n = kChunkRows;
  constexpr int kWindow = 15;
  constexpr float epsilon = 1e-5f;
  for (const int d : {128, 256, 512}) {
    const char* const preset = d == 128 ? "nano" : d == 256 ? "small" : "base";
    const ModelConfig config = config_of(d, d / 8, 4 * d, 1, d == 128 ? 4 : 6, kWindow);
    const AttentionSize size = attention_size(config, true);
    const auto tokens = random_tokens(n, 2);
    const std::vector<TokenView> views{{tokens.data(), n, true, 0}};
    TokenTransfer transfer(device);
    const Batch batch(device, transfer, views, kWindow, n);
    const Chunk& chunk = batch.all.cut.chunks.at(0);
    const Pieces pieces{batch.all.pieces(chunk), chunk.pieces, 0};
    const std::int64_t H = size.heads, keys = 12 * H, queries = 4 * H;
    const auto kv = random_operand(device, n * keys, 1), q = random_operand(device, n * queries, 1),
               x = random_operand(device, n * d, 1), dh = random_operand(device, n * d, 1),
               table = random_operand(device, one_hot_columns(kWindow) * d, 1);
    Array<bf16> o(device, n * d, "o"), dq(device, n * queries, "dq"), du(device, n * 9 * H, "du"),
        d_kv(device, n * keys, "d_kv"), y(device, n * d, "y");
    Array<float> partial(device, chunk.pieces * size.state(), "partial"),
        state(device, size.state(), "state"), sum(device, n * H, "sum"),
        sums(device, sum_parts(n) * d, "sums");
    Array<double> total(device, size.state(), "total"), weights(device, size.terms(), "weights");
    Array<float> gain(device, d, "gain");
    const std::vector<float> ones(static_cast<std::size_t>(d), 1.0f);
    device.upload(gain.data(), ones.data(), gain.bytes());
    const std::vector<double> scale =
        state_weights(size, minimax_exp(size.order, static_cast<double>(size.bound)));
    device.upload(weights.data(), scale.data(), weights.bytes());

    // bytes: of a row, read and written; products: operations (multiply and add are two).
    const auto row = [&](const char* name, double bytes, double products, auto call) {
      const double time = seconds(device, call) / n, moved = bytes / copy, made = products / rate,
                   share = std::max(moved, made) / time;
      std::printf("%4d  %5d  %-20s %10.3f %10.3f %10.3f %8.1f%%\n", d, size.order, name, time * 1e9,
                  moved * 1e9, made * 1e9, 100 * share);
      std::fflush(stdout);
      return share;
    };
    const auto table_row = [&](const char* name, double share) {
      rows.share(std::string(name) + ", " + preset + ", order " + std::to_string(size.order), share,
                 kBar);
    };
    const double h = size.heads, products = 2.0 * size.features * 9 * h,
                 of_state = 4.0 * size.terms() * 9 * h / kPieceRows;  // bytes of a row's share
    const double accumulated = row("accumulate", 24 * h + of_state, products, [&] {
      accumulate<bf16>(device, size, pieces, kv.data(), keys, kv.data() + queries, keys, true,
                       partial.data());
    });
    table_row("accumulate", accumulated);
    row("reduce_states", of_state, 0, [&] {
      reduce_states(device, size, batch.all.spans(chunk), chunk.spans, partial.data(),
                    weights.data(), total.data(), state.data());
    });
    const double asked = row("query", 24 * h, products, [&] {
      query<bf16>(device, size, pieces, q.data(), state.data(), o.data(), nullptr);
    });
    table_row("query", asked);
    query<bf16>(device, size, pieces, q.data(), state.data(), o.data(), sum.data());
    row("query_backward", 70 * h, products, [&] {
      query_backward<bf16>(device, size, pieces, q.data(), state.data(), o.data(), sum.data(),
                           x.data(), dq.data(), du.data());
    });
    row("accumulate_backward", 48 * h, 2 * products, [&] {
      accumulate_backward<bf16>(device, size, pieces, kv.data(), state.data(), d_kv.data());
    });
    row("embed", 2.0 * d, 0, [&] {
      embed_mma(device, pieces, d, kWindow, batch.tokens.data(), table.data(), gain.data(),
                y.data());
    });
    row("norm", 4.0 * d, 0,
        [&] { norm(device, n, d, epsilon, x.data(), gain.data(), y.data(), nullptr); });
    row("norm_backward", 8.0 * d, 0, [&] {
      norm_backward(device, n, d, epsilon, x.data(), gain.data(), dh.data(), x.data(), y.data(),
                    NormSums{sums.data(), nullptr, nullptr});
    });
  }
}

}  // namespace m5::kernels::cuda
