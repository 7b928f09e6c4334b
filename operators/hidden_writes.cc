// SPDX-License-Identifier: Apache-2.0
#include "operators/hidden_writes.h"

#include <algorithm>

namespace djinn::operators {
namespace {

constexpr uint32_t bits(auto... index) { return ((1U << index) | ... | 0U); }

// Sorted by name. Batch norms in training update running_mean and running_var.
constexpr HiddenWrites kTable[] = {
    {"aten::_batch_norm_impl_index", 5, bits(3, 4)},
    {"aten::_native_batch_norm_legit_functional", -1, 0},
    {"aten::batch_norm", 5, bits(3, 4)},
    {"aten::batch_norm_gather_stats", -1, bits(3, 4)},
    {"aten::batch_norm_gather_stats.out", -1, bits(3, 4)},
    {"aten::batch_norm_gather_stats_with_counts", -1, bits(3, 4)},
    {"aten::batch_norm_gather_stats_with_counts.out", -1, bits(3, 4)},
    {"aten::batch_norm_update_stats", -1, bits(1, 2)},
    {"aten::batch_norm_update_stats.out", -1, bits(1, 2)},
    {"aten::instance_norm", 5, bits(3, 4)},
    {"aten::native_batch_norm", 5, bits(3, 4)},
    {"aten::native_batch_norm.out", 5, bits(3, 4)},
    {"aten::rrelu_with_noise", 4, bits(1)},
    {"aten::rrelu_with_noise.out", 4, bits(1)},
    {"aten::rrelu_with_noise_", 4, bits(1)},
};

}  // namespace

const HiddenWrites* find_hidden_writes(std::string_view name) {
  const auto* found = std::ranges::find(kTable, name, &HiddenWrites::name);
  return found == std::end(kTable) || found->arguments == 0 ? nullptr : found;
}

std::span<const HiddenWrites> all_hidden_writes() { return kTable; }

}  // namespace djinn::operators
