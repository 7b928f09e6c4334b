// SPDX-License-Identifier: Apache-2.0
// Drain: asks a server to end when all is done, and says what is left until it has.
// Threading: a call, on one thread.
#pragma once

#include <functional>
#include <string>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::ctl {

// Returns when the server answers no more. `say` gets a line (its end included) whenever what is
// left has changed; as JSON: the server's /health page.
Result<> drain(const transport::Address& address, bool json,
               const std::function<void(const std::string& line)>& say);

}  // namespace djinn::ctl
