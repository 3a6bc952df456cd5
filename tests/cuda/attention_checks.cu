// What the case table has not of the attention: several contexts and chunks, pieces of full length,
// order 2 on tensor cores, the means of queries.
#include <algorithm>

#include "attention_order.hpp"
#include "check_arrays.hpp"
#include "kernel_checks.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/math/minimax.hpp"
#include "kernels/math/monomials.hpp"

namespace m5::kernels::cuda {
namespace {

template <class E>
class AttentionChecks : CheckList<E> {
 public:
  using CheckList<E>::CheckList;

  void all() {
    attention(2, 8, 11);
    attention(4, 8, 8);
    attention(8, 8, 8);
    if (kNarrow) {
      attention(2, 8, 8, true);
      attention(4, 24, 8, true);
      attention(6, 16, 8, true);
    }
    if (!kNarrow) reduction();
    alike(4, false);
    if (kNarrow) {
      for (const int order : {2, 4, 6}) alike(order, true);
    }
  }

 private:
  using CheckList<E>::check;
  using CheckList<E>::operand;
  using CheckList<E>::wide;
  using CheckList<E>::kNarrow;
  using CheckList<E>::kSummed;
  using CheckList<E>::device_;
  using CheckList<E>::ref_;

  // --- states of more pieces than a block of threads loads at once, in two chunks
  void reduction() {
    AttentionSize size;
    size.heads = kHeads;
    size.value_dim = kValues;
    size.order = 2;
    size.features = 15;
    constexpr std::int32_t kPieces = 150, kFirst = 71;
    const std::int64_t state = size.state();
    const Values partial = random_values(kPieces * state, 41);
    const std::vector<double> weights = random_values(size.terms(), 42);
    const std::vector<Span> spans{{0, 0, kFirst, 1, 0}, {0, kFirst, kPieces, 0, 1}};
    const auto P = wide(partial);
    Array<double> W(device_, size.terms(), "a check"), total(device_, state, "a check");
    Array<Span> S(device_, static_cast<std::int64_t>(spans.size()), "a check");
    device_.upload(W.data(), weights.data(), W.bytes());
    device_.upload(S.data(), spans.data(), S.bytes());
    auto scaled = room<float>(device_, state);
    for (std::size_t i = 0; i < spans.size(); ++i) {
      reduce_states(device_, size, S.data() + i, 1, P.data(), W.data(), total.data(),
                    scaled.data());
    }
    Values expected(static_cast<std::size_t>(state));
    for (std::size_t i = 0; i < partial.size(); ++i) expected[i % expected.size()] += partial[i];
    for (std::size_t i = 0; i < expected.size(); ++i) {
      expected[i] *= weights[i / (kColumns * kHeads) % weights.size()];
    }
    check("states of 150 pieces", get(device_, scaled), expected, 1e-7);
  }

