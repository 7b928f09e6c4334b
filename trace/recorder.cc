// SPDX-License-Identifier: Apache-2.0
#include "trace/recorder.h"

#include <algorithm>
#include <utility>

#include "client/session/hash_cache.h"
#include "serialization/base/limits.h"
#include "serialization/codec/messages.h"

namespace djinn::trace {

using std::chrono::steady_clock;
using transport::FrameKind;

namespace {

constexpr std::chrono::milliseconds kConnectTimeout{10'000};
constexpr std::chrono::milliseconds kLinger{2'000};
constexpr uint64_t kUnsentMax = kUnsentBytesMax;  // Then the other side is not read.

}  // namespace

// A whole frame, in memory of its own.
struct Recorder::Frame {
  FrameKind kind = FrameKind::kHeartbeat;
  std::vector<uint64_t> message;
  std::vector<std::byte> payload;

  [[nodiscard]] Bytes bytes() const { return std::as_bytes(std::span(message)); }
  template <typename T>
  [[nodiscard]] Result<T> as() const {
    return codec::decode<T>(bytes());
  }
};

// One of the two connections.
class Recorder::Side final : public transport::FrameSink {
 public:
  Side(Recorder& recorder, std::unique_ptr<transport::Connection> connection)
      : recorder_(recorder), connection_(std::move(connection)) {
    recorder_.loop_.start(*connection_, *this);
  }

  Result<std::span<std::byte>> on_message(const transport::FrameHeader& header,
                                          Bytes message) override {
    arriving_ = std::make_shared<Frame>();
    arriving_->kind = header.kind;
    arriving_->message.resize(message.size() / sizeof(uint64_t));
    std::ranges::copy(message, std::as_writable_bytes(std::span(arriving_->message)).begin());
    arriving_->payload.resize(header.payload_bytes);
    if (header.payload_bytes == 0) on_payload();
    return arriving_ ? std::span(arriving_->payload) : std::span<std::byte>();
  }
  void on_payload() override { recorder_.received(*this, std::exchange(arriving_, nullptr)); }
  void on_closed(const Error& /*reason*/) override {
    closed_ = true;
    recorder_.closed(*this);
  }

  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] transport::Connection& connection() { return *connection_; }

 private:
  Recorder& recorder_;
  std::shared_ptr<Frame> arriving_;
  bool closed_ = false;
  std::unique_ptr<transport::Connection> connection_;  // Last: it dies first, and calls back.
};

Recorder::Recorder(transport::Loop& loop, transport::Address server, Writer& writer)
    : loop_(loop), server_address_(std::move(server)), writer_(writer) {}

Recorder::~Recorder() = default;

Result<std::unique_ptr<Recorder>> Recorder::make(transport::Loop& loop, transport::Address server,
                                                 Writer& writer) {
  std::unique_ptr<Recorder> recorder(new Recorder(loop, std::move(server), writer));
  DJINN_TRY(recorder->listener_,
            loop.listen({.host = "127.0.0.1"}, [at = recorder.get()](auto connection) {
              at->accept(std::move(connection));
            }));
  return recorder;
}

std::string Recorder::address() const { return listener_->address().text(); }

bool Recorder::ended() const { return client_ != nullptr && client_->closed(); }

Result<> Recorder::verdict() const {
  if (error_) return *error_;
  if (writer_.records() == 0) {
    return Error{ErrorCode::kNotFound,
                 "the program opened no session: does it use a device djinn, and its server from "
                 "DJINN_SERVER?"};
  }
  return Unit{};
}

void Recorder::accept(std::unique_ptr<transport::Connection> connection) {
  if (client_ != nullptr) {
    return fail({ErrorCode::kUnsupported, "the program opened a second session: a trace has one"});
  }
  client_ = std::make_unique<Side>(*this, std::move(connection));
  auto server = loop_.connect(server_address_, kConnectTimeout);
  if (!server) {
    client_->connection().close(std::chrono::milliseconds(0));
    return fail(server.error());
  }
  server_ = std::make_unique<Side>(*this, std::move(*server));
  since_ = steady_clock::now();
}

uint64_t Recorder::time_us() const {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - since_).count());
}

void Recorder::received(Side& from, const std::shared_ptr<const Frame>& frame) {
  if (server_ == nullptr) return;
  const bool up = &from == client_.get();
  const auto pass = up ? from_client(*frame) : from_server(*frame);
  if (!pass) return fail(pass.error());
  if (*pass) send(up ? *server_ : *client_, frame);
}

