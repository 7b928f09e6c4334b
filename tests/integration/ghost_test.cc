// SPDX-License-Identifier: Apache-2.0
// A model that is driven by a process which never holds its weights.
#include "client/ghost.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include "client/djinn.h"
#include "tests/support/server_process.h"

namespace djinn::testing {
namespace {

constexpr int64_t kWidth = 2048;
constexpr int64_t kLayers = 64;  // of 16 MiB each: 1 GiB
constexpr int64_t kLayerBytes = kWidth * kWidth * 4;
constexpr int64_t kMiB = 1 << 20;

at::Tensor layer_weight(int64_t layer) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(layer) + 1);
  return at::rand({kWidth, kWidth}, generator).sub_(0.5).mul_(0.06);
}

std::string header(int64_t layers) {
  std::string out = "{";
  for (int64_t i = 0; i < layers; ++i) {
    out += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(.weight":{"dtype":"F32","shape":[)" +
           std::to_string(kWidth) + "," + std::to_string(kWidth) + R"(],"data_offsets":[)" +
           std::to_string(i * kLayerBytes) + "," + std::to_string((i + 1) * kLayerBytes) + "]}";
  }
  return out + "}";
}

// A file of seeded weights, in a folder of its own.
class ModelFile {
 public:
  explicit ModelFile(int64_t layers) {
    std::string name = ::testing::TempDir() + "/djinn-ghost-XXXXXX";
    folder_ = mkdtemp(name.data());
    std::ofstream out(path(), std::ios::binary);
    const std::string text = header(layers);
    const uint64_t length = text.size();
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << text;
    for (int64_t i = 0; i < layers; ++i) {
      out.write(static_cast<const char*>(layer_weight(i).const_data_ptr()), kLayerBytes);
    }
  }
  ~ModelFile() { std::filesystem::remove_all(folder_); }
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;
  [[nodiscard]] std::string path() const { return folder_ + "/model.safetensors"; }

 private:
  std::string folder_;
};

// Of this process, in bytes: "VmRSS" now, "VmHWM" the most since the last `forget_peak`.
int64_t memory(const std::string& figure) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(figure + ":")) return std::stoll(line.substr(figure.size() + 1)) * 1024;
  }
  return -1;
}
void forget_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

TEST(AGhost, DrivesAModelThatItNeverHolds) {
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  const ModelFile file(kLayers);
  const auto x = at::rand({2, kWidth}, at::make_generator<at::CPUGeneratorImpl>(7));
  auto expected = x;
  for (int64_t i = 0; i < kLayers; ++i) expected = expected.mm(layer_weight(i)).relu();

  const ServerProcess server({"--threads", "1"});
  connect({.server = server.address()});
  (void)at::ones({1}, at::TensorOptions(at::Device("djinn"))).cpu();  // What a client needs anyway.
  forget_peak();
  const int64_t before = memory("VmRSS");
  ASSERT_GE(memory("VmHWM"), 0);

  const auto weights = load_safetensors(file.path());
  ASSERT_EQ(weights.size(), static_cast<size_t>(kLayers));
  auto y = x.to(at::Device("djinn"));
  for (int64_t i = 0; i < kLayers; ++i) {
    y = y.mm(weights.at(std::to_string(i) + ".weight")).relu();
  }
  const auto result = y.cpu();
  const int64_t peak = memory("VmHWM") - before;
  RecordProperty("peak_mib", std::to_string(peak / kMiB));
  EXPECT_LT(peak, kLayers * kLayerBytes / 4) << "MiB: " << peak / kMiB;
  EXPECT_TRUE(result.equal(expected));
  EXPECT_GE(stats().upload_bytes, static_cast<uint64_t>(kLayers * kLayerBytes));
  EXPECT_EQ(stats().hashed_bytes, static_cast<uint64_t>(kLayers * kLayerBytes));
}

TEST(AGhost, GivesAModuleWithoutBytesItsParameters) {
  at::set_num_threads(1);
  const ModelFile file(1);
  const ServerProcess server({"--threads", "1"});
  connect({.server = server.address()});
  torch::nn::Linear layer(torch::nn::LinearOptions(kWidth, kWidth).bias(false));
  layer->to(at::kMeta);
  const auto weights = load_safetensors(file.path());
  for (auto& each : layer->named_parameters()) {
    each.value().set_data(weights.at("0." + each.key()));
  }
  const auto x = at::rand({2, kWidth}, at::make_generator<at::CPUGeneratorImpl>(7));
  const auto y = layer->forward(x.to(at::Device("djinn")));
  EXPECT_TRUE(y.requires_grad());
  EXPECT_TRUE(y.detach().cpu().equal(at::linear(x, layer_weight(0))));
}

TEST(APreloadedModel, IsThereForWhoeverLoadsItLater) {
  const ModelFile file(2);
  const ServerProcess server({"--threads", "1"});
  connect({.server = server.address() + "," + server.address()});
  preload(file.path(), 0);
  EXPECT_GE(stats(0).upload_bytes, static_cast<uint64_t>(2 * kLayerBytes));
  EXPECT_EQ(server_stats(0).storages, 0U) << "nobody uses it";
  const auto weights = load_safetensors(file.path(), 1);
  EXPECT_TRUE(weights.at("1.weight").cpu().equal(layer_weight(1)));
  EXPECT_LT(stats(1).upload_bytes, static_cast<uint64_t>(kMiB));
  EXPECT_EQ(stats(1).hashed_bytes, 0U) << "its file was hashed once";
}

TEST(AGhost, SaysWhatIsWrongWithTheFile) {
  const std::string path = ::testing::TempDir() + "/djinn-no-ghost-" + std::to_string(getpid());
  EXPECT_THROW((void)load_safetensors(path), c10::Error);
  std::ofstream(path) << "no weights";
  EXPECT_THROW((void)load_safetensors(path), c10::Error);
  EXPECT_THROW(preload(path), c10::Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace djinn::testing
