// SPDX-License-Identifier: Apache-2.0
#include "server/torch/lockstep.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include <ATen/ATen.h>

#include "server/torch/problem.h"

namespace djinn::server {
namespace {

bool same(const c10::Scalar& a, const c10::Scalar& b) {
  return a.type() == b.type() && a.toDouble() == b.toDouble();
}

bool is_one(const c10::Scalar& scalar) { return scalar.toDouble() == 1; }

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.const_data_ptr() == b.const_data_ptr() && a.sizes() == b.sizes() &&
         a.strides() == b.strides() && a.scalar_type() == b.scalar_type();
}

// Both multiply by the same matrix, in the same way.
bool fit(const Product& a, const Product& b) {
  return same_bytes(a.matrix, b.matrix) && a.bias.defined() == b.bias.defined() &&
         same(a.alpha, b.alpha) && same(a.beta, b.beta);
}

// A copy of these rows of a contiguous matrix in host memory, in another shape.
at::Tensor rows_of(const at::Tensor& matrix, int64_t first, int64_t rows, at::IntArrayRef sizes) {
  at::Tensor out = at::empty(sizes, matrix.options());
  const auto row_bytes = static_cast<size_t>(matrix.size(1)) * matrix.element_size();
  const auto* const from = static_cast<const std::byte*>(matrix.const_data_ptr());
  std::memcpy(out.mutable_data_ptr(), from + static_cast<size_t>(first) * row_bytes,
              static_cast<size_t>(rows) * row_bytes);
  return out;
}

}  // namespace

template <typename Body>
void Lockstep::guarded(Run& run, const Body& body) {
  backend_.act_for(run.owner());
  const SharedError error = Run::caught("job", [&] { body(run); });
  if (error != nullptr) run.finish(error);
}

template <typename Body>
void Lockstep::each(const Body& body) {
  for (Run* const run : runs_) guarded(*run, body);
  std::erase_if(runs_, [](const Run* run) { return run->finished(); });
}

void Lockstep::run(Chunk& chunk) {
  each([](Run& run) { run.resume(); });
  while (!runs_.empty() && !runs_.front()->at_end()) {
    entry();
    if (runs_.empty() || runs_.front()->at_end()) break;
    if (chunk.over(runs_.front()->next() - 1)) return;
  }
  each([](Run& run) {
    run.end();
    run.finish(nullptr);
  });
}

void Lockstep::entry() {
  const uint32_t index = runs_.front()->next();
  if (collect()) multiply();
  // Whoever was no part of a product, or whose product could not be shared.
  each([index](Run& run) {
    if (run.next() == index) run.advance();
  });
}

bool Lockstep::collect() {
  parts_.clear();
  const void* shared = nullptr;
  size_t count = 0;
  for (Run* const run : runs_) {
    const void* const matrix = run->shared_matrix();
    if (matrix == nullptr || (shared != nullptr && matrix != shared)) continue;
    shared = matrix;
    ++count;
  }
  if (count < 2) return false;
  for (Run* const run : runs_) {
    if (run->shared_matrix() != shared) continue;
    backend_.act_for(run->owner());
    std::optional<Product> product = run->open_product();
    if (!product) continue;
    const int64_t rows = product->rows.numel() / product->matrix.size(0);
    if (rows > kProductRowsMax || (!parts_.empty() && !fit(parts_[0].product, *product))) {
      run->drop_product();
      continue;
    }
    parts_.push_back({.run = run, .product = std::move(*product), .rows = rows});
  }
  return true;
}

void Lockstep::multiply() {
  at::Tensor made;
  try {
    if (parts_.size() < 2) throw Problem(ErrorCode::kFailed, "there is nothing to share");
    backend_.act_for({});
    made = product().contiguous();
  } catch (const std::exception&) {  // Each alone finds what there is to say.
    for (const Part& part : parts_) part.run->drop_product();
    parts_.clear();
    return;
  }
  hand_out(made);
}

at::Tensor Lockstep::product() {
  const Product& first = parts_[0].product;
  std::vector<at::Tensor> rows;
  std::vector<at::Tensor> biases;
  bool one_bias = true;
  for (const Part& part : parts_) {
    rows.push_back(part.product.rows.reshape({part.rows, first.matrix.size(0)}));
    if (!first.bias.defined()) continue;
    biases.push_back(part.product.bias);
    one_bias = one_bias && same_bytes(part.product.bias, first.bias);
  }
  const at::Tensor joined = at::cat(rows);
  if (one_bias && (!first.bias.defined() || (is_one(first.beta) && is_one(first.alpha)))) {
    at::Tensor made = state_.packed.multiply(first.content, first.matrix, joined, first.bias);
    if (made.defined()) return made;
  }
  if (!first.bias.defined()) return at::mm(joined, first.matrix);
  if (one_bias) return at::addmm(first.bias, joined, first.matrix, first.beta, first.alpha);
  for (size_t i = 0; i < biases.size(); ++i) {
    biases[i] = biases[i].expand({parts_[i].rows, first.matrix.size(1)});
  }
  return at::addmm(at::cat(biases), joined, first.matrix, first.beta, first.alpha);
}

void Lockstep::hand_out(const at::Tensor& made) {
  state_.operators.fetch_add(1, std::memory_order_relaxed);
  int64_t from = 0;
  for (Part& part : parts_) {
    const int64_t first = std::exchange(from, from + part.rows);
    std::vector<int64_t> sizes = part.product.rows.sizes().vec();
    sizes.back() = made.size(1);
    part.product = {};  // Its tensors would count as users of the bytes.
    guarded(*part.run, [&](Run& run) {
      run.close_product([&] { return rows_of(made, first, part.rows, sizes); });
    });
  }
  parts_.clear();
  std::erase_if(runs_, [](const Run* run) { return run->finished(); });
}

}  // namespace djinn::server
