// SPDX-License-Identifier: Apache-2.0
// Server: accepts connections, keeps their sessions, and turns the loop they live on.
//
// One thread (whoever calls `run`) does all I/O and decoding; jobs run on the Runner's thread, tiny
// ones here. Ownership: borrows the loop and the device; owns everything else.
// Threading: `run` and what it calls belong to one thread; `stop` may be called from anywhere.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "serialization/base/limits.h"
#include "serialization/base/mutex.h"
#include "serialization/transport/connection.h"
#include "server/memory/artifact_store.h"
#include "server/report.h"
#include "server/runner.h"
#include "server/session.h"
#include "server/session/admission.h"
#include "server/session/plan_cache.h"
#include "server/settings/access.h"
#include "server/settings/tenants.h"

namespace djinn::server {

struct ServerOptions {
  Access access;
  TenantTable tenants = {};
  // Whether the device can keep to them; kInvalid says why not.
  std::function<Result<>(const TenantTable& tenants)> check_tenants = {};
  uint64_t artifact_cache_bytes = uint64_t{4} << 30;  // Kept though nobody uses them.
  size_t sessions_max = kSessionsMax;
  uint64_t queue_max = 16384;                 // Jobs that wait, of all sessions.
  std::string policy = "semantic";            // one of sched::policy_names()
  uint64_t chunk_ns = 1'000'000;              // A job gives way after so long; 0: never.
  size_t lockstep = 1;                        // So many jobs run together at most.
  std::shared_ptr<DiskCache> disk = nullptr;  // Null: artifacts end with the server.
  std::vector<std::string> model_dirs = {};   // Folders of .safetensors files,
  std::vector<std::string> pins = {};         // and those of them that are loaded now, and kept.
};

class Server {
 public:
  Server(transport::Loop& loop, Device& device, ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // The address that was bound, with its port.
  Result<transport::Address> listen(const transport::Address& address);

  // Serves until it is told to stop and has said goodbye to everyone.
  Result<> run();

  // Stops accepting, finishes queued jobs (at most kDrainNs), says goodbye; the second call ends
  // `run` at once. Any thread; async-signal-safe.
  void stop();

  // The same without haste: jobs that it has end, however long they take, and whoever comes is
  // told that it drains; when nobody is left, it stops. What is left to do now, or kDeadline, as
  // `report`, and it drains all the same. Any other thread.
  Result<ServerReport> drain(std::chrono::milliseconds patience);

  // Who runs next is decided so from the next decision on; no job is lost. kInvalid names the
  // policies there are; kDeadline as `report`: it is exchanged later. Any other thread.
  Result<ServerReport> set_policy(std::string_view name, std::chrono::milliseconds patience);

  // What some tenants may have from now on, as changed_tenants. Nothing is changed if it is
  // kInvalid; kDeadline as `report`: it may be changed later. Any other thread.
  Result<ServerReport> change_tenants(std::string changes, std::chrono::milliseconds patience);

  // Who may come, and what tenants may have, from now on; sessions that are there go on. Without
  // tenants those that are there stay as they are. Any thread.
  void change(std::optional<TenantTable> tenants, Access access);

  // There may be other files in the folders of models now. Any thread.
  void look_for_models() { artifacts_.look_again(); }

  // Nothing is left to do: no session, and no job of one that is gone. The thread of `run`.
  [[nodiscard]] bool idle();

  // What it does now. kDeadline: the thread of `run` did not answer in time. Any other thread.
  [[nodiscard]] Result<ServerReport> report(std::chrono::milliseconds patience);

  // -- for tests; the thread of `run`, or when it does not run
  [[nodiscard]] size_t sessions() const { return sessions_.size(); }
  [[nodiscard]] ArtifactStore& artifacts() { return artifacts_; }
  // Runs the function on the thread of `run`. Any thread.
  void post(std::function<void()> task);
  [[nodiscard]] size_t session_bytes() const;

 private:
  void set_tenants(TenantTable tenants);
  Result<> change_tenants(const std::string& changes);
  [[nodiscard]] Result<> may_open(std::string_view tenant);
  void accept(std::unique_ptr<transport::Connection> connection, bool local);
  Result<> turn();
  void take_reports();
  void run_posted();
  void tick(uint64_t now);
  void trim(uint64_t now, bool restless);
  void begin_drain();
  void begin_stop();
  [[nodiscard]] bool drained();
  [[nodiscard]] ServerReport look();
  void look_at_tenants(ServerReport& out, uint64_t now);
  // On the thread of `run`: `task`, and a look.
  Result<ServerReport> look_after(std::function<void()> task, std::chrono::milliseconds patience);
  [[nodiscard]] std::chrono::nanoseconds patience() const;
  [[nodiscard]] uint64_t tick_ns() const;

  transport::Loop& loop_;
  const ServerOptions options_;
  Access access_;
  TenantTable tenants_;
  enum class Stage : uint8_t {
    kServing,
    kDraining,  // Whoever comes is sent away, and who has nothing to do; jobs end.
    kStopping   // Nobody can come any more, and the jobs' time is bounded.
  };
  std::atomic<int> stops_ = 0;
  Stage stage_ = Stage::kServing;
  const uint64_t born_ns_;
  uint64_t stop_until_ns_ = 0;
  uint64_t next_tick_ns_ = 0;
  bool restless_ = false;  // Somebody was at the last tick.
  uint64_t trim_at_ns_ = UINT64_MAX;
  uint64_t next_session_ = 1;

  Mutex posted_mutex_;
  std::vector<std::function<void()>> posted_ GUARDED_BY(posted_mutex_);

  Admission admission_;
  PlanCache plans_;
  ArtifactStore artifacts_;
  Runner runner_;
  House house_;
  std::vector<Report> reports_;
  std::vector<std::unique_ptr<transport::Loop::Listener>> listeners_;
  std::unordered_map<SessionId, std::unique_ptr<Session>> sessions_;  // First to die.
};

}  // namespace djinn::server
