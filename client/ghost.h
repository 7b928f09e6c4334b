// SPDX-License-Identifier: Apache-2.0
// Ghost loading: drive a model that this machine could not hold.
//
// The weights stay in their file: they are mapped, hashed and sent from there, some megabytes of
// them in memory at a time, and not even that if the server has them. What is on this side of a
// tensor on the device is its name. A module is built without bytes and then given its tensors:
//
//   auto layer = torch::nn::Linear(4096, 4096);
//   layer->to(torch::kMeta);                       // Before the next layer is built.
//   ...
//   const auto weights = djinn::load_safetensors("model.safetensors");
//   for (auto& each : model->named_parameters()) each.value().set_data(weights.at(each.key()));
//   for (auto& each : model->named_buffers()) each.value().set_data(weights.at(each.key()));
//
// The file must neither shrink nor change until its tensors were sent: at the latest when
// djinn::synchronize() returns. Errors are c10::Error. Threading: any thread.
#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace djinn {

// The tensors of a .safetensors file by their names, on the device djinn:`device`.
__attribute__((visibility("default"))) std::map<std::string, at::Tensor> load_safetensors(
    const std::string& path, int device = 0);

// Brings a .safetensors file's tensors to the server of djinn:`device` ahead of time, and waits
// until they are there: who loads the same weights later, in this program or another, sends none of
// them. Nobody uses them until then, so the server may let them go again when it needs the room
// (its --artifact-cache); who wants them to stay keeps what load_safetensors returns, and an
// operator who has the file uses --pin.
__attribute__((visibility("default"))) void preload(const std::string& path, int device = 0);

}  // namespace djinn
