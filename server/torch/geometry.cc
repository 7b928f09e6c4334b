// SPDX-License-Identifier: Apache-2.0
#include "server/torch/geometry.h"

#include <algorithm>

namespace djinn::server {
namespace {

constexpr auto kMax = static_cast<int64_t>(kStorageBytesMax);

// The extent in elements, or -1.
int64_t extent(const Geometry& geometry) {
  if (geometry.elements == 0) return 0;
  int64_t last = geometry.offset;
  for (size_t d = 0; d < geometry.sizes.size(); ++d) {
    int64_t reach = 0;
    if (__builtin_mul_overflow(geometry.sizes[d] - 1, geometry.strides[d], &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      return -1;
    }
  }
  return last >= kMax ? -1 : last + 1;
}

}  // namespace

const char* resolve(const graph::Operand& operand, std::span<const int64_t> numbers,
                    Geometry& out) {
  const size_t rank = operand.rank;
  out.sizes = c10::IntArrayRef(numbers.data() + operand.sizes, rank);
  out.offset = operand.offset == graph::kNone ? 0 : numbers[operand.offset];
  if (out.offset < 0 || out.offset > kMax) return "its offset is out of bounds";
  // As if every empty dimension had one element: strides are made of these products.
  int64_t product = 1;
  bool empty = false;
  for (size_t d = rank; d-- > 0;) {
    const int64_t size = out.sizes[d];
    if (size < 0) return "a size is negative";
    out.own_strides[d] = product;
    empty |= size == 0;
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product) || product > kMax) {
      return "its sizes are out of bounds";
    }
  }
  out.elements = empty ? 0 : product;
  out.contiguous = operand.strides == graph::kNone;
  if (out.contiguous) {
    out.strides = c10::IntArrayRef(out.own_strides.data(), rank);
  } else {
    out.strides = c10::IntArrayRef(numbers.data() + operand.strides, rank);
    for (const int64_t stride : out.strides) {
      if (stride < 0 || stride > kMax) return "a stride is out of bounds";
    }
  }
  const int64_t reach = extent(out);
  if (reach < 0) return "it reaches beyond any storage";
  out.extent_bytes = static_cast<uint64_t>(reach) * graph::dtype_bytes(operand.dtype);
  return nullptr;
}

}  // namespace djinn::server
