# The sources of the CUDA device, for what compiles them: the library (CMakeLists.txt), the emulation
# (tests/cuda), gpu_check (tests/perf/gpu).
set(m5_cuda_dir ${CMAKE_CURRENT_LIST_DIR})
# Of a GPU and of the emulation.
set(m5_cuda_kernels
  attention_accumulate.cu
  attention_accumulate_mma.cu
  attention_backward_mma.cu
  attention_query.cu
  attention_query_mma.cu
  backward.cu
  batch.cu
  choice.cu
  embed_mma.cu
  feed_forward.cu
  feed_forward_mma.cu
  forward.cu
  head.cu
  muon.cu
  norm.cu
  norm_product_mma.cu
  optimizer.cu
  rows.cu
  sequences.cu
  slab.cu
  sweeps.cu
  update.cu
)
# The same; instructions of sm_90a, which no other GPU has: no other architecture gives them.
set(m5_cuda_warpgroup_kernels feed_forward_wgmma.cu norm_gelu_wgmma.cu)
# Of a GPU alone: the emulation has its own.
set(m5_cuda_gpu_sources device.cu products.cu)
# The order of their instructions is that of the source (-Xptxas=-O1): with more, ptxas moves loads up
# until it has no registers left, and spills.
set(m5_cuda_in_order
  feed_forward_mma.cu feed_forward_wgmma.cu norm_gelu_wgmma.cu norm_product_mma.cu)
foreach(list m5_cuda_kernels m5_cuda_warpgroup_kernels m5_cuda_gpu_sources m5_cuda_in_order)
  list(TRANSFORM ${list} PREPEND ${m5_cuda_dir}/)
endforeach()
