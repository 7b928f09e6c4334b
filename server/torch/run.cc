// SPDX-License-Identifier: Apache-2.0
#include "server/torch/run.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>

#include <c10/util/Exception.h>

#include "server/torch/problem.h"

namespace djinn::server {
namespace {

constexpr size_t kMessageMax = 1024;  // LibTorch's texts can hold whole shape lists.

std::string_view first_cause(std::string_view text) {
  text = text.substr(0, kMessageMax);
  const size_t last = text.find_last_not_of(" \n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

SharedError lost(const char* why) {
  return std::make_shared<const Error>(Error{ErrorCode::kNotFound, why});
}

}  // namespace

SharedError translate(const std::exception& exception, const std::string& who) {
  ErrorCode code = ErrorCode::kFailed;
  std::string_view text = exception.what();
  if (const auto* ours = dynamic_cast<const Problem*>(&exception)) {
    code = ours->error().code;
    text = ours->error().message;
  } else if (const auto* torch = dynamic_cast<const c10::Error*>(&exception)) {
    if (dynamic_cast<const c10::OutOfMemoryError*>(torch) != nullptr) {
      code = ErrorCode::kOutOfMemory;
    }
    if (dynamic_cast<const c10::NotImplementedError*>(torch) != nullptr) {
      code = ErrorCode::kUnsupported;
    }
    text = torch->what_without_backtrace();
  } else if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr) {
    code = ErrorCode::kOutOfMemory;
    text = "the host's memory is full";
  }
  Error error{code, who};
  error.message.append(": ").append(first_cause(text));
  return std::make_shared<const Error>(std::move(error));
}

Run::Run(SessionState& session, Program& program, const Work& work, AnswerSink& sink)
    : session_(session),
      program_(program),
      plan_(*work.plan),
      work_(work),
      sink_(sink),
      numbers_(*work.numbers),
      tiers_(session.backend.tiers()) {}

SharedError Run::caught(const std::string& who, const std::function<void()>& body) {
  try {
    body();
    return nullptr;
  } catch (const std::exception& exception) {
    return translate(exception, who);
  } catch (...) {
    return std::make_shared<const Error>(Error{ErrorCode::kFailed, who + ": unknown exception"});
  }
}

bool Run::run(Chunk& chunk) {
  bool whole = true;
  const SharedError error = caught("job", [&] { whole = run_entries(chunk); });
  if (!whole) return false;
  finish(error);
  return true;
}

void Run::finish(const SharedError& error) {
  finished_ = true;
  // Only bookkeeping can fail here, for want of memory.
  while (error != nullptr && answered_ < plan_.answers) answer(answered_, Error(*error));
  session_.backend.after(Backend::After::kEarlierCalls,
                         [&sink = sink_](const Error* /*lost*/) { sink.ended(); });
  program_.last = error == nullptr ? work_.numbers : nullptr;
}

void Run::answer(uint32_t index, Result<Answer> what, std::shared_ptr<const void> reading) {
  ++answered_;
  const auto when = reading == nullptr ? Backend::After::kEarlierCalls : Backend::After::kCopies;
  session_.backend.after(when, [&sink = sink_, index, what = std::move(what),
                                reading = std::move(reading)](const Error* lost) mutable {
    const bool there = reading == nullptr || lost == nullptr;
    reading.reset();
    sink.answer(index, there ? std::move(what) : Result<Answer>(Error(*lost)));
  });
}

void Run::begin() {
  begun_ = true;
  ++session_.runs;
  release_strays();
  bind();
  order_deaths();
  expect_touches();
}

void Run::resume() { begun_ ? expect_rest() : begin(); }

bool Run::run_entries(Chunk& chunk) {
  resume();
  while (!at_end()) {
    advance();
    if (!at_end() && chunk.over(next_ - 1)) return false;
  }
  keep();
  return true;
}

void Run::advance() {
  const uint32_t index = next_;
  entry(index);
  end_entry(index);
}

void Run::end_entry(uint32_t index) {
  ++next_;
  unpin(index);
  const uint32_t first = index == 0 ? 0 : program_.dying_ends[index - 1];
  for (uint32_t d = first; d < program_.dying_ends[index]; ++d) die(program_.dying[d]);
}

void Run::release_strays() {
  for (const uint32_t number : plan_.strays) {
    session_.table.erase(static_cast<uint64_t>(numbers_[number]));
  }
}

void Run::bind() {
  uint64_t largest_shared = 0;
  for (uint32_t i = 0; i < plan_.slots.size(); ++i) {
    const graph::SlotInfo& info = plan_.slots[i];
    Slot& slot = program_.slots[i];
    Cell& own = program_.cells[i];
    own.reset();
    slot = {.cell = &own, .id = static_cast<uint64_t>(numbers_[info.id])};
    if (info.fresh) {
      bind_fresh(i, slot.id);
      continue;
    }
    Cell* const found = session_.table.find(slot.id);
    const bool twice = found != nullptr && found->job == session_.runs;
    if (found == nullptr || twice) {
      slot.state = Slot::State::kLost;
      own.error = twice ? std::make_shared<const Error>(
                              Error{ErrorCode::kInvalid, "a storage fills two slots of a job"})
                        : lost("no storage of this session has that id");
      continue;
    }
    slot.cell = found;
    slot.cell->job = session_.runs;
    slot.state = Slot::State::kTable;
    if (found->shared && found->bytes > largest_shared) {
      largest_shared = found->bytes;
      shared_bytes_name_ = reinterpret_cast<uintptr_t>(bytes_of(*found));
    }
  }
}

void Run::bind_fresh(uint32_t index, uint64_t id) {
  const graph::SlotInfo& info = plan_.slots[index];
  Slot& slot = program_.slots[index];
  const int64_t bytes = info.deferred ? 0 : numbers_[info.bytes];
  const char* problem = nullptr;
  if (id == 0 || (id <= session_.highest_id && session_.table.find(id) != nullptr)) {
    problem = "a new storage has an id that is in use";
  } else if (bytes < 0 || static_cast<uint64_t>(bytes) > kStorageBytesMax) {
    problem = "a new storage's length is out of bounds";
  }
  session_.highest_id = std::max(session_.highest_id, id);
  if (problem != nullptr) {
    slot.state = Slot::State::kLost;
    slot.cell->error = std::make_shared<const Error>(Error{ErrorCode::kInvalid, problem});
    return;
  }
  slot.cell->bytes = static_cast<uint64_t>(bytes);
}

// A loop's storages die at the same entries each time, so the order is kept.
void Run::order_deaths() {
  const auto slots = static_cast<uint32_t>(plan_.slots.size());
  if (slots == 0) return;
  const uint32_t first = plan_.slots[0].death;  // They lie one behind the other.
  if (program_.last != nullptr &&
      std::memcmp(program_.last->data() + first, numbers_.data() + first,
                  slots * sizeof(int64_t)) == 0) {
    return;
  }
  const auto entries = static_cast<int64_t>(plan_.entries.size());
  std::vector<uint32_t>& ends = program_.dying_ends;
  std::ranges::fill(ends, 0);
  const auto dies = [&](uint32_t slot) {
    const int64_t death = numbers_[plan_.slots[slot].death];
    return death > 0 && death <= entries ? death : 0;  // Out of bounds: it dies with its session.
  };
  for (uint32_t i = 0; i < slots; ++i) {
    if (dies(i) != 0) ++ends[static_cast<size_t>(dies(i) - 1)];
  }
  uint32_t total = 0;
  for (uint32_t& end : ends) end = std::exchange(total, total + end);
  program_.dying.resize(total);
  for (uint32_t i = 0; i < slots; ++i) {
    if (dies(i) != 0) program_.dying[ends[static_cast<size_t>(dies(i) - 1)]++] = i;
  }
}

void Run::entry(uint32_t index) {
  const graph::Entry& entry = plan_.entries[index];
  switch (entry.kind) {
    case graph::EntryKind::kOp:
    case graph::EntryKind::kDeferredOp:
      op(index);
      return;
    case graph::EntryKind::kUpload:
      upload(index);
      return;
    case graph::EntryKind::kFetch:
      fetch(index);
      return;
    case graph::EntryKind::kResize:
      resize(index);
      return;
    case graph::EntryKind::kSeed:
      // A generator too many is the error of whoever draws from it.
      caught("seed",
             [&] { session_.generators.seed(numbers_[entry.number], numbers_[entry.number + 1]); });
      return;
  }
}

void Run::die(uint32_t index) {
  static const SharedError died = lost("the storage was used after its release");
  Slot& slot = program_.slots[index];
  if (slot.state == Slot::State::kLost) return;
  if (slot.state == Slot::State::kTable) session_.table.erase(slot.id);
  slot.cell = &program_.cells[index];
  slot.cell->fail(died);
  slot.state = Slot::State::kLost;
}

void Run::keep() {
  for (uint32_t i = 0; i < program_.slots.size(); ++i) {
    const Slot& slot = program_.slots[i];
    if (slot.state == Slot::State::kOurs && session_.table.size() < kStoragesPerSessionMax) {
      session_.table.insert(slot.id, std::move(*slot.cell));
    } else if (slot.state == Slot::State::kTable) {
      session_.table.recount(*slot.cell);
    }
    program_.cells[i].reset();
  }
}

}  // namespace djinn::server
