// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_device.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <thread>
#include <unordered_map>

#include "server/memory/account.h"

namespace djinn::testing {
namespace {

using graph::ArgKind;
using graph::Entry;
using graph::EntryKind;
using graph::Operand;
using server::Answer;
using server::AnswerSink;
using server::Work;

constexpr std::array<std::string_view, 5> kOps{"aten::add.Tensor", "aten::add_.Tensor", "aten::mm",
                                               "test::sleep", "test::fail"};

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "fake device: %s\n", what);
  std::abort();
}

// The bytes are taken already.
class FakeBuffer final : public server::Buffer {
 public:
  FakeBuffer(FakeDevice& device, uint64_t bytes, server::Account& account)
      : device_(device), account_(account), bytes_(bytes), data_(new std::byte[bytes]) {}
  ~FakeBuffer() override {
    account_.credit(server::Tier::kDevice, bytes_);
    device_.free(bytes_);
  }
  FakeBuffer(const FakeBuffer&) = delete;
  FakeBuffer& operator=(const FakeBuffer&) = delete;
  std::span<std::byte> bytes() override { return {data_.get(), bytes_}; }

 private:
  FakeDevice& device_;
  server::Account& account_;
  size_t bytes_;
  std::unique_ptr<std::byte[]> data_;
};

// Hands a job's answers to the device's thread.
class LateSink final : public AnswerSink {
 public:
  LateSink(FakeDevice& device, AnswerSink& sink) : device_(device), sink_(sink) {}
  void answer(uint32_t index, Result<Answer> answer) override {
    device_.later([&sink = sink_, index, answer = std::move(answer)]() mutable {
      sink.answer(index, std::move(answer));
    });
  }
  void ended() override {
    device_.later([&sink = sink_] { sink.ended(); });
  }

 private:
  FakeDevice& device_;
  AnswerSink& sink_;
};

struct Storage {
  std::shared_ptr<server::Buffer> buffer;
  bool shared = false;
  std::optional<Error> error;
};

class FakeReplay final : public server::Replay {
 public:
  FakeReplay(FakeDevice& device, SessionId session, std::string_view tenant)
      : device_(device), session_(session), tenant_(tenant) {
    ++device_.replays;
  }
  ~FakeReplay() override {
    must(!inside_, "a replay dies while its job runs");
    --device_.replays;
  }
  FakeReplay(const FakeReplay&) = delete;
  FakeReplay& operator=(const FakeReplay&) = delete;

  bool run(const Work& work, AnswerSink& sink, server::Chunk& chunk) override {
    must(device_.running.fetch_add(1) == 0, "two jobs run at a time");
    LateSink late(device_, sink);
    enter(work, device_.works_on_its_own() ? late : sink);
    const bool whole = run_entries(chunk);
    leave(whole);
    device_.running.fetch_sub(1);
    if (whole) sink_->ended();
    return whole;
  }

  // -- of `run`, and of several that run together
  void enter(const Work& work, AnswerSink& sink) {
    must(!inside_, "a replay runs twice");
    inside_ = true;
    sink_ = &sink;
    if (suspended_) {
      must(work_ == &work, "another job than the one that gave way goes on");
    } else {
      device_.note_begun(session_);
      begin(work);
    }
  }
  [[nodiscard]] uint32_t next() const { return next_; }
  [[nodiscard]] bool at_end() const { return next_ == plan().entries.size(); }
  void advance() {
    run(plan().entries[next_++]);
    const auto [first, last] = deaths_.equal_range(next_);
    for (auto at = first; at != last; ++at) storages_.erase(at->second);
  }
  void leave(bool whole) {
    suspended_ = !whole;
    if (suspended_) ++device_.suspensions;
    if (whole) {
      for (const uint32_t stray : plan().strays) storages_.erase(number(stray));
    }
    count();
    inside_ = false;
  }

  [[nodiscard]] uint64_t shared_bytes_name() const override { return device_.shared_name; }

  void shrink() override {
    must(!suspended_, "a session shrinks in the middle of a job");
    ++device_.shrinks;
  }
  void rest(uint64_t resume_ns) override {
    must(!inside_ && !suspended_, "a session rests while a job of it runs");
    device_.resumes_at_ns = resume_ns;
    ++device_.rests;
  }

  [[nodiscard]] uint64_t move_ns(const Work& /*work*/) override {
    must(!inside_, "a session is asked what moves while its job runs");
    return device_.away_session == session_.value ? 1'000'000'000 : 0;
  }

