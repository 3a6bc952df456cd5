// How the parameters lie on the device, against plain loops over the tensors of the table.
#include <numeric>

#include "check_arrays.hpp"
#include "kernel_checks.hpp"
#include "kernels/cuda/slab.hpp"

namespace m5::kernels::cuda {
namespace {

struct Shape {
  int heads, value_dim;
  bool conv, memory;
};

ModelConfig config_of(const Shape& shape) {
  ModelConfig c;
  c.heads = shape.heads;
  c.dim = shape.heads * shape.value_dim;
  c.layers = 2;
  c.ff_dim = 40;
  c.window = 1;
  if (shape.conv) c.local_conv = {{3, 1}, {0, 1}};
  if (shape.memory) c.memory.orders = {{1, 1}, {2, 0}, {0, 2}};
  return c;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Of every element of the slab, its place on the device.
std::vector<std::size_t> places_of(const ParameterTable& table, const ModelConfig& c) {
  std::vector<std::size_t> places(static_cast<std::size_t>(table.total));
  std::iota(places.begin(), places.end(), std::size_t{0});
  const auto heads = static_cast<std::size_t>(c.heads), d = static_cast<std::size_t>(c.dim);
  // `components` rows of d a head, from row `first` of the matrix on.
  const auto rows = [&](std::size_t offset, std::size_t first, std::size_t components) {
    for (std::size_t component = 0; component < components; ++component) {
      for (std::size_t head = 0; head < heads; ++head) {
        for (std::size_t i = 0; i < d; ++i) {
          places[offset + (first + component * heads + head) * d + i] =
              offset + (first + head * components + component) * d + i;
        }
      }
    }
  };
  for (const ParameterSpec& spec : table.specs) {
    const auto offset = static_cast<std::size_t>(spec.offset);
    const auto values = static_cast<std::size_t>(c.value_dim());
    if (ends_with(spec.name, "attention.query")) rows(offset, 0, 4);
    if (ends_with(spec.name, "attention.key_value")) {
      rows(offset, 0, 4);
      rows(offset, 4 * heads, values);
    }
    if (!ends_with(spec.name, "attention.output.weight")) continue;
    for (std::size_t row = 0; row < d; ++row) {
      for (std::size_t column = 0; column < d; ++column) {
        places[offset + row * d + column] =
            offset + row * d + column % heads * values + column / heads;
      }
    }
  }
  return places;
}

class Checks : CheckList<bf16> {
 public:
  using CheckList<bf16>::CheckList;

  void all() {
    for (const int heads : {8, 16, 24}) {
      for (const int value_dim : {8, 3}) {
        for (const bool conv : {false, true}) {
          for (const bool by_heads : {false, true}) {
            of({heads, value_dim, conv, heads == 16}, by_heads);
          }
        }
      }
    }
    of({8, 1, true, true}, true);
    of({8, 32, false, false}, true);
    alignment();
  }

 private:
  void of(const Shape& shape, bool by_heads) {
    const ModelConfig config = config_of(shape);
    const ParameterTable table(config);
    const auto total = static_cast<std::size_t>(table.total);
    const std::string at = " of " + std::to_string(shape.heads) + " heads of " +
                           std::to_string(shape.value_dim) + (shape.conv ? ", convolution" : "") +
                           (by_heads ? ", by heads" : "");
    std::vector<std::size_t> places = places_of(table, config);
    if (!by_heads) std::iota(places.begin(), places.end(), std::size_t{0});
    const std::vector<Region> regions = regions_of(table, config, by_heads);
    regions_cover(regions, places, at);

    const Values x = random_values(table.total, 61), before = random_values(table.total, 62, 1e6);
    Values moved(total), added = before;
    for (std::size_t i = 0; i < total; ++i) moved[places[i]] = x[i];
    const std::int64_t counted = table.head_bias;
    for (std::size_t i = 0; i < static_cast<std::size_t>(counted); ++i) {
      added[i] = before[i] + x[places[i]];
    }
    const auto where = put_typed(device_, regions);
    const auto X = wide(x);
    auto Y = room<bf16>(device_, table.total);
    convert(device_, where, table.total, X.data(), Y.data());
    const Values y = get(device_, Y);
    check("convert" + at, y, moved, 0);

    auto sum = put_typed(device_, before);
    for (const ParameterSpec& spec : table.specs) {  // one tensor after the other
      if (spec.offset >= counted) break;
      const auto of_tensor =
          wide(Values(x.begin() + spec.offset, x.begin() + spec.offset + spec.size));
      add_gradient(device_, where, spec.offset, spec.size, 1, 0, of_tensor.data(), sum.data());
    }
    check("add_gradient" + at, get_typed(device_, sum), added, 0);

    // There and back again.
    auto back = put_typed(device_, Values(total));
    add_gradient(device_, where, 0, table.total, 1, 0, wide(y).data(), back.data());
    check("add_gradient of convert" + at, get_typed(device_, back), x, 0);

    // Parts, with something between them.
    const std::size_t step = total + 4;
    Values parts(3 * step), total_of_parts = x;
    for (std::size_t part = 0; part < 3; ++part) {
      const double scale = part == 1 ? -3 : 0.5;
      for (std::size_t i = 0; i < step; ++i) parts[part * step + i] = i < total ? scale * y[i] : 7;
    }
    for (double& v : total_of_parts) v *= -2;
    auto sum_of_parts = put_typed(device_, Values(total));
    add_gradient(device_, where, 0, table.total, 3, static_cast<std::int64_t>(step),
                 wide(parts).data(), sum_of_parts.data());
    check("add_gradient of parts" + at, get_typed(device_, sum_of_parts), total_of_parts, 0);
  }

  // ff decides where it has fewer factors of two than d.
  void alignment() {
    Values actual, expected;
    const std::vector<std::pair<int, double>> of_ff{{40, 8}, {48, 16}, {512, 64}};
    for (const auto& [ff, aligned] : of_ff) {
      for (const bool conv : {false, true}) {
        ModelConfig c = config_of({8, 8, conv, true});
        c.ff_dim = ff;
        actual.push_back(static_cast<double>(operand_alignment(ParameterTable(c))));
        expected.push_back(aligned);
      }
    }
    check("alignment of operands", actual, expected, 0);
  }

  // What is wrong with the regions: a gap or an overlap, a place beyond the region, two that are
  // not each other's inverse, four that are none; and where the elements are.
  void regions_cover(const std::vector<Region>& regions, const std::vector<std::size_t>& places,
                     const std::string& at) {
    double wrong = 0;
    std::int64_t end = 0;
    Values actual, expected(places.begin(), places.end());
    for (const Region& region : regions) {
      wrong += region.offset != end || region.size <= 0 || region.offset % 4 != 0 ||
               region.size % 4 != 0;
      for (std::int64_t k = 0; k < region.size; ++k) {
        const std::int64_t place = region.on_device(k);
        wrong += place < 0 || place >= region.size || region.in_slab(place) != k;
        wrong += region.by_fours() && place != region.on_device(k / 4 * 4) + k % 4;
        actual.push_back(static_cast<double>(region.offset + place));
      }
      end = region.offset + region.size;
    }
    wrong += static_cast<std::size_t>(end) != places.size();
    check("regions" + at, {wrong}, {0}, 0);
    check("places of regions" + at, actual, expected, 0);
  }
};

}  // namespace

void slab_checks(Device& device, std::vector<Check>& checks) { Checks(device, checks).all(); }

}  // namespace m5::kernels::cuda
