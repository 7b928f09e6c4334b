// SPDX-License-Identifier: Apache-2.0
// Operator rules: why an operator of LibTorch may not run for strangers.
//
// They are applied when the allow-list is written (`djinn-opscan`), never while serving: what
// counts then is the list, which a person has read. Threading: pure functions.
#pragma once

#include <string>

#include <ATen/core/dispatch/Dispatcher.h>

namespace djinn::server {

// "" if it may run, else the reason in a few words.
[[nodiscard]] std::string refusal(const c10::OperatorHandle& op);

}  // namespace djinn::server
