// SPDX-License-Identifier: Apache-2.0
#include "server/runner.h"

#include <pthread.h>

#include <cassert>
#include <optional>
#include <utility>

#include "server/clock.h"

namespace djinn::server {

// Turns what a job's Replay says into reports. The last one, which says that the job has ended, is
// kept until that is true.
class Runner::Reporter final : public AnswerSink {
 public:
  using Deliver = std::function<void(Report)>;
  Reporter(SessionId session, const Task& task, const Deliver& deliver)
      : deliver_(deliver),
        last_{.session = session,
              .job = task.work.job,
              .finished = true,
              .staged_bytes = task.staged_bytes,
              .inline_bytes = task.inline_bytes,
              .bytes = {}} {}

  void answer(const Work& work, uint32_t index, Result<Answer> answer) override {
    const graph::Plan& plan = *work.plan;
    // Nothing runs behind the last entry, so its answer and the end of the job are one report.
    if (index + 1 == plan.answers && plan.entries.back().answer == index) {
      last_.answer = index;
      last_.bytes = std::move(answer);
      return;
    }
    deliver_(
        {.session = last_.session, .job = work.job, .answer = index, .bytes = std::move(answer)});
  }

  // Once, when the job has run.
  Report take_last() { return std::move(last_); }

 private:
  const Deliver& deliver_;
  Report last_;
};

Runner::Runner(Device& device, std::function<void()> wake)
    : device_(device), wake_(std::move(wake)), thread_([this] { thread_main(); }) {
  pthread_setname_np(thread_.native_handle(), "djinn-run");
}

Runner::~Runner() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wanted_.notify_all();
  }
  thread_.join();
}

void Runner::open(SessionId session) {
  auto lane = std::make_shared<Lane>();
  lane->session = session;
  lane->replay = device_.open(session);
  MutexLock lock(mutex_);
  lanes_.emplace(session, std::move(lane));
}

void Runner::submit(SessionId session, Task task) {
  MutexLock lock(mutex_);
  lanes_.at(session)->tasks.push_back(std::move(task));
  queue_.add(session);
  wanted_.notify_one();
}

bool Runner::try_run(SessionId session, Task& task, std::vector<Report>& reports) {
  Lane* lane = nullptr;
  {
    MutexLock lock(mutex_);
    if (busy_ || queue_.ready()) return false;
    busy_ = true;
    lane = lanes_.at(session).get();  // Only this thread closes it.
  }
  const Reporter::Deliver deliver = [&](Report report) { reports.push_back(std::move(report)); };
  Reporter reporter(session, task, deliver);
  run(*lane, task, reporter);
  reports.push_back(reporter.take_last());
  MutexLock lock(mutex_);
  busy_ = false;
  if (has_work()) wanted_.notify_one();
  return true;
}

void Runner::pause(SessionId session, bool paused) {
  MutexLock lock(mutex_);
  queue_.pause(session, paused);
  if (!paused) wanted_.notify_one();
}

void Runner::shrink(SessionId session) {
  MutexLock lock(mutex_);
  shrinking_.push_back(lanes_.at(session));
  wanted_.notify_one();
}

void Runner::close(SessionId session) {
  std::deque<Task> dropped;  // Freed outside of the lock.
  MutexLock lock(mutex_);
  const auto at = lanes_.find(session);
  if (at == lanes_.end()) return;
  dropped = std::move(at->second->tasks);
  queue_.remove(session);
  closed_.push_back(std::move(at->second));
  lanes_.erase(at);
  wanted_.notify_one();
}

void Runner::take_reports(std::vector<Report>& reports) {
  assert(reports.empty());
  MutexLock lock(reports_mutex_);
  reports.swap(reports_);
}

bool Runner::idle() {
  MutexLock lock(mutex_);
  return !busy_ && queue_.waiting() == 0 && closed_.empty();
}

ReplayStats Runner::stats(SessionId session) {
  std::shared_ptr<Lane> lane;
  {
    MutexLock lock(mutex_);
    lane = lanes_.at(session);
  }
  return lane->replay->stats();
}

void Runner::thread_main() {
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stopping_ && !has_work()) wanted_.wait(mutex_);
      if (stopping_) break;
    }
    while (step()) {
    }
  }
  MutexLock lock(mutex_);
  lanes_.clear();
  closed_.clear();
  shrinking_.clear();
}

bool Runner::step() {
  std::vector<std::shared_ptr<Lane>> closed;
  std::vector<std::shared_ptr<Lane>> shrinking;
  std::shared_ptr<Lane> lane;
  Task task;
  {
    MutexLock lock(mutex_);
    if (stopping_ || !has_work()) return false;
    closed.swap(closed_);
    shrinking.swap(shrinking_);
    if (const auto session = queue_.take()) {
      lane = lanes_.at(*session);
      task = std::move(lane->tasks.front());
      lane->tasks.pop_front();
    }
    busy_ = true;
  }
  for (const auto& each : shrinking) each->replay->shrink();
  shrinking.clear();
  closed.clear();  // Here the Replays of closed sessions die, before the next job needs memory.
  std::optional<Report> last;
  if (lane != nullptr) last = run_one(*lane, task);
  task = {};  // What the job consumed is free before anybody hears of its end.
  {
    MutexLock lock(mutex_);
    busy_ = false;
    if (lane != nullptr) queue_.done(lane->session);
  }
  // Only now, so that the client's next job, which may come at once, finds the device idle.
  if (last) publish(std::move(*last));
  return true;
}

Report Runner::run_one(Lane& lane, const Task& task) {
  const Reporter::Deliver deliver = [this](Report report) { publish(std::move(report)); };
  Reporter reporter(lane.session, task, deliver);
  run(lane, task, reporter);
  return reporter.take_last();
}

void Runner::run(Lane& lane, const Task& task, Reporter& reporter) {
  const uint64_t begin_ns = now_ns();
  lane.replay->run(task.work, reporter);
  task.run_time->last_elements.store(task.elements, std::memory_order_relaxed);
  task.run_time->last_ns.store(now_ns() - begin_ns, std::memory_order_relaxed);
}

void Runner::publish(Report report) {
  bool first = false;
  {
    MutexLock lock(reports_mutex_);
    first = reports_.empty();
    reports_.push_back(std::move(report));
  }
  if (first) wake_();
}

}  // namespace djinn::server
