// SPDX-License-Identifier: Apache-2.0
// run_program(): the frame of a main(): options in, what went wrong out, in one sentence and as the
// exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include <torch/torch.h>

namespace djinn::examples {

// Parses the command line with `app`, then runs `body`. LibTorch's errors are printed without their
// stack.
template <typename Body>
int run_program(CLI::App& app, int argc, char** argv, Body body) {
  try {
    app.parse(argc, argv);
    body();
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);  // Also --help: status 0.
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), error.what());
  }
  return 1;
}

}  // namespace djinn::examples
