// SPDX-License-Identifier: Apache-2.0
// Run: one job on one session's storages, from its first entry to its last, in as many chunks as
// others need it to be.
//
// A failure is contained where it happens: it becomes the error of what the operator would have
// made or changed, whoever reads that inherits it, and everything else goes on.
// Ownership: borrows everything until it is whole. Threading: one thread at a time.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "serialization/graph/result_meta.h"
#include "server/executor.h"
#include "server/torch/backend.h"
#include "server/torch/cells.h"
#include "server/torch/geometry.h"
#include "server/torch/program.h"
#include "server/torch/random.h"

namespace djinn::server {

// What a session keeps from job to job.
struct SessionState {
  SessionState(const Owner& of, Backend& on)
      : owner(of),
        backend(on),
        keys(on.device().is_cuda() ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU),
        generators(on) {}

  Owner owner;
  Backend& backend;
  c10::DispatchKeySet keys;  // of every tensor
  Generators generators;
  StorageTable table;
  uint64_t runs = 0;
  uint64_t highest_id = 0;  // Above it no id has been used.
  uint64_t ops_executed = 0;
  uint64_t ops_failed = 0;
  uint64_t relayouts = 0;
};

// The matrix product of an operator, whatever the operator: rows times a matrix, plus a bias.
struct Product {
  at::Tensor rows;       // [..., inner]
  at::Tensor matrix;     // [inner, columns]
  at::Tensor bias;       // Undefined: there is none. Else it can be expanded to the result.
  uint64_t content = 0;  // the number of the buffer that has the matrix
  c10::Scalar beta = 1;
  c10::Scalar alpha = 1;
};

class Run {
 public:
  Run(SessionState& session, Program& program, const Work& work, AnswerSink& sink);
  // Inside Backend::enter. False: it has given way behind an entry, and goes on with the next call.
  bool run(Chunk& chunk);
  // So many of its answers are out.
  [[nodiscard]] uint32_t answered() const { return answered_; }
  // It has given way: how long it takes to bring what its other entries use (Replay::move_ns).
  [[nodiscard]] uint64_t move_ns() const;
  // Names the longest of the shared bytes that it has bound; 0: there are none.
  [[nodiscard]] uint64_t shared_bytes_name() const { return shared_bytes_name_; }

  // -- one of several that advance together (lockstep.h); what they throw concerns the whole job
  [[nodiscard]] const Owner& owner() const { return session_.owner; }
  // Comes before the first entry of a chunk.
  void resume();
  [[nodiscard]] uint32_t next() const { return next_; }
  [[nodiscard]] bool at_end() const { return next_ == plan_.entries.size(); }
  // Runs the next entry.
  void advance();
  // The shared bytes that are the matrix of the next entry, if it is a product; else null.
  [[nodiscard]] const void* shared_matrix();
  // Makes ready what the next entry multiplies. Nothing: it must run alone, and nothing has
  // happened yet.
  [[nodiscard]] std::optional<Product> open_product();
  // The next entry has run elsewhere: `made` returns this run's result. If it throws, the product
  // is as if it had not been opened.
  void close_product(const std::function<at::Tensor()>& made);
  // It will not: the product is as if it had not been opened.
  void drop_product();
  // What it has made becomes the session's.
  void end() { keep(); }
  // It has ended, or an error (not null) ended it.
  void finish(const SharedError& error);
  [[nodiscard]] bool finished() const { return finished_; }
  // Runs `body`; what it throws comes back, null if nothing.
  static SharedError caught(const std::string& who, const std::function<void()>& body);

 private:
  // -- the job's frame (run.cc)
  void begin();
  bool run_entries(Chunk& chunk);
  // `reading`: what the device reads until the answer is there; null: the answer is there.
  void answer(uint32_t index, Result<Answer> what, std::shared_ptr<const void> reading = nullptr);
  void release_strays();
  void bind();
  void bind_fresh(uint32_t index, uint64_t id);
  void order_deaths();
  void entry(uint32_t index);
  void die(uint32_t index);

