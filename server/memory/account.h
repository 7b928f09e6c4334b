// SPDX-License-Identifier: Apache-2.0
// Account: what one tenant's sessions hold together, tier by tier, and how much they may.
//
// Memory is charged where it is allocated and credited where it is freed, so nothing is counted
// twice or forgotten. Accounts live as long as the process: blocks point to them, and tenants are
// as few as tokens. Threading: any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace djinn::server {

enum class Tier : uint8_t { kDevice, kHost };
inline constexpr size_t kTiers = 2;

class Account {
 public:
  // The tenant's; made when it is asked for first.
  static Account& of(std::string_view tenant);
  [[nodiscard]] static std::vector<Account*> all();
  // What accounts may have that have no limit of their own, those that are there, too. 0: no limit.
  static void set_default_limit(Tier tier, uint64_t bytes);

  [[nodiscard]] const std::string& tenant() const { return tenant_; }
  // False, and nothing is charged: it would be more than the limit.
  bool charge(Tier tier, uint64_t bytes);
  void credit(Tier tier, uint64_t bytes) { at(tier).used -= bytes; }
  // Its own; 0: none. Nothing: the default again. What is charged stays, and what comes is refused.
  void set_limit(Tier tier, std::optional<uint64_t> bytes);
  [[nodiscard]] uint64_t used(Tier tier) const { return at(tier).used; }
  [[nodiscard]] uint64_t peak(Tier tier) const { return at(tier).peak; }
  [[nodiscard]] uint64_t limit(Tier tier) const { return at(tier).limit; }
  // So many more bytes would be refused.
  [[nodiscard]] bool is_full(Tier tier, uint64_t bytes) const;

 private:
  explicit Account(std::string_view tenant) : tenant_(tenant) {}
  struct Sums {
    std::atomic<uint64_t> used = 0;
    std::atomic<uint64_t> peak = 0;
    std::atomic<uint64_t> limit = 0;
    bool own_limit = false;  // The registry's lock.
  };
  [[nodiscard]] Sums& at(Tier tier) { return sums_[static_cast<size_t>(tier)]; }
  [[nodiscard]] const Sums& at(Tier tier) const { return sums_[static_cast<size_t>(tier)]; }

  const std::string tenant_;
  std::array<Sums, kTiers> sums_;
};

// Whose bytes something is: the session that may see them, the tenant that pays for them.
struct Owner {
  static constexpr uint64_t kNobody = UINT64_MAX - 1;  // never the same one twice
  uint64_t session = kNobody;
  Account* account = nullptr;  // Null: nobody's; only the budget counts.
};

}  // namespace djinn::server
