#include "kernels/cuda_device.hpp"

#include <dlfcn.h>
#include <sys/stat.h>

#include <charconv>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/location.hpp"
#include "kernels/cuda/library.hpp"
#include "m5/error.hpp"
#include "m5/version.hpp"

namespace m5::kernels {
namespace {

constexpr const char* kFile = "libm5_cuda.so";

[[noreturn]] void missing(const std::string& why) {
  throw Error(ErrorKind::kResource, "device cuda: " + why);
}

bool exists(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0;
}

std::string library_path() {
  const char* named = std::getenv("M5_CUDA_LIBRARY");
  if (named && *named) return named;
  for (const std::string& folder : own_folders()) {
    for (const char* way : {"", "/../lib", "/" M5_LIB_FROM_BIN}) {
      std::string path = folder + way + "/" + kFile;
      if (exists(path)) return path;
    }
  }
  return {};
}

const cuda::Library& library() {
  static const cuda::Library loaded = [] {
    const std::string found = library_path(), path = found.empty() ? kFile : found;
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      if (found.empty()) {
        missing(std::string(kFile) + " is not installed (builds with M5_CUDA=ON have it)");
      }
      missing(std::string("the library cannot be loaded: ") + dlerror());
    }
    cuda::Library l;
    const auto find = [&](const char* name, auto& function) {
      void* symbol = dlsym(handle, name);
      if (!symbol) missing(path + " lacks " + name);
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
    };
    find("m5_cuda_version", l.version);
    if (l.version() != std::string(version())) {
      missing(path + " is of m5 " + l.version() + ", this is m5 " + version());
    }
    find("m5_cuda_layout", l.layout);
    if (l.layout() != cuda::kLibraryLayout) missing(path + " is of another build of m5");
    find("m5_cuda_describe", l.describe);
    find("m5_cuda_make_sweeps", l.make_sweeps);
    return l;
  }();
  return loaded;
}

int device_index(const std::string& name) {
  if (name == "cuda") return 0;
  int index = 0;  // names_cuda: digits follow
  if (std::from_chars(name.data() + 5, name.data() + name.size(), index).ec != std::errc()) {
    throw Error(ErrorKind::kUsage,
                "device '" + name + "' is not known: cuda:N numbers the GPUs from 0");
  }
  return index;
}

class Gpu final : public Device {
 public:
  Gpu(const std::string& name, const DeviceOptions& o)
      : index_(device_index(name)),
        bf16_(o.bf16),
        library_(library()),
        name_(cuda_device_name(name) + (bf16_ ? ", bf16" : ", fp32")),
        host_(make_cpu_backend({.threads = o.threads})) {}

  std::string name() const override { return name_; }
  Backend<float>& host() override { return *host_; }
  std::unique_ptr<Sweeps<float>> make_sweeps(const ModelConfig& config,
                                             const SweepOptions& options) override {
    cuda::CudaSetup setup;
    setup.config = config;
    setup.options = options;
    setup.device_index = index_;
    setup.bf16 = bf16_;
    setup.measured_products = options.training;
    const char* fused = std::getenv("M5_CUDA_FUSED");
    setup.fused = fused && std::string(fused) == "0" ? cuda::Fused::kNone : cuda::Fused::kChosen;
    setup.host = host_.get();
    return std::unique_ptr<Sweeps<float>>(library_.make_sweeps(&setup));
  }

 private:
  const int index_;
  const bool bf16_;
  const cuda::Library& library_;
  const std::string name_;
  const std::unique_ptr<Backend<float>> host_;
};

}  // namespace

std::string cuda_library() { return library_path(); }

std::string cuda_device_name(const std::string& name) {
  const int index = device_index(name);
  std::string gpu;
  library().describe(index, &gpu);
  return "cuda:" + std::to_string(index) + " " + gpu;
}

std::unique_ptr<Device> make_cuda_device(const std::string& name, const DeviceOptions& options) {
  return std::make_unique<Gpu>(name, options);
}

}  // namespace m5::kernels
