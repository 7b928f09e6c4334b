// SPDX-License-Identifier: Apache-2.0
// Census: which operators this process has, and one hash that says whether two processes agree.
//
// A plan names operators and passes arguments by position, so both ends must know each operator by
// the same schema. The client computes `schema_hash(allowed_operators())` and sends it in its
// hello; only if the server's differs do they compare operator by operator.
// Threading: any thread; the dispatcher locks itself.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/dispatch/Dispatcher.h>

namespace djinn::operators {

// "aten::add.Tensor" -> the operator, if it has a schema.
[[nodiscard]] std::optional<c10::OperatorHandle> find_operator(std::string_view name);
// The other way round.
[[nodiscard]] std::string operator_name(const c10::OperatorHandle& op);

// XXH3-64 of the schema's text.
[[nodiscard]] uint64_t schema_text_hash(const c10::OperatorHandle& op);
// 16 bytes: XXH3-128, big endian, over "name|schema text\n" of each name that exists, in the order
// given.
[[nodiscard]] std::vector<uint8_t> schema_hash(std::span<const std::string_view> names);

}  // namespace djinn::operators
