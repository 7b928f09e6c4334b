// SPDX-License-Identifier: Apache-2.0
// Admin listener: a socket and a thread that answer who asks about the server, or changes it.
//
// Why a thread of its own and poll(2): whoever asks, however slowly, costs the sessions' loop
// nothing but the report. Why HTTP over a unix socket: curl and Prometheus' exporters speak it, and
// the file's mode says who may. Each connection has a deadline, so a peer that hangs holds one of
// kPeersMax places for seconds, and nobody else waits for it.
// Ownership: borrows what the desk asks; a unix socket's file goes with the listener.
// Threading: made and destroyed by one thread; the desk is asked on the listener's.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>

#include "serialization/transport/connection.h"
#include "server/admin/pages.h"

namespace djinn::server::admin {

struct ListenerOptions {
  transport::Address address;
  Show show = Show::kAll;
  // For the request to arrive, and again for the answer to be read.
  std::chrono::milliseconds patience{2000};
};

class Listener {
 public:
  static constexpr size_t kPeersMax = 64;  // More wait until one of these ends.

  virtual ~Listener() = default;
  // With the port that was chosen.
  [[nodiscard]] virtual const transport::Address& address() const = 0;
};

// A unix socket has the mode 0600, and a peer of another user than this process's or root is
// answered with 403. kUnavailable: a server that lives answers there already.
Result<std::unique_ptr<Listener>> listen(const ListenerOptions& options, Desk desk);

// Whether that user may look.
[[nodiscard]] bool may_look(uid_t peer, uid_t own);

}  // namespace djinn::server::admin