  [[nodiscard]] server::ReplayStats stats() const override {
    return {.ops_executed = ops_executed_,
            .ops_failed = ops_failed_,
            .storages = alive_,
            .storage_bytes = alive_bytes_,
            .shared_bytes = shared_bytes_,
            .relayouts = 0};
  }

 private:
  void begin(const Work& work) {
    work_ = &work;
    inline_at_ = 0;
    next_ = 0;
    must(work.job.value == last_job_ + 1, "jobs out of order");
    last_job_ = work.job.value;
    deaths_.clear();
    for (const graph::SlotInfo& slot : plan().slots) {
      deaths_.emplace(number(slot.death), number(slot.id));
    }
  }

  bool run_entries(server::Chunk& chunk) {
    while (!at_end()) {
      advance();
      if (!at_end() && chunk.over(next_ - 1)) return false;
    }
    return true;
  }

  [[nodiscard]] uint64_t number(uint32_t at) const {
    return static_cast<uint64_t>((*work_->numbers)[at]);
  }
  [[nodiscard]] const graph::Plan& plan() const { return *work_->plan; }
  Storage& storage(uint32_t slot) { return storages_[number(plan().slots[slot].id)]; }

  void run(const Entry& entry) {
    switch (entry.kind) {
      case EntryKind::kOp:
        run_op(entry);
        break;
      case EntryKind::kUpload:
        upload(entry);
        break;
      case EntryKind::kFetch:
        sink_->answer(entry.answer, fetch(plan().operands[entry.operand]));
        break;
      default:
        break;
    }
  }

  // The operand's floats; an Error if there are none.
  Result<std::span<float>> floats(const Operand& operand, bool write) {
    Storage& at = storage(operand.slot);
    if (at.error) return *at.error;
    if (at.buffer == nullptr) return Error{ErrorCode::kNotFound, "there is no such storage"};
    if (write && at.shared) {
      auto copy = device_.stage(at.buffer->bytes().size(), tenant_);
      if (!copy) return copy.error();
      std::ranges::copy(at.buffer->bytes(), (*copy)->bytes().begin());
      at = {.buffer = *copy, .shared = false, .error = {}};
    }
    uint64_t count = 1;
    for (uint8_t i = 0; i < operand.rank; ++i) {
      if (__builtin_mul_overflow(count, number(operand.sizes + i), &count)) count = UINT64_MAX / 8;
    }
    uint64_t end = 0;
    const uint64_t offset = operand.offset == graph::kNone ? 0 : number(operand.offset);
    if (count > (UINT64_MAX >> 4) || __builtin_add_overflow(count, offset, &end) ||
        end > at.buffer->bytes().size() / sizeof(float)) {
      return Error{ErrorCode::kInvalid, "geometry outside of its storage"};
    }
    return std::span(reinterpret_cast<float*>(at.buffer->bytes().data()) + offset, count);
  }

  Result<Answer> fetch(const Operand& operand) {
    DJINN_TRY(const auto values, floats(operand, false));
    // A copy, so that later writes do not change it.
    const auto* const copy = new std::vector<float>(values.begin(), values.end());
    const server::Bytes bytes = std::as_bytes(std::span(*copy));
    device_.answer_bytes += bytes.size();
    std::shared_ptr<const void> owner(copy, [&device = device_](const std::vector<float>* sent) {
      device.answer_bytes -= sent->size() * sizeof(float);
      delete sent;
    });
    return Answer{.owner = std::move(owner), .bytes = bytes};
  }

  void upload(const Entry& entry) {
    Storage& to = storage(plan().operands[entry.operand].slot);
    const uint64_t length = number(entry.number);
    if (entry.form != graph::UploadForm::kInline) {
      const server::StagedUpload& staged = work_->uploads[entry.upload];
      must(staged.buffer == nullptr || staged.buffer->bytes().size() == length, "upload's length");
      to = {.buffer = staged.buffer, .shared = staged.shared, .error = {}};
      if (staged.buffer == nullptr) to.error = Error{ErrorCode::kOutOfMemory, staged.failure};
      return;
    }
    auto buffer = device_.stage(length, tenant_);
    if (!buffer) {
      to = {.buffer = nullptr, .shared = false, .error = buffer.error()};
      return;
    }
    const auto from = std::as_bytes(std::span(work_->inline_uploads)).subspan(inline_at_, length);
    inline_at_ += (length + 7) / 8 * 8;
    std::ranges::copy(from, (*buffer)->bytes().begin());
    to = {.buffer = *buffer, .shared = false, .error = {}};
  }

