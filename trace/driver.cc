// SPDX-License-Identifier: Apache-2.0
#include "trace/driver.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "trace/player.h"

namespace djinn::trace {
namespace {

constexpr std::chrono::milliseconds kLook{500};  // At silence, that often.
constexpr uint32_t kErrorsInARow = 100;          // Then a closed part gives up.
constexpr uint32_t kDueMax = 1 << 20;  // Plays that wait for a session; then none fall due.

struct Seat {
  size_t part = 0;
  std::unique_ptr<Player> player;
  bool active = false;
  bool queued = false;
  bool changed = false;
};

struct PartState {
  uint64_t begun = 0;
  uint32_t taken = 0;  // seats
  uint32_t errors_in_a_row = 0;
  uint64_t errors_seen = 0;
  Clock::time_point next_due;
  std::deque<Clock::time_point> due;
  std::vector<size_t> free;
};

class Driver {
 public:
  Driver(const Load& load, std::unique_ptr<transport::Loop> loop);
  Result<Outcome> run();

 private:
  void fall_due(Clock::time_point now);
  void fill_seats(Clock::time_point now);
  void begin(size_t seat, Clock::time_point due);
  void settle();
  void settle(size_t index);
  void give_turns();
  // Tells players that were refused that they may come again.
  void go_on(Clock::time_point now);
  [[nodiscard]] bool may_begin(size_t part) const;
  [[nodiscard]] bool falls_due(size_t part) const;
  [[nodiscard]] bool over(Clock::time_point now) const;
  [[nodiscard]] Clock::duration patience(Clock::time_point now) const;
  [[nodiscard]] Clock::duration gap(const Part& part);

  const Load& load_;
  Outcome outcome_;
  std::mt19937_64 random_;
  std::mt19937_64 seeds_;  // Of players. Apart, so that what falls due when depends on nothing.
  Clock::time_point start_;
  std::vector<PartState> parts_;
  std::deque<size_t> queue_;     // Seats that wait for their turn.
  std::vector<size_t> changed_;  // Seats to look at.
  // Seats whose player was refused, by when it is due again; what has changed since is passed over.
  std::multimap<Clock::time_point, size_t> refused_;
  uint32_t active_ = 0;
  uint32_t taken_ = 0;
  bool together_ = false;  // All sessions were connected at a time.
  std::unique_ptr<transport::Loop> loop_;
  std::vector<Seat> seats_;  // First to die: before the loop, and what players borrow.
};

Driver::Driver(const Load& load, std::unique_ptr<transport::Loop> loop)
    : load_(load),
      random_(load.seed),
      seeds_(~load.seed),
      start_(Clock::now()),
      parts_(load.parts.size()),
      loop_(std::move(loop)) {
  outcome_.parts.resize(load.parts.size());
  for (size_t part = 0; part < load.parts.size(); ++part) {
    for (uint32_t i = 0; i < load.parts[part].sessions; ++i) {
      parts_[part].free.push_back(seats_.size());
      seats_.emplace_back().part = part;
    }
    parts_[part].next_due = start_ + gap(load.parts[part]);
  }
}

Result<Outcome> Driver::run() {
  auto next_look = start_ + kLook;
  while (true) {
    const auto now = Clock::now();
    if (over(now)) break;
    fall_due(now);
    fill_seats(now);
    go_on(now);
    give_turns();
    const auto ran = loop_->run_once(changed_.empty() ? patience(now) : Clock::duration(0));
    if (!ran && ran.error().code != ErrorCode::kCancelled) return ran.error();
    settle();
    if (now < next_look) continue;
    next_look = now + kLook;
    for (Seat& seat : seats_) {
      if (seat.player != nullptr) seat.player->check_silence(now);
    }
  }
  outcome_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  seats_.clear();
  return std::move(outcome_);
}

bool Driver::over(Clock::time_point now) const {
  if (load_.seconds > 0 && now - start_ >= std::chrono::duration<double>(load_.seconds)) {
    return true;
  }
  for (size_t part = 0; part < parts_.size(); ++part) {
    const bool goes_on = parts_[part].taken > 0 || may_begin(part) || !parts_[part].due.empty();
    if (goes_on && !load_.parts[part].background) return false;
  }
  return true;
}

// An open part begins what is due, a closed one whatever it may, until nothing works.
bool Driver::may_begin(size_t part) const {
  const PartState& state = parts_[part];
  const bool hopeless = load_.parts[part].rate <= 0 && state.errors_in_a_row >= kErrorsInARow;
  return !hopeless && state.begun + state.due.size() < load_.parts[part].plays;
}

// One more play may.
bool Driver::falls_due(size_t part) const {
  return may_begin(part) && parts_[part].due.size() < kDueMax;
}

Clock::duration Driver::gap(const Part& part) {
  if (part.rate <= 0) return Clock::duration::max() / 4;
  const double seconds = std::exponential_distribution<double>(part.rate)(random_);
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

void Driver::fall_due(Clock::time_point now) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    PartState& part = parts_[i];
    while (part.next_due <= now && falls_due(i)) {
      part.due.push_back(part.next_due);
      part.next_due += gap(load_.parts[i]);
    }
  }
}

void Driver::fill_seats(Clock::time_point now) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    PartState& part = parts_[i];
    const bool open = load_.parts[i].rate > 0;
    while (!part.free.empty() && (open ? !part.due.empty() : may_begin(i))) {
      const size_t seat = part.free.back();
      part.free.pop_back();
      const auto due = open ? part.due.front() : now;
      if (open) part.due.pop_front();
      begin(seat, due);
    }
  }
}

