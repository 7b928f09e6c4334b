// SPDX-License-Identifier: Apache-2.0
#include "trace/record.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>

#include "trace/program.h"
#include "trace/recorder.h"

namespace djinn::trace {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLook{20};  // After the child, that often.
constexpr std::chrono::milliseconds kLastWords{
    2'000};  // For what it said to be read when it ended.

// Until the program has ended and its session, too.
Result<int> watch(transport::Loop& loop, const Recorder& recorder, Program& program) {
  auto until = steady_clock::time_point::max();
  while (true) {
    const auto ran = loop.run_once(kLook);
    if (!ran && ran.error().code != ErrorCode::kCancelled) return ran.error();
    const auto status = program.status();
    if (!status) continue;
    const auto now = steady_clock::now();
    if (until == steady_clock::time_point::max()) until = now + kLastWords;
    if (recorder.ended() || !recorder.verdict() || now >= until) return *status;
  }
}

}  // namespace

Result<Recorded> record(const transport::Address& server, const std::string& path,
                        const std::vector<std::string>& program) {
  const std::string unfinished = path + "." + std::to_string(::getpid()) + ".part";
  std::ofstream out(unfinished, std::ios::binary | std::ios::trunc);
  if (!out) return Error{ErrorCode::kNotFound, unfinished + " cannot be written"};
  const auto run = [&]() -> Result<Recorded> {
    DJINN_TRY(auto loop, transport::make_loop({}));
    Writer writer(out);
    DJINN_TRY(auto recorder, Recorder::make(*loop, server, writer));
    DJINN_TRY(auto child, Program::start(program, recorder->address()));
    DJINN_TRY(const int status, watch(*loop, *recorder, child));
    DJINN_CHECK(recorder->verdict());
    DJINN_CHECK(writer.finish());
    return Recorded{.status = status, .records = writer.records()};
  };
  auto recorded = run();
  out.close();
  if (recorded && std::rename(unfinished.c_str(), path.c_str()) != 0) {
    recorded = Error{ErrorCode::kFailed, path + " cannot be written"};
  }
  if (!recorded) std::remove(unfinished.c_str());
  return recorded;
}

}  // namespace djinn::trace
