// SPDX-License-Identifier: Apache-2.0
#include "tests/support/wire_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "serialization/base/limits.h"
#include "serialization/graph/plan_reader.h"

namespace djinn::testing {
namespace {

using transport::FrameKind;

void must(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "wire client: %s\n", what);
  std::abort();
}

int connect_to(const transport::Address& address) {
  if (address.kind == transport::Address::Kind::kUnix) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    address.host.copy(to.sun_path, sizeof(to.sun_path) - 1);
    must(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0, "cannot connect");
    return fd;
  }
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(address.port);
  must(::inet_pton(AF_INET, address.host.c_str(), &to.sin_addr) == 1, "not an IPv4 address");
  must(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0, "cannot connect");
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

constexpr std::array<uint8_t, 16> kSchemaHash = {0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
                                                 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab};

}  // namespace

std::vector<float> WireFrame::floats() const {
  std::vector<float> out(payload.size() / sizeof(float));
  std::memcpy(out.data(), payload.data(), out.size() * sizeof(float));
  return out;
}

WireClient::WireClient(const transport::Address& address) : fd_(connect_to(address)) {
  const timeval timeout{.tv_sec = kPatience.count() / 1000, .tv_usec = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
}

WireClient::~WireClient() { close(); }

void WireClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

// -- frames

void WireClient::send_raw(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;  // The peer hung up; what it said before is still to be read.
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
}

void WireClient::send_frame(FrameKind kind, std::span<const std::byte> message,
                            std::span<const std::byte> payload) {
  const auto header = transport::encode(transport::FrameHeader{
      .kind = kind, .message_bytes = message.size(), .payload_bytes = payload.size()});
  std::vector<std::byte> head(header.begin(), header.end());
  head.insert(head.end(), message.begin(), message.end());
  const std::array<std::byte, 8> zeros{};
  const auto tail = std::span(zeros).first(transport::padding(payload.size()));
  if (payload.size() < 4096) {
    head.insert(head.end(), payload.begin(), payload.end());
    head.insert(head.end(), tail.begin(), tail.end());
    send_raw(head);
    return;
  }
  send_raw(head);
  send_raw(payload);
  send_raw(tail);
}

// Small reads come from a buffer, so that a frame is one system call. A wait may be interrupted: a
// ring that this thread once used has ended.
bool WireClient::read_all(std::span<std::byte> to) {
  while (!to.empty()) {
    const size_t here = std::min(to.size(), buffered_.size());
    std::ranges::copy(buffered_.first(here), to.begin());
    buffered_ = buffered_.subspan(here);
    to = to.subspan(here);
    if (to.empty()) return true;
    const bool direct = to.size() >= buffer_.size();
    const ssize_t got =
        ::recv(fd_, direct ? to.data() : buffer_.data(), direct ? to.size() : buffer_.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    if (direct) {
      to = to.subspan(static_cast<size_t>(got));
    } else {
      buffered_ = std::span<const std::byte>(buffer_).first(static_cast<size_t>(got));
    }
  }
  return true;
}

std::optional<WireFrame> WireClient::receive(std::chrono::milliseconds patience) {
  if (buffered_.empty() && patience != kPatience) {  // Else the socket's own timeout does it.
    pollfd poll{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&poll, 1, static_cast<int>(patience.count())) != 1) return std::nullopt;
  }
  transport::FrameHeaderBytes bytes;
  if (!read_all(bytes)) return std::nullopt;
  const auto header = transport::decode(bytes);
  must(header.has_value(), "a bad header from the server");
  WireFrame frame;
  frame.kind = header->kind;
  frame.message.resize(header->message_bytes / 8);
  frame.payload.resize(header->payload_bytes + transport::padding(header->payload_bytes));
  if (!read_all(std::as_writable_bytes(std::span(frame.message))) || !read_all(frame.payload)) {
    return std::nullopt;
  }
  frame.payload.resize(header->payload_bytes);
  return frame;
}

std::optional<WireFrame> WireClient::receive_answer() {
  while (true) {
    auto frame = receive();
    if (!frame || (frame->kind != FrameKind::kHeartbeat && frame->kind != FrameKind::kAck)) {
      return frame;
    }
  }
}

WireClient::Ending WireClient::read_ending() {
  while (auto frame = receive()) {
    if (frame->kind != FrameKind::kGoodbye) continue;
    const auto goodbye = frame->as<codec::Goodbye>();
    return {.code = static_cast<ErrorCode>(goodbye.code), .message = std::string(goodbye.message)};
  }
  return {};
}

bool WireClient::closed_by_peer(std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < until) {
    pollfd poll{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&poll, 1, 10) != 1) continue;
    std::array<std::byte, 4096> bytes;
    if (::recv(fd_, bytes.data(), bytes.size(), 0) <= 0) return true;
  }
  return false;
}

// -- the usual conversation

codec::Hello WireClient::usual_hello() {
  return {.token = {}, .app = "wire_client", .libtorch = "0.0.0", .schema_hash = kSchemaHash};
}

