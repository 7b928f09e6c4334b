// SPDX-License-Identifier: Apache-2.0
// A second app with the same weights: nothing is sent, nothing is hashed again, one copy is kept -
// until somebody writes.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "tests/support/app_process.h"
#include "tests/support/http_peer.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

constexpr int64_t kBytes = 16 << 20;
constexpr int64_t kFloats = kBytes / 4;
constexpr int64_t kLittle = 64 << 10;  // Messages, plans, small tensors.

// A file of weights in a folder of its own.
class Weights {
 public:
  Weights() {
    std::string name = ::testing::TempDir() + "/djinn-weights-XXXXXX";
    folder_ = mkdtemp(name.data());
    write(1);
  }
  ~Weights() { std::filesystem::remove_all(folder_); }
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  void write(float first) const {
    const auto values = at::arange(kFloats).to(at::kFloat).add_(first);
    std::ofstream out(path(), std::ios::binary | std::ios::trunc);
    out.write(static_cast<const char*>(values.const_data_ptr()), kBytes);
  }
  [[nodiscard]] std::string path() const { return folder_ + "/weights"; }
  [[nodiscard]] std::string folder() const { return folder_; }

 private:
  std::string folder_;
};

// A server that says what it shares.
class SharingServer {
 public:
  [[nodiscard]] const ServerProcess& process() const { return server_; }
  [[nodiscard]] const std::string& address() const { return server_.address(); }
  // It shares bytes once it has hashed them itself.
  void wait_until_it_shares(uint64_t bytes) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (shared_bytes() < bytes) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline)
          << shared_bytes() << " bytes are shared";
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

 private:
  [[nodiscard]] uint64_t shared_bytes() const {
    const std::string page = http_body(admin_, "/metrics");
    const std::string name = "\ndjinn_artifact_bytes ";
    const size_t at = page.find(name);
    return at == std::string::npos ? 0 : std::stoull(page.substr(at + name.size()));
  }

  transport::Address admin_{
      .kind = transport::Address::Kind::kUnix,
      .host = ::testing::TempDir() + "djinn-attach-" + std::to_string(getpid()) + ".sock"};
  ServerProcess server_{{"--threads", "1", "--admin", admin_.text()}};
};

std::unique_ptr<AppProcess> load(const Weights& weights, const ServerProcess& server) {
  const std::vector<std::string> args{"weights", "djinn", weights.path(), "8"};
  return std::make_unique<AppProcess>(args, server.address(),
                                      std::vector<std::string>{"HOME=" + weights.folder()});
}

std::unique_ptr<AppProcess> load(const Weights& weights, const SharingServer& server) {
  return load(weights, server.process());
}

void connect_to(const std::string& address) {
  at::set_num_threads(1);
  djinn::connect({.server = address});
}

TEST(ASecondApp, SendsNoWeightsAndHashesNone) {
  const Weights weights;
  const SharingServer server;
  connect_to(server.address());
  const auto before = static_cast<int64_t>(server_stats().device_bytes);
  const auto first = load(weights, server);
  const std::string sum = first->line();
  const auto one_copy = static_cast<int64_t>(server_stats().device_bytes) - before;
  EXPECT_GE(one_copy, kBytes);

  server.wait_until_it_shares(kBytes);
  const auto second = load(weights, server);
  EXPECT_EQ(second->line(), sum);
  const auto two_apps = static_cast<int64_t>(server_stats().device_bytes) - before;
  EXPECT_LT(two_apps, one_copy + kBytes / 8) << "they share one copy";

  EXPECT_EQ(second->wait(), 0) << second->errors();
  EXPECT_EQ(second->stat("hashed_bytes"), 0) << second->errors();
  EXPECT_EQ(second->stat("shared_bytes"), kBytes);
  EXPECT_LT(second->stat("upload_bytes"), kLittle);
  EXPECT_LT(second->stat("bytes_sent"), kLittle);
  EXPECT_EQ(first->wait(), 0) << first->errors();
  EXPECT_EQ(first->stat("hashed_bytes"), kBytes);
  EXPECT_GE(first->stat("upload_bytes"), kBytes);
}

