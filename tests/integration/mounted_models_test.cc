// SPDX-License-Identifier: Apache-2.0
// A server whose operator has the model: a client sends none of it.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "client/djinn.h"
#include "client/ghost.h"
#include "tests/support/http_peer.h"
#include "tests/support/model_file.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWidth = 512;
constexpr int64_t kLayers = 8;
constexpr uint64_t kModelBytes = uint64_t{kLayers} * kWidth * kWidth * 4;
constexpr uint64_t kLittle = 64 << 10;

// The same model in two files: the operator's and the client's.
class TwoCopies {
 public:
  TwoCopies() {
    std::string name = ::testing::TempDir() + "/djinn-copies-XXXXXX";
    folder_ = mkdtemp(name.data());
    fs::create_directories(folder_ + "/operator/llama");
    auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
    std::vector<ModelTensor> tensors;
    for (int64_t i = 0; i < kLayers; ++i) {
      weights_.push_back(at::rand({kWidth, kWidth}, generator).sub_(0.5).mul_(0.1));
      tensors.push_back({.name = std::to_string(i),
                         .shape = {kWidth, kWidth},
                         .bytes = {static_cast<const std::byte*>(weights_.back().const_data_ptr()),
                                   kModelBytes / kLayers}});
    }
    write_model(mounted(), tensors);
    fs::copy_file(mounted(), mine());
  }
  ~TwoCopies() { fs::remove_all(folder_); }
  TwoCopies(const TwoCopies&) = delete;
  TwoCopies& operator=(const TwoCopies&) = delete;

  [[nodiscard]] std::string folder() const { return folder_ + "/operator"; }
  [[nodiscard]] std::string mounted() const { return folder_ + "/operator/llama/m.safetensors"; }
  [[nodiscard]] std::string mine() const { return folder_ + "/mine.safetensors"; }
  [[nodiscard]] at::Tensor on_the_cpu(at::Tensor x) const {
    for (const auto& each : weights_) x = x.mm(each).tanh();
    return x;
  }

 private:
  std::string folder_;
  std::vector<at::Tensor> weights_;
};

class AServerWithModels : public ::testing::Test {
 protected:
  AServerWithModels() { at::set_num_threads(1); }
  void start(const std::vector<std::string>& more = {}) {
    std::vector<std::string> args{"--threads",   "1",           "--admin",
                                  admin_.text(), "--model-dir", copies_.folder()};
    args.insert(args.end(), more.begin(), more.end());
    server_ = std::make_unique<ServerProcess>(args);
  }
  [[nodiscard]] uint64_t figure(const std::string& name) const {
    const std::string page = http_body(admin_, "/metrics");
    const size_t at = page.find("\ndjinn_" + name + " ");
    return at == std::string::npos ? 0 : std::stoull(page.substr(at + name.size() + 8));
  }
  [[nodiscard]] bool wait_for(const std::string& name, uint64_t value) const {
    for (int tries = 0; tries < 3000 && figure(name) != value; ++tries) usleep(10'000);
    return figure(name) == value;
  }
  // What a session with the client's copy computes; the bytes of it that were sent.
  uint64_t attach_and_compute() {
    connect({.server = server_->address()});
    const auto weights = load_safetensors(copies_.mine());
    auto y = x_.to(at::Device("djinn"));
    for (int64_t i = 0; i < kLayers; ++i) y = y.mm(weights.at(std::to_string(i))).tanh();
    EXPECT_TRUE(y.cpu().equal(copies_.on_the_cpu(x_)));
    return stats().upload_bytes;
  }

  const at::Tensor x_ = at::rand({1, kWidth}, at::make_generator<at::CPUGeneratorImpl>(7));
  const TwoCopies copies_;
  const transport::Address admin_{
      .kind = transport::Address::Kind::kUnix,
      .host = ::testing::TempDir() + "djinn-models-" + std::to_string(getpid()) + ".sock"};
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(AServerWithModels, NeedsNothingSentThatItHas) {
  start();
  ASSERT_TRUE(wait_for("model_bytes", kModelBytes));
  EXPECT_EQ(figure("artifact_bytes"), 0U) << "in its file until somebody wants it";
  EXPECT_LT(attach_and_compute(), kLittle);
  EXPECT_EQ(figure("model_hits_total"), uint64_t{kLayers});
}

TEST_F(AServerWithModels, KeepsAPinnedOneInMemory) {
  start({"--pin", "llama/m.safetensors", "--artifact-cache", "1"});
  ASSERT_TRUE(wait_for("model_pinned_bytes", kModelBytes));
  EXPECT_EQ(figure("artifact_bytes"), kModelBytes);
  for (int session = 0; session < 3; ++session) {
    EXPECT_LT(attach_and_compute(), kLittle);
    EXPECT_EQ(figure("model_hits_total"), uint64_t{kLayers}) << "read once, at the start";
  }
}

TEST_F(AServerWithModels, TakesWhatTheClientHasWhenItsOwnFileHasChanged) {
  start();
  ASSERT_TRUE(wait_for("model_bytes", kModelBytes));
  fs::resize_file(copies_.mounted(), fs::file_size(copies_.mounted()) - 4);
  const uint64_t sent = attach_and_compute();
  EXPECT_GE(sent, kModelBytes / kLayers);
  EXPECT_LT(sent, kModelBytes / kLayers + kLittle) << "one tensor";
  EXPECT_EQ(figure("model_changed_total"), 1U);
}

TEST_F(AServerWithModels, LooksForNewOnesWhenItIsTold) {
  fs::rename(copies_.mounted(), copies_.folder() + "/later");
  start();
  ASSERT_TRUE(wait_for("model_bytes", 0));
  fs::rename(copies_.folder() + "/later", copies_.mounted());
  server_->signal(SIGHUP);
  ASSERT_TRUE(wait_for("model_bytes", kModelBytes));
  EXPECT_LT(attach_and_compute(), kLittle);
}

TEST_F(AServerWithModels, SaysWhatItDoesNotFind) {
  EXPECT_THROW(start({"--model-dir", copies_.folder() + "/nowhere"}), std::runtime_error);
  EXPECT_THROW(start({"--pin", "llama/other.safetensors"}), std::runtime_error);
}

}  // namespace
}  // namespace djinn::testing
