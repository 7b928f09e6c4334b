// SPDX-License-Identifier: Apache-2.0
// What a program says to the server is a function of what it did, never of time: the same program
// makes the same cuts and the same plans, byte for byte, over every transport.
#include <unistd.h>

#include <set>

#include <gtest/gtest.h>

#include "serialization/base/limits.h"
#include "serialization/codec/messages.h"
#include "serialization/graph/packing.h"
#include "serialization/graph/plan.h"
#include "tests/support/app_process.h"
#include "tests/support/recording_proxy.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

using transport::FrameKind;
using Frames = std::vector<RecordingProxy::Frame>;

// What the app said, but for who it is and that it is still there.
Frames said_by(AppProcess& app, RecordingProxy& proxy) {
  EXPECT_NE(app.line(), "") << app.errors();
  EXPECT_EQ(app.wait(), 0) << app.errors();
  Frames frames = proxy.heard();
  std::erase_if(frames, [](const auto& frame) {
    return frame.kind == FrameKind::kHello || frame.kind == FrameKind::kHeartbeat;
  });
  return frames;
}

std::vector<graph::PlanHash> plan_hashes(const Frames& frames) {
  std::vector<graph::PlanHash> out;
  for (const auto& frame : frames) {
    if (frame.kind != FrameKind::kJob) continue;
    const auto job = codec::decode<codec::Job>(frame.message);
    EXPECT_TRUE(job);
    if (!job || job->plan.empty()) continue;
    graph::ByteString structure(job->plan.begin(), job->plan.end());
    if (job->plan_packed) structure = graph::unpack(structure, kStructureBytesMax).value();
    out.push_back(graph::hash_structure(structure));
  }
  return out;
}

TEST(TheSameProgram, SaysTheSameTwiceByteForByte) {
  const ServerProcess server({"--threads", "1"});
  RecordingProxy first(server.address());
  RecordingProxy second(server.address());
  // Slow, and torn into pieces: the answers come at other times.
  RecordingProxy slow(server.address(), 300, std::chrono::microseconds(500));
  std::vector<Frames> said;
  for (RecordingProxy* const proxy : {&first, &second, &slow}) {
    AppProcess app({"number", "djinn"}, proxy->address(), {"DJINN_SHARE=0"});
    said.push_back(said_by(app, *proxy));
  }
  ASSERT_GT(said[0].size(), 2U);
  const auto hashes = plan_hashes(said[0]);
  EXPECT_GT(hashes.size(), 0U);
  for (const size_t other : {1, 2}) {
    EXPECT_EQ(plan_hashes(said[other]), hashes);
    ASSERT_EQ(said[other].size(), said[0].size());
    for (size_t i = 0; i < said[0].size(); ++i) {
      EXPECT_EQ(said[other][i], said[0][i]) << "frame " << i << " of run " << other;
    }
  }
}

TEST(TheSameProgram, GivesTheSameOverAUnixSocket) {
  const std::string path = ::testing::TempDir() + "/djinn-" + std::to_string(getpid());
  const ServerProcess by_unix({"--threads", "1"}, "unix://" + path);
  const ServerProcess by_tcp({"--threads", "1"});
  std::set<std::string> numbers;
  for (const auto& [device, server] : std::vector<std::pair<std::string, std::string>>{
           {"cpu", by_tcp.address()}, {"djinn", by_tcp.address()}, {"djinn", by_unix.address()}}) {
    AppProcess app({"number", device}, server);
    numbers.insert(app.line());
    EXPECT_EQ(app.wait(), 0) << app.errors();
    if (device == "djinn") {
      EXPECT_GT(app.stat("ops_recorded"), 0) << "it ran on the server";
    }
  }
  EXPECT_EQ(numbers.size(), 1U);
  EXPECT_NE(*numbers.begin(), "");
}

}  // namespace
}  // namespace djinn::testing
