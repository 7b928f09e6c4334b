// SPDX-License-Identifier: Apache-2.0
// Greeting: whether a hello is let in, and what it is answered.
//
// Threading: pure functions.
#pragma once

#include <string>

#include "serialization/codec/messages.h"
#include "server/executor.h"
#include "server/memory/artifact_name.h"
#include "server/settings/access.h"

namespace djinn::server {

inline constexpr size_t kAppBytesMax = 256;

// The tenant who says this hello, or why it is not let in. `local`: it comes from this machine.
Result<std::string> check_hello(const codec::Hello& hello, const Access& access, bool local);

[[nodiscard]] codec::Message hello_reply(SessionId session, const codec::Hello& hello,
                                         const Device& device, const ArtifactKey& key);

// kInvalid if there are too many.
Result<codec::OperatorsReply> check_operators(const codec::Operators& operators,
                                              const Device& device);

// A client's text for our log: one line, no control characters.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace djinn::server
