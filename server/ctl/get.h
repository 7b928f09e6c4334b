// SPDX-License-Identifier: Apache-2.0
// Get: one page of the server's admin socket. Threading: any thread.
#pragma once

#include <chrono>
#include <string>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::ctl {

// The page's text. An error says what to do about it.
Result<std::string> get(const transport::Address& address, const std::string& path,
                        std::chrono::milliseconds patience);

}  // namespace djinn::ctl