  // --- the state of rows that are all alike, where all roundings go the same way: of each number
  // so many times that of one row
  void alike(int order, bool tensor_cores) {
    AttentionSize size;
    size.heads = kHeads;
    size.value_dim = kValues;
    size.order = order;
    size.features = static_cast<int>(monomials(order).size());
    size.bound = 2;
    size.tensor_cores = tensor_cores;
    constexpr std::int64_t kAlike = 1200, kKeys = 4 * kHeads, kStride = kKeys + kValues * kHeads;
    const std::vector<Token> tokens(kAlike, kTokenA);
    const std::vector<TokenView> views{{tokens.data(), kAlike, false, 0},
                                       {tokens.data(), 1, false, 1}};
    TokenTransfer transfer(device_);
    const Batch batch(device_, transfer, views, 0, 2 * kPieceRows);  // two chunks
    const Values row = random_values(kStride, 51, 2);
    Values kv;
    for (std::int64_t i = 0; i < kAlike + 1; ++i) kv.insert(kv.end(), row.begin(), row.end());
    const auto KV = operand(kv);
    const std::vector<double> weights = state_weights(size, minimax_exp(order, 2));
    const auto W = put_typed(device_, weights);
    auto partial = room<float>(device_, most_pieces(2 * kPieceRows) * size.state()),
         S = room<float>(device_, 2 * size.state());
    Array<double> total(device_, 2 * size.state(), "a check");
    for (const Chunk& c : batch.all.cut.chunks) {
      const E* const k = KV.data() + c.row * kStride;
      accumulate(device_, size, Pieces{batch.all.pieces(c), c.pieces, c.row}, k, kStride, k + kKeys,
                 kStride, true, partial.data());
      reduce_states(device_, size, batch.all.spans(c), c.spans, partial.data(), W.data(),
                    total.data(), S.data());
    }
    const Values states = get(device_, S);
    const auto half = static_cast<std::size_t>(size.state());
    Values times(half, kAlike);
    const double all = size.features * (kValues + 1) * kHeads;  // besides slots that are none
    double some = 0;
    for (std::size_t i = 0; i < half; ++i) {
      if (states[i] == 0 && states[half + i] == 0) continue;
      times[i] = states[i] / states[half + i];
      ++some;
    }
    check("accumulate of rows alike, how many", {std::min(some, all)}, {all}, 0);
    // A sum of 128 rounds by up to 2^-24 of itself each time. Tensor cores may drop what is below
    // the last bit of a sum of 512, 2^-23 of it, which grows from 0 to that.
    check("accumulate of rows alike, order " + std::to_string(order) +
              (tensor_cores ? " on tensor cores" : ""),
          times, Values(half, kAlike), (tensor_cores ? 512 : 130) * 0x1p-24);
  }

  // --- attention: three contexts, one of two sequences, pieces of several lengths
  struct Sequences {
    explicit Sequences(bool two_pieces) {
      if (!two_pieces) lengths = {70, 1, 53, 33};
    }
    std::vector<std::int64_t> lengths{700, 1, 530, 33};
    std::vector<std::int64_t> contexts{0, 1, 1, 2};
    std::vector<bool> circular{true, false, true, false};
  };

