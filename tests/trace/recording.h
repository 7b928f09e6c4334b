// SPDX-License-Identifier: Apache-2.0
// What tests of traces share: a session recorded in memory, and a load played to a test server.
//
// Ownership: a Recording owns the trace's bytes and must outlive it. Threading: one thread, beside
// that on which the recorder turns.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/test_server.h"
#include "trace/driver.h"
#include "trace/recorder.h"
#include "trace/trace.h"

namespace djinn::trace {

// A trace in memory.
struct Recording {
  std::vector<uint64_t> words;
  Result<> verdict = Unit{};

  [[nodiscard]] Trace trace() const {
    auto trace = Trace::read(std::as_bytes(std::span(words)), nullptr);
    if (!trace) throw std::runtime_error(trace.error().message);
    return std::move(*trace);
  }
};

inline Recording in_memory(const std::string& text) {
  Recording recording;
  recording.words.resize(text.size() / sizeof(uint64_t));
  std::memcpy(recording.words.data(), text.data(), text.size());
  return recording;
}

// The recorder turns on a thread of its own while `program` talks to it.
inline Recording record(const transport::Address& server,
                        const std::function<void(const transport::Address&)>& program) {
  std::ostringstream out;
  Writer writer(out);
  Result<> verdict = Unit{};
  auto loop = transport::make_loop({}).value();
  auto recorder = Recorder::make(*loop, server, writer).value();
  std::atomic<bool> done = false;
  std::thread thread([&] {
    while (!done || (!recorder->ended() && recorder->verdict())) {
      (void)loop->run_once(std::chrono::milliseconds(1));
    }
    verdict = recorder->verdict();
    recorder.reset();
    loop.reset();
  });
  program(transport::parse_address(recorder->address()).value());
  done = true;
  thread.join();
  EXPECT_TRUE(writer.finish());
  Recording recording = in_memory(out.str());
  recording.verdict = std::move(verdict);
  return recording;
}

inline Outcome play(const testing::TestServer& server, Part part, Load load = {}) {
  load.server = server.tcp;
  load.parts = {std::move(part)};
  auto outcome = drive(load);
  EXPECT_TRUE(outcome) << outcome.error().message;
  return std::move(*outcome);
}

}  // namespace djinn::trace
