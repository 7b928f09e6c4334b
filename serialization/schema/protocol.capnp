# SPDX-License-Identifier: Apache-2.0
@0x9fb4c2bfea50e6e2;
# What a client and a server say to each other. This file is the specification; docs/protocol.md
# tells the story around it with a conversation in bytes. transport/frame.h has the frame around each
# message, graph/plan.h the structure of a plan and graph/numbers.h how numbers are predicted.
#
# A connection is a session: two one-way streams of frames. The client names everything - storages,
# jobs, uploads, plan slots - before it exists, so nothing waits for a reply but what the app itself
# wants to read. All integers are bounded by serialization/base/limits.h; a message out of bounds is
# answered with Goodbye(invalid), and only its own session ends.
#
# Order: the server decodes frames as they arrive and runs a session's jobs in the order of their
# ids. Version rule: a field is never removed or renumbered; a new meaning gets a new field.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("djinn::schema");

using JobNumber = UInt32;
# The low 32 bits of a JobId: 1, 2, 3 ... within a session. A job out of order (a replayed frame) is
# refused and ends the session.

# -- the first exchange ---------------------------------------------------------------------------

struct Hello {  # client -> server, first frame
  versionMin @0 :UInt16;      # The protocol versions the client speaks; the server picks one.
  versionMax @1 :UInt16;
  token @2 :Text;             # Names the tenant. Empty: anonymous, where the server allows it.
  app @3 :Text;               # For people: the program's name and pid. At most 256 bytes.
  libtorch @4 :Text;          # "2.15.0"
  schemaHash @5 :Data;        # 16 bytes over the client's operator schemas (operator_census.h).
}

struct HelloReply {
  version @0 :UInt16;
  session @1 :UInt64;         # Chosen by the server; appears in its logs and metrics.
  libtorch @2 :Text;
  schemasMatch @3 :Bool;      # False: the client sends Operators next.
  device @4 :Text;            # "cpu", "cuda:0"
  planSlotsMax @5 :UInt16;    # How many plans the client may keep here, and how many bytes
  planBytesMax @6 :UInt64;    # (16 per number + the structure) they may add up to.
  jobsInFlightMax @7 :UInt16; # Jobs the client may have sent that are not acknowledged.
  stagedBytesMax @8 :UInt64;  # Upload bytes the client may have sent that no finished job consumed.
  artifactBytesMin @9 :UInt64;  # Offer uploads from this size on. 0: the server shares nothing.
  artifactKey @10 :Data;      # 32 bytes: names of artifacts are HMAC-SHA256(key, SHA-256(content)),
                              # so a name means nothing outside the trust domain that has the key.
}

struct Operators {  # client -> server, when schemasMatch was false
  names @0 :List(Text);       # "aten::add.Tensor"
  hashes @1 :List(UInt64);    # XXH3-64 of the schema's text, one per name.
}

struct OperatorsReply {
  unsupported @0 :List(UInt32);  # Indices of operators this server lacks or knows by another schema.
}

# -- work -----------------------------------------------------------------------------------------

struct Step {  # client -> server: a job of a known plan whose numbers are as predicted
  job @0 :JobNumber;
  checksum @1 :UInt32;        # graph::checksum of the numbers; a mismatch is answered with Resync.
  planSlot @2 :UInt16;        # Chosen by the client, < planSlotsMax.
  epoch @3 :UInt16;           # 0 at first; grows with each Resync and Refused, and begins at 0 again
                              # behind 65535. Frames of older epochs are dropped.
}

struct Job {  # client -> server: any other job
  job @0 :JobNumber;
  checksum @1 :UInt32;
  planSlot @2 :UInt16;
  epoch @3 :UInt16;
  patchPacked @4 :Bool;       # patch is a zstd frame.
  planPacked @5 :Bool;        # plan is a zstd frame.
  patch @6 :Data;             # How the numbers differ from the prediction.
  plan @7 :Data;              # Present: the slot is overwritten with this structure, and the prediction
                              # starts from zeros. Absent: the slot keeps its plan.
  # Payload of the frame: the inline uploads (form 0) one behind the other, in the order of the plan,
  # each padded to a multiple of 8.
}

struct Upload {  # client -> server: bytes for an upload of form 1 or 2, before the job that consumes it
  upload @0 :UInt64;          # UploadId: 1, 2, 3 ... within a session.
  artifact @1 :Data;          # Empty, or the 32-byte name under which the server may share the bytes
                              # once it has checked that they hash to it.
  # Payload: the bytes.
}

