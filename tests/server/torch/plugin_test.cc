// SPDX-License-Identifier: Apache-2.0
// Plugins and the way to a GPU: what is missing is one sentence, and a plugin of another build is
// refused before anything of it is used.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "server/torch/cuda_device.h"
#include "server/torch/cuda_probe.h"
#include "server/torch/plugin_loader.h"

namespace djinn::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string output_of(const std::string& command) {
  FILE* const pipe = popen(("{ " + command + "; } 2>&1").c_str(), "r");
  std::string text;
  std::array<char, 4096> part{};
  while (const size_t length = fread(part.data(), 1, part.size(), pipe)) {
    text.append(part.data(), length);
  }
  pclose(pipe);
  return text;
}

std::string fake(const std::string& name) {
  return std::string(DJINN_FAKE_PLUGINS) + "/fake_plugin_" + name + ".so";
}

// "" if there is none.
std::string plugin_path_in_build() {
  const std::string path = std::string(DJINN_FAKE_PLUGINS) + "/djinn_cuda.so";
  return std::ifstream(path) ? path : "";
}

// -- other builds

TEST(Plugin, OfTheSameBuildIsLoaded) {
  const auto plugin = load_plugin(fake("same"));
  ASSERT_TRUE(plugin) << plugin.error().message;
  EXPECT_EQ((*plugin)->open, nullptr);
}

TEST(Plugin, OfAnotherInterfaceIsRefused) {
  for (const char* const name : {"version", "bytes"}) {
    const auto plugin = load_plugin(fake(name));
    ASSERT_FALSE(plugin) << name;
    EXPECT_EQ(plugin.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(plugin.error().message,
                AllOf(HasSubstr("another build"), HasSubstr("interface"), HasSubstr("together")));
  }
}

TEST(Plugin, OfAnotherBuildIsRefusedAndBothAreNamed) {
  const auto plugin = load_plugin(fake("build"));
  ASSERT_FALSE(plugin);
  EXPECT_THAT(plugin.error().message,
              AllOf(HasSubstr("djinn 0.0.1-somewhere"), HasSubstr(DJINN_PLUGIN_BUILD)));
}

TEST(Plugin, WhatIsNoneIsRefused) {
  const auto library = load_plugin(std::string(DJINN_TORCH_LIB) + "/libgomp.so.1");
  ASSERT_FALSE(library);
  EXPECT_THAT(library.error().message, HasSubstr("no plugin of djinn's"));

  const std::string path = ::testing::TempDir() + "/djinn_text.so";
  std::ofstream(path) << "not a library\n";
  const auto text = load_plugin(path);
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().message, HasSubstr("cannot be loaded"));

  const auto nothing = load_plugin("/nonexistent/djinn_cuda.so");
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(nothing.error().message, HasSubstr("CUDA toolkit"));
}

TEST(Plugin, ALibraryThatItNeedsIsNamed) {
  const auto plugin = load_plugin(fake("lacks"));
  ASSERT_FALSE(plugin);
  EXPECT_THAT(plugin.error().message,
              AllOf(HasSubstr("needs libdjinn_nowhere.so, which is not found"),
                    HasSubstr("./dev setup --cuda")));
}

// -- the way to a GPU

TEST(Cuda, SaysInOneSentenceWhatIsMissing) {
  if (probe_cuda(0)) GTEST_SKIP() << "this machine has a GPU and its driver";
  const auto device = make_cuda_device({.index = 0});
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(device.error().message, AllOf(HasSubstr("NVIDIA driver"), HasSubstr("--device cpu")));
  EXPECT_THAT(device.error().message, Not(HasSubstr("\n")));
}

TEST(Cuda, NamesTheLastGpuIfThereAreFewer) {
  if (!probe_cuda(0)) GTEST_SKIP() << "this machine has no GPU: " << probe_cuda(0).error().message;
  const auto probed = probe_cuda(999);
  ASSERT_FALSE(probed);
  EXPECT_THAT(probed.error().message, HasSubstr("the last GPU of this machine is cuda:"));
}

// The whole program, with a driver that is none.
std::string server_says(const std::string& environment, const std::string& device) {
  return output_of("LD_LIBRARY_PATH=" DJINN_FAKE_DRIVER " " + environment +
                   " " DJINN_SERVER_PROGRAM
                   " --listen tcp://127.0.0.1:0 --log-level off --device " +
                   device + "; echo $?");
}

TEST(Cuda, EachThingThatIsMissingIsASentenceOfTheProgram) {
  EXPECT_EQ(server_says("", "cuda:0"),
            "djinn-server: --device cuda:0: the NVIDIA driver finds no usable GPU (no CUDA-capable "
            "device is detected): see what nvidia-smi says, or choose --device cpu\n1\n");
  EXPECT_EQ(server_says("FAKE_GPUS=0", "cuda:0"),
            "djinn-server: --device cuda:0: the NVIDIA driver finds no GPU: see nvidia-smi and "
            "CUDA_VISIBLE_DEVICES, or choose --device cpu\n1\n");
  EXPECT_EQ(server_says("FAKE_GPUS=2", "cuda:2"),
            "djinn-server: --device cuda:2: the last GPU of this machine is cuda:1: choose "
            "another, or choose --device cpu\n1\n");
}

// Behind the driver come the plugin and its libraries, then CUDA itself, which does not fall for
// it.
TEST(Cuda, ADriverAloneIsNotEnough) {
  const std::string said = server_says("FAKE_GPUS=1", "cuda:0");
  EXPECT_THAT(said, StartsWith("djinn-server: --device cuda:0: "));
  EXPECT_TRUE(said.ends_with("\n1\n")) << said;
  EXPECT_EQ(std::ranges::count(said, '\n'), 2) << said;
  std::printf("%s", said.c_str());
}

// -- the plugin itself

TEST(CudaPlugin, NeedsNothingButLibTorchCudaAndTheSystem) {
  const std::string path = plugin_path_in_build();
  if (path.empty()) GTEST_SKIP() << "this build has no CUDA plugin";
  const std::set<std::string> known{"libtorch_cpu.so", "libc10.so",      "libtorch_cuda.so",
                                    "libc10_cuda.so",  "libstdc++.so.6", "libm.so.6",
                                    "libgcc_s.so.1",   "libc.so.6",      "ld-linux-x86-64.so.2"};
  std::istringstream lines(output_of("readelf -d " + path));
  int needed = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("(NEEDED)") == std::string::npos) continue;
    ++needed;
    const size_t begin = line.find('[') + 1;
    const std::string name = line.substr(begin, line.find(']') - begin);
    EXPECT_TRUE(known.contains(name) || name.starts_with("libcudart.so.")) << name;
  }
  EXPECT_GE(needed, 5);
}

// It was linked with -z defs, so each symbol it lacks is in one of those; none is the server's.
TEST(CudaPlugin, TakesNothingFromTheServerAndExportsOneFunctionOfOurs) {
  const std::string path = plugin_path_in_build();
  if (path.empty()) GTEST_SKIP() << "this build has no CUDA plugin";
  std::istringstream undefined(output_of("nm -D --undefined-only " + path));
  for (std::string line; std::getline(undefined, line);) {
    EXPECT_EQ(line.find("djinn"), std::string::npos) << line;
  }
  std::istringstream defined(output_of("nm -D --defined-only " + path));
  int ours = 0;
  for (std::string line; std::getline(defined, line);) {
    if (line.find("djinn") == std::string::npos) continue;
    ++ours;
    EXPECT_TRUE(line.ends_with(" T djinn_device_plugin")) << line;
  }
  EXPECT_EQ(ours, 1);
}

}  // namespace
}  // namespace djinn::server
