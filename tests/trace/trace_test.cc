// SPDX-License-Identifier: Apache-2.0
// A trace is what was written, or one sentence that says what is wrong with it.
#include "trace/trace.h"

#include <gmock/gmock.h>
#include <xxhash.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

#include <gtest/gtest.h>

#include "trace/writer.h"

namespace djinn::trace {
namespace {

using ::testing::HasSubstr;
using transport::FrameKind;

constexpr std::array<uint8_t, 16> kSchemaHash{1, 2, 3};
constexpr uint64_t kPayload = 0x1122334455667788;

Bytes payload(size_t bytes = 8) { return std::as_bytes(std::span(&kPayload, 1)).first(bytes); }

void write_hello(Writer& writer, std::string_view token = {}) {
  writer.hello(codec::encode(codec::Hello{.token = token,
                                          .app = "app",
                                          .libtorch = "2.15.0",
                                          .schema_hash = kSchemaHash})
                   .bytes());
}

void write_step(Writer& writer, uint32_t job, uint16_t epoch = 0) {
  writer.frame(FrameKind::kStep, codec::encode(codec::Step{.job = job, .epoch = epoch}).bytes(), {},
               job);
}

// One of each kind.
void write_all(Writer& writer) {
  write_hello(writer);
  writer.artifact({.upload = 1, .content = {9}}, payload(), 1);
  writer.frame(FrameKind::kUpload, codec::encode(codec::Upload{.upload = 2}).bytes(), payload(3),
               1);
  writer.frame(FrameKind::kJob, codec::encode(codec::Job{.job = 1, .patch = kSchemaHash}).bytes(),
               payload(), 1);
  writer.answer({.job = 1, .answer = 1}, payload(5), 2);
  writer.frame(FrameKind::kHint, codec::encode(codec::Hint{}).bytes(), {}, 2);
  write_step(writer, 2);
  writer.answer({.job = 1, .answer = 0, .code = 7}, payload(), 3);
}

// In memory that is aligned as a mapped file is.
using Words = std::vector<uint64_t>;
Words written(const std::function<void(Writer&)>& write) {
  std::ostringstream out;
  Writer writer(out);
  write(writer);
  EXPECT_TRUE(writer.finish());
  const std::string text = out.str();
  EXPECT_EQ(text.size() % 8, 0U);
  Words words(text.size() / 8);
  std::memcpy(words.data(), text.data(), text.size());
  return words;
}

Result<Trace> read(const Words& words) {
  return Trace::read(std::as_bytes(std::span(words)), nullptr);
}

std::string problem(const Words& words) {
  const auto trace = read(words);
  return trace ? "" : trace.error().message;
}
std::string problem(const std::function<void(Writer&)>& write) { return problem(written(write)); }

void mend_checksum(Words& words) {
  words.back() = XXH3_64bits(words.data(), (words.size() - 1) * sizeof(uint64_t));
}

TEST(ATrace, IsWhatWasWritten) {
  const Words words = written(write_all);
  const auto trace = read(words);
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->hello().app, "app");
  EXPECT_EQ(trace->jobs(), 2U);
  EXPECT_EQ(trace->artifact_bytes(), 8U);
  ASSERT_EQ(trace->said().size(), 5U);
  EXPECT_TRUE(trace->said()[0].artifact);
  EXPECT_EQ(trace->said()[0].upload.content[0], 9);
  EXPECT_EQ(trace->said()[1].payload.size(), 3U);
  EXPECT_EQ(trace->said()[2].job, 1U);
  EXPECT_EQ(trace->said()[2].after, 0U);
  EXPECT_EQ(trace->said()[3].kind, FrameKind::kHint);
  EXPECT_EQ(trace->said()[4].job, 2U);
  EXPECT_EQ(trace->said()[4].after, 1U);
  ASSERT_EQ(trace->answers().size(), 2U);
  ASSERT_NE(trace->find(1, 0), nullptr);
  EXPECT_EQ(trace->find(1, 0)->what.code, 7);
  EXPECT_EQ(trace->find(1, 1)->payload.size(), 5U);
  EXPECT_EQ(trace->find(2, 0), nullptr);
}

TEST(ATrace, ThatWasCutOffIsRefused) {
  const Words words = written(write_all);
  for (size_t length = 0; length < words.size(); ++length) {
    EXPECT_NE(problem(Words(words.begin(), words.begin() + static_cast<ptrdiff_t>(length))), "")
        << length;
  }
}

TEST(ATrace, InWhichAnyByteChangedIsRefused) {
  Words words = written(write_all);
  const auto bytes = std::as_writable_bytes(std::span(words));
  for (std::byte& byte : bytes) {
    byte ^= std::byte{0x10};
    EXPECT_NE(problem(words), "") << &byte - bytes.data();
    byte ^= std::byte{0x10};
  }
  EXPECT_EQ(problem(words), "");
}

// Whoever mends the checksum behind it is told what is wrong, or nothing is out of bounds.
TEST(ATrace, InWhichAnyWordIsHugeStaysWithinItsBytes) {
  const Words words = written(write_all);
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    for (const uint64_t value : {UINT64_MAX, uint64_t{1} << 63, uint64_t{1} << 33, uint64_t{7}}) {
      Words bent = words;
      bent[i] = value;
      mend_checksum(bent);
      const auto trace = read(bent);
      if (!trace) continue;
      for (const Said& said : trace->said()) {
        EXPECT_LE(said.payload.size() + said.message.size(), bent.size() * 8);
      }
    }
  }
}

TEST(ATrace, IsRefusedWithTheReason) {
  EXPECT_THAT(problem(Words{}), HasSubstr("no trace"));
  Words future = written(write_all);
  reinterpret_cast<uint32_t*>(future.data())[2] = kVersion + 1;
  EXPECT_THAT(problem(future), HasSubstr("reads version 1"));
  EXPECT_THAT(problem([](Writer& w) { write_step(w, 1); }), HasSubstr("no hello"));
  EXPECT_THAT(problem([](Writer& w) { write_hello(w, "secret"); }), HasSubstr("more than belongs"));
  EXPECT_THAT(problem([](Writer& w) {
                write_hello(w);
                write_hello(w);
              }),
              HasSubstr("second hello"));
  EXPECT_THAT(problem([](Writer& w) {
                write_hello(w);
                write_step(w, 2);
              }),
              HasSubstr("job 2"));
  EXPECT_THAT(problem([](Writer& w) {
                write_hello(w);
                write_step(w, 1, 1);
              }),
              HasSubstr("epoch 1"));
  EXPECT_THAT(problem([](Writer& w) {
                write_hello(w);
                w.answer({.job = 1}, {}, 0);
              }),
              HasSubstr("not sent"));
  EXPECT_THAT(problem([](Writer& w) {
                write_hello(w);
                write_step(w, 1);
                w.answer({.job = 1}, {}, 1);
                w.answer({.job = 1}, {}, 1);
              }),
              HasSubstr("two answers"));
  EXPECT_THAT(problem([](Writer& w) {
                write_hello(w);
                w.frame(FrameKind::kGoodbye, codec::encode(codec::Goodbye{}).bytes(), {}, 0);
              }),
              HasSubstr("which no trace has"));
}

TEST(ATrace, ThatIsNoFileNamesItsPath) {
  const auto missing = Trace::open("/nowhere/it.trace");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("/nowhere/it.trace"));
  const std::string path = ::testing::TempDir() + "/text.trace";
  std::ofstream(path) << "this is no trace but text";
  const auto text = Trace::open(path);
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().message, HasSubstr("text.trace: it is no trace"));
}

}  // namespace
}  // namespace djinn::trace