struct Offer {  # client -> server: bytes it could upload
  uploads @0 :List(UInt64);
  names @1 :Data;             # 32 bytes per upload.
  lengths @2 :List(UInt64);   # in bytes
}

struct OfferReply {  # in the order of the offers
  have @0 :List(Bool);        # True: bound to the upload already, send nothing.
}

# -- answers --------------------------------------------------------------------------------------

struct Fetched {  # server -> client: the bytes of an answer, as soon as its last writer has run
  job @0 :JobNumber;
  answer @1 :UInt16;          # Which of the plan's answers (fetches and deferred ops) it is.
  finished @2 :Bool;          # The job ended with this answer. All earlier jobs have ended.
  # Payload: the tensor's bytes in the order of its geometry, or graph/result_meta.h.
}

struct Failed {  # server -> client: instead of Fetched
  job @0 :JobNumber;
  answer @1 :UInt16;
  finished @2 :Bool;
  code @3 :UInt16;            # ErrorCode
  message @4 :Text;           # Names the operator, the shapes and the first cause.
}

struct Ack {  # server -> client: jobs have ended of which no answer told
  finished @0 :JobNumber;     # This one and all before it.
}

struct Resync {  # server -> client: a checksum failed
  job @0 :JobNumber;          # The first job that is missing. The client forgets which plans the
  epoch @1 :UInt16;           # server has, and sends this and all later jobs again in this epoch.
}

struct Refused {  # server -> client: too many jobs wait, and nothing was done for this one
  job @0 :JobNumber;          # As with Resync, which this is in all but the cause: the client sends this
  epoch @1 :UInt16;           # and all later jobs again in this epoch, but not before
  retryAfterMs @2 :UInt32;    # so many milliseconds have passed: about when half of what waits has run.
  code @3 :UInt16;            # ErrorCode: exhausted
}

# -- the rest -------------------------------------------------------------------------------------

struct Hint {  # client -> server: what the app says of its session. Never answered, and never needed:
  # it changes when things are done, not what comes out. Each field is the app's choice; none lifts a
  # session above what its tenant may have. Values out of bounds are answered with Goodbye(invalid),
  # more than kHintsPerSecondMax hints with Goodbye(exhausted).
  phase @0 :UInt8;            # What its jobs are from here on: 0 as their plans show, 1 prefill, 2 decode,
                              # 3 training, 4 inference, 5 load.
  urgency @1 :UInt8;          # How much a delay hurts: 0 not said, 1 latency-critical, 2 interactive,
                              # 3 best-effort.
  rest @2 :UInt8;             # What it does when the jobs sent so far have ended: 0 not said, 1 it pauses
                              # and goes on in about resumeMs, 2 it pauses, nobody knows for how long.
                              # The next job ends a pause, whatever was said.
  resumeMs @3 :UInt32;        # From the arrival of this message on, in milliseconds, at most kResumeMsMax;
                              # 0 with rest 1: it goes on now. With another rest: 0.
  deadlineMs @4 :UInt32;      # The results of a job that come from here on are worth nothing so many
                              # milliseconds after its first arrival: 0 never, at most kDeadlineMsMax. A job
                              # that would end later does not run: its answers are errors of code deadline.
}

struct Heartbeat {  # both: I am alive. The server sends it to a client that waits for an answer.
}

struct Goodbye {  # both: the session ends
  code @0 :UInt16;            # ErrorCode; 0: nothing is wrong.
  message @1 :Text;
  retryAfterMs @2 :UInt32;    # Of code exhausted at a hello: when to come again; 0: not said.
}

struct StatsRequest {  # client -> server: answered when all earlier jobs have ended
  tag @0 :UInt32;             # Chosen by the client, comes back.
}

struct StatsReply {  # of this session
  tag @0 :UInt32;
  opsExecuted @1 :UInt64;
  jobsExecuted @2 :UInt64;
  opsFailed @3 :UInt64;
  storages @4 :UInt64;        # alive
  storageBytes @5 :UInt64;    # alive, shared ones included
  sharedBytes @6 :UInt64;     # of these, bytes of shared artifacts
  plansBuilt @7 :UInt64;      # plans received in full
  uploadBytes @8 :UInt64;     # received
  relayouts @9 :UInt64;       # results that were copied into the layout the client had predicted
  enters @10 :UInt64;         # system calls of the server's I/O thread, all sessions
  deviceBytes @11 :UInt64;    # allocated on the device, all sessions
}
