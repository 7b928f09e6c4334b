// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/fairness/rude.h"

#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "serialization/codec/messages.h"

namespace djinn::benchmarks {
namespace {

using transport::FrameKind;

constexpr std::chrono::milliseconds kConnectTimeout{1000};
constexpr std::chrono::milliseconds kLook{2};

class Guest final : private transport::FrameSink {
 public:
  Guest(const RudeLoad& load, transport::Loop& loop) : load_(load) {
    auto connection = loop.connect(load.server, kConnectTimeout);
    if (!connection) {
      gone_ = true;
      return;
    }
    connection_ = std::move(*connection);
    loop.start(*connection_, *this);
    codec::Hello hello = load.trace->hello();
    hello.token = load.token;
    hello.app = "rude";
    auto message = std::make_shared<const codec::Message>(codec::encode(hello));
    connection_->send(FrameKind::kHello, message->bytes(), {}, [message] {});
  }

  [[nodiscard]] bool gone() const { return gone_; }
  [[nodiscard]] bool has_spoken() const { return spoken_; }

 private:
  Result<std::span<std::byte>> on_message(const transport::FrameHeader& header,
                                          transport::Bytes message) override {
    buffer_.resize(header.payload_bytes);
    if (header.kind != FrameKind::kHello) return std::span(buffer_);
    DJINN_TRY(const auto reply, codec::decode<codec::HelloReply>(message));
    for (const trace::Said& said : load_.trace->said()) {
      if (said.job > reply.jobs_in_flight_max) break;
      connection_->send(said.kind, said.message, said.payload, [] {});
    }
    spoken_ = true;
    if (load_.manners == Manners::kDoesNotRead) connection_->pause_reading(true);
    return std::span(buffer_);
  }
  void on_payload() override {}
  void on_closed(const Error& /*reason*/) override { gone_ = true; }

  const RudeLoad& load_;
  std::vector<std::byte> buffer_;
  bool spoken_ = false;
  bool gone_ = false;
  std::unique_ptr<transport::Connection> connection_;  // Last: it dies first, and calls back.
};

}  // namespace

uint64_t be_rude(const RudeLoad& load, const std::stop_token& stop) {
  auto loop = transport::make_loop({});
  if (!loop) throw std::runtime_error(loop.error().message);
  std::vector<std::unique_ptr<Guest>> guests(load.connections);
  uint64_t spoken = 0;
  while (!stop.stop_requested()) {
    for (auto& guest : guests) {
      const bool leaves =
          guest != nullptr &&
          (guest->gone() || (guest->has_spoken() && load.manners == Manners::kHangsUp));
      if (leaves) {
        spoken += guest->has_spoken() ? 1 : 0;
        guest.reset();
      }
      if (guest == nullptr) guest = std::make_unique<Guest>(load, **loop);
    }
    (void)(*loop)->run_once(kLook);
  }
  for (const auto& guest : guests) spoken += guest != nullptr && guest->has_spoken() ? 1 : 0;
  guests.clear();
  return spoken;
}

}  // namespace djinn::benchmarks
