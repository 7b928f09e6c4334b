// SPDX-License-Identifier: Apache-2.0
// Loopback: a loop whose connections never leave the process; who listens and who connects use the
// same loop. For tests, and for a client that brings its server along.
//
// It runs the same framing and queues as the sockets do, without a kernel between them. "Torn": it
// moves the bytes in small random pieces and connections in random order, so that every place where
// a frame can be cut is cut in some run. The same seed tears at the same places.
// Ownership and threading: as in connection.h.
#pragma once

#include <cstdint>
#include <memory>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::transport {

struct LoopbackOptions {
  bool torn = false;
  uint64_t seed = 1;
};
Result<std::unique_ptr<Loop>> make_loopback(const LoopbackOptions& options);

}  // namespace djinn::transport
