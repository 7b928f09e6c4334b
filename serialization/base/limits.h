// SPDX-License-Identifier: Apache-2.0
// Limits: every bound of the system under one roof, with what happens when it is reached.
//
// Both sides compile the same numbers; those a server may lower are stated in its hello, and the
// client keeps to the smaller of the two.
#pragma once

#include <cstddef>
#include <cstdint>

namespace djinn {

// -- frames (transport)
inline constexpr uint64_t kMessageBytesMax = uint64_t{16} << 20;  // Above: the session is closed.
inline constexpr uint64_t kPayloadBytesMax = uint64_t{64} << 30;  // Above: the session is closed.
inline constexpr size_t kReceiveBufferBytes =
    16 << 10;                                // Per connection; larger frames get their own.
inline constexpr size_t kSendPiecesMax = 4;  // Pieces of one frame.

// -- plans and numbers (graph)
inline constexpr uint32_t kOpsPerFlushMax = 4096;  // The client cuts its log here.
inline constexpr uint32_t kOpsPerPlanMax = 8192;   // A server refuses more (kInvalid).
inline constexpr uint32_t kSlotsPerPlanMax = 1 << 16;
inline constexpr uint32_t kNumbersPerPlanMax = 1 << 20;
inline constexpr uint32_t kRankMax = 64;
inline constexpr uint32_t kListItemsMax = 1 << 16;
inline constexpr uint64_t kStructureBytesMax = uint64_t{4} << 20;  // Unpacked.
inline constexpr size_t kPlansShownMax = 64;    // To an operator, of all that sessions have.
inline constexpr uint32_t kPlanSlotsMax = 256;  // Plans kept per session; the client reuses slots.
inline constexpr uint64_t kPlanCacheBytesMax = uint64_t{64}
                                               << 20;  // Of them: 16 per number + structures.
inline constexpr uint64_t kStorageBytesMax = uint64_t{1} << 46;

// -- flow (client/session, server)
inline constexpr uint32_t kJobsInFlightMax =
    64;                                      // The client waits for an answer before it sends more.
inline constexpr uint32_t kJobsPerAck = 16;  // The server acknowledges at least this often.
inline constexpr uint64_t kInlineUploadBytesMax =
    64 << 10;  // Larger tensors travel as frames of their own.
inline constexpr uint64_t kArtifactBytesMin = 1 << 10;  // Smaller uploads are never shared,
inline constexpr uint64_t kAnonymousArtifactBytesMin =
    256 << 10;  // nor are these if they come from no file: each is hashed and asked for by itself.
inline constexpr uint64_t kUploadBytesPerFlushMax = uint64_t{64}
                                                    << 20;  // The client cuts its log here.
inline constexpr uint64_t kFileBytesPerFlushMax = uint64_t{256}
                                                  << 20;  // The same for bytes of mapped files.
inline constexpr uint64_t kFileWindowBytes = uint64_t{8}
                                             << 20;  // Of a mapped file in memory, to hash or send.
inline constexpr uint64_t kSafetensorsHeaderBytesMax =
    uint64_t{100} << 20;  // Of a file of weights; a longer one is refused.
inline constexpr uint64_t kStagedUploadBytesMax =
    uint64_t{1} << 30;                                  // Uploads a server holds for jobs to come.
inline constexpr uint32_t kStagedUploadsMax = 1 << 16;  // How many of them, offered ones included.
inline constexpr uint64_t kInlineBytesQueuedMax =
    uint64_t{256} << 20;  // Of queued jobs; then the server reads no more.
inline constexpr uint64_t kUnsentBytesMax =
    uint64_t{64} << 20;  // A client that reads slower waits with its jobs.
inline constexpr uint32_t kRetryAfterMsMax = 60'000;  // Who is refused is told no longer wait.
inline constexpr uint32_t kStatsRequestsMax =
    16;  // Unanswered ones; more are refused (kExhausted).
inline constexpr uint32_t kHintsPerSecondMax =
    1000;  // Of a session; more are refused (kExhausted).
inline constexpr uint32_t kResumeMsMax = 86'400'000;    // A hint reaches as far: a day.
inline constexpr uint32_t kDeadlineMsMax = 86'400'000;  // A job's, from its arrival: a day.
inline constexpr uint32_t kErrorTextBytesMax = 4096;    // Longer texts are cut.
inline constexpr uint32_t kOperatorsMax = 1
                                          << 14;  // Asked about in one Operators; more are refused.
inline constexpr uint32_t kArtifactOffersMax = 4096;  // Artifacts asked for in one question.
inline constexpr uint32_t kOffersPendingMax =
    16;  // Such questions that wait for a disk or a hash; more are refused (kExhausted).
inline constexpr uint32_t kDiskArtifactsMax = 1 << 16;  // Files of a disk cache; one goes for each.
inline constexpr uint64_t kDiskWriteBytesQueuedMax =
    uint64_t{1} << 30;  // Verified and not written; then no more are verified.
inline constexpr uint64_t kTieredBytesMin = 64 << 10;  // Shorter storages stay on the device.
inline constexpr uint32_t kStoragesPerSessionMax = 1 << 22;
inline constexpr uint32_t kLockstepMax = 64;  // Jobs that run together.
inline constexpr uint32_t kSessionsMax = 4096;

// -- time
inline constexpr uint64_t kHeartbeatNs =
    1'000'000'000;  // Sent to a peer that waits and would hear nothing.
inline constexpr uint64_t kPeerTimeoutNs = 30'000'000'000;  // A peer silent for longer is gone.
inline constexpr uint64_t kHelloTimeoutNs =
    10'000'000'000;  // A connection that says nothing is closed.
inline constexpr uint64_t kIdleNs =
    1'000'000'000;  // The server packs what it keeps for a session idle so long.
inline constexpr uint64_t kDrainNs =
    10'000'000'000;  // A server told to stop finishes its jobs, but not for longer.

}  // namespace djinn
