// SPDX-License-Identifier: Apache-2.0
// Wire client: a small client that blocks and says exactly what a test wants, also what is wrong.
//
// Why not client/session: a test of the server must be able to break every rule.
// Threading: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "serialization/codec/messages.h"
#include "serialization/graph/numbers.h"
#include "serialization/graph/plan_writer.h"
#include "serialization/transport/connection.h"
#include "serialization/transport/frame.h"

namespace djinn::testing {

// What came back; the message is decoded by the test.
struct WireFrame {
  transport::FrameKind kind = transport::FrameKind::kHeartbeat;
  std::vector<uint64_t> message;
  std::vector<std::byte> payload;

  template <typename T>
  [[nodiscard]] T as() const {
    auto decoded = codec::decode<T>(std::as_bytes(std::span(message)));
    return decoded ? *decoded : T{};
  }
  [[nodiscard]] std::vector<float> floats() const;
};

class WireClient {
 public:
  explicit WireClient(const transport::Address& address);
  ~WireClient();
  WireClient(const WireClient&) = delete;
  WireClient& operator=(const WireClient&) = delete;

  // -- frames
  template <typename Message>
  void send(transport::FrameKind kind, const Message& message,
            std::span<const std::byte> payload = {}) {
    send_frame(kind, codec::encode(message).bytes(), payload);
  }
  void send_frame(transport::FrameKind kind, std::span<const std::byte> message,
                  std::span<const std::byte> payload = {});
  void send_raw(std::span<const std::byte> bytes);
  // Nothing when the peer closed the connection or nothing came in time.
  static constexpr std::chrono::milliseconds kPatience{20'000};
  std::optional<WireFrame> receive(std::chrono::milliseconds patience = kPatience);
  // The next frame that is no heartbeat and no ack.
  std::optional<WireFrame> receive_answer();
  // Reads until the connection ends; the Goodbye that came, or {0, ""}.
  struct Ending {
    ErrorCode code = {};
    std::string message;
  };
  Ending read_ending();
  [[nodiscard]] bool closed_by_peer(std::chrono::milliseconds patience);
  void close();

  // -- the usual conversation
  std::optional<codec::HelloReply> hello(codec::Hello hello = usual_hello());
  static codec::Hello usual_hello();
  codec::StatsReply stats();
  [[nodiscard]] const std::vector<uint8_t>& artifact_key() const { return artifact_key_; }

  // Records one flush with `record`, and sends it as Step or Job. Returns its job number.
  using Record = std::function<void(graph::PlanWriter&)>;
  uint32_t submit(const Record& record, std::span<const std::byte> inline_payload = {});
  // The same, and waits for its only answer.
  std::vector<float> fetch(const Record& record, std::span<const std::byte> inline_payload = {});

  // What the next frames will say; a test may bend them.
  uint32_t next_job = 1;
  uint16_t epoch = 0;
  uint64_t next_storage = 1;
  uint64_t next_upload = 1;
  std::function<void(codec::Job&)> bend_job;  // Called before a Job is sent.
  bool as_steps = true;                       // Known plans whose patch is empty go as Step.
  void forget_plans() { plans_.clear(); }

  graph::OpName& op(const std::string& name);

 private:
  bool read_all(std::span<std::byte> to);

  struct Known {
    uint16_t slot = 0;
    std::unique_ptr<graph::NumbersCoder> coder;
  };
  int fd_ = -1;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(64 << 10);
  std::span<const std::byte> buffered_;  // Received and not read.
  graph::PlanWriter writer_;
  std::unordered_map<std::string, std::unique_ptr<graph::OpName>> ops_;
  std::unordered_map<graph::PlanHash, Known> plans_;
  std::vector<uint8_t> artifact_key_;
  uint16_t next_slot_ = 0;
  uint64_t base_ = 1;  // The first storage that the next flush may create.
};

// -- recording; tensors are contiguous float vectors

struct Tensor {
  std::unique_ptr<graph::StorageRecord> storage;
  int64_t size = 0;
};
Tensor make_tensor(WireClient& client, int64_t size);
void record_operand(graph::PlanWriter& writer, Tensor& tensor);
void record_upload(graph::PlanWriter& writer, Tensor& tensor, graph::UploadForm form);
void record_fetch(graph::PlanWriter& writer, Tensor& tensor);
void record_add(WireClient& client, graph::PlanWriter& writer, Tensor& a, Tensor& b, Tensor& out);
// `out` comes to be and fails.
void record_fail(WireClient& client, graph::PlanWriter& writer, Tensor& a, Tensor& out);
void record_sleep(WireClient& client, graph::PlanWriter& writer, int64_t milliseconds);
std::vector<std::byte> to_bytes(std::span<const float> values);

}  // namespace djinn::testing