  void run_op(const Entry& entry) {
    const std::string& name = plan().ops[entry.op];
    const std::span args = std::span(plan().args).subspan(entry.first_arg, entry.arg_count);
    const auto done = [&]() -> Result<> {
      if (work_->refused != nullptr) return *work_->refused;
      if (name == "test::sleep" && args.size() == 1 && args[0].kind == ArgKind::kInt) {
        if (!device_.restless) {
          std::this_thread::sleep_for(std::chrono::milliseconds(number(args[0].first)));
        }
        while (device_.asleep) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return Unit{};
      }
      if (name == "aten::add.Tensor") return combine(entry, args, false, std::plus<>());
      if (name == "aten::add_.Tensor") return combine(entry, args, true, std::plus<>());
      if (name == "aten::mm") return combine(entry, args, false, std::multiplies<>());
      return Error{ErrorCode::kFailed, name + ": it always fails"};
    }();
    if (work_->refused == nullptr) ++ops_executed_;
    if (done) return;
    ++ops_failed_;
    const auto results = std::span(plan().results).subspan(entry.first_result, entry.result_count);
    for (const graph::ResultSlot& result : results) {
      if (result.kind != graph::ResultKind::kTensor) continue;
      storage(plan().operands[result.first].slot).error = done.error();
    }
  }

  template <typename Combine>
  Result<> combine(const Entry& entry, std::span<const graph::Arg> args, bool in_place,
                   Combine with) {
    if (args.size() != 2 || args[0].kind != ArgKind::kTensor || args[1].kind != ArgKind::kTensor ||
        entry.result_count != 1) {
      return Error{ErrorCode::kInvalid, "add: two tensors are wanted"};
    }
    DJINN_TRY(const auto other, floats(plan().operands[args[1].first], false));
    DJINN_TRY(const auto self, floats(plan().operands[args[0].first], in_place));
    if (self.size() != other.size()) return Error{ErrorCode::kFailed, "add: sizes differ"};
    std::span<float> out = self;
    if (!in_place) {
      const graph::ResultSlot& result = plan().results[entry.first_result];
      if (result.kind != graph::ResultKind::kTensor) {
        return Error{ErrorCode::kInvalid, "add: a tensor comes out"};
      }
      DJINN_TRY(auto buffer, device_.stage(self.size_bytes(), tenant_));
      storage(plan().operands[result.first].slot) = {
          .buffer = std::move(buffer), .shared = false, .error = {}};
      DJINN_TRY(out, floats(plan().operands[result.first], true));
    }
    if (out.size() < self.size()) return Error{ErrorCode::kInvalid, "add: the result is smaller"};
    for (size_t i = 0; i < self.size(); ++i) out[i] = with(self[i], other[i]);
    return Unit{};
  }

  void count() {
    uint64_t alive_bytes = 0;
    uint64_t shared_bytes = 0;
    for (const auto& [id, each] : storages_) {
      const uint64_t bytes = each.buffer == nullptr ? 0 : each.buffer->bytes().size();
      alive_bytes += bytes;
      if (each.shared) shared_bytes += bytes;
    }
    alive_ = storages_.size();
    alive_bytes_ = alive_bytes;
    shared_bytes_ = shared_bytes;
  }

  FakeDevice& device_;
  const SessionId session_;
  const std::string tenant_;
  const Work* work_ = nullptr;
  AnswerSink* sink_ = nullptr;
  uint64_t inline_at_ = 0;
  uint32_t next_ = 0;                         // the entry that comes next
  std::multimap<uint64_t, uint64_t> deaths_;  // behind which entry, whose
  uint64_t last_job_ = 0;
  bool inside_ = false;
  bool suspended_ = false;
  std::unordered_map<uint64_t, Storage> storages_;
  std::atomic<uint64_t> ops_executed_ = 0;
  std::atomic<uint64_t> ops_failed_ = 0;
  std::atomic<uint64_t> alive_ = 0;
  std::atomic<uint64_t> alive_bytes_ = 0;
  std::atomic<uint64_t> shared_bytes_ = 0;
};

}  // namespace

FakeDevice::FakeDevice(uint64_t budget_bytes)
    : budget_bytes_(budget_bytes),
      late_(std::getenv("DJINN_TEST_LATE_ANSWERS") != nullptr) {  // NOLINT: before any thread
  if (late_) thread_ = std::thread([this] { late_main(); });
}

void FakeDevice::later(std::function<void()> what) {
  MutexLock lock(mutex_);
  later_.push_back(std::move(what));
  wanted_.notify_one();
}

