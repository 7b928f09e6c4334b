// SPDX-License-Identifier: Apache-2.0
// Problem: an Error on its way through code that LibTorch's exceptions cross anyway.
//
// Why an exception here and a Result elsewhere: inside a replay every second line calls LibTorch,
// which throws. One place (run.cc) catches both and makes them the errors of storages.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "serialization/base/result.h"

namespace djinn::server {

class Problem : public std::exception {
 public:
  Problem(ErrorCode code, std::string message) : error_{code, std::move(message)} {}
  [[nodiscard]] const char* what() const noexcept override { return error_.message.c_str(); }
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  Error error_;
};

}  // namespace djinn::server
