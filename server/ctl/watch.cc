// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/watch.h"

#include <csignal>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "server/ctl/ask.h"
#include "server/ctl/screen.h"
#include "server/ctl/top.h"

namespace djinn::ctl {
namespace {

constexpr std::chrono::milliseconds kPatience{5000};

// SIGINT and SIGTERM, which wait to be looked for, so that no moment is the wrong one for them.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~Signals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Waits so long for one; true: it came.
  bool wait(std::chrono::milliseconds time) {
    const timespec until{.tv_sec = time.count() / 1000,
                         .tv_nsec = (time.count() % 1000) * 1'000'000};
    return sigtimedwait(&set_, nullptr, &until) > 0;
  }

 private:
  sigset_t set_{};
  sigset_t before_{};
};

Result<std::string> text_between(const Json& before, const Json& now, bool json) {
  try {
    const Json top = top_of(before, now);
    return json ? top.dump() + "\n" : top_text(top);
  } catch (const Json::exception& e) {
    return Error{ErrorCode::kInvalid, "a page of another version? " + std::string(e.what())};
  }
}

Result<Json> load_page(const transport::Address& address) {
  DJINN_TRY(const std::string body, get(address, "/load", kPatience));
  Json page = Json::parse(body, nullptr, false);
  if (!page.is_discarded()) return page;
  return Error{ErrorCode::kInvalid, address.text() + ": /load is no JSON"};
}

}  // namespace

Result<> watch(const transport::Address& address, const WatchOptions& options) {
  DJINN_TRY(Json before, load_page(address));
  Signals signals;
  Screen screen(!options.once && !options.json && has_terminal());
  while (!signals.wait(options.interval)) {
    DJINN_TRY(Json now, load_page(address));
    DJINN_TRY(const std::string text, text_between(before, now, options.json));
    DJINN_CHECK(screen.show(text));
    if (options.once) break;
    before = std::move(now);
  }
  return Unit{};
}

}  // namespace djinn::ctl
