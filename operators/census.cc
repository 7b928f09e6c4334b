// SPDX-License-Identifier: Apache-2.0
#include "operators/census.h"

#include <xxhash.h>

#include <sstream>

namespace djinn::operators {
namespace {

std::string schema_text(const c10::OperatorHandle& op) {
  std::ostringstream text;
  text << op.schema();
  return text.str();
}

}  // namespace

std::optional<c10::OperatorHandle> find_operator(std::string_view name) {
  const size_t space = name.find("::");
  const size_t dot = space == std::string_view::npos ? space : name.find('.', space);
  const std::string overload(dot == std::string_view::npos ? "" : name.substr(dot + 1));
  return c10::Dispatcher::singleton().findSchema({std::string(name.substr(0, dot)), overload});
}

std::string operator_name(const c10::OperatorHandle& op) {
  const auto& name = op.operator_name();
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

uint64_t schema_text_hash(const c10::OperatorHandle& op) {
  const std::string text = schema_text(op);
  return XXH3_64bits(text.data(), text.size());
}

std::vector<uint8_t> schema_hash(std::span<const std::string_view> names) {
  std::string all;
  for (const std::string_view name : names) {
    const auto op = find_operator(name);
    if (!op) continue;
    all.append(name).append("|").append(schema_text(*op)).append("\n");
  }
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, XXH3_128bits(all.data(), all.size()));
  return {std::begin(bytes.digest), std::end(bytes.digest)};
}

}  // namespace djinn::operators
