// SPDX-License-Identifier: Apache-2.0
// fuzz_seeds DIR: writes what each fuzz target starts from, made by the encoders that a client and
// a server use: DIR/<target>/<name>, and DIR/<target>.list with their paths, separated by commas.
//
// Why a program and not files: seeds follow the protocol when it changes.
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "serialization/graph/numbers.h"
#include "serialization/graph/packing.h"
#include "serialization/graph/plan_reader.h"
#include "serialization/graph/plan_writer.h"
#include "serialization/graph/result_meta.h"
#include "serialization/transport/frame.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/messages.h"
#include "tests/support/model_file.h"
#include "trace/writer.h"

namespace djinn::fuzz {
namespace {

using graph::ByteString;
using graph::Dtype;
using graph::Numbers;
using graph::PlanWriter;
using graph::StorageRecord;
using graph::UploadForm;
using transport::FrameKind;

constexpr std::array<int64_t, 2> kSizes{2, 3};
constexpr std::array<int64_t, 2> kRows{3, 1};
constexpr std::array<int64_t, 2> kColumns{1, 2};

// -- flushes

struct Flush {
  ByteString structure;
  Numbers numbers;
};

// The storages and names that the flushes of one client share.
struct Recorder {
  PlanWriter writer;
  graph::OpName add{"aten::add.Tensor"};
  graph::OpName everything{"aten::everything"};
  graph::OpName nonzero{"aten::nonzero"};
  StorageRecord old{.id = 5, .bytes = 24, .known = true};
  uint64_t next = 7;

  void operand(StorageRecord& storage, bool transposed = false, int64_t offset = 0) {
    writer.operand(storage, Dtype::kFloat32, kSizes, transposed ? kColumns : kRows, offset);
  }
  void tensor(StorageRecord& storage, bool transposed = false, int64_t offset = 0) {
    writer.tensor();
    operand(storage, transposed, offset);
  }

  Flush flush(const std::function<void()>& record) {
    writer.begin(next, 1);
    record();
    const graph::Flush flush = writer.finish();
    return {.structure = {flush.structure.begin(), flush.structure.end()},
            .numbers = {flush.numbers.begin(), flush.numbers.end()}};
  }
};

// One step of a loop: adds to what the step before made, and reads it.
Flush loop_step(Recorder& r, StorageRecord& before, StorageRecord& now) {
  now = {.id = r.next, .bytes = 24};
  Flush flush = r.flush([&] {
    r.writer.op(r.add, 3);
    r.tensor(before);
    r.tensor(r.old, true);
    r.writer.real(1.0);
    r.writer.results(1);
    r.tensor(now);
    r.writer.forget(before);
    r.writer.fetch();
    r.operand(now);
  });
  ++r.next;
  return flush;
}

Flush uploads_and_resizes(Recorder& r) {
  static StorageRecord a{.id = 20, .bytes = 24};
  static StorageRecord b{.id = 21, .bytes = 24};
  static StorageRecord c{.id = 22, .bytes = 24};
  return r.flush([&] {
    r.writer.upload(UploadForm::kInline, 24);
    r.operand(a);
    r.writer.upload(UploadForm::kStream, 24);
    r.operand(b);
    r.writer.upload(UploadForm::kArtifact, 24);
    r.operand(c, true, 1);
    r.writer.resize(a, 48);
    r.writer.seed(1, 1234);
    r.writer.forget(a);
    r.writer.forget(r.old);
  });
}

Flush every_argument(Recorder& r) {
  static StorageRecord a{.id = 30, .bytes = 24, .known = true};
  constexpr std::array<int64_t, 3> kIntegers{1, -2, 1 << 20};
  constexpr std::array<double, 2> kReals{0.5, -1e300};
  return r.flush([&] {
    r.writer.op(r.everything, 15);
    r.writer.none();
    r.writer.undefined();
    r.writer.boolean(true);
    r.writer.boolean(false);
    r.writer.integer(-7);
    r.writer.complex(1, -1);
    r.writer.text("mean");
    r.writer.device();
    r.writer.host_device();
    r.writer.generator(3);
    r.writer.list(2);
    r.tensor(a);
    r.writer.undefined();
    r.writer.integers(kIntegers);
    r.writer.reals(kReals);
    r.writer.cpu_scalar(Dtype::kInt64, true);
    r.writer.number(9);
    r.writer.cpu_scalar(Dtype::kComplex64, false);
    r.writer.float_number(1);
    r.writer.float_number(2);
    r.writer.results(2);
    r.writer.not_new();
    r.writer.list(2);
    r.tensor(a, true, 2);
    r.writer.undefined();
  });
}

Flush deferred(Recorder& r) {
  static StorageRecord a{.id = 40, .bytes = 24, .known = true};
  static StorageRecord b{.id = 41};
  return r.flush([&] {
    r.writer.deferred_op(r.nonzero, 1);
    r.tensor(a);
    r.writer.results(1);
    r.writer.deferred_result(b);
  });
}

std::vector<Flush> all_flushes() {
  Recorder r;
  StorageRecord before{.id = 6, .bytes = 24, .known = true};
  StorageRecord now;
  std::vector<Flush> flushes;
  flushes.push_back(r.flush([] {}));
  flushes.push_back(loop_step(r, before, now));
  flushes.push_back(every_argument(r));
  flushes.push_back(deferred(r));
  flushes.push_back(uploads_and_resizes(r));
  return flushes;
}

std::shared_ptr<const graph::Plan> plan_of(const Flush& flush) {
  auto plan = graph::read_plan(flush.structure);
  hold(plan.has_value(), "what the writer wrote can be read");
  return std::make_shared<const graph::Plan>(std::move(*plan));
}

// -- writing

class Corpus {
 public:
  Corpus(const std::filesystem::path& root, const std::string& target)
      : folder_(root / target), list_(root / (target + ".list")) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void add(const std::string& name, const Seed& seed) {
    const auto path = folder_ / name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(seed.get().data()),
               static_cast<std::streamsize>(seed.get().size()));
    list_ << (first_ ? "" : ",") << path.string();
    first_ = false;
  }
  [[nodiscard]] bool good() const { return list_.good(); }

