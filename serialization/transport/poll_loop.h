// SPDX-License-Identifier: Apache-2.0
// PollLoop: the same as UringLoop with poll(2), sendmsg and recv, for kernels and containers that
// forbid io_uring. Three system calls per round trip instead of one, and no zero-copy sends.
//
// Why poll and not epoll: it is the fallback, and its interest set changes with every pause.
// Ownership and threading: as in connection.h.
#pragma once

#include <memory>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::transport {

Result<std::unique_ptr<Loop>> make_poll_loop(const LoopOptions& options);

}  // namespace djinn::transport
