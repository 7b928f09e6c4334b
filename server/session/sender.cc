// SPDX-License-Identifier: Apache-2.0
#include "server/session/sender.h"

#include <memory>
#include <utility>

#include "server/clock.h"

namespace djinn::server {
namespace {

constexpr size_t kCopiedBytesMax =
    256;  // Connection::send copies messages and payloads up to this.

struct Held {
  codec::Message message;
  Answer payload;
};

}  // namespace

Sender::Sender(transport::Connection& connection, std::function<void()> on_sent)
    : connection_(connection), on_sent_(std::move(on_sent)), last_sent_ns_(now_ns()) {}

void Sender::send(transport::FrameKind kind, codec::Message message, Answer payload) {
  last_sent_ns_ = now_ns();
  if (message.bytes().size() <= kCopiedBytesMax && payload.bytes.size() <= kCopiedBytesMax) {
    connection_.send(kind, message.bytes(), payload.bytes, nullptr);
    return;
  }
  std::shared_ptr<Held> held(
      new Held{.message = std::move(message), .payload = std::move(payload)});
  const transport::Bytes message_bytes = held->message.bytes();
  const transport::Bytes payload_bytes = held->payload.bytes;
  connection_.send(kind, message_bytes, payload_bytes, [this, held = std::move(held)]() mutable {
    held.reset();
    on_sent_();
  });
}

}  // namespace djinn::server
