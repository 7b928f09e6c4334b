// SPDX-License-Identifier: Apache-2.0
// Watch: looks at a server again and again, and shows what it did meanwhile (djinn-ctl top).
// Threading: a call, on the program's only thread.
#pragma once

#include <chrono>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::ctl {

struct WatchOptions {
  std::chrono::milliseconds interval{1000};
  bool once = false;  // One look, an interval long; else until SIGINT or SIGTERM.
  bool json = false;  // An object per line instead of tables.
};
// On a terminal each look is in the place of the last, and the terminal is left as it was.
Result<> watch(const transport::Address& address, const WatchOptions& options);

}  // namespace djinn::ctl
