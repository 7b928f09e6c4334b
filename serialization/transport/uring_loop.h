// SPDX-License-Identifier: Apache-2.0
// UringLoop: moves frames with io_uring; a request and the wait for its reply are one system call.
//
// How one: a send is tried without waiting while it is submitted, and says nothing if the socket
// took all of it (MSG_DONTWAIT, MSG_WAITALL, IOSQE_CQE_SKIP_SUCCESS); so the first completion that
// ends the wait is the reply. What the socket did not take is sent again as an operation that
// waits.
//
// One receive is outstanding per connection, into a buffer of its own (provided buffers would need
// liburing 2.4, and a copy for each frame that is not complete).
// Ownership and threading: as in connection.h. If several threads use the loop in turn, the
// kernel's part of a receive runs on the thread that submitted it, interrupting it for a moment.
#pragma once

#include <memory>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::transport {

// kUnsupported says what the kernel lacks or forbids.
Result<std::unique_ptr<Loop>> make_uring_loop(const LoopOptions& options);

}  // namespace djinn::transport
