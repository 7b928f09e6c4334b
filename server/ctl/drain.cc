// SPDX-License-Identifier: Apache-2.0
#include "server/ctl/drain.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "server/ctl/ask.h"
#include "server/ctl/tables.h"

namespace djinn::ctl {
namespace {

constexpr std::chrono::milliseconds kPatience{5000};
constexpr std::chrono::milliseconds kBetween{100};
constexpr int kMissesOfTheDead = 3;  // A socket whose places are all taken is missed, too.

std::string text_of(const Json& health) {
  const auto count = [&](const char* key, const std::string& what) {
    const auto number = health.at(key).get<uint64_t>();
    return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
  };
  return "draining: " + count("sessions", "session") + ", " + count("queued_jobs", "job") +
         " left\n";
}

// The page of a server that drains. Nothing: it is another server's, or none.
std::optional<Json> draining_page(const std::string& body) {
  Json page = Json::parse(body, nullptr, false);
  if (!page.is_object() || page.value("status", "") != "draining") return std::nullopt;
  return page;
}

}  // namespace

Result<> drain(const transport::Address& address, bool json,
               const std::function<void(const std::string& line)>& say) {
  DJINN_TRY(std::string body, post(address, "/drain", "", kPatience));
  std::string said;
  for (int misses = 0; misses < kMissesOfTheDead;) {
    if (auto page = draining_page(body)) {
      std::string line = text_of(*page);
      if (line != said) say(json ? page->dump() + "\n" : line);
      said = std::move(line);
    }
    std::this_thread::sleep_for(kBetween);
    const auto health = look(address, "/health", kPatience);
    const bool gone = !health && health.error().code == ErrorCode::kNotFound;
    misses = gone ? misses + 1 : 0;
    if (health && health->status == 200) break;  // Another server is there already.
    body = health ? health->body : "";
  }
  if (!json) say("the server has ended\n");
  return Unit{};
}

}  // namespace djinn::ctl
