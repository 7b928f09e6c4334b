// SPDX-License-Identifier: Apache-2.0
// Uploads: bytes that arrived before the job that consumes them, by the ids their client chose.
//
// Bytes go from the socket straight into memory that the device adopts. What the artifact store has
// already is bound instead of received; what it has on disk only is bound when it is loaded, and an
// offer of it is answered then.
// Ownership: owns what is staged until a job takes it. Threading: the I/O thread.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "serialization/codec/messages.h"
#include "server/executor.h"
#include "server/memory/artifact_store.h"

namespace djinn::server {

// Bytes of a job's inline uploads as its numbers say, each padded to a multiple of 8.
Result<uint64_t> inline_bytes(const graph::Plan& plan, std::span<const int64_t> numbers);

// What an offer found, in the order of its uploads. It is an answer when nothing is to be loaded.
struct Offered {
  struct Load {
    size_t place = 0;  // in `have`
    UploadId upload;
    ArtifactStore::Wanted wanted;
  };
  std::vector<bool> have;
  std::vector<Load> loads;
};

class Uploads {
 public:
  // `on_refused` runs on the store's thread when an upload was not what its artifact's name said.
  using OnRefused = std::function<void(UploadId)>;
  Uploads(Device& device, ArtifactStore& artifacts, OnRefused on_refused)
      : device_(device), artifacts_(artifacts), on_refused_(std::move(on_refused)) {}

  // Who pays for the memory.
  void set_tenant(const std::string& tenant) { tenant_ = tenant; }

  // Where the payload of this upload goes; nowhere if it is here already or does not fit (then the
  // job that consumes it hears why). Errors are broken rules.
  Result<std::span<std::byte>> begin(const codec::Upload& upload, uint64_t bytes);
  // The payload has arrived.
  void finish();

  // Binds what the artifact store has in memory, and keeps a place for what it has on disk.
  Result<Offered> offer(const codec::Offer& offer);
  // Binds what was loaded, null where it was not; then nothing is to be loaded.
  void bind(Offered& offered, std::span<std::shared_ptr<Buffer>> loaded);

  // Moves a job's uploads into its work. kInvalid if one is missing or is not as long as the
  // numbers say. Returns the staged bytes that end with the job.
  Result<uint64_t> take(Work& work);
  // The job that took so many bytes has ended.
  void release(uint64_t staged_bytes) { staged_bytes_ -= staged_bytes; }

  [[nodiscard]] uint64_t bytes_received() const { return bytes_received_; }

 private:
  struct Staged {
    StagedUpload upload;
    uint64_t length_bytes = 0;
    uint64_t charged_bytes = 0;  // 0 for what was not received.
    bool loading = false;        // There is no buffer yet.
  };
  struct Arriving {
    UploadId id;
    std::shared_ptr<Buffer> buffer;
    std::optional<ArtifactName> name;
  };
  [[nodiscard]] Result<> check_id(UploadId id, UploadId after) const;
  Result<std::shared_ptr<Buffer>> stage(uint64_t bytes);

  Device& device_;
  ArtifactStore& artifacts_;
  const OnRefused on_refused_;
  std::string tenant_;
  std::map<UploadId, Staged> staged_;
  std::optional<Arriving> arriving_;
  UploadId newest_upload_;
  UploadId newest_offer_;
  UploadId oldest_ = {1};  // Ids below were consumed.
  uint64_t staged_bytes_ = 0;
  uint64_t bytes_received_ = 0;
};

}  // namespace djinn::server
