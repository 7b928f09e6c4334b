// SPDX-License-Identifier: Apache-2.0
// What other threads ask of the server: a look at it, and changes.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <optional>
#include <utility>

#include "scheduler/policy.h"
#include "server/clock.h"
#include "server/memory/account.h"
#include "server/server.h"

namespace djinn::server {
namespace {

TenantReport report_of(const Account& account) {
  const auto part = [&account](Tier tier) {
    return TenantMemory{
        .limit = account.limit(tier), .used = account.used(tier), .peak = account.peak(tier)};
  };
  TenantReport out;
  out.tenant = account.tenant();
  out.device = part(Tier::kDevice);
  out.host = part(Tier::kHost);
  return out;
}

}  // namespace

ServerReport Server::look() {
  const uint64_t now = now_ns();
  ServerReport out{.device = house_.device.name(),
                   .up_ns = now - born_ns_,
                   .draining = stage_ != Stage::kServing,
                   .policy = runner_.policy(),
                   .load = runner_.load(),
                   .sessions = {},
                   .tenants = {},
                   .plans = plans_.report(),
                   .artifacts = artifacts_.stats(),
                   .tiers = house_.device.tier_report(),
                   .queued_jobs = admission_.jobs(),
                   .refusals = admission_.refusals(),
                   .lockstep = runner_.lockstep_stats()};
  look_at_tenants(out, now);
  return out;
}

void Server::look_at_tenants(ServerReport& out, uint64_t now) {
  std::map<std::string_view, TenantReport> tenants;
  for (const Account* account : Account::all()) {
    tenants[account->tenant()] = report_of(*account);
  }
  for (const auto& [name, settings] : tenants_) {
    const auto at = tenants.find(name);
    if (at == tenants.end()) continue;
    at->second.terms = settings.terms;
    at->second.sessions_max = settings.sessions_max;
    at->second.rates = settings.rates;
    at->second.rate_refusals = admission_.queue(name).rate_refusals;
  }
  for (const Runner::TenantUse& use : runner_.tenant_uses()) {
    if (const auto at = tenants.find(use.tenant); at != tenants.end()) {
      at->second.used_ns = use.used_ns;
      at->second.all_jobs = use.jobs;
    }
  }
  for (const auto& [id, session] : sessions_) {
    if (session->closed()) continue;
    SessionReport each = session->look(now);
    if (const auto at = tenants.find(each.tenant); at != tenants.end()) at->second.add(each);
    out.sessions.push_back(std::move(each));
  }
  std::ranges::sort(out.sessions, {}, &SessionReport::session);
  for (auto& [name, tenant] : tenants) out.tenants.push_back(std::move(tenant));
}

Result<ServerReport> Server::look_after(std::function<void()> task,
                                        std::chrono::milliseconds patience) {
  struct Mail {  // Outlives whoever waits too short.
    Mutex mutex;
    std::condition_variable_any arrived;
    std::optional<ServerReport> report GUARDED_BY(mutex);
  };
  const auto mail = std::make_shared<Mail>();
  post([this, mail, task = std::move(task)] {
    task();
    ServerReport report = look();
    MutexLock lock(mail->mutex);
    mail->report = std::move(report);
    mail->arrived.notify_one();
  });
  const auto until = std::chrono::steady_clock::now() + patience;
  MutexLock lock(mail->mutex);
  while (!mail->report) {
    if (mail->arrived.wait_until(mail->mutex, until) == std::cv_status::timeout) break;
  }
  if (mail->report) return std::move(*mail->report);
  return Error{ErrorCode::kDeadline, "the server's I/O thread did not answer within " +
                                         std::to_string(patience.count()) + " ms"};
}

Result<ServerReport> Server::report(std::chrono::milliseconds patience) {
  return look_after([] {}, patience);
}

Result<ServerReport> Server::drain(std::chrono::milliseconds patience) {
  return look_after([this] { begin_drain(); }, patience);
}

Result<ServerReport> Server::set_policy(std::string_view name, std::chrono::milliseconds patience) {
  DJINN_TRY(auto policy, sched::make_policy(name));
  // A task is copied, and a policy cannot be.
  const auto next = std::make_shared<std::unique_ptr<sched::Policy>>(std::move(policy));
  return look_after(
      [this, next] {
        spdlog::info("policy {} instead of {}", (*next)->name(), runner_.policy());
        runner_.set_policy(std::move(*next));
      },
      patience);
}

Result<ServerReport> Server::change_tenants(std::string changes,
                                            std::chrono::milliseconds patience) {
  const auto refused = std::make_shared<std::optional<Error>>();
  DJINN_TRY(auto report, look_after(
                             [this, refused, changes = std::move(changes)] {
                               const auto changed = change_tenants(changes);
                               if (!changed) *refused = changed.error();
                             },
                             patience));
  if (*refused) return **refused;
  return report;
}

Result<> Server::change_tenants(const std::string& changes) {
  DJINN_TRY(auto tenants, changed_tenants(tenants_, changes));
  if (options_.check_tenants) DJINN_CHECK(options_.check_tenants(tenants));
  for (const auto& [name, settings] : tenants) {
    const auto was = tenants_.find(name);
    if (was != tenants_.end() && was->second == settings) continue;
    spdlog::info("tenant {} was changed: {}", name, to_toml({{name, settings}}));
  }
  set_tenants(std::move(tenants));
  return Unit{};
}

}  // namespace djinn::server
