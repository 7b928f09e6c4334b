// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "scheduler/policy.h"
#include "server/clock.h"
#include "server/memory/account.h"

namespace djinn::server {
namespace {

constexpr uint64_t kTickNs = 1'000'000'000;    // While someone is restless,
constexpr uint64_t kDrainTickNs = 50'000'000;  // and while all are asked to go.
constexpr size_t kTurnedAwayMax = 64;          // Connections that are told that there are too many.
constexpr uint64_t kTrimAfterNs = 3'000'000'000;  // Behind the last that ended or was packed.
constexpr std::chrono::nanoseconds kForever{-1};

bool is_pinned(const ServerOptions& options, const std::string& path) {
  return std::ranges::any_of(options.model_dirs, [&](const std::string& folder) {
    return std::ranges::any_of(options.pins, [&](const std::string& file) {
      return path == (std::filesystem::path(folder) / file).native();
    });
  });
}

void say_found(const std::string& path, const Result<std::vector<WantedArtifact>>& tensors) {
  if (!tensors) {
    spdlog::warn("model {} is left out: it {}", path, tensors.error().message);
    return;
  }
  uint64_t bytes = 0;
  for (const WantedArtifact& each : *tensors) bytes += each.bytes;
  spdlog::info("model {}: {} tensors, {} bytes, which no client need send", path, tensors->size(),
               bytes);
}

void say_pinned(const std::string& path, size_t missing) {
  if (missing == 0) {
    spdlog::info("model {} is in memory, and stays there", path);
  } else {
    spdlog::warn(
        "model {} is in memory but for {} of its tensors: there was no room, or the file "
        "has changed",
        path, missing);
  }
}

// `options` outlive the store.
ArtifactDisk disk_of(const ServerOptions& options, Device& device) {
  return {.cache = options.disk,
          .model_folders = options.model_dirs,
          .pins = [&options](const std::string& path) { return is_pinned(options, path); },
          .on_model_file = say_found,
          .on_pinned = say_pinned,
          .stage = [&device](uint64_t bytes,
                             std::string_view tenant) { return device.stage(bytes, tenant); }};
}

}  // namespace

Server::Server(transport::Loop& loop, Device& device, ServerOptions options)
    : loop_(loop),
      options_(std::move(options)),
      access_(options_.access),
      born_ns_(now_ns()),
      admission_(options_.queue_max),
      plans_(device),
      artifacts_(disk_of(options_, device), options_.artifact_cache_bytes),
      runner_(device, [&loop] { loop.wake(); }, sched::make_policy(options_.policy).value(),
              {.chunk_ns = options_.chunk_ns, .lockstep = options_.lockstep}),
      house_{.device = device,
             .runner = runner_,
             .artifacts = artifacts_,
             .plans = plans_,
             .admission = admission_,
             .access = access_,
             .may_open = [this](std::string_view tenant) { return may_open(tenant); },
             .loop = loop,
             .closed = [this] { next_tick_ns_ = 0; },  // Who is gone is forgotten at once.
             .refuse_upload =
                 [this](SessionId session, UploadId upload) {
                   post([this, session, upload] {
                     const auto at = sessions_.find(session);
                     if (at != sessions_.end()) at->second->upload_refused(upload);
                   });
                 },
             .loaded =
                 [this](SessionId session, std::vector<std::shared_ptr<Buffer>> artifacts) {
                   post([this, session, artifacts = std::move(artifacts)]() mutable {
                     const auto at = sessions_.find(session);
                     if (at != sessions_.end()) at->second->loaded(artifacts);
                   });
                 }} {
  device.set_reclaim([this](uint64_t bytes) { return artifacts_.evict(bytes); });
  if (!options_.pins.empty()) {  // They may be larger than what a tenant may have.
    for (const Tier tier : {Tier::kDevice, Tier::kHost}) Account::of(kOperator).set_limit(tier, 0);
  }
  set_tenants(options_.tenants);
}

Server::~Server() {
  house_.device.set_reclaim(nullptr);
  listeners_.clear();
  sessions_.clear();
}

Result<transport::Address> Server::listen(const transport::Address& address) {
  DJINN_TRY(auto listener,
            loop_.listen(address, [this, local = address.is_local()](auto connection) {
              accept(std::move(connection), local);
            }));
  const transport::Address bound = listener->address();
  listeners_.push_back(std::move(listener));
  return bound;
}

void Server::set_tenants(TenantTable tenants) {
  for (const auto& [name, was] : tenants_) tenants.try_emplace(name);  // Else what it had stays.
  const uint64_t now = now_ns();
  for (const auto& [name, tenant] : tenants) {
    const auto was = tenants_.find(name);
    if (was != tenants_.end() && was->second == tenant) continue;
    runner_.set_terms(name, tenant.terms);
    Admission::Queue& queue = admission_.queue(name);
    queue.jobs_max = tenant.queue_max;
    queue.best_effort = tenant.terms.ceiling == sched::Class::kBestEffort;
    queue.rates.set(tenant.rates, now);
    Account& account = Account::of(name);
    account.set_limit(Tier::kDevice, tenant.device_memory_bytes);
    account.set_limit(Tier::kHost, tenant.host_memory_bytes);
  }
  tenants_ = std::move(tenants);
}

void Server::change(std::optional<TenantTable> tenants, Access access) {
  post([this, tenants = std::move(tenants), access = std::move(access)]() mutable {
    access_ = std::move(access);
    if (tenants) set_tenants(std::move(*tenants));
  });
}

Result<> Server::may_open(std::string_view tenant) {
  if (stage_ != Stage::kServing) {
    ++admission_.refusals().draining;
    return Error{ErrorCode::kUnavailable,
                 "hello: the server drains: it finishes the jobs that it has, takes no others, and "
                 "ends; use another one, or come again when it is back"};
  }
  const auto at = tenants_.find(tenant);
  if (at == tenants_.end() || at->second.sessions_max == 0) return Unit{};
  const auto open = std::ranges::count_if(sessions_, [&](const auto& entry) {
    return entry.second->open() && entry.second->tenant() == tenant;
  });
  const uint32_t most = at->second.sessions_max;
  if (std::cmp_less(open, most)) return Unit{};
  ++admission_.refusals().tenant_sessions;
  return Error{ErrorCode::kExhausted,
               "hello: tenant " + std::string(tenant) + " has " + std::to_string(open) +
                   " sessions at a time and may have " + std::to_string(most) +
                   ": end one of them, or ask the operator to raise \"sessions\" of [tenants." +
                   std::string(tenant) + "] in the server's config file"};
}

void Server::accept(std::unique_ptr<transport::Connection> connection, bool local) {
  if (sessions_.size() >= options_.sessions_max + kTurnedAwayMax) return;
  if (!local) {
    const auto peer = transport::parse_address(connection->peer());
    local = peer && peer->is_local();
  }
  const bool full = sessions_.size() >= options_.sessions_max;
  const SessionId id{next_session_++};
  auto session = std::make_unique<Session>(id, Session::Options{.local = local, .full = full},
                                           std::move(connection), house_);
  loop_.start(session->connection(), *session);
  sessions_.emplace(id, std::move(session));
}

Result<> Server::run() {
  while (true) {
    DJINN_TRY([[maybe_unused]] const Unit done, turn());
    const int stops = stops_.load();
    if (stops > 1) return Unit{};
    if (stops > 0) begin_stop();
    if (stage_ == Stage::kStopping && (idle() || now_ns() >= stop_until_ns_)) return Unit{};
  }
}

void Server::stop() {
  stops_.fetch_add(1);
  loop_.wake();
}

bool Server::idle() { return sessions_.empty() && runner_.idle(); }

void Server::begin_drain() {
  if (stage_ != Stage::kServing) return;
  spdlog::info("draining: {} sessions, {} jobs", sessions_.size(), admission_.jobs());
  stage_ = Stage::kDraining;
  next_tick_ns_ = 0;
  for (const auto& [id, session] : sessions_) session->drain();
}

void Server::begin_stop() {
  if (stage_ == Stage::kStopping) return;
  begin_drain();
  spdlog::info("stopping: {} sessions, {} jobs", sessions_.size(), admission_.jobs());
  stage_ = Stage::kStopping;
  stop_until_ns_ = now_ns() + kDrainNs;
  next_tick_ns_ = 0;
  listeners_.clear();
  for (const auto& [id, session] : sessions_) session->drain();  // Who came meanwhile, too.
}

bool Server::drained() {
  return runner_.idle() &&
         std::ranges::none_of(sessions_, [](const auto& entry) { return entry.second->open(); });
}

Result<> Server::turn() {
  const auto calls = loop_.run_once(patience());
  if (!calls && calls.error().code != ErrorCode::kCancelled) return calls.error();
  take_reports();
  run_posted();
  const uint64_t now = now_ns();
  if (calls && *calls > 0) next_tick_ns_ = std::min(next_tick_ns_, now + tick_ns());
  if (now >= next_tick_ns_) tick(now);
  return Unit{};
}

std::chrono::nanoseconds Server::patience() const {
  if (next_tick_ns_ == UINT64_MAX) return kForever;
  const uint64_t now = now_ns();
  return std::chrono::nanoseconds(next_tick_ns_ > now ? next_tick_ns_ - now : 0);
}

uint64_t Server::tick_ns() const { return stage_ == Stage::kServing ? kTickNs : kDrainTickNs; }

void Server::take_reports() {
  runner_.take_reports(reports_);
  for (Report& report : reports_) {
    const auto at = sessions_.find(report.session);
    if (at != sessions_.end()) at->second->report(std::move(report));
  }
  reports_.clear();
}

void Server::run_posted() {
  std::vector<std::function<void()>> posted;
  {
    MutexLock lock(posted_mutex_);
    posted.swap(posted_);
  }
  for (const auto& task : posted) task();
}

void Server::post(std::function<void()> task) {
  {
    MutexLock lock(posted_mutex_);
    posted_.push_back(std::move(task));
  }
  loop_.wake();
}

void Server::tick(uint64_t now) {
  if (std::erase_if(sessions_, [](const auto& entry) { return entry.second->closed(); }) > 0) {
    trim_at_ns_ = now + kTrimAfterNs;
  }
  if (stage_ == Stage::kDraining && drained()) begin_stop();
  bool restless = stage_ != Stage::kServing;
  for (const auto& [id, session] : sessions_) {
    session->tick(now);
    restless = restless || session->restless();
  }
  if (!restless && std::exchange(restless_, false)) trim_at_ns_ = now + kTrimAfterNs;
  restless_ = restless;
  if (now >= trim_at_ns_) trim(now, restless);
  next_tick_ns_ = restless ? now + tick_ns() : trim_at_ns_;  // Whatever arrives sets it again.
}

// What sessions allocated that have ended, or were packed, lies free between what lives on, and the
// allocator keeps it: after a thousand sessions five times what the server began with. Not while
// somebody waits.
void Server::trim(uint64_t now, bool restless) {
  trim_at_ns_ = restless ? now + kTrimAfterNs : UINT64_MAX;
  if (!restless) ::malloc_trim(0);
}

size_t Server::session_bytes() const {
  size_t total = 0;
  for (const auto& [id, session] : sessions_) total += session->bytes();
  return total;
}

}  // namespace djinn::server