 private:
  std::filesystem::path folder_;
  std::ofstream list_;
  bool first_ = true;
};

void add_frame(Seed& seed, FrameKind kind, size_t message_bytes, size_t payload_bytes) {
  const auto header = transport::encode(
      {.kind = kind, .message_bytes = message_bytes, .payload_bytes = payload_bytes});
  const std::vector<uint8_t> message(message_bytes, 0x11);
  const std::vector<uint8_t> payload(payload_bytes, 0x22);
  const std::vector<uint8_t> padding(transport::padding(payload_bytes));
  seed.bytes(std::as_bytes(std::span(header))).bytes(message).bytes(payload).bytes(padding);
}

bool frames(Corpus corpus) {
  uint64_t whims = 1;  // Its low four bits bound the pieces: 1 << whims % 16.
  for (uint8_t kind = 1; kind <= transport::kFrameKindMax; ++kind) {
    Seed seed;
    seed.word(whims += 3);
    add_frame(seed, static_cast<FrameKind>(kind), size_t{8} * kind, kind);
    corpus.add("kind-" + std::to_string(kind), seed);
  }
  Seed several;
  several.word(5);
  for (const size_t length : std::array<size_t, 5>{0, 1, 7, 8, 64}) {
    add_frame(several, FrameKind::kJob, 24, length);
  }
  corpus.add("several", several);
  Seed large;
  large.word(12);
  add_frame(large, FrameKind::kJob, 16'392, 3);
  add_frame(large, FrameKind::kStep, 16, 0);
  corpus.add("large-message", large);
  const auto announced = transport::encode(
      {.kind = FrameKind::kUpload, .message_bytes = 16 << 20, .payload_bytes = 1 << 30});
  corpus.add("announced-and-not-sent", Seed().word(4).bytes(std::as_bytes(std::span(announced))));
  return corpus.good();
}

bool plans(Corpus corpus) {
  int number = 0;
  for (const Flush& flush : all_flushes()) {
    const std::string name = std::to_string(number++);
    corpus.add("plain-" + name, Seed().u8(0).bytes(flush.structure));
    corpus.add("packed-" + name, Seed().u8(1).bytes(graph::pack(flush.structure)));
  }
  return corpus.good();
}

bool numbers(Corpus corpus) {
  Recorder r;
  StorageRecord before{.id = 6, .bytes = 24, .known = true};
  StorageRecord now;
  Seed seed;
  std::unique_ptr<graph::NumbersCoder> coder;
  for (uint8_t step = 0; step < 6; ++step) {
    const Flush flush = loop_step(r, before, now);
    before = now;
    if (coder == nullptr) {
      const auto plan = plan_of(flush);
      coder = std::make_unique<graph::NumbersCoder>(plan);
      std::vector<uint8_t> kinds;
      for (size_t i = 2; i < plan->kinds.size(); ++i) {
        kinds.push_back(static_cast<uint8_t>(plan->kinds[i]));
      }
      seed.small_part(kinds);
    }
    ByteString patch;
    coder->encode(std::make_shared<const Numbers>(flush.numbers), patch);
    seed.u8(step == 3 ? 15 : 0).small_part(patch);  // Once, both ends were idle.
  }
  corpus.add("loop", seed);
  corpus.add("nothing-but-the-base", Seed().small_part({}).u8(0).small_part(ByteString{0, 14}));
  return corpus.good();
}

// A conversation: messages as the client sends them, up to a bound on their number.
struct Conversation {
  Seed seed;
  template <typename T>
  void say(MessageTag tag, const T& message) {
    seed.u8(static_cast<uint8_t>(tag)).part(codec::encode(message).bytes());
  }
};

// A client that works, and the step of a loop that is as predicted in the end.
void add_work(Corpus& corpus) {
  constexpr std::array<uint8_t, 16> kHash{};
  constexpr std::array<uint8_t, 64> kNames{1, 2, 3};
  Conversation work;
  work.say(MessageTag::kHello, codec::Hello{.app = "seed", .schema_hash = kHash});
  work.say(MessageTag::kOperators,
           codec::Operators{.names = {"aten::add.Tensor", "aten::mm"}, .hashes = {16, 2}});
  work.say(MessageTag::kOffer, codec::Offer{.uploads = {3, 4}, .names = kNames, .lengths = {1, 2}});
  // Its length is what the flush with uploads consumes: 3 * 8 bytes.
  work.say(MessageTag::kUpload, codec::Upload{.upload = 3, .artifact = {}});
  work.say(MessageTag::kHint, codec::Hint{.phase = JobPhase::kDecode,
                                          .urgency = Urgency::kInteractive,
                                          .rest = Rest::kUntil,
                                          .resume_ms = 250,
                                          .deadline_ms = 1000});
  Recorder r;
  StorageRecord before{.id = 6, .bytes = 24, .known = true};
  StorageRecord now;
  std::unique_ptr<graph::NumbersCoder> coder;
  for (uint32_t job = 1; job <= 4; ++job) {
    const Flush flush = loop_step(r, before, now);
    before = now;
    const bool first = coder == nullptr;
    if (first) coder = std::make_unique<graph::NumbersCoder>(plan_of(flush));
    ByteString patch;
    coder->encode(std::make_shared<const Numbers>(flush.numbers), patch);
    const uint32_t checksum = graph::checksum(flush.numbers);
    if (patch.empty()) {
      work.say(MessageTag::kStep, codec::Step{.job = job, .checksum = checksum, .plan_slot = 2});
      continue;
    }
    work.say(MessageTag::kJob,
             codec::Job{.job = job,
                        .checksum = checksum,
                        .plan_slot = 2,
                        .patch = patch,
                        .plan = first ? graph::ByteSpan(flush.structure) : graph::ByteSpan()});
  }
  corpus.add("work", work.seed);
}

// Every kind of plan in a job of its own.
void add_jobs(Corpus& corpus) {
  uint32_t number = 0;
  for (const Flush& flush : all_flushes()) {
    ByteString patch;
    graph::NumbersCoder(plan_of(flush))
        .encode(std::make_shared<const Numbers>(flush.numbers), patch);
    const ByteString packed_patch = graph::pack(patch);
    const ByteString packed_plan = graph::pack(flush.structure);
    Conversation one;
    one.say(MessageTag::kUpload, codec::Upload{.upload = 3, .artifact = {}});
    one.say(MessageTag::kJob, codec::Job{.job = 1,
                                         .checksum = graph::checksum(flush.numbers),
                                         .patch_packed = true,
                                         .plan_packed = true,
                                         .patch = packed_patch,
                                         .plan = packed_plan});
    corpus.add("packed-" + std::to_string(number++), one.seed);
  }
}

// What servers say.
void add_answers(Corpus& corpus) {
  Conversation answers;
  answers.say(MessageTag::kHelloReply, codec::HelloReply{.session = 1, .device = "cpu"});
  answers.say(MessageTag::kOperatorsReply, codec::OperatorsReply{.unsupported = {1}});
  answers.say(MessageTag::kOfferReply, codec::OfferReply{.have = {true, false}});
  answers.say(MessageTag::kFetched, codec::Fetched{.job = 1, .finished = true});
  answers.say(MessageTag::kFailed, codec::Failed{.job = 2, .code = 7, .message = "no"});
  answers.say(MessageTag::kAck, codec::Ack{.finished = 2});
  answers.say(MessageTag::kResync, codec::Resync{.job = 3, .epoch = 1});
  answers.say(MessageTag::kRefused,
              codec::Refused{.job = 4, .epoch = 2, .retry_after_ms = 20, .code = 4});
  answers.say(MessageTag::kHeartbeat, codec::Heartbeat{});
  answers.say(MessageTag::kStatsRequest, codec::StatsRequest{.tag = 1});
  answers.say(MessageTag::kStatsReply, codec::StatsReply{.tag = 1, .storages = 2});
  answers.say(MessageTag::kGoodbye, codec::Goodbye{.code = 5, .message = "bye"});
  const graph::TensorMeta tensor{
      .storage_bytes = 24, .sizes = {2, 3}, .strides = {3, 1}, .offset = 0};
  answers.seed.u8(static_cast<uint8_t>(MessageTag::kResults))
      .part(graph::encode_results({std::monostate{}, graph::UndefinedTensor{}, int64_t{-3}, 0.5,
                                   true, tensor, std::vector{tensor, tensor}}));
  corpus.add("answers", answers.seed);
}

bool requests(Corpus corpus) {
  add_work(corpus);
  add_jobs(corpus);
  add_answers(corpus);
  return corpus.good();
}

// A trace with one of each record, and one with nothing but its hello.
bool traces(Corpus corpus) {
  constexpr std::array<uint8_t, 16> kHash{1};
  const codec::Message hello = codec::encode(codec::Hello{.app = "seed", .schema_hash = kHash});
  const auto payload = std::as_bytes(std::span(kSizes));
  for (const bool whole : {true, false}) {
    std::ostringstream out;
    trace::Writer writer(out);
    writer.hello(hello.bytes());
    if (whole) {
      const codec::Upload upload{.upload = 2, .artifact = {}};
      writer.artifact({.upload = 1}, payload, 1);
      writer.frame(FrameKind::kUpload, codec::encode(upload).bytes(), payload.first(3), 2);
      writer.frame(FrameKind::kJob, codec::encode(codec::Job{.job = 1, .plan = kHash}).bytes(),
                   payload, 3);
      writer.answer({.job = 1}, payload.first(5), 4);
      writer.frame(FrameKind::kHint, codec::encode(codec::Hint{}).bytes(), {}, 5);
      writer.frame(FrameKind::kStep, codec::encode(codec::Step{.job = 2}).bytes(), {}, 6);
      writer.answer({.job = 2, .answer = 1, .code = 7}, payload, 7);
    }
    if (!writer.finish()) return false;
    const std::string text = out.str();
    corpus.add(whole ? "whole" : "hello", Seed().bytes(std::as_bytes(std::span(text))));
  }
  return corpus.good();
}

bool safetensors(Corpus corpus) {
  const std::array<std::byte, 24> bytes{};
  using djinn::testing::ModelTensor;
  const std::vector<ModelTensor> two{
      {.name = "a", .shape = {2, 1}, .bytes = std::span(bytes).first(8)},
      {.name = "b", .shape = {6}, .bytes = bytes}};
  for (size_t count = 0; count <= two.size(); ++count) {
    const auto tensors = std::span(two).first(count);
    Seed seed;
    const std::string head = djinn::testing::model_head(tensors);
    seed.bytes(std::as_bytes(std::span(head)));
    for (const ModelTensor& each : tensors) seed.bytes(each.bytes);
    corpus.add("tensors-" + std::to_string(count), seed);
  }
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}})";
  const uint64_t length = header.size();
  Seed seed;
  seed.bytes(std::as_bytes(std::span(&length, 1)))
      .bytes(std::as_bytes(std::span(header)))
      .u8(1)
      .u8(2);
  corpus.add("metadata", seed);
  return corpus.good();
}

bool write_all(const std::filesystem::path& root) {
  std::filesystem::create_directories(root);
  return frames({root, "frame"}) && requests({root, "request"}) && plans({root, "plan"}) &&
         numbers({root, "numbers"}) && traces({root, "trace"}) &&
         safetensors({root, "safetensors"});
}

}  // namespace
}  // namespace djinn::fuzz

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "fuzz_seeds DIR\n";
    return 2;
  }
  try {
    if (djinn::fuzz::write_all(arguments[1])) return 0;
    std::cerr << "fuzz_seeds: cannot write to " << arguments[1] << '\n';
  } catch (const std::exception& e) {
    std::cerr << "fuzz_seeds: " << e.what() << '\n';
  }
  return 1;
}
