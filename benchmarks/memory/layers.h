// SPDX-License-Identifier: Apache-2.0
// The workload of the oversize arms: equal layers of 16 MiB, whose compute grows with the batch and
// whose bytes do not; the link that a layer passes; and the same layers under demand paging.
// Threading: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "baselines/demand_pager.h"

namespace djinn::benchmarks {

using Model = std::vector<at::Tensor>;

constexpr int64_t kWidth = 2048;
constexpr double kLayerBytes = kWidth * kWidth * sizeof(float);
constexpr int kLayers = 26;

[[nodiscard]] Model random_layers(int count = kLayers, uint64_t seed = 7);
[[nodiscard]] at::Tensor forward(at::Tensor x, const Model& model);
// A step as an app sees it: input there, result back. Seconds.
[[nodiscard]] double step(const at::Tensor& x, const Model& model, const at::Device& device);
// Throws std::runtime_error if these layers do not give what those give on the CPU.
void check(const at::Tensor& x, const Model& here, const Model& there, const at::Device& device);

// Seconds of a layer's bytes through memcpy, both sides touched before; or at a given rate.
class LayerLink {
 public:
  // 0: native.
  explicit LayerLink(double bytes_per_second);
  double layer_seconds();

 private:
  double rate_;
  std::vector<char> from_;
  std::vector<char> to_;
};

// The batch (of 1, 2, 3, 4, 6, 8, 12, ... 256) whose compute is nearest to its transfer, shorter or
// longer: there overlapping is worth most, and hardest.
[[nodiscard]] int64_t batch_where_compute_is_transfer(const Model& here, LayerLink& link);

// The layers in a range that is paged on demand.
class PagedLayers {
 public:
  // Throws std::runtime_error where faults cannot be handled.
  PagedLayers(const Model& here, uint64_t resident_bytes, uint64_t page_bytes);
  [[nodiscard]] const Model& layers() const { return layers_; }
  [[nodiscard]] const baselines::DemandPager& pager() const { return *pager_; }

 private:
  std::vector<std::byte> bytes_;  // what the host has
  std::unique_ptr<baselines::DemandPager> pager_;
  Model layers_;  // in the pager's range
};

}  // namespace djinn::benchmarks
