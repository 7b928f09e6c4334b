// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "serialization/files/safetensors.h"

namespace djinn::files {
namespace {

std::string file_of(const std::string& header, size_t data_bytes) {
  std::string out(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(out.data(), &length, sizeof length);
  return out + header + std::string(data_bytes, 'x');
}

Result<std::vector<SafetensorsEntry>> read(const std::string& file) {
  return read_safetensors(std::as_bytes(std::span(file)));
}

const std::string kHeader = R"({"__metadata__":{"format":"pt"},)"
                            R"("late":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
                            R"("early":{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]}})";

TEST(Safetensors, SaysWhereTensorsLieInTheOrderOfTheirBytes) {
  const auto entries = read(file_of(kHeader, 12));
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ((*entries)[0].name, "early");
  EXPECT_EQ((*entries)[0].shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ((*entries)[0].offset_bytes, 8 + kHeader.size());
  EXPECT_EQ((*entries)[1].dtype, "F32");
  EXPECT_EQ((*entries)[1].offset_bytes, 12 + kHeader.size());
  EXPECT_EQ((*entries)[1].length_bytes, 8U);
}

TEST(Safetensors, RefusesWhatLiesOutsideOfTheFile) {
  EXPECT_TRUE(read(file_of(kHeader, 12)));
  EXPECT_FALSE(read(file_of(kHeader, 11)));
  EXPECT_FALSE(read(file_of(R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[3,2]}})", 12)));
}

TEST(Safetensors, RefusesTensorsThatOverlap) {
  EXPECT_FALSE(read(file_of(R"({"a":{"dtype":"I8","shape":[5],"data_offsets":[0,5]},)"
                            R"("b":{"dtype":"I8","shape":[5],"data_offsets":[4,9]}})",
                            12)));
  EXPECT_TRUE(read(file_of(R"({"a":{"dtype":"I8","shape":[0],"data_offsets":[4,4]},)"
                           R"("b":{"dtype":"I8","shape":[8],"data_offsets":[4,12]}})",
                           12)));
}

TEST(Safetensors, AreReadFromTheirHeadAlone) {
  const std::string file = file_of(kHeader, 0);
  const auto head = std::as_bytes(std::span(file));
  EXPECT_EQ(safetensors_head_bytes(head.first(8), head.size() + 12).value(), head.size());
  const auto entries = read_safetensors_head(head, head.size() + 12);
  ASSERT_TRUE(entries) << entries.error().message;
  EXPECT_EQ(entries->size(), 2U);
  EXPECT_FALSE(read_safetensors_head(head, head.size() + 11));
  EXPECT_FALSE(safetensors_head_bytes(head.first(8), head.size() - 1));
  EXPECT_FALSE(safetensors_head_bytes(head.first(7), head.size()));
}

TEST(Safetensors, RefusesEveryBeginningOfAFile) {
  const std::string whole = file_of(kHeader, 12);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(read(whole.substr(0, length))) << length;
  }
}

TEST(Safetensors, RefusesHeadersThatAreNoneOrHaveOtherFields) {
  for (const char* const header :
       {"", "[]", "{", "7", R"({"a":1})", R"({"a":{"dtype":"I8","shape":[1]}})",
        R"({"a":{"dtype":"I8","shape":[-1],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":"I8","shape":"x","data_offsets":[0,1]}})",
        R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0]}})"}) {
    EXPECT_FALSE(read(file_of(header, 12))) << header;
  }
  std::string huge = file_of(kHeader, 12);
  std::memset(huge.data(), 0xff, 8);
  EXPECT_FALSE(read(huge));
}

}  // namespace
}  // namespace djinn::files
