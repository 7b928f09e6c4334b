// SPDX-License-Identifier: Apache-2.0
// OperatorWatch: sees every operator that this process calls, and says where it ran.
//
// A call that touches tensors of the CPU and of no other device computed here. It is the app's own
// if the app asked for it, and the client's if it happened inside of a call with a remote tensor.
// A call with a remote tensor that called no other such operator and makes no view is one that a
// server has to run. Threading: counts all threads; one watch at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <ATen/record_function.h>

namespace djinn::testing {

class OperatorWatch {
 public:
  using Counts = std::map<std::string, uint64_t>;

  OperatorWatch();
  ~OperatorWatch();
  OperatorWatch(const OperatorWatch&) = delete;
  OperatorWatch& operator=(const OperatorWatch&) = delete;

  [[nodiscard]] Counts by_app() const;     // On the CPU, because the app said so.
  [[nodiscard]] Counts by_client() const;  // On the CPU, as in "aten::copy_ in aten::to".
  [[nodiscard]] Counts remote() const;     // For a server to run.

 private:
  at::CallbackHandle handle_;
};

[[nodiscard]] uint64_t sum(const OperatorWatch::Counts& counts);
[[nodiscard]] std::string text(const OperatorWatch::Counts& counts);

}  // namespace djinn::testing
