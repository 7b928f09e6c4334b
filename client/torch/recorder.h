// SPDX-License-Identifier: Apache-2.0
// Recorder: the one kernel behind every operator on the device. It writes the call to the log and
// returns tensors that have geometry and no bytes.
//
// A result's geometry is predicted (shapes.h). Where it depends on data, or nobody here knows it,
// the operator is recorded as deferred, the log is cut, and the server tells what came out.
// Threading: any thread; calls are ordered by the recorder's lock.
#pragma once

#include "client/torch/op_info.h"
#include "client/torch/prediction.h"

namespace djinn::client {

// Takes the operator's arguments off the stack and puts its results there.
void record(OpInfo& op, Stack& stack);

// The boxed fallback.
void record_any(const c10::OperatorHandle& handle, Stack* stack);

}  // namespace djinn::client
