// SPDX-License-Identifier: Apache-2.0
#include "server/torch/cuda/loss.h"

#include <cstdio>

namespace djinn::server::cuda {

void Loss::report(const std::string& cause) {
  const std::scoped_lock lock(mutex_);
  if (happened()) return;
  error_.message = device_ + " was lost (" + cause + "): the server must be restarted";
  happened_.store(true, std::memory_order_release);
  std::fprintf(stderr, "djinn-server: %s\n", error_.message.c_str());
}

}  // namespace djinn::server::cuda
