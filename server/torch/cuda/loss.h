// SPDX-License-Identifier: Apache-2.0
// Loss: whether the device can still be used, and if not, why.
//
// After a failed assertion or a bad address on the device every call fails until the process ends;
// who asks hears the first cause.
// Threading: any thread.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "serialization/base/result.h"

namespace djinn::server::cuda {

class Loss {
 public:
  explicit Loss(std::string device) : device_(std::move(device)) {}

  // The first cause counts. It is also said on stderr, for whoever has to restart the server.
  void report(const std::string& cause);
  [[nodiscard]] bool happened() const { return happened_.load(std::memory_order_acquire); }
  // Only if it happened.
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  const std::string device_;
  std::mutex mutex_;
  std::atomic<bool> happened_ = false;
  Error error_{ErrorCode::kUnavailable, ""};  // Does not change once it happened.
};

}  // namespace djinn::server::cuda
