#include "kernels/devices.hpp"

#include <string>
#include <utility>

#include "base/log.hpp"
#include "kernels/cuda_device.hpp"
#include "kernels/tiled/make_tiled_sweeps.hpp"
#include "m5/error.hpp"

namespace m5::kernels {

namespace {

// The host itself, by the operations of a backend.
class Host final : public Device {
 public:
  Host(std::unique_ptr<Backend<float>> backend, int block_rows)
      : backend_(std::move(backend)), block_rows_(block_rows) {}
  std::string name() const override { return backend_->name(); }
  Backend<float>& host() override { return *backend_; }
  std::unique_ptr<Sweeps<float>> make_sweeps(const ModelConfig& config,
                                             const SweepOptions& options) override {
    return make_tiled_sweeps(*backend_, config, options, block_rows_);
  }

 private:
  const std::unique_ptr<Backend<float>> backend_;
  const int block_rows_;
};

}  // namespace

bool names_cuda(const std::string& name) {
  return name == "cuda" || (name.starts_with("cuda:") && name.size() > 5 &&
                            name.find_first_not_of("0123456789", 5) == std::string::npos);
}

std::string resolve_device(const std::string& name) {
  if (name != "auto") return name;
  try {
    log_info("--device auto: " + cuda_device_name("cuda"));
    return "cuda";
  } catch (const Error& error) {
    log_info(std::string("--device auto: cpu (") + error.what() + ")");
    return "cpu";
  }
}

std::unique_ptr<Device> make_device(const DeviceOptions& o) {
  const std::string name = resolve_device(o.name);
  if (name == "ref") return std::make_unique<Host>(make_ref_backend<float>(), o.block_rows);
  if (names_cuda(name)) return make_cuda_device(name, o);
  if (name != "cpu") {
    throw Error(ErrorKind::kUsage,
                "device '" + name + "' is not known: cpu, cuda, cuda:N, auto or ref");
  }
  return std::make_unique<Host>(make_cpu_backend({.threads = o.threads, .bf16 = o.bf16}),
                                o.block_rows);
}

}  // namespace m5::kernels
