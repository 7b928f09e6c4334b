// SPDX-License-Identifier: Apache-2.0
#include "client/torch/remote_device.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include <c10/util/Exception.h>
#include <torch/version.h>

#include "client/session/hash_cache.h"
#include "client/torch/dtypes.h"
#include "client/torch/generator.h"
#include "operators/allow_list.h"
#include "operators/census.h"
#include "serialization/base/limits.h"

namespace djinn::client {
namespace {

std::atomic<bool> forked{false};
thread_local c10::DeviceIndex current_device = 0;

// Leaked: tensors of static storage duration are dropped after main.
std::vector<RemoteDevice*>& devices() {
  static auto* const all = new std::vector<RemoteDevice*>;
  return *all;
}
std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  size_t from = 0;
  while (from <= list.size()) {
    const size_t comma = std::min(list.find(',', from), list.size());
    if (comma > from) out.push_back(list.substr(from, comma - from));
    from = comma + 1;
  }
  return out;
}

const char* environment(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read only
  return value != nullptr && *value != '\0' ? value : nullptr;
}

std::chrono::milliseconds milliseconds(const char* name, std::chrono::milliseconds otherwise) {
  const char* const text = environment(name);
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  TORCH_CHECK(*end == '\0' && value > 0, "djinn: ", name, "=", text,
              " is not a positive number of milliseconds");
  return std::chrono::milliseconds(value);
}

// What client/djinn.h and the wire call the same has the same value.
static_assert(static_cast<uint8_t>(Phase::kLoad) == kJobPhaseMax);
static_assert(static_cast<uint8_t>(Phase::kTraining) == static_cast<uint8_t>(JobPhase::kTraining));
static_assert(static_cast<uint8_t>(Priority::kBestEffort) == kUrgencyMax);
JobPhase job_phase(Phase phase) { return static_cast<JobPhase>(phase); }
Urgency urgency_of(Priority priority) { return static_cast<Urgency>(priority); }

// The enumerator whose text the variable has.
template <typename Enum, typename Text>
Enum word(const char* name, uint8_t max, Enum otherwise, const Text& text) {
  const char* const given = environment(name);
  if (given == nullptr) return otherwise;
  std::string all;
  for (uint8_t value = 1; value <= max; ++value) {
    if (text(static_cast<Enum>(value)) == given) return static_cast<Enum>(value);
    all.append(" ").append(text(static_cast<Enum>(value)));
  }
  TORCH_CHECK(false, "djinn: ", name, "=", given, " is none of", all);
}

uint32_t deadline_ms(std::chrono::milliseconds deadline) {
  TORCH_CHECK(deadline.count() >= 0 && deadline.count() <= kDeadlineMsMax, "djinn: a deadline of ",
              deadline.count(), " ms is not between 0 (none) and ", kDeadlineMsMax);
  return static_cast<uint32_t>(deadline.count());
}

// Fields that were left at their defaults take what the environment says.
Options with_environment(Options options) {
  const Options defaults;
  if (options.server.empty() && environment("DJINN_SERVER") != nullptr) {
    options.server = environment("DJINN_SERVER");
  }
  if (options.token.empty() && environment("DJINN_TOKEN") != nullptr) {
    options.token = environment("DJINN_TOKEN");
  }
  if (options.connect_timeout == defaults.connect_timeout) {
    options.connect_timeout = milliseconds("DJINN_CONNECT_TIMEOUT_MS", defaults.connect_timeout);
  }
  if (options.timeout == defaults.timeout) {
    options.timeout = milliseconds("DJINN_TIMEOUT_MS", defaults.timeout);
  }
  if (options.phase == defaults.phase) {
    options.phase = word("DJINN_PHASE", kJobPhaseMax, defaults.phase,
                         [](Phase each) { return to_text(job_phase(each)); });
  }
  if (options.priority == defaults.priority) {
    options.priority = word("DJINN_PRIORITY", kUrgencyMax, defaults.priority,
                            [](Priority each) { return to_text(urgency_of(each)); });
  }
  if (options.deadline == defaults.deadline) {
    options.deadline = milliseconds("DJINN_DEADLINE_MS", defaults.deadline);
  }
  const char* const share = environment("DJINN_SHARE");
  if (share != nullptr && std::strcmp(share, "0") == 0) options.share = false;
  (void)deadline_ms(options.deadline);
  return options;
}

std::string program_name() {
  char path[256] = {};
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  const std::string name = length > 0 ? std::string(path, static_cast<size_t>(length)) : "?";
  return name.substr(name.rfind('/') + 1) + " (pid " + std::to_string(getpid()) + ")";
}

// Asked only by a server whose operators are not ours.
std::vector<OperatorSchema> operator_schemas() {
  std::vector<OperatorSchema> out;
  for (const std::string_view name : operators::allowed_operators()) {
    const auto op = operators::find_operator(name);
    if (op) out.push_back({.name = std::string(name), .hash = operators::schema_text_hash(*op)});
  }
  return out;
}

void print_stats() {
  for (size_t i = 0; i < devices().size(); ++i) {
    const Stats s = devices()[i]->stats();
    if (s.session == 0) continue;
    std::fprintf(stderr,
                 "{\"djinn\": %zu, \"server\": \"%s\", \"ops_recorded\": %lu, \"jobs\": %lu, "
                 "\"steps\": %lu, \"plans\": %lu, \"plan_bytes\": %lu, \"plan_ops\": %lu, "
                 "\"fetches\": %lu, \"bytes_sent\": %lu, \"bytes_received\": %lu, "
                 "\"upload_bytes\": %lu, \"shared_bytes\": %lu, \"hashed_bytes\": %lu, "
                 "\"copied_bytes\": %lu, \"system_calls\": %lu, \"shape_questions\": %lu}\n",
                 i, s.server.c_str(), s.ops_recorded, s.jobs, s.steps, s.plans, s.plan_bytes,
                 s.plan_ops, s.fetches, s.bytes_sent, s.bytes_received, s.upload_bytes,
                 s.shared_bytes, s.hashed_bytes, s.copied_bytes, s.system_calls, s.shape_questions);
  }
}

}  // namespace

