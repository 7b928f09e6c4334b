// SPDX-License-Identifier: Apache-2.0
// A server whose device is too small says so: in /metrics, and to who asks with djinn-ctl.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/support/http_peer.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

using nlohmann::json;

constexpr int64_t kWidth = 512;  // A weight is one MiB.
constexpr int kWeights = 12;
constexpr uint64_t kMiB = uint64_t{1} << 20;

json ctl(const transport::Address& admin, const std::string& command) {
  const std::string line =
      binary_folder() + "/djinn-ctl --admin " + admin.text() + " " + command + " --json";
  FILE* const pipe = popen(line.c_str(), "r");
  std::string out;
  for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) out += static_cast<char>(c);
  EXPECT_EQ(pclose(pipe), 0) << line;
  return json::parse(out, nullptr, false);
}

std::map<std::string, uint64_t> metrics(const transport::Address& admin) {
  std::map<std::string, uint64_t> out;
  std::istringstream lines(http_body(admin, "/metrics"));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    const size_t space = line.rfind(' ');
    out[line.substr(0, space)] = std::stoull(line.substr(space + 1));
  }
  return out;
}

TEST(MemoryFigures, SayWhatAModelThriceTheDeviceDoesToIt) {
  const transport::Address admin{
      .kind = transport::Address::Kind::kUnix,
      .host = ::testing::TempDir() + "djinn-figures-" + std::to_string(getpid()) + ".sock"};
  {
    const ServerProcess server({"--device", "cpu", "--threads", "1", "--device-memory", "4MiB",
                                "--host-memory", "64MiB", "--admin", admin.text()});
    const json before = ctl(admin, "memory");
    EXPECT_EQ(before.at("device").at("budget_bytes"), 4 * kMiB);
    EXPECT_EQ(before.at("host").at("budget_bytes"), 64 * kMiB);
    EXPECT_EQ(before.at("moved").at("spills"), 0);

    connect({.server = server.address()});
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> weights;
    weights.reserve(kWeights);
    for (int i = 0; i < kWeights; ++i) weights.push_back(at::rand({kWidth, kWidth}).to("djinn"));
    at::Tensor x = at::ones({4, kWidth}).to("djinn");
    for (int step = 0; step < 2; ++step) {
      for (const at::Tensor& weight : weights) x = x.mm(weight).clamp(-1, 1);
      (void)x.cpu();
      for (at::Tensor& weight : weights) weight.mul_(0.5);  // The host's copy is stale: a spill.
    }
    (void)weights[0].cpu();

    const json memory = ctl(admin, "memory");
    const json& device = memory.at("device");
    const json& host = memory.at("host");
    const json& moved = memory.at("moved");
    EXPECT_TRUE(memory.at("tiered").get<bool>());
    EXPECT_LE(device.at("peak_bytes").get<uint64_t>(), 4 * kMiB);
    EXPECT_GE(device.at("peak_bytes").get<uint64_t>(), 2 * kMiB);
    EXPECT_GT(device.at("used_bytes").get<uint64_t>(), 0U);
    EXPECT_LE(device.at("used_bytes"), device.at("peak_bytes"));
    // What is not on the device is on the host.
    EXPECT_GE(host.at("used_bytes").get<uint64_t>(), (kWeights - 4) * kMiB);
    EXPECT_GE(host.at("peak_bytes"), host.at("used_bytes"));
    EXPECT_GE(moved.at("spills").get<uint64_t>(), uint64_t{kWeights} - 4);
    EXPECT_GE(moved.at("spilled_bytes").get<uint64_t>(), (kWeights - 4) * kMiB);
    const uint64_t came =
        moved.at("loads").get<uint64_t>() + moved.at("prefetches").get<uint64_t>();
    EXPECT_GE(came, uint64_t{kWeights});
    EXPECT_GE(
        moved.at("loaded_bytes").get<uint64_t>() + moved.at("prefetched_bytes").get<uint64_t>(),
        came * kMiB);

    const auto seen = metrics(admin);
    EXPECT_EQ(seen.at("djinn_memory_budget_bytes{tier=\"device\"}"), 4 * kMiB);
    EXPECT_EQ(seen.at("djinn_memory_peak_bytes{tier=\"device\"}"), device.at("peak_bytes"));
    EXPECT_GE(seen.at("djinn_tier_spills_total"), moved.at("spills"));
    EXPECT_EQ(seen.at("djinn_tenant_sessions{tenant=\"anonymous\"}"), 1U);

    const json session = ctl(admin, "sessions").at("sessions").at(0);
    EXPECT_EQ(session.at("tenant"), "anonymous");
    EXPECT_GE(session.at("storages").get<int>(), kWeights);
    EXPECT_GE(session.at("storage_bytes").get<uint64_t>(), kWeights * kMiB);
    EXPECT_GE(session.at("upload_bytes").get<uint64_t>(), kWeights * kMiB);
    EXPECT_GT(session.at("jobs").get<uint64_t>(), 0U);
    const json tenant = ctl(admin, "tenants").at("tenants").at(0);
    EXPECT_EQ(tenant.at("storage_bytes"), session.at("storage_bytes"));
    // What the tenant has on both tiers together is what its session has there, or more: a storage
    // may be on both.
    EXPECT_LE(tenant.at("device").at("peak_bytes"), device.at("peak_bytes"));
    EXPECT_GT(tenant.at("device").at("peak_bytes").get<uint64_t>(), kMiB);
    EXPECT_GE(tenant.at("device").at("used_bytes").get<uint64_t>() +
                  tenant.at("host").at("used_bytes").get<uint64_t>(),
              tenant.at("storage_bytes").get<uint64_t>());
  }
  EXPECT_FALSE(std::filesystem::exists(admin.host));  // It ended, and took its socket along.
}

}  // namespace
}  // namespace djinn::testing
