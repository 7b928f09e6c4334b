// SPDX-License-Identifier: Apache-2.0
// Ids of the things both sides name. Each is its own type, so a StorageId cannot be passed for an
// UploadId; all but SessionId are chosen by the client, so that using a result never waits for a
// reply.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace djinn {

template <typename Tag>
struct Id {
  uint64_t value = 0;
  auto operator<=>(const Id&) const = default;  // NOLINT(modernize-use-nullptr): no pointer
};

using SessionId = Id<struct SessionTag>;  // Chosen by the server, unique for its lifetime.
using StorageId = Id<struct StorageTag>;  // Unique within a session, never reused, never 0.
using JobId = Id<struct JobTag>;          // 1, 2, 3, ... within a session.
using UploadId = Id<struct UploadTag>;    // 1, 2, 3, ... within a session.

}  // namespace djinn

template <typename Tag>
struct std::hash<djinn::Id<Tag>> {
  size_t operator()(djinn::Id<Tag> id) const noexcept { return std::hash<uint64_t>{}(id.value); }
};