std::recursive_mutex RemoteDevice::mutex_;

RemoteDevice::RemoteDevice(c10::DeviceIndex index, Options options)
    : index_(index), options_(std::move(options)), entries_max_(kOpsPerFlushMax) {
  begin_log();
}

void RemoteDevice::begin_log() { writer_.begin(next_storage_, next_upload_); }

void RemoteDevice::configure(const Options& given) {
  const Lock hold = lock();
  const Options options = with_environment(given);
  const auto servers = split(options.server);
  TORCH_CHECK(
      !servers.empty(),
      "djinn: no server is named. Set DJINN_SERVER=tcp://host:port (or unix:///path) in the "
      "environment, or call djinn::connect({.server = ...})");
  TORCH_CHECK(servers.size() <= 64, "djinn: more than 64 servers are named");
  static const bool once = [] {
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
    if (environment("DJINN_STATS") != nullptr) std::atexit(print_stats);
    return true;
  }();
  (void)once;
  for (size_t i = 0; i < servers.size(); ++i) {
    Options own = options;
    own.server = servers[i];
    if (i < devices().size()) {
      RemoteDevice& device = *devices()[i];
      device.options_ = own;
      device.session_.reset();
      device.generation_++;
      device.deferred_.clear();
      device.deferred_bytes_ = 0;
      device.inline_uploads_.clear();
      device.writer_ = {};
      device.begin_log();
    } else {
      devices().push_back(new RemoteDevice(static_cast<c10::DeviceIndex>(i), own));
    }
  }
}

c10::DeviceIndex RemoteDevice::count() noexcept {
  // Without the lock: called by the autograd engine and must not fail.
  if (!devices().empty()) return static_cast<c10::DeviceIndex>(devices().size());
  const char* const servers = environment("DJINN_SERVER");
  if (servers == nullptr) return 1;
  return static_cast<c10::DeviceIndex>(std::max<size_t>(1, split(servers).size()));
}

