// SPDX-License-Identifier: Apache-2.0
#include "server/session/greeting.h"

#include <algorithm>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

constexpr size_t kTokenBytesMax = 4096;
constexpr size_t kVersionBytesMax = 64;

}  // namespace

Result<std::string> check_hello(const codec::Hello& hello, const Access& access, bool local) {
  if (hello.token.size() > kTokenBytesMax || hello.app.size() > kAppBytesMax ||
      hello.libtorch.size() > kVersionBytesMax ||
      hello.schema_hash.size() != codec::kSchemaHashBytes) {
    return Error{ErrorCode::kInvalid,
                 "hello: a field is too long, or the schema hash has not 16 bytes"};
  }
  if (hello.version_min > codec::kProtocolVersion || hello.version_max < codec::kProtocolVersion) {
    return Error{ErrorCode::kUnsupported,
                 "hello: the client speaks versions " + std::to_string(hello.version_min) + " to " +
                     std::to_string(hello.version_max) + " of the protocol, and the server " +
                     std::to_string(codec::kProtocolVersion)};
  }
  return access.tenant(hello.token, local);
}

codec::Message hello_reply(SessionId session, const codec::Hello& hello, const Device& device,
                           const ArtifactKey& key) {
  const std::string libtorch = device.libtorch_version();
  const std::string name = device.name();
  return codec::encode(codec::HelloReply{
      .version = codec::kProtocolVersion,
      .session = session.value,
      .libtorch = libtorch,
      .schemas_match = std::ranges::equal(device.schema_hash(), hello.schema_hash),
      .device = name,
      .plan_slots_max = kPlanSlotsMax,
      .plan_bytes_max = kPlanCacheBytesMax,
      .jobs_in_flight_max = kJobsInFlightMax,
      .staged_bytes_max = kStagedUploadBytesMax,
      .artifact_bytes_min = kArtifactBytesMin,
      .artifact_key = key});
}

Result<codec::OperatorsReply> check_operators(const codec::Operators& operators,
                                              const Device& device) {
  if (operators.names.size() > kOperatorsMax) {
    return Error{ErrorCode::kInvalid, "operators: there are too many"};
  }
  codec::OperatorsReply reply;
  for (uint32_t i = 0; i < operators.names.size(); ++i) {
    if (!device.supports(operators.names[i], operators.hashes[i])) reply.unsupported.push_back(i);
  }
  return reply;
}

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kAppBytesMax));
  std::replace_if(
      out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c >= 0x7f; }, '?');
  return out;
}

}  // namespace djinn::server
