// SPDX-License-Identifier: Apache-2.0
// Artifact names: HMAC-SHA256(key, SHA-256(content)), 32 bytes.
//
// Why keyed: a name tells nobody outside the trust domain whether the server has some content.
// Threading: functions are pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>

namespace djinn::server {

using ArtifactName = std::array<uint8_t, 32>;
using ArtifactKey = std::array<uint8_t, 32>;

[[nodiscard]] ArtifactKey random_artifact_key();
[[nodiscard]] ArtifactName artifact_name(const ArtifactKey& key,
                                         std::span<const std::byte> content);

// The name of content that comes in parts. Threading: one thread.
class ArtifactNamer {
 public:
  explicit ArtifactNamer(const ArtifactKey& key);
  ~ArtifactNamer();
  ArtifactNamer(const ArtifactNamer&) = delete;
  ArtifactNamer& operator=(const ArtifactNamer&) = delete;

  void add(std::span<const std::byte> part);
  [[nodiscard]] ArtifactName name();  // Of all parts; ends it.

 private:
  const ArtifactKey& key_;
  struct State;
  const std::unique_ptr<State> state_;
};

// Names are uniform already.
struct ArtifactNameHash {
  size_t operator()(const ArtifactName& name) const noexcept {
    size_t value = 0;
    std::memcpy(&value, name.data(), sizeof value);
    return value;
  }
};

}  // namespace djinn::server
