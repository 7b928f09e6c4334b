// SPDX-License-Identifier: Apache-2.0
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <string_view>

#include "serialization/transport/connection.h"
#include "serialization/transport/poll_loop.h"
#include "serialization/transport/uring_loop.h"

namespace djinn::transport {

Result<std::unique_ptr<Loop>> make_loop(const LoopOptions& options) {
  const char* const wanted = std::getenv("DJINN_IO");  // NOLINT(concurrency-mt-unsafe): only read.
  if (options.force_poll || (wanted != nullptr && std::string_view(wanted) == "poll")) {
    return make_poll_loop(options);
  }
  Result<std::unique_ptr<Loop>> loop = make_uring_loop(options);
  if (loop) return loop;
  spdlog::warn("using poll(2) instead of io_uring: {}", loop.error().message);
  return make_poll_loop(options);
}

}  // namespace djinn::transport
