// SPDX-License-Identifier: Apache-2.0
// Rude: connections that say what a trace says without waiting for anything, and then do not read,
// or are gone.
//
// Ownership: borrows the trace; its connections end with the call. Threading: a call, on one
// thread, which may be any.
#pragma once

#include <stop_token>
#include <string>

#include "serialization/transport/connection.h"
#include "trace/trace.h"

namespace djinn::benchmarks {

enum class Manners : uint8_t {
  kDoesNotRead,  // It stays, and leaves its answers to the server.
  kHangsUp,      // It goes as soon as its jobs are said, and comes again.
};
struct RudeLoad {
  transport::Address server;
  std::string token;
  const trace::Trace* trace = nullptr;  // Without artifacts.
  Manners manners = Manners::kDoesNotRead;
  size_t connections = 1;  // at a time
};
// Until it is asked to stop; how many connections said their jobs.
uint64_t be_rude(const RudeLoad& load, const std::stop_token& stop);

}  // namespace djinn::benchmarks
