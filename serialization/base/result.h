// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value, or the Error that explains its absence.
//
// Why a class of ours over tl::expected: it must not be ignored ([[nodiscard]]) and an Error must
// convert to it. Every fallible function of this project returns one; exceptions of LibTorch and
// Cap'n Proto are turned into one where they enter, and into c10::Error where PyTorch calls us.
//
// Threading: a Result is a plain value.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace djinn {

// The values travel in replies (see ErrorCode in protocol.capnp), so they are never renumbered.
enum class ErrorCode : uint16_t {
  kInvalid = 1,      // The request is wrong, and would be wrong again.
  kNotFound = 2,     // The handle names nothing that is alive.
  kOutOfMemory = 3,  // The tenant's or the device's memory does not hold it.
  kExhausted = 4,    // A quota or a queue is full. Retry after the time the message names.
  kUnavailable = 5,  // The peer is gone. Retry on another connection.
  kUnsupported = 6,  // The server has no such operator or version.
  kFailed = 7,       // The operator itself failed.
  kDenied = 8,       // The tenant may not do this.
  kCancelled = 9,    // The app withdrew it, or its session ended.
  kDeadline = 10,    // It could not be done in time.
};

struct Error {
  ErrorCode code;
  std::string message;
};

struct Unit {};

template <typename T = Unit>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  // NOLINTNEXTLINE(google-explicit-constructor): `return Error{...}` is how a function fails.
  Result(Error error) : tl::expected<T, Error>(tl::unexpect, std::move(error)) {}
};

}  // namespace djinn

#define DJINN_CONCAT_(a, b) a##b
#define DJINN_CONCAT(a, b) DJINN_CONCAT_(a, b)

// DJINN_TRY(auto frame, read_frame(bytes)): binds the value, or returns the error to the caller.
#define DJINN_TRY(binding, expression) \
  DJINN_TRY_(DJINN_CONCAT(result_, __LINE__), binding, expression)
#define DJINN_TRY_(result, binding, expression)  \
  auto result = (expression);                    \
  if (!result) return std::move(result).error(); \
  binding = std::move(result).value()

// DJINN_CHECK(send(frame)): goes on if there is a value, or returns the error to the caller.
#define DJINN_CHECK(expression)                                \
  do {                                                         \
    if (auto checked_result = (expression); !checked_result) { \
      return std::move(checked_result).error();                \
    }                                                          \
  } while (false)
