// SPDX-License-Identifier: Apache-2.0
// Ask: one page of the server's admin socket, looked at or changed. Threading: any thread.
#pragma once

#include <chrono>
#include <string>

#include "serialization/base/result.h"
#include "serialization/transport/connection.h"

namespace djinn::ctl {

struct Answer {
  int status = 0;
  std::string body;
};

// A GET of the page. kNotFound: nobody answers there; an error says what to do about it.
Result<Answer> look(const transport::Address& address, const std::string& path,
                    std::chrono::milliseconds patience);

// The page's text, if its status is 200; else the server's reason.
Result<std::string> get(const transport::Address& address, const std::string& path,
                        std::chrono::milliseconds patience);
// Likewise, of the page behind the change.
Result<std::string> post(const transport::Address& address, const std::string& path,
                         const std::string& body, std::chrono::milliseconds patience);

}  // namespace djinn::ctl
