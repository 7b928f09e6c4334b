// SPDX-License-Identifier: Apache-2.0
#include "operators/dtypes.h"

#include <array>

namespace djinn::operators {
namespace {

using c10::ScalarType;

// In the order of graph::Dtype.
constexpr std::array<ScalarType, graph::kDtypeMax + 1> kTypes{
    ScalarType::Byte,         ScalarType::Char,          ScalarType::Short,
    ScalarType::Int,          ScalarType::Long,          ScalarType::Half,
    ScalarType::Float,        ScalarType::Double,        ScalarType::ComplexHalf,
    ScalarType::ComplexFloat, ScalarType::ComplexDouble, ScalarType::Bool,
    ScalarType::BFloat16,     ScalarType::UInt16,        ScalarType::UInt32,
    ScalarType::UInt64,       ScalarType::Float8_e5m2,   ScalarType::Float8_e4m3fn,
};

}  // namespace

c10::ScalarType to_torch(graph::Dtype dtype) { return kTypes[static_cast<uint8_t>(dtype)]; }

std::optional<graph::Dtype> from_torch(c10::ScalarType type) {
  for (uint8_t i = 0; i <= graph::kDtypeMax; ++i) {
    if (kTypes[i] == type) return static_cast<graph::Dtype>(i);
  }
  return std::nullopt;
}

}  // namespace djinn::operators
