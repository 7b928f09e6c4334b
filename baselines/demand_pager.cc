// SPDX-License-Identifier: Apache-2.0
#include "baselines/demand_pager.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace djinn::baselines {
namespace {

constexpr uint64_t kSystemPageBytes = 4096;

Error unsupported(const char* call) {
  return {ErrorCode::kUnsupported,
          std::string(call) + ": " + std::generic_category().message(errno)};
}

// A fault that cannot be answered leaves its thread asleep for ever: better no process.
[[noreturn]] void give_up(const char* call) {
  std::fprintf(stderr, "demand pager: %s: %s\n", call,
               std::generic_category().message(errno).c_str());
  std::abort();
}

}  // namespace

DemandPager::DemandPager(std::span<const std::byte> bytes, const Options& options)
    : bytes_(bytes), options_(options) {}

Result<std::unique_ptr<DemandPager>> DemandPager::make(std::span<const std::byte> bytes,
                                                       const Options& options) {
  if (options.page_bytes < kSystemPageBytes || !std::has_single_bit(options.page_bytes) ||
      options.resident_bytes_max < options.page_bytes || bytes.empty()) {
    return Error{ErrorCode::kInvalid, "a pager of no page"};
  }
  std::unique_ptr<DemandPager> pager(new DemandPager(bytes, options));
  DJINN_CHECK(pager->open());
  return pager;
}

Result<> DemandPager::open() {
  length_ = (bytes_.size() + kSystemPageBytes - 1) / kSystemPageBytes * kSystemPageBytes;
  const uint64_t whole = bytes_.size() / kSystemPageBytes * kSystemPageBytes;
  tail_.assign(length_ - whole, std::byte{0});
  std::copy(bytes_.begin() + static_cast<ptrdiff_t>(whole), bytes_.end(), tail_.begin());
  resident_.assign((length_ + options_.page_bytes - 1) / options_.page_bytes, false);

  mapped_ = length_ + options_.page_bytes;
  void* const mapping =
      mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return unsupported("mmap");
  mapping_ = static_cast<std::byte*>(mapping);
  void* begin = mapping;
  size_t room = mapped_;
  range_ = static_cast<std::byte*>(std::align(options_.page_bytes, length_, begin, room));
  madvise(range_, length_, MADV_NOHUGEPAGE);  // A fault brings one page, and not its neighbours.

  faults_fd_ = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (faults_fd_ < 0) return unsupported("userfaultfd");
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (ioctl(faults_fd_, UFFDIO_API, &api) != 0) return unsupported("UFFDIO_API");
  uffdio_register all{};
  all.range = {.start = reinterpret_cast<uint64_t>(range_), .len = length_};
  all.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(faults_fd_, UFFDIO_REGISTER, &all) != 0) return unsupported("UFFDIO_REGISTER");
  stop_fd_ = eventfd(0, EFD_CLOEXEC);
  if (stop_fd_ < 0) return unsupported("eventfd");
  handler_ = std::thread([this] { serve(); });
  return Unit{};
}

DemandPager::~DemandPager() {
  if (handler_.joinable()) {
    const uint64_t one = 1;
    if (write(stop_fd_, &one, sizeof one) != sizeof one) give_up("write");
    handler_.join();
  }
  if (stop_fd_ >= 0) close(stop_fd_);
  if (faults_fd_ >= 0) close(faults_fd_);
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

void DemandPager::serve() {
  std::array<pollfd, 2> waits{{{faults_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}}};
  for (;;) {
    if (poll(waits.data(), waits.size(), -1) < 0) {
      if (errno == EINTR) continue;
      give_up("poll");
    }
    if (waits[1].revents != 0) return;
    uffd_msg message{};
    const ssize_t got = read(faults_fd_, &message, sizeof message);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got != sizeof message) give_up("read");
    if (message.event == UFFD_EVENT_PAGEFAULT) bring(message.arg.pagefault.address);
  }
}

uint64_t DemandPager::page_length(uint64_t page) const {
  return std::min(options_.page_bytes, length_ - page * options_.page_bytes);
}

void DemandPager::evict_first() {
  const uint64_t page = arrivals_.front();
  arrivals_.pop_front();
  resident_[page] = false;
  resident_bytes_ -= page_length(page);
  if (madvise(range_ + page * options_.page_bytes, page_length(page), MADV_DONTNEED) != 0) {
    give_up("madvise");
  }
  ++evictions_;
}

void DemandPager::bring(uint64_t address) {
  const uint64_t page = (address - reinterpret_cast<uint64_t>(range_)) / options_.page_bytes;
  const uint64_t begin = page * options_.page_bytes;
  const uint64_t end = begin + page_length(page);
  const auto to = reinterpret_cast<uint64_t>(range_);
  if (resident_[page]) {  // Two threads missed it, and it came for the first.
    uffdio_range range{.start = to + begin, .len = end - begin};
    if (ioctl(faults_fd_, UFFDIO_WAKE, &range) != 0) give_up("UFFDIO_WAKE");
    return;
  }
  ++faults_;
  while (resident_bytes_ + (end - begin) > options_.resident_bytes_max) evict_first();
  const uint64_t whole = length_ - tail_.size();
  for (uint64_t at = begin; at < end;) {
    const bool in_tail = at >= whole;
    const std::byte* const from = in_tail ? tail_.data() : bytes_.data() + at;
    const uint64_t length = (in_tail ? end : std::min(end, whole)) - at;
    uffdio_copy copy{.dst = to + at,
                     .src = reinterpret_cast<uint64_t>(from),
                     .len = length,
                     .mode = 0,
                     .copy = 0};
    const bool done = ioctl(faults_fd_, UFFDIO_COPY, &copy) == 0;
    if (!done && errno != EAGAIN) give_up("UFFDIO_COPY");
    at += copy.copy > 0 ? static_cast<uint64_t>(copy.copy) : 0;
  }
  resident_[page] = true;
  arrivals_.push_back(page);
  resident_bytes_ += end - begin;
  resident_peak_ = std::max<uint64_t>(resident_peak_, resident_bytes_);
}

}  // namespace djinn::baselines
