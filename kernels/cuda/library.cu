#include "kernels/cuda/library.hpp"

#include "kernels/cuda/sweeps.hpp"

#define M5_CUDA_API extern "C" __attribute__((visibility("default")))

M5_CUDA_API const char* m5_cuda_version() { return M5_CUDA_VERSION; }

M5_CUDA_API int m5_cuda_layout() { return m5::kernels::cuda::kLibraryLayout; }

M5_CUDA_API void m5_cuda_describe(int device_index, std::string* name) {
  *name = m5::kernels::cuda::Device(device_index).name();
}

M5_CUDA_API m5::kernels::Sweeps<float>* m5_cuda_make_sweeps(
    const m5::kernels::cuda::CudaSetup* setup) {
  using namespace m5::kernels::cuda;
  if (setup->bf16) return new CudaSweeps<bf16>(*setup);
  return new CudaSweeps<float>(*setup);
}
