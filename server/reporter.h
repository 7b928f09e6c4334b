// SPDX-License-Identifier: Apache-2.0
// Reporter: turns what a job's Replay says into reports, and keeps the last one.
//
// Why the last one is kept: it says that the job has ended, so it leaves when that is true and the
// Replay has returned.
// Threading: the Replay's thread, and `ended` also the device's.
#pragma once

#include <functional>
#include <optional>

#include "serialization/base/mutex.h"
#include "server/executor.h"
#include "server/task.h"

namespace djinn::server {

class Reporter final : public AnswerSink {
 public:
  using Deliver = std::function<void(Report)>;
  Reporter(SessionId session, const Task& task, Deliver deliver);

  void answer(uint32_t index, Result<Answer> answer) override;
  void ended() override;

  // The last report, if the job has ended. If not, `leave` gets it when it has.
  std::optional<Report> take_last(std::function<void(Report)> leave);

 private:
  const Deliver deliver_;
  const uint32_t last_answer_;  // kNone: the last entry has none.
  Report last_;
  Mutex mutex_;
  bool ended_ GUARDED_BY(mutex_) = false;
  std::function<void(Report)> leave_ GUARDED_BY(mutex_);
};

}  // namespace djinn::server