void FakeDevice::late_main() {
  while (true) {
    std::function<void()> next;
    {
      MutexLock lock(mutex_);
      while (later_.empty() && !stopping_) wanted_.wait(mutex_);
      if (later_.empty()) return;
      next = std::move(later_.front());
      later_.pop_front();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    next();
  }
}

FakeDevice::~FakeDevice() {
  if (late_) {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      wanted_.notify_one();
    }
    thread_.join();
  }
  must(replays == 0, "a replay outlives its device");
  must(answer_bytes == 0, "an answer outlives its device");
}

std::vector<uint8_t> FakeDevice::schema_hash() const { return std::vector<uint8_t>(16, 0xab); }

bool FakeDevice::supports(std::string_view op, uint64_t schema_hash) const {
  return schema_hash == kSchemaOfAll && std::ranges::find(kOps, op) != kOps.end();
}

Result<> FakeDevice::allocate(uint64_t bytes) {
  const uint64_t used = used_bytes += bytes;
  if (budget_bytes_ != 0 && used > budget_bytes_) {
    used_bytes -= bytes;
    if (reclaim(used - budget_bytes_)) return allocate(bytes);
    return Error{ErrorCode::kOutOfMemory, std::to_string(bytes) + " bytes were asked for, and " +
                                              std::to_string(used - bytes) + " of " +
                                              std::to_string(budget_bytes_) + " are used"};
  }
  uint64_t peak = peak_bytes;
  while (peak < used && !peak_bytes.compare_exchange_weak(peak, used)) {
  }
  return Unit{};
}

void FakeDevice::set_reclaim(Reclaim reclaim) {
  MutexLock lock(mutex_);
  reclaim_ = std::move(reclaim);
}

bool FakeDevice::reclaim(uint64_t bytes) {
  Reclaim reclaim;
  {
    MutexLock lock(mutex_);
    reclaim = reclaim_;
  }
  return reclaim && reclaim(bytes) > 0;
}

Result<std::shared_ptr<server::Buffer>> FakeDevice::stage(uint64_t bytes, std::string_view tenant) {
  if (bytes > (uint64_t{1} << 36)) return Error{ErrorCode::kOutOfMemory, "that much is nowhere"};
  server::Account& account = server::Account::of(tenant);
  if (!account.charge(server::Tier::kDevice, bytes)) {
    return Error{ErrorCode::kOutOfMemory, "tenant " + account.tenant() + " has its limit"};
  }
  if (const auto taken = allocate(bytes); !taken) {
    account.credit(server::Tier::kDevice, bytes);
    return taken.error();
  }
  return std::make_shared<FakeBuffer>(*this, bytes, account);
}

Result<> FakeDevice::admit(const graph::Plan& plan) {
  for (const std::string& op : plan.ops) {
    if (!supports(op, kSchemaOfAll)) {
      return Error{ErrorCode::kUnsupported, op + " is not on the list of operators"};
    }
  }
  ++plans_admitted;
  return Unit{};
}

std::vector<SessionId> FakeDevice::begun() const {
  const MutexLock lock(mutex_);
  return begun_;
}

void FakeDevice::note_begun(SessionId session) {
  const MutexLock lock(mutex_);
  begun_.push_back(session);
}

std::unique_ptr<server::Replay> FakeDevice::open(SessionId session, std::string_view tenant) {
  return std::make_unique<FakeReplay>(*this, session, tenant);
}

void FakeDevice::run_together(std::span<server::Member> jobs, server::Chunk& chunk) {
  must(running.fetch_add(1) == 0, "two jobs run at a time");
  must(jobs.size() > 1 && jobs.size() <= lockstep_max(), "a group of the wrong size");
  ++groups;
  members += jobs.size();
  std::vector<FakeReplay*> group;
  for (const server::Member& job : jobs) {
    group.push_back(static_cast<FakeReplay*>(job.replay));
    group.back()->enter(*job.work, *job.sink);
    must(job.work->plan == jobs[0].work->plan, "a group of several plans");
    must(group.back()->next() == group[0]->next(), "a group that is not in step");
  }
  bool whole = false;
  while (!whole) {
    for (FakeReplay* const replay : group) replay->advance();
    whole = group[0]->at_end();
    if (!whole && chunk.over(group[0]->next() - 1)) break;
  }
  for (FakeReplay* const replay : group) replay->leave(whole);
  running.fetch_sub(1);
  for (server::Member& job : jobs) {
    job.whole = whole;
    if (whole) job.sink->ended();
  }
}

server::DeviceMemory FakeDevice::memory() const {
  return {.budget_bytes = budget_bytes_, .used_bytes = used_bytes, .peak_bytes = peak_bytes};
}

}  // namespace djinn::testing
