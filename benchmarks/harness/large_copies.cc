// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/harness/large_copies.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace djinn::benchmarks {

LargeCopyView::LargeCopyView(const std::string& file) {
  const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error(file + ": cannot be opened");
  void* const at =
      ::mmap(nullptr, sizeof(LargeCopyCounters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (at == MAP_FAILED) throw std::runtime_error(file + ": cannot be mapped");
  counters_ = static_cast<LargeCopyCounters*>(at);
}

LargeCopyView::~LargeCopyView() { ::munmap(counters_, sizeof(LargeCopyCounters)); }

LargeCopies::LargeCopies() {
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  library_ = folder.parent_path() / "lib" / "libdjinn_large_copies.so";
  if (!std::filesystem::exists(library_)) {
    throw std::runtime_error(library_ + " is not there: build the benchmarks");
  }
  char name[] = "/tmp/djinn-copies-XXXXXX";
  const int fd = ::mkstemp(name);
  if (fd < 0 || ::ftruncate(fd, sizeof(LargeCopyCounters)) != 0) {
    throw std::runtime_error("no file for counters in /tmp");
  }
  file_ = name;
  ::close(fd);
}

LargeCopies::~LargeCopies() {
  preload(false);
  ::unlink(file_.c_str());
}

void LargeCopies::preload(bool on) const {
  // NOLINTBEGIN(concurrency-mt-unsafe): before there are threads that ask.
  if (on) {
    ::setenv("LD_PRELOAD", library_.c_str(), 1);
    ::setenv("DJINN_LARGE_COPIES", file_.c_str(), 1);
  } else {
    ::unsetenv("LD_PRELOAD");
    ::unsetenv("DJINN_LARGE_COPIES");
  }
  // NOLINTEND(concurrency-mt-unsafe)
}

}  // namespace djinn::benchmarks