RemoteDevice& RemoteDevice::get(c10::DeviceIndex index) {
  const Lock hold = lock();
  check_usable();
  if (devices().empty()) configure({});
  if (index < 0) index = current_device;
  TORCH_CHECK(static_cast<size_t>(index) < devices().size(),
              "djinn: there is no device djinn:", static_cast<int>(index), "; DJINN_SERVER names ",
              devices().size(), " server(s)");
  return *devices()[static_cast<size_t>(index)];
}

RemoteDevice& RemoteDevice::current() { return get(current_device); }
c10::DeviceIndex RemoteDevice::current_index() { return current_device; }
void RemoteDevice::set_current_index(c10::DeviceIndex index) { current_device = index; }

void RemoteDevice::cancel_all() {
  for (RemoteDevice* const device : devices()) {
    if (device->session_ != nullptr) device->session_->cancel();
  }
}

void RemoteDevice::check_usable() {
  TORCH_CHECK(!forked,
              "djinn: the device cannot be used in a forked child process; start it with "
              "exec (multiprocessing: use spawn)");
}

void RemoteDevice::raise(const Error& error) {
  if (error.code == ErrorCode::kOutOfMemory) {
    TORCH_CHECK_WITH(OutOfMemoryError, false, error.message);
  }
  TORCH_CHECK(false, error.message);
}

// -- storages

StorageContext* RemoteDevice::new_context(size_t bytes) {
  const Lock hold = lock();
  auto* const context = new StorageContext;
  context->record.id = next_storage_++;
  context->record.bytes = bytes;
  context->device = this;
  context->generation = generation_;
  return context;
}

void RemoteDevice::forget(StorageContext* context) noexcept {
  if (!forked) {
    const Lock hold = lock();
    RemoteDevice& device = *context->device;
    if (context->generation == device.generation_) device.writer_.forget(context->record);
  }
  delete context;
}

void RemoteDevice::record_resize(StorageContext& context, size_t bytes) {
  const Lock hold = lock();
  check_session(context);
  // Known, or used in this flush: the server must hear of it. Otherwise nobody saw the old length.
  if (context.record.known || context.record.epoch != 0) {
    writer_.resize(context.record, bytes);
    entry_done();
  } else {
    context.record.bytes = bytes;
  }
}

// -- the log

void RemoteDevice::check_session(const StorageContext& context) const {
  TORCH_CHECK(context.generation == generation_, "djinn: the tensor belongs to a session with ",
              options_.server, " that is over");
}

void RemoteDevice::write_operand(StorageContext& context, c10::ScalarType type,
                                 c10::IntArrayRef sizes, c10::IntArrayRef strides, int64_t offset) {
  check_session(context);
  writer_.operand(context.record, to_wire(type), {sizes.data(), sizes.size()},
                  {strides.data(), strides.size()}, offset);
}

void RemoteDevice::write_operand(const at::Tensor& tensor) {
  write_operand(context_of(tensor), tensor.scalar_type(), tensor.sizes(), tensor.strides(),
                tensor.storage_offset());
}

void RemoteDevice::cut(std::span<PendingAnswer* const> answers) {
  if (writer_.empty() && answers.empty()) return;
  Session& to = session();
  if (said_.deadline_ms != told_deadline_ms_) send_hint(said_);
  if (!deferred_.empty()) {
    const auto sent = to.upload_artifacts(deferred_);
    deferred_.clear();
    deferred_bytes_ = 0;
    HashCache::instance().save();  // What was hashed for them.
    if (!sent) raise(sent.error());
  }
  const graph::Flush flush = writer_.finish();
  const auto sent = to.submit(flush, std::exchange(inline_uploads_, {}), answers);
  staged_bytes_ = 0;
  begin_log();
  if (!sent) raise(sent.error());
}

void RemoteDevice::before_random(const c10::GeneratorImpl& generator) {
  const auto* const remote = dynamic_cast<const RemoteGenerator*>(&generator);
  TORCH_CHECK(remote != nullptr, "djinn: the generator is not one of the device djinn");
  if (!remote->take_seeding(generation_)) return;
  writer_.seed(remote->id(), remote->current_seed());
}