TEST(ASecondApp, AfterTheFirstHasGoneSendsNoWeights) {
  const Weights weights;
  const SharingServer server;
  std::string sum;
  for (int app = 0; app < 3; ++app) {
    const auto it = load(weights, server);
    const std::string its_sum = it->line();
    if (app == 0) sum = its_sum;
    EXPECT_EQ(its_sum, sum);
    server.wait_until_it_shares(kBytes);
    EXPECT_EQ(it->wait(), 0) << it->errors();
    EXPECT_EQ(it->stat("hashed_bytes"), app == 0 ? kBytes : 0);
    EXPECT_LT(it->stat("bytes_sent"), app == 0 ? 2 * kBytes : kLittle);
  }
}

TEST(ASecondApp, HashesAFileThatChanged) {
  const Weights weights;
  const ServerProcess server({"--threads", "1"});
  const auto first = load(weights, server);
  const std::string sum = first->line();
  EXPECT_EQ(first->wait(), 0) << first->errors();
  weights.write(2);
  const auto second = load(weights, server);
  EXPECT_NE(second->line(), sum);
  EXPECT_EQ(second->wait(), 0) << second->errors();
  EXPECT_EQ(second->stat("hashed_bytes"), kBytes);
  EXPECT_GE(second->stat("upload_bytes"), kBytes);
}

TEST(SharedWeights, AreCopiedBeforeOneAppWritesThem) {
  const Weights weights;
  const SharingServer server;
  const auto writer = load(weights, server);
  const auto reader = load(weights, server);
  const double sum = std::stod(writer->line());
  EXPECT_EQ(std::stod(reader->line()), sum);
  writer->write("add");
  EXPECT_EQ(std::stod(writer->line()), sum + kFloats);
  // Who comes later gets what the file says, not what was written.
  server.wait_until_it_shares(kBytes);
  const auto later = load(weights, server);
  EXPECT_EQ(std::stod(later->line()), sum);
  reader->write("add");
  EXPECT_EQ(std::stod(reader->line()), sum + kFloats);
  writer->write("add");
  EXPECT_EQ(std::stod(writer->line()), sum + 2 * kFloats);
  for (const auto* app : {&writer, &reader, &later}) EXPECT_EQ((*app)->wait(), 0);
  EXPECT_LT(later->stat("bytes_sent"), kLittle);
}

// A folder for the artifacts of servers that come one after the other.
class CacheFolder {
 public:
  explicit CacheFolder(const Weights& beside) : path_(beside.folder() + "/cache") {}
  [[nodiscard]] std::unique_ptr<ServerProcess> serve() const {
    return std::make_unique<ServerProcess>(
        std::vector<std::string>{"--threads", "1", "--cache-dir", path_});
  }
  // Every weight is in a file, and none is being written.
  [[nodiscard]] bool wait_until_written() const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline) {
      uintmax_t bytes = 0;
      for (const auto& file : files()) bytes += std::filesystem::file_size(file);
      if (bytes >= kBytes) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }
  [[nodiscard]] std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> out;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      if (entry.path().extension() == ".artifact") out.push_back(entry.path());
    }
    return out;
  }

 private:
  std::string path_;
};

// What an app that attaches prints and sends.
struct Attached {
  std::string sum;
  int64_t upload_bytes = 0;
  int64_t shared_bytes = 0;
  int64_t bytes_sent = 0;
};
Attached attach(const Weights& weights, const ServerProcess& server) {
  const auto app = load(weights, server);
  Attached out{.sum = app->line()};
  EXPECT_EQ(app->wait(), 0) << app->errors();
  out.upload_bytes = app->stat("upload_bytes");
  out.shared_bytes = app->stat("shared_bytes");
  out.bytes_sent = app->stat("bytes_sent");
  return out;
}

