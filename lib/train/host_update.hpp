// The update on the host, in place; and the choice between it and the device's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/sweeps.hpp"

namespace m5 {

// The device's where the sweeps have one, else the host's. sweeps: loaded with state.parameters.
// host: of the sweeps' device. All references must outlive the update, which keeps an average where
// state has one.
std::unique_ptr<kernels::Update> make_update(kernels::Sweeps<float>& sweeps,
                                             kernels::Backend<float>& host,
                                             std::span<const kernels::UpdatePart> parts,
                                             kernels::ParameterState& state);
std::unique_ptr<kernels::Update> make_host_update(kernels::Sweeps<float>& sweeps,
                                                  kernels::Backend<float>& host,
                                                  std::span<const kernels::UpdatePart> parts,
                                                  kernels::ParameterState& state);

// What make_update's takes, the state excluded.
kernels::Bytes update_memory(const kernels::Sweeps<float>& sweeps,
                             const kernels::Backend<float>& host,
                             std::span<const kernels::UpdatePart> parts, bool averaged);

}  // namespace m5
