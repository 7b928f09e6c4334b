// SPDX-License-Identifier: Apache-2.0
// Mutex and MutexLock that clang's -Wthread-safety understands, so that "guarded by" is checked
// and not only written down.
#pragma once

#include <mutex>

#ifdef __clang__
#define DJINN_ATTRIBUTE(x) __attribute__((x))
#else
#define DJINN_ATTRIBUTE(x)
#endif
#define GUARDED_BY(x) DJINN_ATTRIBUTE(guarded_by(x))
#define REQUIRES(x) DJINN_ATTRIBUTE(requires_capability(x))

namespace djinn {

class DJINN_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() DJINN_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() DJINN_ATTRIBUTE(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class DJINN_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) DJINN_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() DJINN_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace djinn
