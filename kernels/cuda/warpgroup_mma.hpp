// The tensor cores' product of a warpgroup (PTX ISA, wgmma.mma_async; sm_90a alone): D [64 rows][8
// kTiles] += A [64][16] B, A and D in registers, B in shared memory. Each of the 4 warps has 16
// rows: A as in mma.hpp, D as kTiles of its fragments. It is done when it has been waited for:
// until then its registers and B are in use.
//
// A column of B is a row of 128 bytes, 64 k, in which 16 bytes number c of row r are at c ^ r % 8
// ("128-byte swizzle"); the first row is aligned to 1,024 bytes.
#pragma once

#include "kernels/cuda/mma.hpp"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define M5_WARPGROUPS 1
#elif defined(__CUDA_ARCH__)
#error "products of a warpgroup are instructions of sm_90a"
#else
#define M5_WARPGROUPS 0
#endif

namespace m5::kernels::cuda {

inline constexpr int kSwizzleRow = 64, kSwizzleBytes = 1024;
// Where 16 bytes number c of row r lie in rows of 128 bytes: in Eights.
M5_DEVICE int swizzled(int r, int c) { return r * 8 + (c ^ r % 8); }

// The block's shared memory from its first multiple of kSwizzleBytes on.
M5_DEVICE Eight* swizzled_memory() {
  Eight* const memory = shared_memory<Eight>();
#if defined(__CUDA_ARCH__)
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(memory));
#else
  const auto at = reinterpret_cast<std::uintptr_t>(memory);
#endif
  return memory + (kSwizzleBytes - at % kSwizzleBytes) % kSwizzleBytes / sizeof(Eight);
}

// 16 k of B, from its first column on.
#if M5_WARPGROUPS
using Operand = std::uint64_t;
#else
using Operand = const unsigned char*;
#endif

#if M5_WARPGROUPS
#define M5_SUMS(t) "+f"(d[t][0]), "+f"(d[t][1]), "+f"(d[t][2]), "+f"(d[t][3])
#define M5_SUMS4(t) M5_SUMS(t), M5_SUMS(t + 1), M5_SUMS(t + 2), M5_SUMS(t + 3)
#define M5_SUMS8(t) M5_SUMS4(t), M5_SUMS4(t + 4)

// The compiler may not compute an A later than here, after before_products.
template <int kSteps>
M5_DEVICE void settle(unsigned (&a)[kSteps][4]) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    asm volatile("" : "+r"(a[s][0]), "+r"(a[s][1]), "+r"(a[s][2]), "+r"(a[s][3])::"memory");
  }
}
// Products that follow see what the registers hold now.
template <int kTiles>
M5_DEVICE void before_products(float (&d)[kTiles][4]) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) asm volatile("" : M5_SUMS(t)::"memory");
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// All products of the warpgroup that were begun are done; the compiler may not read d earlier.
template <int kTiles>
M5_DEVICE void wait_for_products(float (&d)[kTiles][4]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int t = 0; t < kTiles; ++t) asm volatile("" : M5_SUMS(t)::"memory");
}
M5_DEVICE void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// All threads meet, in different places of the code, too; what each has written to shared memory is
// there for products.
M5_DEVICE void meet_before_products() {
  asm volatile("fence.proxy.async.shared::cta;\nbar.sync 0;" ::: "memory");
}

// PTX ISA, matrix descriptor: address, leading dimension (not used with this swizzle), 8 rows
// further, swizzle of 128 bytes; addresses and distances in units of 16 bytes.
M5_DEVICE Operand operand(const Eight* b) {
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(b));
  return std::uint64_t{(at & 0x3ffff) >> 4} | std::uint64_t{1} << 16 |
         std::uint64_t{kSwizzleBytes >> 4} << 32 | std::uint64_t{1} << 62;
}
// 16 bytes further each.
M5_DEVICE Operand further(Operand b, int eights) { return b + static_cast<std::uint64_t>(eights); }

M5_DEVICE void warpgroup_mma(float (&d)[8][4], const unsigned (&a)[4], Operand b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
      "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, add, 1, 1, 0;\n}"
      : M5_SUMS8(0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
M5_DEVICE void warpgroup_mma(float (&d)[16][4], const unsigned (&a)[4], Operand b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
      "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "
      "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, "
      "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, add, 1, 1, 0;\n}"
      : M5_SUMS8(0), M5_SUMS8(8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
M5_DEVICE void warpgroup_mma(float (&d)[32][4], const unsigned (&a)[4], Operand b) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, "
      "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "
      "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, "
      "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, "
      "%70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, "
      "%87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, "
      "%104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, "
      "%118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, {%128, %129, %130, %131}, %132, add, 1, 1, 0;\n}"
      : M5_SUMS8(0), M5_SUMS8(8), M5_SUMS8(16), M5_SUMS8(24)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#undef M5_SUMS8
#undef M5_SUMS4
#undef M5_SUMS
#else
template <int kSteps>
M5_DEVICE void settle(unsigned (&)[kSteps][4]) {}
template <int kTiles>
M5_DEVICE void before_products(float (&)[kTiles][4]) {}
M5_DEVICE void commit_products() {}
M5_DEVICE void meet_before_products() { __syncthreads(); }
M5_DEVICE Operand operand(const Eight* b) { return reinterpret_cast<Operand>(b); }
M5_DEVICE Operand further(Operand b, int eights) { return b + eights * sizeof(Eight); }
template <int kTiles>
M5_DEVICE void wait_for_products(float (&)[kTiles][4]) {
#if !defined(__CUDACC__)
  emulation::wait_for_products();
#endif
}
template <int kTiles>
M5_DEVICE void warpgroup_mma(float (&d)[kTiles][4], const unsigned (&a)[4], Operand b) {
#if !defined(__CUDACC__)
  emulation::warpgroup_mma(&d[0][0], kTiles, a, b);
#endif
}
#endif

}  // namespace m5::kernels::cuda
