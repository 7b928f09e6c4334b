// SPDX-License-Identifier: Apache-2.0
#include "server/memory/account.h"

#include <memory>

#include "serialization/base/mutex.h"

namespace djinn::server {
namespace {

struct Registry {
  Mutex mutex;
  std::array<uint64_t, kTiers> limits GUARDED_BY(mutex) = {};
  std::vector<std::unique_ptr<Account>> accounts GUARDED_BY(mutex);
};

Registry& registry() {
  static auto* const made = new Registry;
  return *made;
}

}  // namespace

Account& Account::of(std::string_view tenant) {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  for (const auto& account : all.accounts) {
    if (account->tenant() == tenant) return *account;
  }
  all.accounts.emplace_back(new Account(tenant));
  for (size_t tier = 0; tier < kTiers; ++tier) {
    all.accounts.back()->sums_[tier].limit = all.limits[tier];
  }
  return *all.accounts.back();
}

void Account::set_default_limit(Tier tier, uint64_t bytes) {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  all.limits[static_cast<size_t>(tier)] = bytes;
  for (const auto& account : all.accounts) {
    if (!account->at(tier).own_limit) account->at(tier).limit = bytes;
  }
}

void Account::set_limit(Tier tier, std::optional<uint64_t> bytes) {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  at(tier).own_limit = bytes.has_value();
  at(tier).limit = bytes.value_or(all.limits[static_cast<size_t>(tier)]);
}

std::vector<Account*> Account::all() {
  Registry& all = registry();
  const MutexLock lock(all.mutex);
  std::vector<Account*> found;
  for (const auto& account : all.accounts) found.push_back(account.get());
  return found;
}

bool Account::is_full(Tier tier, uint64_t bytes) const {
  const uint64_t limit = at(tier).limit;
  return limit != 0 && at(tier).used + bytes > limit;
}

bool Account::charge(Tier tier, uint64_t bytes) {
  Sums& sums = at(tier);
  const uint64_t limit = sums.limit;
  const uint64_t used = sums.used.fetch_add(bytes) + bytes;
  if (limit != 0 && used > limit) {
    sums.used -= bytes;
    return false;
  }
  uint64_t peak = sums.peak;
  while (used > peak && !sums.peak.compare_exchange_weak(peak, used)) {
  }
  return true;
}

}  // namespace djinn::server