// -- uploads

std::span<std::byte> RemoteDevice::inline_upload(size_t bytes) {
  const size_t at = inline_uploads_.size();
  inline_uploads_.resize(at + (bytes + 7) / 8);
  return std::as_writable_bytes(std::span(inline_uploads_).subspan(at)).first(bytes);
}

// Uploads of one flush are staged on the server until its job is there: one that is larger than
// what a server stages goes alone.
void RemoteDevice::make_room_for_upload(size_t bytes) {
  if (deferred_.size() + 1 >= kArtifactOffersMax) return cut({});
  const uint64_t so_far = staged_bytes_ + deferred_bytes_;
  if (so_far > 0 && so_far + bytes > kFileBytesPerFlushMax) cut({});
}

void RemoteDevice::defer_upload(UploadSource source) {
  deferred_bytes_ += source.bytes.size();
  deferred_.push_back(std::move(source));
}

void RemoteDevice::count_staged(size_t bytes) {
  staged_bytes_ += bytes;
  if (staged_bytes_ >= kUploadBytesPerFlushMax) cut({});
}

void RemoteDevice::connect() {
  auto opened =
      Session::open({.address = options_.server,
                     .token = options_.token,
                     .app = program_name(),
                     .libtorch_version = TORCH_VERSION,
                     .schema_hash = operators::schema_hash(operators::allowed_operators()),
                     .operators = operator_schemas,
                     .connect_timeout = options_.connect_timeout,
                     .silence_timeout = options_.timeout});
  if (!opened) raise(opened.error());
  auto session = std::move(opened).value();
  said_ = {.phase = job_phase(options_.phase),
           .urgency = urgency_of(options_.priority),
           .deadline_ms = deadline_ms(options_.deadline)};
  told_deadline_ms_ = said_.deadline_ms;
  if (said_.phase != JobPhase::kUnknown || said_.urgency != Urgency::kUnknown ||
      said_.deadline_ms != 0) {
    const auto hinted = session->hint(said_);
    if (!hinted) raise(hinted.error());
  }
  session_ = std::move(session);
}

Session& RemoteDevice::session() {
  check_usable();
  if (session_ == nullptr) connect();
  return *session_;
}

// -- waiting

void RemoteDevice::wait(PendingAnswer& answer) {
  std::shared_ptr<Session> session;
  {
    const Lock hold = lock();
    session = session_;
  }
  if (session == nullptr) raise({ErrorCode::kUnavailable, "djinn: the session is over"});
  const auto answered = session->wait(answer);
  if (!answered) raise(answered.error());
}

void RemoteDevice::fetch(const at::Tensor& tensor, std::span<std::byte> into) {
  PendingAnswer answer{.into = into, .bytes = {}, .error = {}, .done = false};
  {
    const Lock hold = lock();
    writer_.fetch();
    EntryGuard guard(writer_);
    write_operand(tensor);
    guard.written();
    ++ops_recorded_;
    PendingAnswer* const answers[] = {&answer};
    cut(answers);
  }
  wait(answer);
}

void RemoteDevice::flush() {
  const Lock hold = lock();
  cut({});
}

void RemoteDevice::hint(codec::Hint hint) {
  const Lock hold = lock();
  cut({});
  session();
  hint.deadline_ms = said_.deadline_ms;
  send_hint(hint);
}

void RemoteDevice::set_deadline(uint32_t deadline_ms) {
  const Lock hold = lock();
  cut({});
  session();
  said_.deadline_ms = deadline_ms;  // The server hears of it with the next job.
}

void RemoteDevice::send_hint(const codec::Hint& hint) {
  said_ = hint;
  said_.rest = Rest::kNone;
  said_.resume_ms = 0;
  told_deadline_ms_ = hint.deadline_ms;
  const auto sent = session_->hint(hint);
  if (!sent) raise(sent.error());
}