void stop(ServerProcess& server) {
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(20'000), 0);
}

TEST(ARestartedServer, NeedsNoWeightsOverTheWire) {
  const Weights weights;
  const CacheFolder cache(weights);
  std::string sum;
  {
    const auto server = cache.serve();
    const Attached cold = attach(weights, *server);
    sum = cold.sum;
    EXPECT_GE(cold.upload_bytes, kBytes);
    EXPECT_EQ(cold.shared_bytes, 0);
    ASSERT_TRUE(cache.wait_until_written());
    stop(*server);
  }
  const auto server = cache.serve();
  const Attached warm = attach(weights, *server);
  EXPECT_EQ(warm.sum, sum);
  EXPECT_EQ(warm.upload_bytes, 0);
  EXPECT_EQ(warm.shared_bytes, kBytes);
  EXPECT_LT(warm.bytes_sent, kLittle);
  const Attached again = attach(weights, *server);
  EXPECT_EQ(again.sum, sum);
  EXPECT_EQ(again.upload_bytes, 0) << "from memory, this time";
}

TEST(ARestartedServer, FetchesAgainWhatTheDiskDamaged) {
  const Weights weights;
  const CacheFolder cache(weights);
  std::string sum;
  {
    const auto server = cache.serve();
    sum = attach(weights, *server).sum;
    ASSERT_TRUE(cache.wait_until_written());
    stop(*server);
  }
  const auto files = cache.files();
  ASSERT_EQ(files.size(), 8U);
  {
    std::fstream file(files[3], std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(100'000);
    const int byte = file.get();
    file.seekp(100'000);
    file.put(static_cast<char>(byte ^ 1));
  }
  {
    const auto server = cache.serve();
    const Attached healed = attach(weights, *server);
    EXPECT_EQ(healed.sum, sum);
    EXPECT_EQ(healed.upload_bytes, kBytes / 8) << "one of the eight";
    EXPECT_EQ(healed.shared_bytes, kBytes - kBytes / 8);
    ASSERT_TRUE(cache.wait_until_written());
    stop(*server);
  }
  const auto server = cache.serve();
  const Attached warm = attach(weights, *server);
  EXPECT_EQ(warm.sum, sum);
  EXPECT_EQ(warm.upload_bytes, 0);
}

// The schema of batch norm does not say that it writes the running statistics.
TEST(SharedWeights, AreCopiedBeforeAHiddenWrite) {
  constexpr int64_t kChannels = 1 << 17;
  const ServerProcess server({"--threads", "1"});
  connect_to(server.address() + "," + server.address());
  const at::Device mine("djinn:0");
  const at::Device theirs("djinn:1");
  const auto statistics = at::arange(kChannels).to(at::kFloat);
  const auto variance = at::ones({kChannels});
  const auto my_mean = statistics.to(mine);
  const auto my_variance = variance.to(mine);
  // The server shares bytes once it has hashed them itself.
  auto their_mean = statistics.to(theirs);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (stats(1).shared_bytes == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    their_mean = statistics.to(theirs);
  }
  EXPECT_EQ(their_mean.select(0, 7).item<float>(), 7);
  ASSERT_GE(stats(1).shared_bytes, uint64_t{kChannels * 4}) << "the test is about shared bytes";
  const auto x = at::full({2, kChannels}, 3.0F, at::TensorOptions(mine));
  (void)at::native_batch_norm(x, {}, {}, my_mean, my_variance, /*training=*/true, 0.5, 1e-5);
  EXPECT_EQ(my_mean.select(0, 7).item<float>(), 5) << "half of 7 and half of 3";
  EXPECT_EQ(their_mean.select(0, 7).item<float>(), 7);
  EXPECT_TRUE(their_mean.cpu().equal(statistics));
}

}  // namespace
}  // namespace djinn::testing