void Driver::begin(size_t seat, Clock::time_point due) {
  const Part& part = load_.parts[seats_[seat].part];
  ++parts_[seats_[seat].part].begun;
  ++parts_[seats_[seat].part].taken;
  ++taken_;
  outcome_.sessions_most = std::max(outcome_.sessions_most, taken_);
  const auto changed = [this, seat] {
    if (!std::exchange(seats_[seat].changed, true)) changed_.push_back(seat);
  };
  seats_[seat].player = std::make_unique<Player>(*part.trace,
                                                 PlayOptions{.token = part.token,
                                                             .compare = load_.compare,
                                                             .deadline_ms = part.deadline_ms,
                                                             .changed = changed,
                                                             .seed = seeds_()},
                                                 outcome_.parts[seats_[seat].part], due);
  seats_[seat].player->begin(*loop_, load_.server);
}

// Players that were greeted, rest or have ended.
void Driver::settle() {
  for (const size_t index : std::exchange(changed_, {})) settle(index);
}

void Driver::settle(size_t index) {
  Seat& seat = seats_[index];
  seat.changed = false;
  if (seat.player == nullptr) return;
  if (!seat.player->ended()) {
    if (const auto due = seat.player->due()) refused_.emplace(*due, index);
    if (seat.active && seat.player->resting()) {
      seat.active = false;
      --active_;
    }
    if (!seat.active && !std::exchange(seat.queued, true)) queue_.push_back(index);
    return;
  }
  if (std::exchange(seat.active, false)) --active_;
  seat.player.reset();
  --taken_;
  PartState& part = parts_[seat.part];
  --part.taken;
  part.free.push_back(index);
  const Tally& tally = outcome_.parts[seat.part];
  uint64_t errors = 0;
  for (const auto& [code, count] : tally.errors) errors += count;
  part.errors_in_a_row =
      errors == std::exchange(part.errors_seen, errors) ? 0 : part.errors_in_a_row + 1;
}

void Driver::give_turns() {
  if (load_.active != 0 && !together_) {
    if (taken_ == 0 || queue_.size() < taken_) return;
    together_ = true;
    load_.connected();
  }
  while (!queue_.empty() && (load_.active == 0 || active_ < load_.active)) {
    Seat& seat = seats_[queue_.front()];
    queue_.pop_front();
    seat.queued = false;
    if (seat.player == nullptr || !seat.player->greeted() || seat.player->ended()) continue;
    seat.active = true;
    ++active_;
    seat.player->allow(load_.active == 0 ? UINT32_MAX : load_.turn);
  }
}

void Driver::go_on(Clock::time_point now) {
  while (!refused_.empty() && refused_.begin()->first <= now) {
    Seat& seat = seats_[refused_.begin()->second];
    refused_.erase(refused_.begin());
    if (seat.player != nullptr) seat.player->go_on(now);
  }
}

Clock::duration Driver::patience(Clock::time_point now) const {
  Clock::duration wait = kLook;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (falls_due(i)) wait = std::min(wait, parts_[i].next_due - now);
  }
  if (!refused_.empty()) wait = std::min(wait, refused_.begin()->first - now);
  if (load_.seconds > 0) {
    const auto end =
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(load_.seconds));
    wait = std::min(wait, start_ + end - now);
  }
  return std::max(wait, Clock::duration(0));
}

}  // namespace

Result<Outcome> drive(const Load& load) {
  DJINN_TRY(auto loop, transport::make_loop({}));
  return Driver(load, std::move(loop)).run();
}

}  // namespace djinn::trace
