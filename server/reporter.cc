// SPDX-License-Identifier: Apache-2.0
#include "server/reporter.h"

#include <utility>

namespace djinn::server {
namespace {

uint32_t answer_of_last_entry(const graph::Plan& plan) {
  const bool has_one = plan.answers > 0 && plan.entries.back().answer == plan.answers - 1;
  return has_one ? plan.answers - 1 : graph::kNone;
}

}  // namespace

Reporter::Reporter(SessionId session, const Task& task, Deliver deliver)
    : deliver_(std::move(deliver)),
      last_answer_(answer_of_last_entry(*task.work.plan)),
      last_{.session = session,
            .job = task.work.job,
            .finished = true,
            .staged_bytes = task.staged_bytes,
            .inline_bytes = task.inline_bytes,
            .bytes = {}} {}

void Reporter::answer(uint32_t index, Result<Answer> answer) {
  // Nothing runs behind the last entry, so its answer and the end of the job are one report.
  if (index == last_answer_) {
    last_.answer = index;
    last_.bytes = std::move(answer);
    return;
  }
  deliver_(
      {.session = last_.session, .job = last_.job, .answer = index, .bytes = std::move(answer)});
}

void Reporter::ended() {
  std::function<void(Report)> leave;
  {
    const MutexLock lock(mutex_);
    ended_ = true;
    leave = std::move(leave_);
  }
  if (leave) leave(std::move(last_));  // The last call: nobody looks at the Reporter any more.
}

std::optional<Report> Reporter::take_last(std::function<void(Report)> leave) {
  const MutexLock lock(mutex_);
  if (ended_) return std::move(last_);
  leave_ = std::move(leave);
  return std::nullopt;
}

}  // namespace djinn::server
