// SPDX-License-Identifier: Apache-2.0
// Record: runs a program and writes what its session said. (djinn-trace record)
// Threading: a call, on one thread.
#pragma once

#include <string>
#include <vector>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::trace {

struct Recorded {
  int status = 0;  // of the program
  uint64_t records = 0;
};
// A file that is there is replaced, when the trace is whole.
Result<Recorded> record(const transport::Address& server, const std::string& path,
                        const std::vector<std::string>& program);

}  // namespace djinn::trace