// Whoever is sent more than it reads holds up who sends it.
void Recorder::send(Side& to, const std::shared_ptr<const Frame>& frame) {
  Side& from = &to == server_.get() ? *client_ : *server_;
  const auto& at = *frame;
  to.connection().send(at.kind, at.bytes(), at.payload, [&to, &from, frame] {
    if (!to.closed() && !from.closed() && to.connection().unsent_bytes() <= kUnsentMax) {
      from.connection().pause_reading(false);
    }
  });
  if (to.connection().unsent_bytes() > kUnsentMax) from.connection().pause_reading(true);
}

// -- what the client says

Result<bool> Recorder::from_client(const Frame& frame) {
  switch (frame.kind) {
    case FrameKind::kHello:
      DJINN_CHECK(hello(frame));
      return true;
    case FrameKind::kStep:
    case FrameKind::kJob:
    case FrameKind::kHint:
      writer_.frame(frame.kind, frame.bytes(), frame.payload, time_us());
      return true;
    case FrameKind::kUpload:
      return upload(frame);
    case FrameKind::kOffer: {
      DJINN_TRY(auto offer, frame.as<codec::Offer>());
      offers_.push_back(std::move(offer.uploads));
      return true;
    }
    case FrameKind::kOperators:
      return Error{ErrorCode::kUnsupported,
                   "the server's operators are not the program's: record with a server that was "
                   "built from the same source"};
    default:  // Questions for people, and that it is still there.
      return true;
  }
}

Result<> Recorder::hello(const Frame& frame) {
  DJINN_TRY(auto hello, frame.as<codec::Hello>());
  hello.token = {};
  writer_.hello(codec::encode(hello).bytes());
  return Unit{};
}

Result<bool> Recorder::upload(const Frame& frame) {
  DJINN_TRY(const auto upload, frame.as<codec::Upload>());
  if (upload.artifact.empty()) {
    writer_.frame(frame.kind, frame.bytes(), frame.payload, time_us());
    return true;
  }
  writer_.artifact({.upload = upload.upload, .content = client::sha256(frame.payload)},
                   frame.payload, time_us());
  return there_.erase(upload.upload) == 0;
}

// -- what the server says

Result<bool> Recorder::from_server(const Frame& frame) {
  switch (frame.kind) {
    case FrameKind::kFetched:
    case FrameKind::kFailed:
      DJINN_CHECK(answer(frame));
      return true;
    case FrameKind::kOffer:
      return offer_answered(frame);
    case FrameKind::kResync:
    case FrameKind::kRefused:
      return Error{ErrorCode::kUnsupported,
                   "the session began a new epoch (a checksum of numbers did not match, or the "
                   "server was too busy), which no trace can repeat"};
    default:
      return true;
  }
}

Result<> Recorder::answer(const Frame& frame) {
  if (frame.kind == FrameKind::kFetched) {
    DJINN_TRY(const auto fetched, frame.as<codec::Fetched>());
    writer_.answer({.job = fetched.job, .answer = fetched.answer}, frame.payload, time_us());
    return Unit{};
  }
  DJINN_TRY(const auto failed, frame.as<codec::Failed>());
  writer_.answer({.job = failed.job, .answer = failed.answer, .code = failed.code},
                 std::as_bytes(std::span(failed.message)), time_us());
  return Unit{};
}

// The client hears that nothing is there; what is there is not sent on when it comes.
Result<bool> Recorder::offer_answered(const Frame& frame) {
  DJINN_TRY(const auto reply, frame.as<codec::OfferReply>());
  if (offers_.empty() || offers_.front().size() != reply.have.size()) {
    return Error{ErrorCode::kInvalid, "the server answered an offer that nobody made"};
  }
  const std::vector<uint64_t> uploads = std::move(offers_.front());
  offers_.pop_front();
  for (size_t i = 0; i < uploads.size(); ++i) {
    if (reply.have[i]) there_.insert(uploads[i]);
  }
  const codec::Message none =
      codec::encode(codec::OfferReply{.have = std::vector<bool>(uploads.size(), false)});
  auto told = std::make_shared<Frame>();
  told->kind = FrameKind::kOffer;
  told->message.resize(none.bytes().size() / sizeof(uint64_t));
  std::ranges::copy(none.bytes(), std::as_writable_bytes(std::span(told->message)).begin());
  send(*client_, told);
  return false;
}

// -- the end

void Recorder::closed(Side& side) {
  Side* const other = &side == client_.get() ? server_.get() : client_.get();
  if (other != nullptr && !other->closed()) other->connection().close(kLinger);
}

void Recorder::fail(Error error) {
  if (!error_) error_ = std::move(error);
  for (Side* const side : {client_.get(), server_.get()}) {
    if (side != nullptr && !side->closed()) side->connection().close(std::chrono::milliseconds(0));
  }
}

}  // namespace djinn::trace