  void attention(int order, int heads, int value_dim, bool tensor_cores = false) {
    const std::string at = " of order " + std::to_string(order) + ", " + std::to_string(heads) +
                           " heads of " + std::to_string(value_dim) +
                           (tensor_cores ? " on tensor cores" : "");
    AttentionShape shape;
    shape.heads = heads;
    shape.value_dim = value_dim;
    shape.order = order;
    shape.bound = 2;
    shape.polynomial = minimax_exp(order, shape.bound);
    shape.weights = feature_weights(shape.polynomial);
    shape.features = static_cast<int>(shape.weights.size());
    const AttentionSize size = size_of(shape, tensor_cores);

    const Sequences s(order <= 4);
    std::vector<std::vector<Token>> tokens;
    std::vector<TokenView> views;
    for (std::size_t i = 0; i < s.lengths.size(); ++i) {
      tokens.emplace_back(static_cast<std::size_t>(s.lengths[i]), kTokenA);
    }
    for (std::size_t i = 0; i < s.lengths.size(); ++i) {
      views.push_back({tokens[i].data(), s.lengths[i], s.circular[i], s.contexts[i]});
    }
    // Two chunks, so that a context goes on in the next one.
    TokenTransfer transfer(device_);
    const Batch batch(device_, transfer, views, 0, 2 * kPieceRows);
    const std::int64_t n = batch.rows, H = heads, V = value_dim, C = V + 1;
    const std::int64_t kv_stride = (4 + V) * H;
    const Values kv = random_values(n * kv_stride, 11, 2), q = random_values(n * 4 * H, 12, 2),
                 d_o = random_values(n * V * H, 13);
    Values z = kv, zq = q;
    ref_->bound(0, shape, static_cast<int>(n), kv_stride, kv.data(), z.data());
    ref_->bound(0, shape, static_cast<int>(n), 4 * H, q.data(), zq.data());

    const std::int64_t state = shape.state_size();
    const auto state_of = [&](std::int64_t context, const Values& from, std::int64_t stride,
                              const double* u, std::int64_t u_stride, bool unit) {
      Values sum(static_cast<std::size_t>(state), 0.0), scaled(sum.size());
      std::int64_t row = 0;
      for (std::size_t i = 0; i < s.lengths.size(); ++i) {
        if (s.contexts[i] == context) {
          ref_->attention_accumulate(0, shape, static_cast<int>(s.lengths[i]),
                                     from.data() + row * stride, stride, u + row * u_stride,
                                     u_stride, unit, sum.data());
        }
        row += s.lengths[i];
      }
      ref_->attention_scale(shape, sum.data(), scaled.data());
      return scaled;
    };
    // The states of the device as [contexts][F][C][H].
    const auto in_order = [&](const Values& device_states) {
      Values states;
      for (std::int64_t x = 0; x < batch.contexts; ++x) {
        const Values one = state_of_device(size, 1, device_states.data() + x * size.state());
        states.insert(states.end(), one.begin(), one.end());
      }
      return states;
    };

    const std::vector<int> of_kv{4, value_dim}, of_q{4}, of_o{value_dim}, of_du{value_dim, 1};
    const auto back = [&](const Array<E>& array, const std::vector<int>& components) {
      return reordered(size, get(device_, array), components, false);
    };
    const auto KV = operand(reordered(size, kv, of_kv, true)),
               Q = operand(reordered(size, q, of_q, true)),
               DO = operand(reordered(size, d_o, of_o, true));
    const std::vector<double> weights = state_weights(size, shape.polynomial);
    Array<double> weights_on_device(device_, size.terms(), "a check");
    device_.upload(weights_on_device.data(), weights.data(), weights_on_device.bytes());
    auto partial = room<float>(device_, most_pieces(2 * kPieceRows) * size.state());
    Array<double> total(device_, batch.contexts * size.state(), "a check");
    const auto sum_up = [&](const Array<E>& from, std::int64_t stride, const E* u,
                            std::int64_t u_stride, bool unit, Array<float>& scaled) {
      for (const Chunk& c : batch.all.cut.chunks) {
        const Pieces pieces{batch.all.pieces(c), c.pieces, 0};
        accumulate(device_, size, pieces, from.data(), stride, u, u_stride, unit, partial.data());
        reduce_states(device_, size, batch.all.spans(c), c.spans, partial.data(),
                      weights_on_device.data(), total.data(), scaled.data());
      }
    };
    auto S = room<float>(device_, batch.contexts * size.state());
    sum_up(KV, kv_stride, KV.data() + 4 * H, kv_stride, true, S);
    Values states;
    for (std::int64_t x = 0; x < batch.contexts; ++x) {
      const Values one = state_of(x, z, kv_stride, z.data() + 4 * H, kv_stride, true);
      states.insert(states.end(), one.begin(), one.end());
    }
    check("accumulate" + at, in_order(get(device_, S)), states, tensor_cores ? 0x1p-9 : kSummed);

    // By sequences, each with the state of its context.
    Values o(static_cast<std::size_t>(n * V * H)), sum(static_cast<std::size_t>(n * H)),
        du(static_cast<std::size_t>(n * C * H)), dq(q.size()), d_states(states.size(), 0.0),
        d_kv(kv.size());
    const auto by_sequence = [&](auto call) {
      std::int64_t row = 0;
      for (std::size_t i = 0; i < s.lengths.size(); ++i) {
        call(row, static_cast<int>(s.lengths[i]), s.contexts[i] * state);
        row += s.lengths[i];
      }
    };
    by_sequence([&](std::int64_t row, int rows, std::int64_t at_state) {
      ref_->attention_query(0, shape, rows, zq.data() + row * 4 * H, 4 * H,
                            states.data() + at_state, o.data() + row * V * H, sum.data() + row * H);
      ref_->attention_query_backward(
          0, shape, rows, zq.data() + row * 4 * H, 4 * H, states.data() + at_state,
          o.data() + row * V * H, sum.data() + row * H, d_o.data() + row * V * H,
          du.data() + row * C * H, dq.data() + row * 4 * H, d_states.data() + at_state);
      ref_->bound_backward(0, shape, rows, 4 * H, q.data() + row * 4 * H, dq.data() + row * 4 * H,
                           dq.data() + row * 4 * H);
    });
    for (std::int64_t x = 0; x < batch.contexts; ++x) {
      Values scaled(static_cast<std::size_t>(state));
      ref_->attention_scale(shape, d_states.data() + x * state, scaled.data());
      std::copy(scaled.begin(), scaled.end(), d_states.begin() + x * state);
    }
    by_sequence([&](std::int64_t row, int rows, std::int64_t at_state) {
      const std::int64_t r = row * kv_stride;
      ref_->attention_accumulate_backward(
          0, shape, rows, z.data() + r, kv_stride, z.data() + r + 4 * H, kv_stride,
          d_states.data() + at_state, d_kv.data() + r, d_kv.data() + r + 4 * H);
      ref_->bound_backward(0, shape, rows, kv_stride, kv.data() + r, d_kv.data() + r,
                           d_kv.data() + r);
    });

    auto O = room<E>(device_, n * V * H), DQ = room<E>(device_, n * 4 * H),
         DU = room<E>(device_, n * C * H), DKV = room<E>(device_, n * kv_stride);
    auto SUM = room<float>(device_, n * H),
         DS = room<float>(device_, batch.contexts * size.state());
    for (const Chunk& c : batch.all.cut.chunks) {
      const Pieces pieces{batch.all.pieces(c), c.pieces, 0};
      query(device_, size, pieces, Q.data(), S.data(), O.data(), SUM.data());
    }
    check("query" + at, back(O, of_o), o, tensor_cores ? 5e-3 : kNarrow ? 0x1p-8 : 1e-5);
    check("query, weights" + at, get(device_, SUM), sum, tensor_cores ? 3e-3 : 1e-5);
    // What rounds each row differently is small in the mean of all; what rounds a state is not.
    const auto means = [&](const Values& rows) {
      Values mean(static_cast<std::size_t>(V * H));
      for (std::size_t i = 0; i < rows.size(); ++i) mean[i % mean.size()] += rows[i];
      return mean;
    };
    check("query, mean" + at, means(back(O, of_o)), means(o), kNarrow ? 9e-4 : 1e-5);
    // The gradient of what was computed, from the rounded output that the kernel is given.
    for (const Chunk& c : batch.all.cut.chunks) {
      const Pieces pieces{batch.all.pieces(c), c.pieces, 0};
      query_backward(device_, size, pieces, Q.data(), S.data(), O.data(), SUM.data(), DO.data(),
                     DQ.data(), DU.data());
    }
    check("query_backward, du" + at, back(DU, of_du), du, kNarrow ? 0x1p-7 : 1e-5);
    check("query_backward" + at, back(DQ, of_q), dq, kNarrow ? 0x1p-5 : 2e-5);
    sum_up(Q, 4 * H, DU.data(), C * H, false, DS);
    check("accumulate, du" + at, in_order(get(device_, DS)), d_states, kNarrow ? 0x1p-6 : 2e-5);
    for (const Chunk& c : batch.all.cut.chunks) {
      const Pieces pieces{batch.all.pieces(c), c.pieces, 0};
      accumulate_backward(device_, size, pieces, KV.data(), DS.data(), DKV.data());
    }
    check("accumulate_backward" + at, back(DKV, of_kv), d_kv, kNarrow ? 0x1p-5 : 5e-5);
  }
};

}  // namespace

void attention_checks(Device& device, std::vector<Check>& checks) {
  AttentionChecks<float>(device, checks).all();
  AttentionChecks<bf16>(device, checks).all();
}

}  // namespace m5::kernels::cuda
