// SPDX-License-Identifier: Apache-2.0
#include "server/memory/load_queue.h"

#include <pthread.h>

#include <utility>

namespace djinn::server {

LoadQueue::LoadQueue(size_t threads, Fetch fetch) : fetch_(std::move(fetch)) {
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { thread_main(); });
    pthread_setname_np(threads_.back().native_handle(), "djinn-load");
  }
}

LoadQueue::~LoadQueue() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    wanted_.notify_all();
  }
  for (std::thread& each : threads_) each.join();
}

void LoadQueue::push(ArtifactLoad load) {
  auto begun = std::make_shared<Begun>();
  begun->loaded.resize(load.wanted.size());
  begun->load = std::move(load);
  const MutexLock lock(mutex_);
  loads_.push_back(std::move(begun));
  wanted_.notify_all();
}

void LoadQueue::settle() {
  const MutexLock lock(mutex_);
  while (!loads_.empty() || answering_) settled_.wait(mutex_);
}

bool LoadQueue::take(Task& task) {
  for (const std::shared_ptr<Begun>& begun : loads_) {
    if (begun->load.asker.expired()) {  // Nobody wants the rest.
      begun->ended += begun->load.wanted.size() - begun->next;
      begun->next = begun->load.wanted.size();
    }
    if (begun->next == begun->load.wanted.size()) continue;
    if (fetching_.contains(begun->load.wanted[begun->next].name)) return false;  // Soon there.
    task = {.of = begun, .index = begun->next++};
    return true;
  }
  return false;
}

void LoadQueue::thread_main() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    Task task;
    if (!take(task)) {
      // A load of nothing, or of someone who has gone, is complete without a fetch. More may have
      // come while it was answered.
      if (!answer() && !stopping_) wanted_.wait(mutex_);
      continue;
    }
    const WantedArtifact& wanted = task.of->load.wanted[task.index];
    fetching_.insert(wanted.name);
    mutex_.unlock();
    std::shared_ptr<Buffer> fetched = fetch_(wanted, task.of->load.tenant);
    mutex_.lock();
    fetching_.erase(wanted.name);
    task.of->loaded[task.index] = std::move(fetched);
    ++task.of->ended;
    answer();
    wanted_.notify_all();
  }
}

bool LoadQueue::answer() {
  if (answering_) return false;
  answering_ = true;
  bool any = false;
  while (!stopping_ && !loads_.empty() &&
         loads_.front()->ended == loads_.front()->load.wanted.size()) {
    any = true;
    std::shared_ptr<Begun> begun = std::move(loads_.front());
    loads_.pop_front();
    mutex_.unlock();
    if (!begun->load.asker.expired()) begun->load.done(std::move(begun->loaded));
    begun.reset();
    mutex_.lock();
  }
  answering_ = false;
  if (loads_.empty()) settled_.notify_all();
  return any;
}

}  // namespace djinn::server
