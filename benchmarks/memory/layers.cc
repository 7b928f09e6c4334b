// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/memory/layers.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include <ATen/ATen.h>

#include "benchmarks/harness/rounds.h"
#include "benchmarks/harness/statistics.h"

namespace djinn::benchmarks {

Model random_layers(int count, uint64_t seed) {
  at::manual_seed(seed);
  Model model;
  for (int i = 0; i < count; ++i) {
    model.push_back(at::randn({kWidth, kWidth}) / std::sqrt(kWidth));
  }
  return model;
}

at::Tensor forward(at::Tensor x, const Model& model) {
  for (const at::Tensor& weight : model) x = at::relu(at::linear(x, weight)).add_(x);
  return x;
}

double step(const at::Tensor& x, const Model& model, const at::Device& device) {
  return seconds_of([&] { (void)forward(x.to(device), model).sum().item<float>(); });
}

void check(const at::Tensor& x, const Model& here, const Model& there, const at::Device& device) {
  const at::Tensor expected = forward(x, here);
  if (!at::equal(forward(x.to(device), there).cpu(), expected)) {
    throw std::runtime_error("the results of an oversize model differ from the CPU's");
  }
}

LayerLink::LayerLink(double bytes_per_second) : rate_(bytes_per_second) {
  if (rate_ > 0) return;
  from_.assign(static_cast<size_t>(kLayerBytes) * 4, 1);
  to_.assign(from_.size(), 2);
}

double LayerLink::layer_seconds() {
  if (rate_ > 0) return kLayerBytes / rate_;
  return seconds_of([&] { std::memcpy(to_.data(), from_.data(), from_.size()); }) / 4;
}

int64_t batch_where_compute_is_transfer(const Model& here, LayerLink& link) {
  constexpr int kCounted = 4;  // layers: more than the caches hold
  constexpr int64_t kBatchMax = 256;
  const Model counted(here.begin(), here.begin() + kCounted);
  std::vector<double> transfer;
  transfer.reserve(9);
  for (int i = 0; i < 9; ++i) transfer.push_back(link.layer_seconds());
  int64_t nearest = 0;
  double distance = 0;
  for (int64_t base = 1; base < kBatchMax; base *= 2) {
    for (const int64_t batch : {base, base + base / 2}) {
      const at::Tensor x = at::randn({batch, kWidth});
      std::vector<double> compute;
      compute.reserve(5);
      for (int i = 0; i < 5; ++i) {
        compute.push_back(seconds_of([&] { (void)forward(x, counted); }) / kCounted);
      }
      const double factor = median(compute) / median(transfer);
      if (nearest == 0 || std::abs(std::log(factor)) < distance) {
        nearest = batch;
        distance = std::abs(std::log(factor));
      }
      if (factor > 4) return nearest;  // Compute only grows.
    }
  }
  return nearest;
}

PagedLayers::PagedLayers(const Model& here, uint64_t resident_bytes, uint64_t page_bytes) {
  const auto layer = static_cast<size_t>(kLayerBytes);
  bytes_.resize(here.size() * layer);
  for (size_t i = 0; i < here.size(); ++i) {
    std::memcpy(bytes_.data() + i * layer, here[i].const_data_ptr(), layer);
  }
  auto made = baselines::DemandPager::make(
      bytes_, {.resident_bytes_max = resident_bytes, .page_bytes = page_bytes});
  if (!made) throw std::runtime_error("demand paging: " + made.error().message);
  pager_ = std::move(made).value();
  for (size_t i = 0; i < here.size(); ++i) {
    layers_.push_back(at::from_blob(pager_->data() + i * layer, {kWidth, kWidth}, at::kFloat));
  }
}

}  // namespace djinn::benchmarks