void RemoteDevice::synchronize() { (void)server_stats(); }

ServerStats RemoteDevice::server_stats() {
  std::shared_ptr<Session> session;
  {
    const Lock hold = lock();
    cut({});
    this->session();
    session = session_;
  }
  const auto reply = session->server_stats();
  if (!reply) raise(reply.error());
  return {.ops_executed = reply->ops_executed,
          .ops_failed = reply->ops_failed,
          .jobs_executed = reply->jobs_executed,
          .storages = reply->storages,
          .storage_bytes = reply->storage_bytes,
          .shared_bytes = reply->shared_bytes,
          .plans_built = reply->plans_built,
          .upload_bytes = reply->upload_bytes,
          .relayouts = reply->relayouts,
          .system_calls = reply->enters,
          .device_bytes = reply->device_bytes};
}

Stats RemoteDevice::stats() {
  const Lock hold = lock();
  Stats out;
  out.server = options_.server;
  out.ops_recorded = ops_recorded_;
  out.hashed_bytes = hashed_bytes;
  out.shape_questions = shape_questions;
  if (session_ == nullptr) return out;
  const SessionCounters counters = session_->counters();
  out.session = session_->id();
  out.jobs = counters.jobs;
  out.steps = counters.steps;
  out.plans = counters.plans;
  out.plan_bytes = counters.plan_bytes;
  out.plan_ops = counters.plan_ops;
  out.fetches = counters.answers;
  out.bytes_sent = counters.io.bytes_sent;
  out.bytes_received = counters.io.bytes_received;
  out.upload_bytes = counters.upload_bytes;
  out.shared_bytes = counters.shared_bytes;
  out.copied_bytes = counters.io.payload_bytes_copied;
  out.system_calls = counters.io.enters;
  out.resyncs = counters.resyncs;
  out.refusals = counters.refusals;
  return out;
}

}  // namespace djinn::client

namespace djinn {

using client::RemoteDevice;

void connect(const Options& options) {
  RemoteDevice::configure(options);
  for (c10::DeviceIndex i = 0; i < RemoteDevice::count(); ++i) {
    const auto hold = RemoteDevice::lock();
    RemoteDevice::get(i).session();
  }
}
void flush(int device) { RemoteDevice::get(static_cast<c10::DeviceIndex>(device)).flush(); }
void synchronize(int device) {
  RemoteDevice::get(static_cast<c10::DeviceIndex>(device)).synchronize();
}
void hint(Phase phase, std::optional<std::chrono::milliseconds> expected_resume, Priority priority,
          int device) {
  using std::chrono::milliseconds;
  const auto wire_phase = static_cast<uint8_t>(phase);
  const auto wire_priority = static_cast<uint8_t>(priority);
  TORCH_CHECK(wire_phase <= kJobPhaseMax && wire_priority <= kUrgencyMax,
              "djinn: hint: no such phase or priority");
  codec::Hint hint{.phase = client::job_phase(phase), .urgency = client::urgency_of(priority)};
  if (expected_resume == kSomeTime) {
    hint.rest = Rest::kOpen;
  } else if (expected_resume) {
    hint.rest = Rest::kUntil;
    const milliseconds within =
        std::clamp(*expected_resume, milliseconds(0), milliseconds(kResumeMsMax));
    hint.resume_ms = static_cast<uint32_t>(within.count());
  }
  RemoteDevice::get(static_cast<c10::DeviceIndex>(device)).hint(hint);
}
void set_deadline(std::chrono::milliseconds deadline, int device) {
  const uint32_t checked = client::deadline_ms(deadline);
  RemoteDevice::get(static_cast<c10::DeviceIndex>(device)).set_deadline(checked);
}
void cancel() { RemoteDevice::cancel_all(); }
Stats stats(int device) { return RemoteDevice::get(static_cast<c10::DeviceIndex>(device)).stats(); }
ServerStats server_stats(int device) {
  return RemoteDevice::get(static_cast<c10::DeviceIndex>(device)).server_stats();
}

}  // namespace djinn
