// SPDX-License-Identifier: Apache-2.0
#include "examples/safetensors.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

namespace djinn::examples {
namespace {

std::filesystem::path write_file(const std::string& header, const std::string& data) {
  auto path = std::filesystem::path(::testing::TempDir()) / "test.safetensors";
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << header << data;
  return path;
}

const std::string kEightBytes("\0\0\x80\x3F\0\0\0\x40", 8);  // 1.0f, 2.0f

TEST(Safetensors, ReadsTensorsThatOutliveTheReader) {
  const auto path = write_file(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]}})",
      kEightBytes);
  at::Tensor a;
  {
    const Safetensors file(path);
    EXPECT_EQ(file.size(), 2U);
    EXPECT_TRUE(file.has("b"));
    a = file.get("a");
    EXPECT_EQ(file.get("b").scalar_type(), at::kBFloat16);
    EXPECT_EQ(file.get("b").sizes(), at::IntArrayRef({2, 1}));
    EXPECT_THROW((void)file.get("c"), std::runtime_error);
  }
  EXPECT_EQ(a[0].item<float>(), 1.0F);
  EXPECT_EQ(a[1].item<float>(), 2.0F);
}

TEST(Safetensors, RefusesWhatDoesNotFitTheFile) {
  EXPECT_THROW(Safetensors("/nowhere/model.safetensors"), std::runtime_error);
  for (const char* header : {
           "",
           "{",
           "[]x",
           R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
           R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
           R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
           R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})",
           R"({"a":{"shape":[2],"data_offsets":[0,8]}})",
       }) {
    EXPECT_THROW(Safetensors(write_file(header, kEightBytes)), std::runtime_error) << header;
  }
  const auto path = write_file("{}", "");
  std::ofstream(path, std::ios::binary | std::ios::trunc) << "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F{}";
  EXPECT_THROW(Safetensors{path}, std::runtime_error) << "a header longer than the file";
  std::ofstream(path, std::ios::binary | std::ios::trunc) << "abc";
  EXPECT_THROW(Safetensors{path}, std::runtime_error) << "shorter than a length";
}

}  // namespace
}  // namespace djinn::examples
