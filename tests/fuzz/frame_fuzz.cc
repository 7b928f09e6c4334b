// SPDX-License-Identifier: Apache-2.0
// A stream of bytes from a peer, received in pieces of any size by a FrameReader whose sink takes,
// discards, pauses and gives up: it says of the stream what a reader says that has all of it at
// once.
//
// Input: eight bytes that decide pieces and whims, then the stream.
#include <memory>
#include <optional>
#include <utility>

#include "serialization/base/limits.h"
#include "serialization/transport/frame_reader.h"
#include "tests/fuzz/input.h"

namespace djinn::fuzz {
namespace {

using transport::FrameHeader;
using transport::FrameReader;

constexpr size_t kTakenBytesMax = 8192;  // Larger payloads are discarded.

uint64_t mix(uint64_t value) {  // splitmix64
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// What the sink does with the frame of this number, whoever reads the stream.
enum class Whim : uint8_t { kTake, kDiscard, kRefuse, kWrongPlace, kStop };
Whim whim_of(uint64_t seed, size_t frame, const FrameHeader& header) {
  const uint64_t chance = mix(seed ^ mix(frame)) % 64;
  if (chance == 0) return Whim::kRefuse;
  if (chance == 1) return Whim::kStop;
  if (header.payload_bytes > kTakenBytesMax) return Whim::kDiscard;
  if (chance == 2 && header.payload_bytes > 1) return Whim::kWrongPlace;
  return chance < 16 ? Whim::kDiscard : Whim::kTake;
}

enum class Ending : uint8_t { kBetweenFrames, kInsideFrame, kBroken, kStopped };

struct Frame {
  uint8_t kind = 0;
  std::vector<std::byte> message;
  std::optional<std::vector<std::byte>> payload;  // Nothing if it was discarded or is not whole.
  bool operator==(const Frame&) const = default;
};
struct Story {
  std::vector<Frame> frames;
  Ending ending = Ending::kBetweenFrames;
  bool operator==(const Story&) const = default;
};

// The whole stream at once, as frame.h specifies it.
Story read_at_once(std::span<const std::byte> stream, uint64_t seed) {
  Story story;
  const auto end = [&](Ending ending) {
    story.ending = ending;
    return story;
  };
  while (!stream.empty()) {
    if (stream.size() < transport::kFrameHeaderBytes) return end(Ending::kInsideFrame);
    const auto header = transport::decode(stream.first<transport::kFrameHeaderBytes>());
    if (!header) return end(Ending::kBroken);
    stream = stream.subspan(transport::kFrameHeaderBytes);
    if (stream.size() < header->message_bytes) return end(Ending::kInsideFrame);
    const auto message = stream.first(header->message_bytes);
    stream = stream.subspan(message.size());
    const Whim whim = whim_of(seed, story.frames.size(), *header);
    story.frames.push_back({.kind = static_cast<uint8_t>(header->kind),
                            .message = {message.begin(), message.end()},
                            .payload = std::nullopt});
    if (whim == Whim::kStop) return end(Ending::kStopped);
    if (whim == Whim::kRefuse) return end(Ending::kBroken);
    if (header->payload_bytes == 0) continue;
    if (whim == Whim::kWrongPlace) return end(Ending::kBroken);
    if (stream.size() >= header->payload_bytes && whim == Whim::kTake) {
      const auto payload = stream.first(header->payload_bytes);
      story.frames.back().payload.emplace(payload.begin(), payload.end());
    }
    const uint64_t behind = header->payload_bytes + transport::padding(header->payload_bytes);
    if (stream.size() < behind) return end(Ending::kInsideFrame);
    stream = stream.subspan(behind);
  }
  return story;
}

class Sink final : public transport::FrameSink {
 public:
  Sink(FrameReader& reader, uint64_t seed) : reader_(reader), seed_(seed), random_(mix(~seed)) {}

  Result<std::span<std::byte>> on_message(const FrameHeader& header,
                                          transport::Bytes message) override {
    hold(!paused_, "no message while reading is paused");
    hold(!waiting_, "no message before the payload of the one before");
    hold(message.size() == header.message_bytes, "a message is as long as its header says");
    hold(header.message_bytes <= kMessageBytesMax && header.payload_bytes <= kPayloadBytesMax,
         "a frame is within its bounds");
    hold(reinterpret_cast<uintptr_t>(message.data()) % 8 == 0, "a message is aligned");
    const Whim whim = whim_of(seed_, story.frames.size(), header);
    story.frames.push_back({.kind = static_cast<uint8_t>(header.kind),
                            .message = {message.begin(), message.end()},
                            .payload = std::nullopt});
    if (chance() % 8 == 0) pause(true);
    switch (whim) {
      case Whim::kRefuse:
        return Error{ErrorCode::kInvalid, "the sink does not want it"};
      case Whim::kStop:
        story.ending = Ending::kStopped;
        reader_.stop();
        return std::span<std::byte>();
      case Whim::kDiscard:
        return std::span<std::byte>();
      case Whim::kWrongPlace:
        place_.reset(new std::byte[header.payload_bytes - 1]);
        return std::span(place_.get(), header.payload_bytes - 1);
      case Whim::kTake:
        break;
    }
    place_.reset(new std::byte[header.payload_bytes]);
    place_bytes_ = header.payload_bytes;
    waiting_ = place_bytes_ > 0;
    return std::span(place_.get(), place_bytes_);
  }

  void on_payload() override {
    hold(std::exchange(waiting_, false), "one payload per message that wants one");
    story.frames.back().payload.emplace(place_.get(), place_.get() + place_bytes_);
    if (chance() % 8 == 0) pause(true);
  }

  void on_closed(const Error& /*reason*/) override {}

  void pause(bool paused) {
    paused_ = paused;
    reader_.pause(paused);
  }
  [[nodiscard]] bool paused() const { return paused_; }
  [[nodiscard]] bool owns(std::span<const std::byte> bytes) const {
    return bytes.data() >= place_.get() &&
           bytes.data() + bytes.size() == place_.get() + place_bytes_;
  }
  uint64_t chance() { return random_ = mix(random_); }

  Story story;

 private:
  FrameReader& reader_;
  const uint64_t seed_;
  uint64_t random_;
  bool paused_ = false;
  bool waiting_ = false;
  std::unique_ptr<std::byte[]> place_;
  size_t place_bytes_ = 0;
};

// Delivers what has arrived, also what pauses held back.
bool deliver(FrameReader& reader, Sink& sink) {
  while (true) {
    if (!reader.deliver(sink)) {
      sink.story.ending = Ending::kBroken;
      return false;
    }
    if (!sink.paused()) return true;
    sink.pause(false);
  }
}

Story read_in_pieces(std::span<const std::byte> stream, uint64_t seed) {
  transport::LoopStats stats;
  FrameReader reader(stats);
  Sink sink(reader, seed);
  size_t at = 0;
  const size_t piece_max = size_t{1} << (seed % 16);
  while (at < stream.size() && reader.wants_input()) {
    const FrameReader::Target target = reader.target();
    hold(!target.bytes.empty(), "there is room to receive into");
    if (target.borrowed) {
      hold(sink.owns(target.bytes), "a payload goes where the sink wants it");
    } else {
      hold(target.bytes.size() <= (size_t{64} << 10) + 2 * at,
           "what a peer announces costs nothing until it arrives");
    }
    const size_t piece =
        std::min({1 + sink.chance() % piece_max, target.bytes.size(), stream.size() - at});
    std::memcpy(target.bytes.data(), stream.data() + at, piece);
    reader.received(piece);
    at += piece;
    if (!deliver(reader, sink)) return sink.story;
  }
  hold(stats.bytes_received == at, "received bytes are counted");
  hold(stats.frames_received == sink.story.frames.size(), "received frames are counted");
  if (sink.story.ending != Ending::kStopped && reader.inside_frame()) {
    sink.story.ending = Ending::kInsideFrame;
  }
  return sink.story;
}

}  // namespace
}  // namespace djinn::fuzz

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace djinn::fuzz;  // NOLINT(google-build-using-namespace)
  Input input(data, size);
  const uint64_t seed = input.word();
  const std::vector<uint8_t> bytes = input.rest();
  const auto stream = std::as_bytes(std::span(bytes));
  hold(read_in_pieces(stream, seed) == read_at_once(stream, seed),
       "a stream means the same however it is cut");
  return 0;
}
