// SPDX-License-Identifier: Apache-2.0
// What a peer says, message by message: each is refused, or a struct that can be said again and
// means the same. A client's messages then go where a session takes them, until one breaks a rule:
// to the greeting, the plan slots and the uploads.
//
// Input: messages, each a byte that says which, its length in two bytes, and it.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "serialization/base/limits.h"
#include "serialization/codec/messages.h"
#include "serialization/graph/result_meta.h"
#include "server/memory/artifact_store.h"
#include "server/session/greeting.h"
#include "server/session/plan_facts.h"
#include "server/session/plan_slots.h"
#include "server/session/tiny.h"
#include "server/session/uploads.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/messages.h"
#include "tests/support/message_fields.h"

namespace djinn::fuzz {
namespace {

class PlainBuffer final : public server::Buffer {
 public:
  explicit PlainBuffer(size_t bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes() override { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Lets every operator in; has memory for uploads below a bound.
class OpenDevice final : public server::Device {
 public:
  [[nodiscard]] std::string name() const override { return "open"; }
  [[nodiscard]] std::string libtorch_version() const override { return "0.0.0"; }
  [[nodiscard]] std::vector<uint8_t> schema_hash() const override {
    return std::vector<uint8_t>(codec::kSchemaHashBytes);
  }
  [[nodiscard]] bool supports(std::string_view op, uint64_t hash) const override {
    return op.size() == hash;
  }
  [[nodiscard]] Result<std::shared_ptr<server::Buffer>> stage(
      uint64_t bytes, std::string_view /*tenant*/) override {
    if (bytes > 2048) return Error{ErrorCode::kOutOfMemory, "an upload that is too long"};
    return std::shared_ptr<server::Buffer>(std::make_shared<PlainBuffer>(bytes));
  }
  [[nodiscard]] Result<> admit(const graph::Plan& /*plan*/) override { return Unit{}; }
  [[nodiscard]] std::unique_ptr<server::Replay> open(SessionId /*session*/,
                                                     std::string_view /*tenant*/) override {
    return nullptr;
  }
  [[nodiscard]] server::DeviceMemory memory() const override { return {}; }
};

// Where a session takes its messages. Each function returns whether the session goes on.
class Desk {
 public:
  bool receive(const codec::Hello& hello) {
    const bool in = server::check_hello(hello, access_, true).has_value();
    const auto reply = server::hello_reply({1}, hello, device_, artifacts().key());
    hold(codec::decode<codec::HelloReply>(reply.bytes()).has_value(), "a hello can be answered");
    hold(server::printable(hello.app).size() <= server::kAppBytesMax, "what is logged is short");
    return in;
  }
  bool receive(const codec::Operators& operators) {
    const auto reply = server::check_operators(operators, device_);
    if (!reply) return false;
    hold(reply->unsupported.size() <= operators.names.size(), "one answer per operator at most");
    return true;
  }
  bool receive(const codec::Offer& offer) {
    const auto have = uploads_.offer(offer);
    if (!have) return false;
    hold(have->have.size() == offer.uploads.size(), "one answer per offer");
    return true;
  }
  bool receive(const codec::Upload& upload) {
    const uint64_t bytes = (upload.upload * 8) % 4096;  // Half of them do not fit.
    const auto place = uploads_.begin(upload, bytes);
    if (!place) return false;
    hold(place->empty() || place->size() == bytes, "an upload has a place of its length");
    if (!place->empty()) {
      std::memset(place->data(), 7, place->size());
      uploads_.finish();
    }
    return true;
  }
  bool receive(const codec::Step& step) { return job(step); }
  bool receive(const codec::Job& message) { return job(message); }
  template <typename T>
  bool receive(const T& /*a message that is not for servers*/) {
    return true;
  }

 private:
  static server::ArtifactStore& artifacts() {
    static server::ArtifactStore store({1, 2, 3}, 1 << 20);
    return store;
  }

  template <typename Message>
  bool job(const Message& message) {
    auto decoded = slots_.decode(message);
    if (!decoded) return false;
    if (!*decoded) {  // Its checksum is wrong: a resync.
      slots_.forget();
      return true;
    }
    const graph::Plan& plan = *(*decoded)->plan;
    const graph::Numbers& numbers = *(*decoded)->numbers;
    hold(numbers.size() == plan.kinds.size(), "a job has the numbers of its plan");
    hold(graph::checksum(numbers) == message.checksum, "a job has the numbers it was sent with");
    const auto size = server::PlanFacts(plan).size(plan, numbers);
    hold(std::max(size.elements, size.flops) <= server::kManyElements,
         "what a job does is bounded");
    (void)server::is_tiny(plan, size.elements, UINT64_MAX, UINT64_MAX);
    const auto inline_bytes = server::inline_bytes(plan, numbers);
    if (!inline_bytes) return false;
    hold(*inline_bytes <= uint64_t{kInlineUploadBytesMax} * kOpsPerPlanMax,
         "inline uploads are bounded");
    server::Work work{.job = {message.job},
                      .plan = (*decoded)->plan,
                      .numbers = (*decoded)->numbers,
                      .inline_uploads = {},
                      .uploads = {}};
    const auto staged = uploads_.take(work);
    if (!staged) return false;
    hold(work.uploads.size() == plan.uploads, "a job gets every upload it consumes");
    uploads_.release(*staged);
    slots_.compact();
    return true;
  }

  OpenDevice device_;
  server::Access access_;
  server::PlanCache plans_{device_};
  server::PlanSlots slots_{plans_};
  server::Uploads uploads_{device_, artifacts(), [](UploadId) {}};
};

template <typename T>
bool receive(codec::Bytes bytes, Desk& desk) {
  const auto message = codec::decode<T>(bytes);
  if (!message) {
    hold(message.error().code == ErrorCode::kInvalid, "a message is invalid and nothing else");
    return false;
  }
  const codec::Message encoded = codec::encode(*message);
  const auto again = codec::decode<T>(encoded.bytes());
  hold(again.has_value(), "what was decoded can be encoded");
  hold(testing::fields(*again) == testing::fields(*message), "... and means the same");
  return desk.receive(*message);
}

// The payload of a deferred operator's answer.
bool receive_results(const std::vector<uint8_t>& bytes) {
  const auto results = graph::decode_results(bytes);
  if (!results) return false;
  const graph::ByteString encoded = graph::encode_results(*results);
  const auto again = graph::decode_results(encoded);
  hold(again.has_value(), "results that were decoded can be encoded");
  hold(graph::encode_results(*again) == encoded, "... and mean the same");
  return true;
}

bool receive(MessageTag tag, const std::vector<uint8_t>& bytes, Desk& desk) {
  if (tag == MessageTag::kResults) return receive_results(bytes);
  std::vector<uint64_t> words(bytes.size() / 8);  // As received: aligned, and whole words.
  std::copy_n(bytes.begin(), words.size() * 8, reinterpret_cast<uint8_t*>(words.data()));
  return with_message_type(tag, [&]<typename T>(T /*message*/) {
    return receive<T>(std::as_bytes(std::span(words)), desk);
  });
}

}  // namespace
}  // namespace djinn::fuzz

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace djinn::fuzz;  // NOLINT(google-build-using-namespace)
  Input input(data, size);
  Desk desk;
  bool open = true;
  while (open && !input.empty()) {
    const auto tag = static_cast<MessageTag>(input.u8() % kMessageTags);
    open = receive(tag, input.part(), desk);
  }
  return 0;
}
