// SPDX-License-Identifier: Apache-2.0
// A file that says it is a trace: it is refused, or all of it lies within its bytes, and what it
// says can be written and read again as the same.
//
// Input: the file. Its checksum is mended, or no changed input would get past the door.
#include <xxhash.h>

#include <sstream>
#include <string>

#include "tests/fuzz/input.h"
#include "trace/trace.h"
#include "trace/writer.h"

namespace djinn::fuzz {
namespace {

using trace::Answered;
using trace::Said;
using trace::Trace;

class Bytes {
 public:
  explicit Bytes(std::span<const uint8_t> bytes)
      : words_(bytes.size() / 8), all_(std::as_bytes(std::span(words_))) {
    std::ranges::copy(std::as_bytes(bytes.first(words_.size() * 8)),
                      std::as_writable_bytes(std::span(words_)).begin());
  }
  void mend_checksum() {
    if (!words_.empty()) words_.back() = XXH3_64bits(words_.data(), (words_.size() - 1) * 8);
  }
  [[nodiscard]] transport::Bytes all() const { return all_; }
  [[nodiscard]] bool hold(transport::Bytes part) const {
    return part.empty() ||
           (part.data() >= all_.data() && part.data() + part.size() <= all_.data() + all_.size());
  }

 private:
  std::vector<uint64_t> words_;  // Aligned, as a mapped file is.
  transport::Bytes all_;
};

void check(const Trace& trace, const Bytes& bytes) {
  uint32_t jobs = 0;
  uint32_t after = 0;
  for (const Said& said : trace.said()) {
    hold(bytes.hold(said.message) && bytes.hold(said.payload), "a frame lies in the file");
    hold(said.after >= after, "answers do not become fewer");
    hold(said.after <= trace.answers().size(), "what a frame waits for is there");
    hold(said.job == 0 || said.job == ++jobs, "jobs come in order");
    after = said.after;
  }
  hold(jobs == trace.jobs(), "jobs are counted");
  for (const Answered& answered : trace.answers()) {
    hold(bytes.hold(answered.payload), "an answer lies in the file");
    hold(trace.find(answered.what.job, answered.what.answer) == &answered, "an answer is found");
  }
}

std::string write(const Trace& trace) {
  std::ostringstream out;
  trace::Writer writer(out);
  writer.hello(codec::encode(trace.hello()).bytes());
  size_t answered = 0;
  const auto answers_before = [&](size_t count) {
    for (; answered < count; ++answered) {
      writer.answer(trace.answers()[answered].what, trace.answers()[answered].payload, 0);
    }
  };
  for (const Said& said : trace.said()) {
    answers_before(said.after);
    if (said.artifact) {
      writer.artifact(said.upload, said.payload, 0);
    } else {
      writer.frame(said.kind, said.message, said.payload, 0);
    }
  }
  answers_before(trace.answers().size());
  hold(writer.finish().has_value(), "a trace can be written");
  return out.str();
}

}  // namespace
}  // namespace djinn::fuzz

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace djinn::fuzz;  // NOLINT(google-build-using-namespace)
  Bytes bytes(std::span(data, size));
  (void)djinn::trace::Trace::read(bytes.all(), nullptr);
  bytes.mend_checksum();
  const auto trace = djinn::trace::Trace::read(bytes.all(), nullptr);
  if (!trace) return 0;
  check(*trace, bytes);
  const std::string first = write(*trace);
  const Bytes again(std::span(reinterpret_cast<const uint8_t*>(first.data()), first.size()));
  const auto reread = djinn::trace::Trace::read(again.all(), nullptr);
  hold(reread.has_value(), "what was written can be read");
  hold(write(*reread) == first, "it says the same");
  return 0;
}
