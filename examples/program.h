// SPDX-License-Identifier: Apache-2.0
// run_program(): the frame of a main(): what goes wrong inside becomes one sentence and the exit
// status.
#pragma once

#include <cstdio>
#include <exception>

#include <c10/util/Exception.h>

namespace djinn::examples {

// `body` gives the exit status. LibTorch's errors are printed without their stack.
template <typename Body>
int run_program(const char* name, Body body) {
  try {
    return body();
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
  } catch (...) {
    std::fprintf(stderr, "%s: failed, and does not say why\n", name);
  }
  return 1;
}

}  // namespace djinn::examples
