// SPDX-License-Identifier: Apache-2.0
// Progress: which jobs a client sent, which have ended, and what it has been told of that.
//
// Threading: plain value.
#pragma once

#include <cstdint>

#include "serialization/base/ids.h"
#include "serialization/base/limits.h"

namespace djinn::server {

// A job's number in a frame: the low half of it.
[[nodiscard]] inline uint32_t wire(JobId job) { return static_cast<uint32_t>(job.value); }

class Progress {
 public:
  [[nodiscard]] JobId next() const { return {received_ + 1}; }
  [[nodiscard]] JobId received() const { return {received_}; }
  [[nodiscard]] JobId ended() const { return {ended_}; }
  [[nodiscard]] uint64_t in_flight() const { return received_ - ended_; }
  [[nodiscard]] bool idle() const { return in_flight() == 0; }

  void receive() { ++received_; }
  // The oldest job in flight ended. `told`: an answer says so, for it and all before it.
  void end(uint64_t staged_bytes, bool told) {
    ++ended_;
    untold_bytes_ += staged_bytes;
    if (told) tell();
  }
  void tell() {
    told_ = ended_;
    untold_bytes_ = 0;
  }
  // Now and then for many jobs; and a client that waits for room for its uploads must hear of it.
  [[nodiscard]] bool ack_due() const {
    return ended_ - told_ >= kJobsPerAck || (untold_bytes_ > 0 && idle()) ||
           untold_bytes_ >= kUploadBytesPerFlushMax;
  }

 private:
  uint64_t received_ = 0;
  uint64_t ended_ = 0;
  uint64_t told_ = 0;
  uint64_t untold_bytes_ = 0;
};

}  // namespace djinn::server
