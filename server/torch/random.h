// SPDX-License-Identifier: Apache-2.0
// Random: a session's generators, so that its random numbers do not depend on its company.
//
// Generator 0 is the default one: an operator that is given none draws from it. A few operators
// (native_dropout) cannot be given one and draw from the process's; for the length of their run the
// process's generator is given the state of the session's.
// Threading: a replay's thread; sessions that borrow the process's generator wait for each other.
#pragma once

#include <cstdint>
#include <unordered_map>

#include <ATen/core/Generator.h>

#include "server/torch/backend.h"

namespace djinn::server {

class Generators {
 public:
  explicit Generators(Backend& backend) : backend_(backend) {}

  // Made with LibTorch's default seed at its first use. Throws Problem(kExhausted) if there are too
  // many.
  at::Generator& get(int64_t id);
  void seed(int64_t id, int64_t seed);
  // Runs `body` with the session's default generator in place of the process's.
  void as_default(const std::function<void()>& body);

 private:
  Backend& backend_;
  std::unordered_map<int64_t, at::Generator> generators_;
};

}  // namespace djinn::server
