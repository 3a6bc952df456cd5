#include "kernels/cpu/targets.hpp"

#include <hwy/highway.h>
#include <strings.h>

#include "kernels/cpu/simd.hpp"
#include "m5/error.hpp"

namespace m5::kernels::simd {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (std::int64_t target : hwy::SupportedAndGeneratedTargets() /* best first */)
    names.emplace_back(hwy::TargetName(target));
  return names;
}

std::string chosen_isa() { return available_isas().front(); }

void force_isa(const std::string& name) {
  hwy::SetSupportedTargetsForTest(0);  // forget an earlier choice
  std::string known;
  for (std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (strcasecmp(name.c_str(), hwy::TargetName(target)) == 0) {
      hwy::SetSupportedTargetsForTest(target);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      return;
    }
    known += std::string(known.empty() ? "" : ", ") + hwy::TargetName(target);
  }
  throw Error(ErrorKind::kUsage,
              "M5_CPU_ISA: '" + name + "' is not available on this machine (have: " + known + ")");
}

}  // namespace m5::kernels::simd
