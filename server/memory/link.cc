// SPDX-License-Identifier: Apache-2.0
#include "server/memory/link.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "server/clock.h"
#include "server/memory/mapped_memory.h"

namespace djinn::server {
namespace {

constexpr uint64_t kLinkPieceBytes = uint64_t{1} << 20;

void sleep_until(uint64_t at_ns) {
  const timespec at{.tv_sec = static_cast<time_t>(at_ns / 1'000'000'000),
                    .tv_nsec = static_cast<long>(at_ns % 1'000'000'000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

// Past the caches, like a copy engine: what is written is not read soon by this core, and the
// operator that runs beside it keeps its lines and two thirds of the memory traffic.
void copy_past_caches(void* to, const void* from, uint64_t bytes) {
#ifdef __SSE2__
  static_assert(MappedMemory::kAlignment % sizeof(__m128i) == 0);
  const uint64_t lines = bytes / 64;
  auto* destination = static_cast<__m128i*>(to);
  const auto* source = static_cast<const __m128i*>(from);
  for (uint64_t i = 0; i < lines; ++i, destination += 4, source += 4) {
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(destination, a);
    _mm_stream_si128(destination + 1, b);
    _mm_stream_si128(destination + 2, c);
    _mm_stream_si128(destination + 3, d);
  }
  _mm_sfence();
  std::memcpy(destination, source, bytes % 64);
#else
  std::memcpy(to, from, bytes);
#endif
}

}  // namespace

void Link::copy(void* to, const void* from, uint64_t bytes) {
  if (rate_ == 0) {
    copy_past_caches(to, from, bytes);
    return;
  }
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t piece = std::min(bytes - done, kLinkPieceBytes);
    uint64_t due_ns = 0;
    {
      const MutexLock lock(mutex_);  // Two copies share the link, piece by piece.
      free_at_ns_ = std::max(free_at_ns_, now_ns()) + piece * 1'000'000'000 / rate_;
      due_ns = free_at_ns_;
    }
    copy_past_caches(static_cast<std::byte*>(to) + done, static_cast<const std::byte*>(from) + done,
                     piece);
    sleep_until(due_ns);
    done += piece;
  }
}

}  // namespace djinn::server
