// SPDX-License-Identifier: Apache-2.0
#include "server/session/uploads.h"

#include <algorithm>
#include <string>
#include <utility>

#include "serialization/base/limits.h"

namespace djinn::server {
namespace {

Error invalid(std::string text) { return {ErrorCode::kInvalid, std::move(text)}; }

std::string number(uint64_t value) { return std::to_string(value); }

ArtifactName to_name(codec::ByteView bytes) {
  ArtifactName name;
  std::copy_n(bytes.begin(), name.size(), name.begin());
  return name;
}

}  // namespace

Result<uint64_t> inline_bytes(const graph::Plan& plan, std::span<const int64_t> numbers) {
  uint64_t total = 0;
  for (const graph::Entry& entry : plan.entries) {
    if (entry.kind != graph::EntryKind::kUpload || entry.form != graph::UploadForm::kInline) {
      continue;
    }
    const int64_t length = numbers[entry.number];
    if (length < 0 || length > static_cast<int64_t>(kInlineUploadBytesMax)) {
      return invalid("job: an inline upload of " + std::to_string(length) + " bytes");
    }
    total += (static_cast<uint64_t>(length) + 7) / 8 * 8;
  }
  return total;
}

Result<> Uploads::check_id(UploadId id, UploadId after) const {
  if (id <= after || id < oldest_ || staged_.contains(id)) {
    return invalid("upload " + number(id.value) + " is out of order");
  }
  if (staged_.size() >= kStagedUploadsMax) {
    return Error{ErrorCode::kExhausted, "upload " + number(id.value) + ": " +
                                            number(kStagedUploadsMax) +
                                            " uploads wait for the jobs that consume them"};
  }
  return Unit{};
}

Result<std::shared_ptr<Buffer>> Uploads::stage(uint64_t bytes) {
  auto buffer = device_.stage(bytes, tenant_);
  if (buffer || buffer.error().code != ErrorCode::kOutOfMemory) return buffer;
  if (artifacts_.evict(bytes) == 0) return buffer;
  return device_.stage(bytes, tenant_);
}

Result<std::span<std::byte>> Uploads::begin(const codec::Upload& upload, uint64_t bytes) {
  const UploadId id{upload.upload};
  DJINN_TRY([[maybe_unused]] const Unit checked, check_id(id, newest_upload_));
  // One upload alone may be as large as the device's memory.
  const uint64_t room_bytes =
      kStagedUploadBytesMax - std::min(staged_bytes_, kStagedUploadBytesMax);
  if (staged_bytes_ > 0 && bytes > room_bytes) {
    return Error{ErrorCode::kExhausted, "upload " + number(id.value) + ": " +
                                            number(staged_bytes_) + " bytes are staged, and " +
                                            number(bytes) + " more are too many"};
  }
  newest_upload_ = id;
  staged_bytes_ += bytes;
  bytes_received_ += bytes;
  Staged& staged = staged_[id];
  staged.length_bytes = bytes;
  staged.charged_bytes = bytes;

  std::optional<ArtifactName> name;
  if (!upload.artifact.empty() && bytes >= kArtifactBytesMin) name = to_name(upload.artifact);
  if (name) staged.upload.buffer = artifacts_.find(*name, bytes);
  if (staged.upload.buffer != nullptr) {  // Someone else was faster.
    staged.upload.shared = true;
    return std::span<std::byte>();
  }
  auto buffer = stage(bytes);
  if (!buffer) {
    staged.upload.failure = buffer.error().message;
    return std::span<std::byte>();
  }
  staged.upload.buffer = *buffer;
  if (bytes == 0) return std::span<std::byte>();
  arriving_ = Arriving{.id = id, .buffer = std::move(*buffer), .name = name};
  return arriving_->buffer->bytes();
}

void Uploads::finish() {
  const Arriving arrived = std::move(*arriving_);
  arriving_.reset();
  if (!arrived.name) return;
  StagedUpload& upload = staged_.at(arrived.id).upload;
  upload.shared = true;
  upload.buffer = artifacts_.add(*arrived.name, arrived.buffer,
                                 [refused = on_refused_, id = arrived.id](bool good) {
                                   if (!good) refused(id);
                                 });
}

Result<Offered> Uploads::offer(const codec::Offer& offer) {
  Offered out;
  out.have.reserve(offer.uploads.size());
  for (size_t i = 0; i < offer.uploads.size(); ++i) {
    const UploadId id{offer.uploads[i]};
    DJINN_TRY([[maybe_unused]] const Unit checked, check_id(id, newest_offer_));
    newest_offer_ = id;
    const ArtifactStore::Wanted wanted{
        .name = to_name(offer.names.subspan(i * codec::kArtifactNameBytes)),
        .bytes = offer.lengths[i]};
    auto buffer = artifacts_.offer(wanted.name, wanted.bytes);
    const bool loading = buffer == nullptr && artifacts_.is_coming(wanted);
    out.have.push_back(buffer != nullptr);
    if (loading) out.loads.push_back({.place = i, .upload = id, .wanted = wanted});
    if (buffer == nullptr && !loading) continue;
    staged_[id] = {.upload = {.buffer = std::move(buffer), .shared = true, .failure = {}},
                   .length_bytes = wanted.bytes,
                   .loading = loading};
  }
  return out;
}

void Uploads::bind(Offered& offered, std::span<std::shared_ptr<Buffer>> loaded) {
  for (size_t i = 0; i < offered.loads.size(); ++i) {
    const auto at = staged_.find(offered.loads[i].upload);
    if (at == staged_.end()) continue;  // A later job went past it.
    if (loaded[i] == nullptr) {
      staged_.erase(at);  // The client uploads it by the same id.
      continue;
    }
    at->second.upload.buffer = std::move(loaded[i]);
    at->second.loading = false;
    offered.have[offered.loads[i].place] = true;
  }
  offered.loads.clear();
}

Result<uint64_t> Uploads::take(Work& work) {
  const graph::Plan& plan = *work.plan;
  if (plan.uploads == 0) return uint64_t{0};
  const std::span<const int64_t> numbers = *work.numbers;
  const auto first = static_cast<uint64_t>(numbers[graph::kUploadNumber]);
  if (first < oldest_.value || first > UINT64_MAX - plan.uploads) {
    return invalid("job: upload " + number(first) + " was consumed before");
  }
  uint64_t bytes = 0;
  work.uploads.reserve(plan.uploads);
  for (const graph::Entry& entry : plan.entries) {
    if (entry.upload == graph::kNone) continue;
    const UploadId id{first + entry.upload};
    const auto at = staged_.find(id);
    if (at == staged_.end() || at->second.loading || (arriving_ && arriving_->id == id)) {
      return invalid("job: upload " + number(id.value) + " has not arrived");
    }
    const auto expected = static_cast<uint64_t>(numbers[entry.number]);
    if (at->second.length_bytes != expected) {
      return invalid("job: upload " + number(id.value) + " has " + number(at->second.length_bytes) +
                     " bytes, and the job expects " + number(expected));
    }
    bytes += at->second.charged_bytes;
    work.uploads.push_back(std::move(at->second.upload));
    staged_.erase(at);
  }
  oldest_ = {first + plan.uploads};
  // What the client skipped, nothing can consume any more.
  while (!staged_.empty() && staged_.begin()->first < oldest_) {
    bytes += staged_.begin()->second.charged_bytes;
    staged_.erase(staged_.begin());
  }
  return bytes;
}

}  // namespace djinn::server