std::optional<codec::HelloReply> WireClient::hello(codec::Hello hello) {
  send(FrameKind::kHello, hello);
  const auto frame = receive();
  if (!frame || frame->kind != FrameKind::kHello) return std::nullopt;
  auto reply = frame->as<codec::HelloReply>();
  artifact_key_.assign(reply.artifact_key.begin(), reply.artifact_key.end());
  reply.artifact_key = {};  // They lie in the frame.
  reply.libtorch = {};
  reply.device = {};
  return reply;
}

codec::StatsReply WireClient::stats() {
  send(FrameKind::kStats, codec::StatsRequest{.tag = 1});
  while (auto frame = receive()) {
    if (frame->kind == FrameKind::kStats) return frame->as<codec::StatsReply>();
  }
  return {};
}

uint32_t WireClient::submit(const Record& record, std::span<const std::byte> inline_payload) {
  writer_.begin(base_, next_upload);
  record(writer_);
  base_ = next_storage;
  const graph::Flush flush = writer_.finish();
  auto [at, fresh] = plans_.try_emplace(flush.hash);
  Known& known = at->second;
  if (fresh) {
    auto plan = graph::read_plan(flush.structure);
    must(plan.has_value(), "a plan that cannot be read");
    known.slot = static_cast<uint16_t>(next_slot_++ % kPlanSlotsMax);
    known.coder = std::make_unique<graph::NumbersCoder>(
        std::make_shared<const graph::Plan>(std::move(*plan)));
  }
  next_upload += known.coder->plan().uploads;
  auto numbers = std::make_shared<const graph::Numbers>(flush.numbers.begin(), flush.numbers.end());
  graph::ByteString patch;
  known.coder->encode(numbers, patch);
  const uint32_t job = next_job++;
  if (!fresh && patch.empty() && inline_payload.empty() && as_steps && !bend_job) {
    send(FrameKind::kStep, codec::Step{.job = job,
                                       .checksum = graph::checksum(*numbers),
                                       .plan_slot = known.slot,
                                       .epoch = epoch});
    return job;
  }
  codec::Job message{.job = job,
                     .checksum = graph::checksum(*numbers),
                     .plan_slot = known.slot,
                     .epoch = epoch,
                     .patch = patch,
                     .plan = fresh ? flush.structure : std::span<const uint8_t>()};
  if (bend_job) bend_job(message);
  send(FrameKind::kJob, message, inline_payload);
  return job;
}

std::vector<float> WireClient::fetch(const Record& record,
                                     std::span<const std::byte> inline_payload) {
  const uint32_t job = submit(record, inline_payload);
  const auto frame = receive_answer();
  if (!frame || frame->kind != FrameKind::kFetched || frame->as<codec::Fetched>().job != job) {
    return {};
  }
  return frame->floats();
}

graph::OpName& WireClient::op(const std::string& name) {
  auto& at = ops_[name];
  if (at == nullptr) at = std::make_unique<graph::OpName>(name);
  return *at;
}

// -- recording

Tensor make_tensor(WireClient& client, int64_t size) {
  auto storage = std::make_unique<graph::StorageRecord>();
  storage->id = client.next_storage++;
  storage->bytes = static_cast<uint64_t>(size) * sizeof(float);
  return {.storage = std::move(storage), .size = size};
}

void record_operand(graph::PlanWriter& writer, Tensor& tensor) {
  const std::array<int64_t, 1> sizes{tensor.size};
  const std::array<int64_t, 1> strides{1};
  writer.operand(*tensor.storage, graph::Dtype::kFloat32, sizes, strides, 0);
}

void record_upload(graph::PlanWriter& writer, Tensor& tensor, graph::UploadForm form) {
  writer.upload(form, tensor.storage->bytes);
  record_operand(writer, tensor);
}

void record_fetch(graph::PlanWriter& writer, Tensor& tensor) {
  writer.fetch();
  record_operand(writer, tensor);
}

void record_add(WireClient& client, graph::PlanWriter& writer, Tensor& a, Tensor& b, Tensor& out) {
  writer.op(client.op("aten::add.Tensor"), 2);
  writer.tensor();
  record_operand(writer, a);
  writer.tensor();
  record_operand(writer, b);
  writer.results(1);
  writer.tensor();
  record_operand(writer, out);
}

void record_fail(WireClient& client, graph::PlanWriter& writer, Tensor& a, Tensor& out) {
  writer.op(client.op("test::fail"), 1);
  writer.tensor();
  record_operand(writer, a);
  writer.results(1);
  writer.tensor();
  record_operand(writer, out);
}

void record_sleep(WireClient& client, graph::PlanWriter& writer, int64_t milliseconds) {
  writer.op(client.op("test::sleep"), 1);
  writer.integer(milliseconds);
  writer.results(0);
}

std::vector<std::byte> to_bytes(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  std::vector<std::byte> out(bytes.begin(), bytes.end());
  out.resize((out.size() + 7) / 8 * 8);
  return out;
}

}  // namespace djinn::testing