  // -- where the bytes are (run_tiers.cc); nothing without tiers
  void expect_touches();
  // Others have run since: the rest of the plan comes later than it was expected.
  void expect_rest();
  // What the entries that have not run touch, in order.
  [[nodiscard]] std::vector<Tiers::Use> rest_of_uses() const;
  // Brings what the entry touches to the device. Throws Problem.
  void pin(uint32_t entry);
  void unpin(uint32_t entry);
  // Says when what an upload brought is used.
  void expect_arrived(uint32_t entry);
  // Nothing but what is pinned stays on the device, in one part. Nobody uses it yet.
  void repack(OpStep& step);
  // The cell's storage is where its home is now.
  void refresh(Cell& cell);
  // The cell's new bytes may leave the device from the next entry on.
  void track(Cell& cell);
  [[nodiscard]] uint64_t next_use(const Touch& touch) const;

  void keep();

  void end_entry(uint32_t index);

  // -- operators (run_op.cc)
  void op(uint32_t index);
  SharedError inherited(const OpStep& step);
  // Prepares and calls it.
  void compute(OpStep& step);
  [[nodiscard]] bool may_repeat(const OpStep& step) const;
  void call(const OpStep& step);
  void fail(const OpStep& step, const graph::Entry& entry, const SharedError& error);
  [[nodiscard]] std::string describe(const OpStep& step) const;

  // -- arguments (run_args.cc)
  // Fills the stack. Throws Problem.
  void prepare(OpStep& step);
  void box(const OpStep& step, const Variable& variable, c10::IValue& out);
  // The argument's numbers are those of the last run.
  [[nodiscard]] bool same(const graph::Arg& arg) const;
  [[nodiscard]] c10::IValue list_of_numbers(Source source, const graph::Arg& arg) const;
  at::Tensor item(const graph::Arg& arg);
  c10::IValue tensors(const graph::Arg& arg);
  c10::IValue optional_tensors(const graph::Arg& arg);

  // -- results (run_results.cc)
  void take_results(const OpStep& step, const graph::Entry& entry);
  void take(const graph::ResultSlot& result, c10::IValue& value);
  void take_tensor(const graph::Operand& predicted, at::Tensor made);
  void answer_deferred(const OpStep& step, const graph::Entry& entry);
  graph::ResultMeta defer(const graph::ResultSlot& result, c10::IValue& value);
  graph::TensorMeta take_deferred(uint32_t slot, at::Tensor made);
  void fail_result(const graph::ResultSlot& result, const SharedError& error);

  // -- bytes (run_bytes.cc)
  void upload(uint32_t index);
  // `bytes` are the inline ones; null if it is staged.
  void upload_into(const graph::Operand& to, uint64_t length, Bytes bytes,
                   const StagedUpload* staged);
  void fetch(uint32_t index);
  Answer answer_of(Cell& cell, const at::Tensor& tensor, std::shared_ptr<const void>& reading);
  // The cell gets these bytes; the buffer itself becomes the cell's if the device can use it.
  void replace(Cell& cell, Bytes bytes, const StagedUpload* staged);
  c10::Storage source_of(Bytes bytes, const StagedUpload* staged);
  c10::Storage copy_of(Bytes bytes);
  void resize(uint32_t index);
  const Cell& matrix_cell();  // Of the next entry, which is a product by a tensor.
  Cell& cell(uint32_t slot) { return *program_.slots[slot].cell; }
  // Bytes behind the cell, zeros if nothing was written yet.
  void materialise(Cell& cell, Fill fill = Fill::kZero);
  void make_writable(Cell& cell);
  // The tensor with this geometry over the cell's bytes. Throws Problem if it does not fit.
  const at::Tensor& view(const graph::Operand& operand);
  const Geometry& geometry(const graph::Operand& operand);
  // The geometry has every byte of the cell, each once.
  [[nodiscard]] static bool covers(const Cell& cell, const Geometry& geometry);

  SessionState& session_;
  Program& program_;
  const graph::Plan& plan_;
  const Work& work_;
  AnswerSink& sink_;
  std::span<const int64_t> numbers_;
  Stack stack_;
  Stack kept_;
  Geometry geometry_;
  Tiers* const tiers_;  // Null: everything is on the device.
  uint64_t began_ = 0;  // the tick of entry 0
  struct Pinned {
    TieredBufferPtr buffer;
    Cell* cell = nullptr;
  };
  std::vector<Pinned> pinned_;
  uint32_t next_ = 0;  // the entry that comes next
  bool begun_ = false;
  bool finished_ = false;
  uint64_t shared_bytes_name_ = 0;
  size_t inline_at_ = 0;
  uint32_t answered_ = 0;
};

// The error that an exception of LibTorch or of ours means, with `who` in front.
SharedError translate(const std::exception& exception, const std::string& who);

}  // namespace djinn::server
