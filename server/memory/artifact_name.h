// SPDX-License-Identifier: Apache-2.0
// Artifact names: HMAC-SHA256(key, SHA-256(content)), 32 bytes.
//
// Why keyed: a name tells nobody outside the trust domain whether the server has some content.
// Threading: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>

namespace djinn::server {

using ArtifactName = std::array<uint8_t, 32>;
using ArtifactKey = std::array<uint8_t, 32>;

[[nodiscard]] ArtifactKey random_artifact_key();
[[nodiscard]] ArtifactName artifact_name(const ArtifactKey& key,
                                         std::span<const std::byte> content);

// Names are uniform already.
struct ArtifactNameHash {
  size_t operator()(const ArtifactName& name) const noexcept {
    size_t value = 0;
    std::memcpy(&value, name.data(), sizeof value);
    return value;
  }
};

}  // namespace djinn::server
